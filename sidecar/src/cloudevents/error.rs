//! Why something is no `CloudEvent`.

use kontrol_core::code::Code;

/// Why something is no `CloudEvent` that this sidecar reads or writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A required attribute is not there.
    #[error("the CloudEvent has no {0}; id, source, specversion and type are required")]
    Missing(&'static str),
    /// An attribute's name or value breaks the specification.
    #[error("the CloudEvent's attribute {attribute:?} {reason}")]
    Attribute {
        /// Its name.
        attribute: String,
        /// What is wrong, as the end of a sentence that begins with the name.
        reason: String,
    },
    /// Another version of the specification.
    #[error("the CloudEvent's specversion is {0:?}; only \"1.0\" is read")]
    Version(String),
    /// The body of a structured message is not what the JSON event format asks for.
    #[error("the body is no CloudEvent in JSON: {0}")]
    Body(String),
    /// Several events in one message.
    #[error("batches of CloudEvents are not taken; post each event by itself")]
    Batch,
    /// An event format that is not JSON in UTF-8.
    #[error("the event format {0:?} is not read; use application/cloudevents+json in UTF-8, or ce-* headers")]
    Format(String),
}

impl Error {
    /// The stable code.
    pub const fn code(&self) -> Code {
        Code::InvalidEvent
    }

    /// The HTTP status: 415 where the form is at fault, 400 where the content is.
    pub const fn http(&self) -> u16 {
        match self {
            Self::Batch | Self::Format(_) => 415,
            _ => Code::InvalidEvent.http(),
        }
    }

    /// The attribute concerned; empty: none.
    pub fn attribute(&self) -> &str {
        match self {
            Self::Missing(attribute) => attribute,
            Self::Attribute { attribute, .. } => attribute,
            Self::Version(_) => "specversion",
            _ => "",
        }
    }

    pub(super) fn attribute_of(attribute: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Attribute { attribute: attribute.into(), reason: reason.into() }
    }
}
