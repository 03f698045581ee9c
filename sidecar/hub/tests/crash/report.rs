//! What happened in a history.

/// What happened in a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) acknowledged: u64,
    pub(crate) power: u64,
    pub(crate) process: u64,
    pub(crate) broken: u64,
    pub(crate) full: u64,
    pub(crate) cuts: u64,
    pub(crate) dead: u64,
    pub(crate) dropped: u64,
    pub(crate) duplicates: u64,
    pub(crate) rolled: u64,
}

impl Report {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.published, other.published),
            (&mut self.delivered, other.delivered),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.power, other.power),
            (&mut self.process, other.process),
            (&mut self.broken, other.broken),
            (&mut self.full, other.full),
            (&mut self.cuts, other.cuts),
            (&mut self.dead, other.dead),
            (&mut self.dropped, other.dropped),
            (&mut self.duplicates, other.duplicates),
            (&mut self.rolled, other.rolled),
        ] {
            *sum += more;
        }
    }
}
