//! `SplitMix64` (Steele, Lea, Flood 2014): the same seed gives the same numbers on every machine, for ever.

/// A stream of pseudo-random numbers, for whatever a seed has to replay.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `low..=high`; `low` where that is empty.
    pub fn between<N: Copy + Into<u64> + TryFrom<u64>>(&mut self, low: N, high: N) -> N {
        let (from, to): (u64, u64) = (low.into(), high.into());
        let span = u128::from(to.saturating_sub(from)) + 1;
        let offset = (u128::from(self.next()) * span) >> 64;
        u64::try_from(offset).ok().and_then(|offset| N::try_from(from + offset).ok()).unwrap_or(low)
    }

    /// A number of `0..bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let last = u64::try_from(bound.saturating_sub(1)).unwrap_or(u64::MAX);
        usize::try_from(self.between(0, last)).unwrap_or(0)
    }

    /// True this many times of a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.between(0, 99) < chance
    }

    /// One of these, each as likely; nothing of nothing.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }

    /// The same, and `otherwise` of nothing.
    pub fn pick_or<T: Copy>(&mut self, of: &[T], otherwise: T) -> T {
        self.pick(of).copied().unwrap_or(otherwise)
    }
}
