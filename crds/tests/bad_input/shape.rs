//! Text, kinds, fields, values and names.

use super::*;

#[test]
fn malformed_yaml_is_said_with_its_line_and_what_was_expected() {
    assert_said(
        "kind: Topic\n bus: x\n",
        &["m.yaml:2: KTL1001 this is no YAML: mapping values are not allowed in this context (column 5)"],
    );
    assert_said(
        "spec:\n- a\nb: [1, 2\nc: 3\n",
        &["m.yaml:4: KTL1001 this is no YAML: illegal placement of ':' indicator (column 2)"],
    );
    assert_said(
        "a: 1\nb: 2\na: 3\n",
        &["m.yaml:3: KTL1001 this is no YAML: duplicate mapping key `a` is not allowed here (column 1)"],
    );
}

#[test]
fn an_unknown_field_is_said_with_the_one_that_was_meant() {
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: rag, lables: {}}
spec:
  strategie: RestForOne
  widgets:
  - name: llm
    process:
      comand: [llm]
      command: [llm]
    image: x
    gpu: 1
    start:
      within: 5s
",
        &[
            "m.yaml:3: KTL1002 WidgetGroup default/rag, metadata.lables: there is no such field; did you mean labels?",
            "m.yaml:5: KTL1002 WidgetGroup default/rag, spec.strategie: there is no such field; did you mean strategy?",
            "m.yaml:9: KTL1002 WidgetGroup default/rag, spec.widgets[0].process.comand: there is no such field; did you mean command?",
            "m.yaml:11: KTL1002 WidgetGroup default/rag, spec.widgets[0].image: there is no such field; did you mean process?",
            "m.yaml:12: KTL1005 WidgetGroup default/rag, spec.widgets[0].gpu: expected fields, such as {count: 1, alternatives: \
             [{cpu: \"4\"}]}, found the number 1",
            "m.yaml:14: KTL1002 WidgetGroup default/rag, spec.widgets[0].start.within: there is no such field; the fields here are \
             timeout and when",
        ],
    );
}

#[test]
fn an_unknown_kind_and_a_newer_version_are_said() {
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1\nkind: WidgetGrup\nmetadata: {name: a}\n",
        &[
            "m.yaml:2: KTL1003 kind: there is no kind \"WidgetGrup\"; the kinds are Widget, WidgetGroup, Supervisor, MessageBus, \
           Topic and Route; did you mean WidgetGroup?",
        ],
    );
    assert_said(
        "apiVersion: kontrol.dev/v1beta2\nkind: Widget\nmetadata: {name: a}\n",
        &[
            "m.yaml:1: KTL1004 apiVersion: this Kontrol knows kontrol.dev/v1alpha1, not v1beta2; upgrade Kontrol, or write the \
           manifest for v1alpha1",
        ],
    );
    assert_said(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n",
        &[
            "m.yaml:1: KTL1004 apiVersion: \"apps/v1\" is not Kontrol's; this Kontrol knows kontrol.dev/v1alpha1",
        ],
    );
    assert_said(
        "just text",
        &[
            "m.yaml:1: KTL1005 expected an object with apiVersion, kind, metadata and spec; found something else",
        ],
    );
    assert_said("", &["m.yaml: KTL1019 there is no object here; write at least one of kontrol.dev/v1alpha1"]);
}

#[test]
fn values_of_the_wrong_type_are_said_with_what_was_expected() {
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1
kind: Widget
metadata: {name: w}
spec:
  process:
    command: sleep 5
    env: [{name: A, value: 8}, {name: A, value: x}]
  replicas: two
  restart: always
  start: {timeout: 30}
  intensity: {maxRestarts: '3'}
  endpoint: {port: 70000}
  scaling: {max: 0, target: {inFlight: 0.5}}
",
        &[
            "m.yaml:6: KTL1005 Widget default/w, spec.process.command: expected a list, such as [python3, worker.py, --verbose], found the text \"sleep 5\"",
            "m.yaml:7: KTL1005 Widget default/w, spec.process.env[0].value: expected a text, found the number 8; write it in quotes",
            "m.yaml:7: KTL1007 Widget default/w, spec.process.env[1].name: there is another item with the name A in this list; each may be there once",
            "m.yaml:8: KTL1005 Widget default/w, spec.replicas: expected a whole number, found the text \"two\"",
            "m.yaml:9: KTL1005 Widget default/w, spec.restart: \"always\" is none of Always, OnFailure and Never; did you mean Always?",
            "m.yaml:10: KTL1005 Widget default/w, spec.start.timeout: expected a duration, found the number 30; give it a unit, such as 30s",
            "m.yaml:11: KTL1005 Widget default/w, spec.intensity.maxRestarts: expected a whole number, found the text \"3\"; write it without quotes",
            "m.yaml:12: KTL1005 Widget default/w, spec.endpoint.port: 70000 is not between 1 and 65535",
            "m.yaml:13: KTL1005 Widget default/w, spec.scaling.max: 0 is not between 1 and 1000",
            "m.yaml:13: KTL1005 Widget default/w, spec.scaling.target.inFlight: expected a whole number from 0 or a text, found the number 0.5; write it in quotes",
        ],
    );
}

