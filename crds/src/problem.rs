//! What is wrong with manifests, said where it is.

use std::fmt;

use kontrol_core::code::Code;

/// One thing that is wrong: what, where, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The manifest, as it was named.
    pub file: String,
    /// The line in it, from 1; none where the file as a whole is meant.
    pub line: Option<u64>,
    /// Kind, namespace and name of the object, such as `WidgetGroup default/rag`; none where it has not said what it is.
    pub object: Option<String>,
    /// The field, such as `spec.widgets[1].scaling.max`; empty where the object as a whole is meant.
    pub path: String,
    /// The stable code.
    pub code: Code,
    /// What is wrong, and the way out.
    pub message: String,
}

impl fmt::Display for Problem {
    /// One line: `rag.yaml:12: KTL1005 WidgetGroup default/rag, spec.widgets[1].scaling.max: max 1 is below min 2; …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.code)?;
        match (&self.object, self.path.as_str()) {
            (Some(object), "") => write!(f, " {object}")?,
            (Some(object), path) => write!(f, " {object}, {path}")?,
            (None, "") => return write!(f, " {}", self.message),
            (None, path) => write!(f, " {path}")?,
        }
        write!(f, ": {}", self.message)
    }
}
