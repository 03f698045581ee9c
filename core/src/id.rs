//! Names and addresses: `<namespace>/<group>/<widget>`, and the instance that runs under one.

mod shared;

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use shared::shared;

/// Why a text is no name or address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an RFC 1123 label.
    #[error(
        "{0:?} is no name: at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit"
    )]
    Name(String),
    /// Not one to three names joined by `/`.
    #[error("{0:?} is no address: write widget, group/widget or namespace/group/widget")]
    Address(String),
}

/// An RFC 1123 label: the name of a namespace, a group, a widget, a topic.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// Equal names are mostly the same text in memory, and nothing has to be read.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Name {
    /// Checks and takes a name.
    pub fn new(text: &str) -> Result<Self, Error> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let valid = (1..=63).contains(&text.len())
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid { Ok(Self(shared(text))) } else { Err(Error::Name(text.to_owned())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// An object of one kind within a namespace: a group, a supervisor, a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// The namespace.
    pub namespace: Name,
    /// The object's name.
    pub name: Name,
}

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What stands before a name of this namespace: nothing in the short form of the default one.
fn within(namespace: &Name, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if f.alternate() && namespace.as_str() == DEFAULT_NAMESPACE { Ok(()) } else { write!(f, "{namespace}/") }
}

/// `namespace/name`; in the short form (`{:#}`) without the default namespace.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        within(&self.namespace, f)?;
        self.name.fmt(f)
    }
}

/// The address of a widget. A widget that was declared outside any group is the only widget of a group with its own name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WidgetId {
    /// The namespace.
    pub namespace: Name,
    /// The group that owns the widget.
    pub group: Name,
    /// The widget's name within its group.
    pub widget: Name,
}

impl WidgetId {
    /// Resolves an address of one to three parts; the missing ones are those of `caller`.
    pub fn resolve(address: &str, caller: &Self) -> Result<Self, Error> {
        let parts = address.split('/').map(Name::new).collect::<Result<Vec<_>, _>>()?;
        match <[Name; 3]>::try_from(parts) {
            Ok([namespace, group, widget]) => Ok(Self { namespace, group, widget }),
            Err(parts) => match <[Name; 2]>::try_from(parts) {
                Ok([group, widget]) => Ok(Self { namespace: caller.namespace.clone(), group, widget }),
                Err(parts) => match <[Name; 1]>::try_from(parts) {
                    Ok([widget]) => Ok(Self { widget, ..caller.clone() }),
                    Err(_) => Err(Error::Address(address.to_owned())),
                },
            },
        }
    }
}

/// `namespace/group/widget`; in the short form (`{:#}`) without the default namespace.
impl fmt::Display for WidgetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        within(&self.namespace, f)?;
        write!(f, "{}/{}", self.group, self.widget)
    }
}

impl FromStr for WidgetId {
    type Err = Error;
    /// Reads a full address of three parts.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(group), Some(widget), None) => Ok(Self {
                namespace: Name::new(namespace)?,
                group: Name::new(group)?,
                widget: Name::new(widget)?,
            }),
            _ => Err(Error::Address(text.to_owned())),
        }
    }
}

/// One replica of a widget. Written `<namespace>/<group>/<widget>/<ordinal>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The widget.
    pub widget: WidgetId,
    /// The replica's number, from 0.
    pub ordinal: u32,
}

/// `namespace/group/widget/ordinal`; in the short form (`{:#}`), as people read it, `group/widget-ordinal` without the default namespace.
impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.widget.fmt(f)?;
        write!(f, "{}{}", if f.alternate() { '-' } else { '/' }, self.ordinal)
    }
}

impl FromStr for InstanceId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Address(text.to_owned());
        let (widget, ordinal) = text.rsplit_once('/').ok_or_else(malformed)?;
        Ok(Self { widget: widget.parse()?, ordinal: ordinal.parse().map_err(|_| malformed())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_leaves_out_the_default_namespace() {
        let short = |id: &str| format!("{:#}", id.parse::<InstanceId>().unwrap());
        assert_eq!(
            (short("default/rag/llm/0"), short("prod/rag/llm/12")),
            ("rag/llm-0".into(), "prod/rag/llm-12".into())
        );
        let id = "prod/rag/llm/0".parse::<InstanceId>().unwrap();
        assert_eq!((id.to_string(), id.widget.to_string()), ("prod/rag/llm/0".into(), "prod/rag/llm".into()));
    }

    #[test]
    fn missing_parts_of_an_address_are_the_callers() {
        let caller: WidgetId = "default/rag/llm".parse().unwrap();
        for (address, full) in [
            ("vectors", "default/rag/vectors"),
            ("other/llm", "default/other/llm"),
            ("prod/other/llm", "prod/other/llm"),
        ] {
            assert_eq!(WidgetId::resolve(address, &caller).unwrap().to_string(), full);
        }
        assert!(WidgetId::resolve("a/b/c/d", &caller).is_err());
        assert!(WidgetId::resolve("", &caller).is_err());
    }

    #[test]
    fn a_name_is_a_dns_label() {
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(64)] {
            assert_eq!(Name::new(bad), Err(Error::Name(bad.to_owned())));
        }
        assert_eq!(Name::new("llm-2").unwrap().as_str(), "llm-2");
    }

    #[test]
    fn an_instance_reads_back() {
        let text = "default/rag/llm/3";
        assert_eq!(text.parse::<InstanceId>().unwrap().to_string(), text);
    }
}