#[test]
fn durations_sizes_and_bounds_are_said_all_at_once() {
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: rag}
spec:
  intensity: {period: 30}
  widgets:
  - name: llm
",
        &[
            "m.yaml:5: KTL1005 WidgetGroup default/rag, spec.intensity.period: expected a duration, found the number 30; give it a unit, such as 30s",
            "m.yaml:7: KTL1015 WidgetGroup default/rag, spec.widgets[0].process: the widget gives no way to run in the local world; add process: {command: [...]}",
        ],
    );
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: rag}
spec:
  intensity: {period: 0s}
  widgets:
  - name: vectors
    process: {command: []}
    serves: [{method: nearest, http: {path: /n}}]
  - name: llm
    process:
      command: [llm]
      limits: {memory: 2GB}
    scaling: {min: 4, max: 2, target: {}}
    start: {timeout: 5 minutes}
    health: {}
    shutdown: {policy: Brutal, grace: 5s}
",
        &[
            "m.yaml:5: KTL1005 WidgetGroup default/rag, spec.intensity.period: must be longer than zero, such as 1s",
            "m.yaml:8: KTL1005 WidgetGroup default/rag, spec.widgets[0].process.command: command needs a program as its first item, such as [python3, worker.py]",
            "m.yaml:9: KTL1005 WidgetGroup default/rag, spec.widgets[0].serves[0].http: needs the widget's endpoint; add endpoint: {} to get a port as $PORT",
            "m.yaml:13: KTL1005 WidgetGroup default/rag, spec.widgets[1].process.limits.memory: \"2GB\" is no size; write a number of bytes, or one with a unit (Ki, Mi, Gi, Ti, k, M, G, T), such as 64Mi",
            "m.yaml:14: KTL1005 WidgetGroup default/rag, spec.widgets[1].scaling.max: max 2 is below min 4; raise max or lower min",
            "m.yaml:14: KTL1005 WidgetGroup default/rag, spec.widgets[1].scaling.target: give at least one target: inFlight, queueDepth, queueGrowth or reported",
            "m.yaml:15: KTL1005 WidgetGroup default/rag, spec.widgets[1].start.timeout: \"5 minutes\" is no duration; write numbers with the units us, ms, s, m, h or d, such as 1h30m",
            "m.yaml:16: KTL1005 WidgetGroup default/rag, spec.widgets[1].health: health is told in exactly one way: give report: {} or http: {path: /healthz}",
            "m.yaml:17: KTL1005 WidgetGroup default/rag, spec.widgets[1].shutdown.grace: grace belongs to policy Graceful; leave it out, or set policy: Graceful",
        ],
    );
}

#[test]
fn a_name_that_yaml_takes_for_something_else_is_said() {
    assert_said(
        &object("Topic", "on", "{}"),
        &["m.yaml:3: KTL1005 metadata.name: expected a text, found the boolean true; write it in quotes"],
    );
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1\nkind: Topic\n",
        &[
            "m.yaml:1: KTL1006 metadata.name: this Topic needs a name, such as metadata: {name: rag}",
            "m.yaml:1: KTL1006 spec: is missing; where every default fits, write spec: {}",
        ],
    );
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1\nkind: Topic\nmetadata: {name: t}\n",
        &["m.yaml:1: KTL1006 Topic default/t, spec: is missing; where every default fits, write spec: {}"],
    );
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1\nkind: WidgetGroup\nmetadata: {name: g}\nspec: {}\n",
        &[
            "m.yaml:4: KTL1006 WidgetGroup default/g, spec.widgets: is missing. The widgets, in the order in which they are started. At \
           least one; names differ. Example: `[{name: llm, process: {command: [llm]}}]`.",
        ],
    );
}

