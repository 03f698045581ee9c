//! What is said where a cluster does not answer as it was hoped: the thing, the reason and the way out.

use std::fmt;

use kontrol_operator::{kubernetes::kind::Kind, view::names::Refused};

use crate::Outcome;

/// A command has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How the command ends.
    pub(crate) outcome: Outcome,
    /// Why, and the way out.
    pub(crate) text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Failure {
    /// It failed.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, text: text.into() }
    }

    /// Nobody answers.
    pub(crate) fn unreachable(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::NotRunning, text: text.into() }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::new(format!("{}: {}", refused.code, refused.message))
    }
}

/// What the API server was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// `get`, `list`, `patch`.
    pub(super) verb: &'a str,
    /// Of what.
    pub(super) kind: Kind,
    /// Which part of it, such as `scale`; empty: itself.
    pub(super) part: &'a str,
    /// Where; none: in all namespaces.
    pub(super) namespace: Option<&'a str>,
    /// Which; empty: all of them.
    pub(super) name: &'a str,
}

impl Asked<'_> {
    fn resource(&self) -> String {
        let part = if self.part.is_empty() { String::new() } else { format!("/{}", self.part) };
        let group = self.kind.api_version().split_once('/').map(|(group, _)| format!(".{group}"));
        format!("{}{part}{}", self.kind.plural(), group.unwrap_or_default())
    }

    fn place(&self) -> String {
        match self.namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "in all namespaces".to_owned(),
        }
    }

    /// What a refusal of the API server means; `said` is what it says itself.
    pub(super) fn failed(&self, status: u16, said: &str) -> Failure {
        let (verb, resource, place) = (self.verb, self.resource(), self.place());
        match status {
            401 => Failure::new(format!(
                "the API server does not know you: {said}; see `kubectl auth whoami`, and sign in again where your credentials have expired"
            )),
            403 if said.contains("cannot ") || said.contains("is forbidden: User") => {
                let elsewhere = if self.namespace.is_none() { ", or name one namespace with -n" } else { "" };
                let (group, plain) = match resource.split_once('.') {
                    Some((plain, group)) => (group.to_owned(), plain.to_owned()),
                    None => (String::new(), resource.clone()),
                };
                Failure::new(format!(
                    "you may not {verb} {resource} {place}: ask for a Role with apiGroups [{group:?}], resources [{plain:?}], verbs [{verb:?}]{elsewhere}; \
                     the API server says: {said}"
                ))
            }
            403 => Failure::new(format!(
                "the API server refuses to {verb} {resource} {} {place}: {said}",
                self.name
            )),
            404 if Kind::OWN.contains(&self.kind) && self.name.is_empty() => Failure::new(format!(
                "the cluster does not know {resource}: Kontrol is not installed there; `helm install kontrol charts/kontrol -n kontrol-system \
                 --create-namespace` brings it, or choose another cluster with --context"
            )),
            404 => Failure::new(format!("there is no {} {} {place}: {said}", self.kind.as_str(), self.name)),
            409 => Failure::new(format!(
                "the {} {} {place} was changed by somebody else meanwhile: try again ({said})",
                self.kind.as_str(),
                self.name
            )),
            429 | 503 => {
                Failure::unreachable(format!("the API server has too much to do: {said}; try again"))
            }
            status => {
                Failure::new(format!("the API server answers {status} to {verb} {resource} {place}: {said}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(kind: Kind, name: &str) -> Asked<'_> {
        Asked { verb: "list", kind, part: "", namespace: Some("shop"), name }
    }

    #[test]
    fn a_right_that_is_missing_is_named_as_a_role_writes_it() {
        let said = r#"widgets.kontrol.dev is forbidden: User "jane" cannot list resource "widgets""#;
        let text = asked(Kind::Widget, "").failed(403, said).text;
        assert!(text.starts_with("you may not list widgets.kontrol.dev in namespace shop:"), "{text}");
        assert!(
            text.contains(r#"apiGroups ["kontrol.dev"], resources ["widgets"], verbs ["list"]"#),
            "{text}"
        );
        let scale = Asked { verb: "patch", part: "scale", ..asked(Kind::Widget, "rag-llm") };
        let text = scale.failed(403, "cannot patch").text;
        assert!(text.contains(r#"resources ["widgets/scale"], verbs ["patch"]"#), "{text}");
        let pods = Asked { namespace: None, ..asked(Kind::Pod, "") };
        let text = pods.failed(403, "cannot list").text;
        assert!(
            text.contains(r#"apiGroups [""], resources ["pods"]"#)
                && text.contains("name one namespace with -n"),
            "{text}"
        );
    }

    #[test]
    fn a_cluster_without_kontrol_says_how_it_gets_there() {
        let text = asked(Kind::WidgetGroup, "").failed(404, "page not found").text;
        assert!(text.contains("Kontrol is not installed there") && text.contains("helm install"), "{text}");
        let text = asked(Kind::Widget, "rag-llm").failed(404, "not found").text;
        assert!(text.starts_with("there is no Widget rag-llm in namespace shop"), "{text}");
    }
}
