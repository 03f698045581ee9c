//! Facts, each a case and its whole trace. They hold for the model here, and in [`super::real`] for the real OTP.

mod build;
mod requests;
mod restarts;
mod shutdown;
mod starts;

pub(crate) use build::*;
use kontrol_otp::{Case, play};

/// A case and the text of its trace.
pub(crate) struct Fact {
    pub(crate) case: Case,
    pub(crate) trace: &'static str,
}

impl Fact {
    pub(crate) fn check(&self) {
        assert_eq!(self.case.tree.check(), Ok(()));
        assert_eq!(play(&self.case).to_string(), self.text());
    }

    /// The trace without the indentation of its source.
    pub(crate) fn text(&self) -> String {
        self.trace.lines().flat_map(|line| [line.trim(), "\n"]).collect()
    }
}

/// Each fact becomes a test of its name, and an entry of the module's `ALL`.
macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident: $fact:expr;)*) => {
        $($(#[$doc])* #[test] fn $name() { $fact.check(); })*

        pub(crate) const ALL: &[(&str, fn() -> crate::facts::Fact)] = &[$((stringify!($name), || $fact)),*];
    };
}
pub(crate) use facts;

/// Every fact with its name.
pub(crate) fn all() -> Vec<(&'static str, Fact)> {
    let modules = [requests::ALL, restarts::ALL, shutdown::ALL, starts::ALL];
    modules.into_iter().flatten().map(|(name, fact)| (*name, fact())).collect()
}
