//! The same manifest, read for a laptop and for a cluster.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::time::Duration;

use kontrol_core::spec::{self, Node, Rollout, Share, Widget};
use kontrol_crds::{Runtime, Source, World, load, load_for};

fn read(text: &str, runtime: Runtime) -> Result<World, Vec<String>> {
    let problems = |problems: Vec<kontrol_crds::Problem>| problems.iter().map(ToString::to_string).collect();
    load_for(&[Source { name: "m.yaml".to_owned(), text: text.to_owned() }], runtime).map_err(problems)
}

fn widget(text: &str, runtime: Runtime) -> Widget {
    let world = read(text, runtime).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let Node::Group(group) = &world.trees[0] else { panic!("no group") };
    group.widgets[0].clone()
}

fn lone(fields: &str) -> String {
    format!("apiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {{name: w}}\nspec:\n{fields}")
}

const BOTH: &str = "  process: {command: [w]}\n  container: {image: i}\n";

#[test]
fn a_world_needs_its_own_way_to_run() {
    let process = lone("  process: {command: [w]}\n");
    let container = lone("  container: {image: i}\n");
    assert!(read(&process, Runtime::Local).is_ok() && read(&process, Runtime::Any).is_ok());
    assert!(read(&container, Runtime::Cluster).is_ok() && read(&container, Runtime::Any).is_ok());
    assert_eq!(
        read(&process, Runtime::Cluster).unwrap_err(),
        [
            "m.yaml:4: KTL1015 Widget default/w, spec.container: the widget gives no way to run on a cluster; add container: {image: ...}"
        ]
    );
    assert_eq!(
        read(&container, Runtime::Local).unwrap_err(),
        [
            "m.yaml:4: KTL1015 Widget default/w, spec.process: the widget gives no way to run in the local world; add process: {command: [...]}"
        ]
    );
    assert_eq!(load(&[Source { name: "m".to_owned(), text: lone(BOTH) }]).unwrap().trees.len(), 1);
}

#[test]
fn each_world_has_a_revision_of_its_own() {
    let revision = |fields: &str, runtime| widget(&lone(fields), runtime).revision;
    let local = |fields: &str| revision(fields, Runtime::Local);
    let cluster = |fields: &str| revision(fields, Runtime::Cluster);
    let image = BOTH.replace("image: i", "image: j");
    assert_eq!(local(BOTH), local(&image));
    assert_ne!(cluster(BOTH), cluster(&image));
    let command = BOTH.replace("command: [w]", "command: [v]");
    assert_ne!(local(BOTH), local(&command));
    assert_eq!(cluster(BOTH), cluster(&command));
    for same in [
        "  replicas: 3\n",
        "  shutdown: {grace: 1s}\n",
        "  rollout: {paused: true}\n",
        "  resilience: {timeout: 1s}\n",
    ] {
        assert_eq!(cluster(BOTH), cluster(&format!("{BOTH}{same}")), "{same}");
    }
    for other in [
        "  gpu: {}\n",
        "  placement: {nodeSelector: {a: b}}\n",
        "  endpoint: {}\n",
        "  serviceAccountName: x\n",
        "  volumes: [{name: v, emptyDir: {}}]\n",
        "  podMetadata: {labels: {a: b}}\n",
    ] {
        assert_ne!(cluster(BOTH), cluster(&format!("{BOTH}{other}")), "{other}");
    }
    let written = BOTH.replace("image: i}", "image: i, resources: {limits: {cpu: 1}}}");
    assert_eq!(cluster(&written), cluster(&written.replace("cpu: 1", "cpu: \"1\"")));
}

