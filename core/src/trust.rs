//! Trust domains and the SPIFFE IDs in them: `spiffe://<trust domain>/<subject>`.

use std::{fmt, str::FromStr, sync::Arc};

use crate::id;

/// The longest trust domain, as SPIFFE has it.
const LONGEST: usize = 255;
const SCHEME: &str = "spiffe://";

/// A text that is no trust domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no trust domain: at most 255 lower-case letters, digits, '-', '_' and '.'")]
pub struct Error(String);

/// The name of a trust domain, such as `kontrol.local`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The subject of a SPIFFE ID of this trust domain; none for another's.
    pub fn subject<'id>(&self, id: &'id str) -> Option<&'id str> {
        let subject = id.strip_prefix(SCHEME)?.strip_prefix(&*self.0)?.strip_prefix('/')?;
        (!subject.is_empty()).then_some(subject)
    }

    /// The SPIFFE ID of a subject.
    pub fn id(&self, subject: &str) -> String {
        format!("{SCHEME}{}/{subject}", self.0)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `kontrol.local`.
impl Default for TrustDomain {
    fn default() -> Self {
        Self("kontrol.local".into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > LONGEST || !text.chars().all(allowed) {
            return Err(Error(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

/// The subject of the hub of one bus in a cluster, `<namespace>/hub/<bus>`: no instance has three parts, so it is nobody else's.
pub fn hub(namespace: &id::Name, bus: &id::Name) -> String {
    format!("{namespace}/hub/{bus}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_reads_back_in_its_own_trust_domain_alone() {
        let here = TrustDomain::default();
        let id = here.id("default/rag/llm/0");
        assert_eq!(id, "spiffe://kontrol.local/default/rag/llm/0");
        assert_eq!(here.subject(&id), Some("default/rag/llm/0"));
        for other in ["kontrol", "kontrol.local.evil", "example.org"] {
            assert_eq!(other.parse::<TrustDomain>().unwrap().subject(&id), None, "{other}");
        }
        assert_eq!(here.subject("spiffe://kontrol.local.evil/hub"), None);
        assert_eq!(here.subject("spiffe://kontrol.local/"), None);
    }

    #[test]
    fn a_trust_domain_has_no_other_characters_than_a_host_name() {
        for bad in ["", "A", "a/b", "a b", "ä", &"a".repeat(256)] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad}");
        }
        assert_eq!("prod.example.org".parse::<TrustDomain>().unwrap().to_string(), "prod.example.org");
    }
}
