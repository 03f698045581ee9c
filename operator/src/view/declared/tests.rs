use kontrol_core::spec::Node;

use super::*;
use crate::view::tree_key;

/// What a manifest declares.
pub(in crate::view) fn declared(text: &str) -> Declared {
    let mut declared = Declared::default();
    let world = load(text);
    for root in world.trees {
        declared.set_tree(&tree_key(&root), Some(Arc::new(root)));
    }
    for topic in world.topics {
        declared.set_topic(&topic.id.clone(), Some(Arc::new(topic)));
    }
    for route in world.routes {
        declared.set_route(&route.id.clone(), Some(Arc::new(route)));
    }
    declared
}

fn load(text: &str) -> kontrol_crds::World {
    let source = kontrol_crds::Source { name: "m.yaml".into(), text: text.into() };
    kontrol_crds::load(&[source]).unwrap()
}

fn object(name: &str) -> ObjectId {
    within(&Name::new("default").unwrap(), &Name::new(name).unwrap())
}

fn widget(id: &str) -> WidgetId {
    id.parse().unwrap()
}

const SHOP: &str = "
apiVersion: kontrol.dev/v1alpha1
kind: Topic
metadata: {name: orders}
spec: {}
---
apiVersion: kontrol.dev/v1alpha1
kind: Topic
metadata: {name: bills}
spec: {}
---
apiVersion: kontrol.dev/v1alpha1
kind: Route
metadata: {name: to-bills}
spec: {from: {topic: orders}, rules: [{to: [{topic: bills}]}]}
---
apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: shop}
spec:
  widgets:
  - {name: till, process: {command: [till]}, produces: [{topic: orders}], calls: [{target: store}]}
  - {name: store, process: {command: [store]}, consumes: [{topic: orders}], serves: [{method: get}]}
---
apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: office}
spec:
  widgets:
  - {name: books, process: {command: [books]}, consumes: [{topic: bills, subscription: ledger}]}
";

#[test]
fn everything_is_found_by_its_name() {
    let declared = declared(SHOP);
    let till = declared.widget(&widget("default/shop/till")).unwrap();
    assert_eq!(till.id.widget.as_str(), "till");
    assert_eq!(declared.tree_of(&till.id), Some("group/default/shop"));
    assert_eq!(declared.node(Kind::Group, &object("office")).unwrap().id(), &object("office"));
    assert!(declared.node(Kind::Supervisor, &object("office")).is_none());
    assert!(declared.widget(&widget("default/shop/nobody")).is_none());
    let callers: Vec<_> = declared.callers(&widget("default/shop/store")).collect();
    assert_eq!(callers, [&till.id]);
    let consumers: Vec<_> = declared.consumers(&object("bills")).map(|(_, name)| name.as_str()).collect();
    assert_eq!(consumers, ["ledger"]);
    assert_eq!(declared.producers(&object("orders")).collect::<Vec<_>>(), [&till.id]);
    let routes: Vec<_> =
        declared.routes_from(&object("orders")).map(|route| route.id.name.as_str()).collect();
    assert_eq!(routes, ["to-bills"]);
}

#[test]
fn what_is_no_longer_declared_leaves_nothing_behind() {
    let mut declared = declared(SHOP);
    declared.set_tree("group/default/shop", None);
    declared.set_tree("group/default/office", None);
    for name in ["orders", "bills"] {
        declared.set_topic(&object(name), None);
    }
    declared.set_route(&object("to-bills"), None);
    assert_eq!(format!("{declared:?}"), format!("{:?}", Declared::default()));
}

#[test]
fn a_group_that_moves_to_another_tree_is_found_there_whichever_tree_is_told_first() {
    const ALONE: &str = "
apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: shop}
spec: {widgets: [{name: till, process: {command: [till]}, produces: [{topic: orders}]}]}
---
apiVersion: kontrol.dev/v1alpha1
kind: Topic
metadata: {name: orders}
spec: {}
";
    let below = format!(
        "{ALONE}---\napiVersion: kontrol.dev/v1alpha1\nkind: Supervisor\nmetadata: {{name: top}}\nspec: {{children: [{{group: shop}}]}}\n"
    );
    let top: Node = load(&below).trees.remove(0);
    let till = widget("default/shop/till");
    for new_first in [true, false] {
        let mut declared = declared(ALONE);
        let add = |declared: &mut Declared| {
            declared.set_tree("supervisor/default/top", Some(Arc::new(top.clone())));
        };
        if new_first {
            add(&mut declared);
            declared.set_tree("group/default/shop", None);
        } else {
            declared.set_tree("group/default/shop", None);
            add(&mut declared);
        }
        assert_eq!(declared.tree_of(&till), Some("supervisor/default/top"), "{new_first}");
        assert_eq!(declared.widget(&till).unwrap().id, till, "{new_first}");
        assert_eq!(declared.producers(&object("orders")).count(), 1, "{new_first}");
    }
}
