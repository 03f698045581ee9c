//! Which trees were not looked at yet since this process leads. Before all trees of a namespace were, nothing is said of what is named there
//! and not found: it may be in a tree whose turn has not come.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use crate::kubernetes::forest::Root;

/// The survey.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// The namespaces of which it is known what trees they have, by watch; none: all.
    known: BTreeSet<Option<String>>,
    /// Trees that were not looked at.
    left: BTreeMap<Arc<str>, HashSet<Root>>,
}

impl Survey {
    /// Whether it is known anywhere what trees there are.
    pub(super) fn is_begun(&self) -> bool {
        !self.known.is_empty()
    }

    /// Whether it is known what trees there are where a watch looks.
    pub(super) fn knows(&self, scope: Option<&String>) -> bool {
        self.known.iter().any(|known| known.as_ref() == scope)
    }

    /// There are these trees where a watch looks.
    pub(super) fn begin(&mut self, scope: Option<String>, roots: BTreeSet<Root>) {
        for root in roots {
            self.left.entry(root.key.namespace.clone()).or_default().insert(root);
        }
        self.known.insert(scope);
    }

    /// A tree was looked at; whether it was the last one of its namespace.
    pub(super) fn looked(&mut self, root: &Root) -> bool {
        let namespace = &root.key.namespace;
        let Some(left) = self.left.get_mut(namespace) else { return false };
        let last = left.remove(root) && left.is_empty();
        if last {
            self.left.remove(namespace);
        }
        last
    }

    /// Whether all trees of a namespace were looked at.
    pub(super) fn is_over(&self, namespace: &str) -> bool {
        let known =
            self.known.iter().any(|known| known.as_ref().is_none_or(|known| known.as_str() == namespace));
        known && !self.left.contains_key(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::{kind::Kind, object::Key};

    fn root(namespace: &str, name: &str) -> Root {
        Root { kind: Kind::Widget, key: Key::new(namespace, name) }
    }

    #[test]
    fn a_namespace_waits_for_its_own_trees_alone() {
        let mut survey = Survey::default();
        let (shop, lab) = (root("shop", "w"), root("lab", "w"));
        survey.begin(Some("shop".into()), [shop.clone()].into());
        assert_eq!((survey.is_over("shop"), survey.is_over("lab")), (false, false));
        survey.begin(Some("lab".into()), [lab.clone()].into());
        assert!(survey.looked(&shop) && !survey.looked(&shop));
        assert_eq!((survey.is_over("shop"), survey.is_over("lab")), (true, false));
        assert!(survey.looked(&lab) && survey.is_over("lab"));
    }

    #[test]
    fn where_all_namespaces_are_watched_one_without_trees_is_over() {
        let mut survey = Survey::default();
        assert!(!survey.knows(None) && !survey.is_over("shop"));
        survey.begin(None, BTreeSet::new());
        assert!(survey.knows(None) && survey.is_over("shop"));
    }
}