#[test]
fn a_name_that_is_none_or_too_long_is_said() {
    assert_said(
        &object("Topic", "My_Topic", "{}"),
        &[
            "m.yaml:3: KTL1008 metadata.name: \"My_Topic\" is no name: at most 63 lower-case letters, digits and '-', starting and \
           ending with a letter or digit",
        ],
    );
    let (group, widget) = ("g".repeat(40), "w".repeat(30));
    assert_said(
        &object("WidgetGroup", &group, &format!("{{widgets: [{{name: {widget}, {RUN}}}]}}")),
        &[&format!(
            "m.yaml:4: KTL1008 WidgetGroup default/{group}, spec.widgets[0].name: {group}-{widget} is too long: at most 63 characters; \
             shorten the name of the group or of the widget"
        )],
    );
}

#[test]
fn mistakes_of_every_kind_in_one_manifest_are_said_at_once() {
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1
kind: WidgetGroup
metadata: {name: shop}
spec:
  intensity: {period: 1.5m}
  widgets:
  - name: input
    process: {command: python3 input.py}
    produces: [orders]
  - name: worker
    process: {command: [worker], env: {MODEL: small}}
    shutdown: 10s
    health: {http: {path: healthz}}
    consumes: [{topic: order}]
    calls: [{target: imput}]
---
apiVersion: kontrol.dev/v1alpha1
kind: Topic
metadata: {name: orders}
spec: {bus: main, retention: {age: 7 days}}
---
apiVersion: kontrol.dev/v1alpha1
kind: Supervisor
metadata: {name: top}
spec:
  whenExhausted: {initial: 10}
  children: [{group: shpo}, {supervisor: top}]
",
        &[
            "m.yaml:5: KTL1005 WidgetGroup default/shop, spec.intensity.period: \"1.5m\" is no duration; write numbers with the units us, ms, s, m, h or d, such as 1h30m",
            "m.yaml:8: KTL1005 WidgetGroup default/shop, spec.widgets[0].process.command: expected a list, such as [python3, worker.py, --verbose], found the text \"python3 input.py\"",
            "m.yaml:9: KTL1005 WidgetGroup default/shop, spec.widgets[0].produces[0]: expected fields, such as {topic: answers}, found the text \"orders\"",
            "m.yaml:11: KTL1005 WidgetGroup default/shop, spec.widgets[1].process.env: expected a list, such as [{name: MODEL, value: small}], found fields",
            "m.yaml:12: KTL1005 WidgetGroup default/shop, spec.widgets[1].shutdown: expected fields, such as {grace: 30s}, found the text \"10s\"",
            "m.yaml:13: KTL1005 WidgetGroup default/shop, spec.widgets[1].health.http.path: must start with '/' and have no spaces, such as /documents",
            "m.yaml:14: KTL1009 WidgetGroup default/shop, spec.widgets[1].consumes[0].topic: there is no topic order in namespace default; did you mean orders?",
            "m.yaml:15: KTL1010 WidgetGroup default/shop, spec.widgets[1].calls[0].target: there is no widget default/shop/imput; did you mean shop/input?",
            "m.yaml:20: KTL1005 Topic default/orders, spec.retention.age: \"7 days\" is no duration; write numbers with the units us, ms, s, m, h or d, such as 1h30m",
            "m.yaml:20: KTL1016 Topic default/orders, spec.bus: there is no message bus main in namespace default; declare it (kind: MessageBus, metadata: {name: main}), or leave bus out",
            "m.yaml:26: KTL1005 Supervisor default/top, spec.whenExhausted.initial: expected a duration, found the number 10; give it a unit, such as 10s",
            "m.yaml:27: KTL1013 Supervisor default/top, spec.children[0].group: there is no group default/shpo; did you mean shop?",
            "m.yaml:27: KTL1011 Supervisor default/top, spec.children[1].supervisor: supervisors go round in a circle: top → top; remove one of these children",
        ],
    );
}

#[test]
fn an_object_without_a_name_is_looked_through_all_the_same() {
    assert_said(
        "apiVersion: kontrol.dev/v1alpha1\nkind: Widget\nmetadata: {name: My App}\nspec:\n  proces: {}\n  restart: always\n",
        &[
            "m.yaml:3: KTL1008 metadata.name: \"My App\" is no name: at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit",
            "m.yaml:5: KTL1002 spec.proces: there is no such field; did you mean process?",
            "m.yaml:6: KTL1005 spec.restart: \"always\" is none of Always, OnFailure and Never; did you mean Always?",
        ],
    );
}
