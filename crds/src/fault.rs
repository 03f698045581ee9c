//! What is wrong within one object, each with its path. A [`Checker`] collects them all, so that one reading of a manifest shows
//! everything that has to be corrected.

use std::{fmt, time::Duration};

use kontrol_core::{code::Code, duration, id::Name};

use crate::{api, quantity};

/// One thing that is wrong within an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, such as `spec.widgets[1].scaling.max`; empty for the object as a whole.
    pub path: String,
    /// What kind of error it is.
    pub code: Code,
    /// What is wrong, and the way out.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{} {}", self.code, self.message),
            path => write!(f, "{} {path}: {}", self.code, self.message),
        }
    }
}

/// Everything that is wrong within an object; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

/// Collects faults while a value is converted. A conversion goes on after a fault, with a stand-in that nobody will see.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    path: String,
    faults: Vec<Fault>,
}

impl Checker {
    /// Runs `body` within a field.
    pub(crate) fn within<T>(&mut self, field: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(field);
        let value = body(self);
        self.path.truncate(length);
        value
    }

    /// Runs `body` for each item of a list, and keeps what it makes.
    pub(crate) fn each<I, T>(
        &mut self,
        field: &str,
        items: &[I],
        mut body: impl FnMut(&mut Self, &I) -> Option<T>,
    ) -> Vec<T> {
        let mut made = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            made.extend(self.within(&format!("{field}[{index}]"), |check| body(check, item)));
        }
        made
    }

    /// Records a fault of a field; of the current place where `field` is empty.
    pub(crate) fn fault(&mut self, field: &str, code: Code, message: impl Into<String>) {
        let dot = if self.path.is_empty() || field.is_empty() { "" } else { "." };
        let path = format!("{}{dot}{field}", self.path);
        self.faults.push(Fault { path, code, message: message.into() });
    }

    /// Records an [`Code::InvalidValue`].
    pub(crate) fn invalid(&mut self, field: &str, message: impl Into<String>) {
        self.fault(field, Code::InvalidValue, message);
    }

    /// Records an [`Code::InvalidValue`] unless `holds`.
    pub(crate) fn ensure(&mut self, holds: bool, field: &str, message: &str) {
        if !holds {
            self.invalid(field, message);
        }
    }

    /// Reads a name.
    pub(crate) fn name(&mut self, field: &str, text: &str) -> Option<Name> {
        Name::new(text).map_err(|error| self.fault(field, Code::InvalidName, error.to_string())).ok()
    }

    /// Reads a duration.
    pub(crate) fn duration(&mut self, field: &str, text: &api::Duration) -> Duration {
        duration::parse(&text.0).unwrap_or_else(|error| {
            self.invalid(field, error.to_string());
            Duration::from_secs(1)
        })
    }

    /// Reads a duration that is not zero.
    pub(crate) fn positive(&mut self, field: &str, text: &api::Duration) -> Duration {
        let value = self.duration(field, text);
        self.ensure(!value.is_zero(), field, "must be longer than zero, such as 1s");
        value
    }

    /// Reads a size in bytes.
    pub(crate) fn bytes(&mut self, field: &str, size: &api::Size) -> Option<u64> {
        quantity::bytes(size).map_err(|error| self.invalid(field, error.to_string())).ok()
    }

    /// Reads an amount in thousandths; zero is refused.
    pub(crate) fn thousandths(&mut self, field: &str, amount: &api::Amount) -> Option<u64> {
        let value =
            quantity::thousandths(amount).map_err(|error| self.invalid(field, error.to_string())).ok()?;
        self.ensure(
            value > 0,
            field,
            "must be above 0: a replica that may bear nothing would need endless others",
        );
        Some(value)
    }

    /// What was converted, unless something was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Faults> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => Err(Faults(self.faults)),
        }
    }
}
