//! Why a number of replicas was decided, in one line.

use std::{fmt, time::Duration};

use kontrol_core::{duration, time::Timestamp};

use super::{Demand, Figure};

/// Why a number of replicas was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The target that asks for most.
    pub demand: Option<Demand>,
    /// What keeps one replica although no target asks for any.
    pub at_least_one: Option<Figure>,
    /// Signals that are missing or too old.
    pub unknown: Vec<Figure>,
    /// The count before, which unknown signals keep.
    pub kept: u32,
    /// The fewest replicas.
    pub min: u32,
    /// The most replicas.
    pub max: u32,
    /// What keeps the count from following the demand.
    pub hold: Option<Hold>,
}

/// A window that keeps the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Demand was higher within the down window.
    NotLower {
        /// When that is forgotten.
        until: Timestamp,
        /// The window.
        window: Duration,
    },
    /// Demand was lower within the up window.
    NotHigher {
        /// When that is forgotten.
        until: Timestamp,
        /// The window.
        window: Duration,
    },
}

impl Hold {
    pub(super) fn until(self) -> Timestamp {
        match self {
            Self::NotLower { until, .. } | Self::NotHigher { until, .. } => until,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.demand {
            Some(demand) => demand.fmt(f)?,
            None => f.write_str("no target")?,
        }
        if let Some(figure) = &self.at_least_one {
            write!(f, "; {figure} is above 0 → at least 1")?;
        }
        for (index, figure) in self.unknown.iter().enumerate() {
            f.write_str(if index == 0 { "; not known: " } else { ", " })?;
            figure.fmt(f)?;
        }
        if !self.unknown.is_empty() {
            write!(f, " → not below {}", self.kept.clamp(self.min, self.max))?;
        }
        write!(f, "; limits {} to {}", self.min, self.max)?;
        match self.hold {
            Some(Hold::NotLower { until, window }) => {
                write!(f, "; not lower before {} (down window {})", Clock(until), duration::format(window))
            }
            Some(Hold::NotHigher { until, window }) => {
                write!(f, "; not higher before {} (up window {})", Clock(until), duration::format(window))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (amount, target) = (Thousandths(self.amount), Thousandths(self.target));
        write!(f, "{} {amount}, target {target} a replica → ", self.figure)?;
        if self.beside > 0 {
            write!(f, "{} running + ", self.beside)?;
        }
        write!(f, "ceil({amount} / {target}) = {}", self.replicas)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InFlight => "in flight",
            Self::QueueDepth => "queue depth",
            Self::QueueGrowth => "queue growth",
            Self::Reported(name) => name,
            Self::Waiting => "waiting calls",
        })
    }
}

/// A number with up to three decimals.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000, self.0 % 1_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{rest:03}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

/// The time of day in UTC.
struct Clock(Timestamp);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_micros() / 1_000_000 % 86_400;
        write!(f, "{:02}:{:02}:{:02}Z", seconds / 3_600, seconds / 60 % 60, seconds % 60)
    }
}