#[test]
fn what_decides_about_a_container_is_told_to_the_plan() {
    let fields = "  container: {image: i, command: [w], wrapped: true}
  gpu: {count: 2, alternatives: [{count: 1}, {cpu: \"4\"}]}
  placement: {unschedulableAfter: 2m}
  identity: {stable: true, forceDelete: true}
  countExternal: true
";
    let found = widget(&lone(fields), Runtime::Cluster).container.unwrap();
    let expected = spec::Container {
        wrapped: true,
        alternatives: 2,
        unschedulable_after: Duration::from_mins(2),
        identity: true,
        force_delete: true,
        count_external: true,
    };
    assert_eq!(found, expected);
    assert_eq!(
        widget(&lone("  container: {image: i}\n"), Runtime::Cluster).container,
        Some(spec::Container::default())
    );
    assert_eq!(widget(&lone("  process: {command: [w]}\n"), Runtime::Local).container, None);
}

#[test]
fn a_roll_out_is_that_of_the_widget_then_that_of_its_group_then_the_default() {
    let text = "apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: g}
spec:
  rollout: {maxUnavailable: 50%, maxSurge: 1, progressDeadline: 2m}
  widgets:
  - {name: a, container: {image: i}}
  - {name: b, container: {image: i}, rollout: {maxUnavailable: \"2\", paused: true, autoRollback: false}}
  - {name: c, container: {image: i}, identity: {stable: true}}
";
    let world = read(text, Runtime::Cluster).unwrap();
    let Node::Group(group) = &world.trees[0] else { panic!("no group") };
    let of_group = Rollout {
        max_unavailable: Share::Percent(50),
        max_surge: Share::Count(1),
        progress_deadline: Duration::from_mins(2),
        ..Rollout::default()
    };
    assert_eq!(group.widgets[0].rollout, of_group);
    let own = Rollout { max_unavailable: Share::Count(2), paused: true, auto_rollback: false, ..of_group };
    assert_eq!(group.widgets[1].rollout, own);
    assert_eq!(
        group.widgets[2].rollout.max_surge,
        Share::Count(0),
        "an identity of its own has no replica beyond"
    );
    assert_eq!(widget(&lone(BOTH), Runtime::Local).rollout, Rollout::default());
}

#[test]
fn replicas_of_a_container_may_share_a_port() {
    let fields = "  container: {image: i}\n  endpoint: {port: 8080}\n  replicas: 2\n";
    assert!(read(&lone(fields), Runtime::Cluster).is_ok());
    assert!(read(&lone(&format!("{fields}  process: {{command: [w]}}\n")), Runtime::Any).is_err());
}

#[test]
fn what_is_wrong_with_a_container_is_said_where_it_is() {
    let fields = "  container:
    image: i
    resources: {requests: {memory: 2Gi, cpu: 1x}, limits: {memory: 1Gi}}
    ports: [{name: p, containerPort: 1}, {name: p, containerPort: 2}, {name: \"9\", containerPort: 3}]
  gpu: {alternatives: [{cpu: lots}]}
  rollout: {maxUnavailable: 101%, progressDeadline: 0s}
";
    let said = read(&lone(fields), Runtime::Cluster).unwrap_err();
    let expected = [
        ("resources.requests.cpu", "\"1x\" is no quantity"),
        ("resources.requests.memory", "asks for more memory than its limit allows"),
        ("ports[1].name", "another port has this name"),
        ("ports[2].name", "at least one letter"),
        ("gpu.alternatives[0].cpu", "\"lots\" is no quantity"),
        ("rollout.maxUnavailable", "\"101%\" is no number of replicas"),
        ("rollout.progressDeadline", "must be longer than zero"),
    ];
    for (place, message) in expected {
        let at = format!("{place}: ");
        assert!(said.iter().any(|said| said.contains(&at) && said.contains(message)), "{place}: {said:#?}");
    }
    assert_eq!(said.len(), expected.len(), "{said:#?}");
}

#[test]
fn a_field_that_is_no_field_of_a_placement_is_said_with_the_one_that_was_meant() {
    let fields = "  container: {image: i}
  placement: {nodeSelektor: {a: b}, nodeSelector: {a: 1}}
";
    assert_eq!(
        read(&lone(fields), Runtime::Cluster).unwrap_err(),
        [
            "m.yaml:6: KTL1002 Widget default/w, spec.placement.nodeSelektor: there is no such field; did you mean nodeSelector?",
            "m.yaml:6: KTL1005 Widget default/w, spec.placement.nodeSelector.a: expected a text, found the number 1; write it in quotes",
        ]
    );
}

#[test]
fn each_example_is_read_by_a_laptop_and_by_a_cluster() {
    for example in ["ai-pipeline", "edge-pipeline"] {
        let path = format!("{}/../examples/{example}/pipeline.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for runtime in [Runtime::Local, Runtime::Cluster, Runtime::Any] {
            let problems = read(&text, runtime).err().unwrap_or_default();
            assert_eq!(problems, Vec::<String>::new(), "{example} for {runtime:?}");
        }
    }
}
