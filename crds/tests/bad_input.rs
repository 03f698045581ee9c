//! What is said of manifests that are wrong: exact texts, because people read them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use kontrol_crds::{Source, load};

fn said(text: &str) -> String {
    let source = Source { name: "m.yaml".to_owned(), text: text.to_owned() };
    match load(&[source]) {
        Ok(world) => panic!("accepted as {world:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[track_caller]
fn assert_said(text: &str, expected: &[&str]) {
    let expected = expected.join("\n");
    let said = said(text);
    assert!(said == expected, "said:\n{said}\nexpected:\n{expected}");
}

/// A document of a kind with a name and a spec in flow style.
fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: kontrol.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

fn topics(names: &[&str]) -> String {
    names.iter().map(|name| object("Topic", name, "{}")).collect()
}

const RUN: &str = "process: {command: [w]}";

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
            "m.yaml:12: KTL1002 WidgetGroup default/rag, spec.widgets[0].gpu: there is no such field; the fields here are calls, \
             consumes, endpoint, health, intensity, name, process, produces, replicaEnd, replicas, resilience, restart, scaling, \
             serves, shutdown, significant and start",
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
fn two_widgets_of_one_name_are_said() {
    assert_said(
        &object("WidgetGroup", "rag", &format!("{{widgets: [{{name: llm, {RUN}}}, {{name: llm, {RUN}}}]}}")),
        &[
            "m.yaml:4: KTL1007 WidgetGroup default/rag, spec.widgets[1].name: there is another item with the name llm in this list; each may be there once",
        ],
    );
    assert_said(
        &(object("Widget", "w", &format!("{{{RUN}}}")) + &object("Widget", "w", &format!("{{{RUN}}}"))),
        &[
            "m.yaml:8: KTL1007 Widget default/w, metadata.name: there is another Widget default/w (m.yaml:1); rename one of the two",
        ],
    );
    assert_said(
        &(object("Widget", "w", &format!("{{{RUN}}}"))
            + &object("WidgetGroup", "w", &format!("{{widgets: [{{name: x, {RUN}}}]}}"))),
        &[
            "m.yaml:8: KTL1007 WidgetGroup default/w, metadata.name: Widget default/w (m.yaml:1) has the same name; groups, supervisors and \
           widgets outside any group share one set of names, so rename one of the two",
        ],
    );
}

#[test]
fn names_that_collide_as_group_and_widget_are_said() {
    let one = object("WidgetGroup", "a", &format!("{{widgets: [{{name: b-c, {RUN}}}]}}"));
    let two = object("WidgetGroup", "a-b", &format!("{{widgets: [{{name: c, {RUN}}}]}}"));
    assert_said(
        &(one.clone() + &two),
        &[
            "m.yaml:9: KTL1007 WidgetGroup default/a-b, spec.widgets[0].name: name collision: the widgets default/a-b/c and \
           default/a/b-c of WidgetGroup default/a (m.yaml:1) would both be called a-b-c; rename one of the two",
        ],
    );
    assert_said(
        &(one + &object("Widget", "a-b-c", &format!("{{{RUN}}}"))),
        &[
            "m.yaml:8: KTL1007 Widget default/a-b-c, metadata.name: name collision: the widgets default/a-b-c/a-b-c and \
           default/a/b-c of WidgetGroup default/a (m.yaml:1) would both be called a-b-c; rename one of the two",
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
fn topics_that_do_not_exist_are_said() {
    let widget = format!("{{{RUN}, consumes: [{{topic: documnts}}], produces: [{{topic: answers}}]}}");
    assert_said(
        &(topics(&["documents"])
            + &object("Widget", "w", &widget)
            + &object("Route", "r", "{from: {topic: in}, rules: [{to: [{topic: document}]}]}")),
        &[
            "m.yaml:9: KTL1009 Widget default/w, spec.consumes[0].topic: there is no topic documnts in namespace default; did you mean documents?",
            "m.yaml:9: KTL1009 Widget default/w, spec.produces[0].topic: there is no topic answers in namespace default; declare it: kind: Topic, metadata: {name: answers}",
            "m.yaml:14: KTL1009 Route default/r, spec.from.topic: there is no topic in in namespace default; declare it: kind: Topic, metadata: {name: in}",
            "m.yaml:14: KTL1009 Route default/r, spec.rules[0].to[0].topic: there is no topic document in namespace default; did you mean documents?",
        ],
    );
    assert_said(
        &object("Topic", "a", "{deadLetter: {topic: b}}"),
        &[
            "m.yaml:4: KTL1009 Topic default/a, spec.deadLetter.topic: there is no topic b in namespace default; declare it: kind: Topic, metadata: {name: b}",
        ],
    );
}

#[test]
fn calls_to_targets_that_are_not_there_or_serve_nothing_are_said() {
    let widgets = format!(
        "{{widgets: [{{name: vectors, {RUN}}}, {{name: llm, {RUN}, calls: [{{target: vektors}}, {{target: vectors}}, {{target: page}}, {{target: prod/rag/llm}}, {{target: a/b/c/d}}]}}]}}"
    );
    assert_said(
        &(object("WidgetGroup", "rag", &widgets)
            + &object("Widget", "page", &format!("{{{RUN}, serves: [{{method: show}}]}}"))),
        &[
            "m.yaml:4: KTL1008 WidgetGroup default/rag, spec.widgets[1].calls[4].target: \"a/b/c/d\" is no address: write widget, \
           group/widget or namespace/group/widget",
            "m.yaml:4: KTL1010 WidgetGroup default/rag, spec.widgets[1].calls[0].target: there is no widget default/rag/vektors; did you mean rag/vectors?",
            "m.yaml:4: KTL1005 WidgetGroup default/rag, spec.widgets[1].calls[1].target: default/rag/vectors serves no method; add serves to it, such as serves: [{method: answer}]",
            "m.yaml:4: KTL1010 WidgetGroup default/rag, spec.widgets[1].calls[2].target: there is no widget default/rag/page; did you mean page/page?",
            "m.yaml:4: KTL1021 WidgetGroup default/rag, spec.widgets[1].calls[3].target: prod/rag/llm is in another namespace than default/rag/llm, and cannot be called; put both into one",
        ],
    );
}

#[test]
fn a_widget_without_a_way_to_run_here_is_said() {
    assert_said(
        &object("Widget", "w", "{replicas: 2}"),
        &[
            "m.yaml:4: KTL1015 Widget default/w, spec.process: the widget gives no way to run in the local world; add process: {command: [...]}",
        ],
    );
}

#[test]
fn a_circle_of_supervisors_is_said_on_each_of_them() {
    let supervisor = |name: &str, child: &str| {
        object("Supervisor", name, &format!("{{children: [{{supervisor: {child}}}]}}"))
    };
    assert_said(
        &(supervisor("a", "b") + &supervisor("b", "c") + &supervisor("c", "a") + &supervisor("d", "d")),
        &[
            "m.yaml:4: KTL1011 Supervisor default/a, spec.children[0].supervisor: supervisors go round in a circle: a → b → c → a; remove one of these children",
            "m.yaml:9: KTL1011 Supervisor default/b, spec.children[0].supervisor: supervisors go round in a circle: b → c → a → b; remove one of these children",
            "m.yaml:14: KTL1011 Supervisor default/c, spec.children[0].supervisor: supervisors go round in a circle: c → a → b → c; remove one of these children",
            "m.yaml:19: KTL1011 Supervisor default/d, spec.children[0].supervisor: supervisors go round in a circle: d → d; remove one of these children",
        ],
    );
}

#[test]
fn two_parents_are_said_on_the_child_and_on_both() {
    let supervisor = |name: &str| object("Supervisor", name, "{children: [{group: rag}]}");
    assert_said(
        &(supervisor("a")
            + &supervisor("b")
            + &object("WidgetGroup", "rag", &format!("{{widgets: [{{name: x, {RUN}}}]}}"))),
        &[
            "m.yaml:4: KTL1012 Supervisor default/a, spec.children[0]: WidgetGroup default/rag has two parents: it is a child of Supervisor default/b (m.yaml:6) as well; remove it from one of them",
            "m.yaml:9: KTL1012 Supervisor default/b, spec.children[0]: WidgetGroup default/rag has two parents: it is a child of Supervisor default/a (m.yaml:1) as well; remove it from one of them",
            "m.yaml:11: KTL1012 WidgetGroup default/rag: has two parents: Supervisor default/a (m.yaml:1) and Supervisor default/b (m.yaml:6); remove it from one of them",
        ],
    );
}

#[test]
fn children_that_do_not_exist_are_said() {
    assert_said(
        &(object("Supervisor", "top", "{children: [{group: rga}, {supervisor: rag}, {supervisor: zzz}]}")
            + &object("WidgetGroup", "rag", &format!("{{widgets: [{{name: x, {RUN}}}]}}"))),
        &[
            "m.yaml:4: KTL1013 Supervisor default/top, spec.children[0].group: there is no group default/rga; did you mean rag?",
            "m.yaml:4: KTL1013 Supervisor default/top, spec.children[1].supervisor: default/rag is no supervisor, but WidgetGroup default/rag (m.yaml:6); write group: rag",
            "m.yaml:4: KTL1013 Supervisor default/top, spec.children[2].supervisor: there is no supervisor default/zzz; there is no supervisor at all",
        ],
    );
}

#[test]
fn an_invalid_expression_is_said_with_its_place() {
    let said = said(
        &(topics(&["a", "b"])
            + &object(
                "Route",
                "r",
                "{from: {topic: a}, filter: 'event.type ==', rules: [{when: 'nope.x == 1', to: [{topic: b}]}]}",
            )),
    );
    assert!(said.starts_with("m.yaml:14: KTL1014 Route default/r, spec.filter: line 1, column "), "{said}");
    assert!(
        said.contains("\nm.yaml:14: KTL1014 Route default/r, spec.rules[0].when: line 1, column 1: "),
        "{said}"
    );
}

#[test]
fn a_bus_that_does_not_exist_is_said() {
    assert_said(
        &object("Topic", "a", "{bus: orders}"),
        &[
            "m.yaml:4: KTL1016 Topic default/a, spec.bus: there is no message bus orders in namespace default; declare it (kind: \
           MessageBus, metadata: {name: orders}), or leave bus out",
        ],
    );
}

#[test]
fn circles_of_dead_letters_and_of_routes_are_said_on_each() {
    assert_said(
        &(object("Topic", "a", "{deadLetter: {topic: b}}")
            + &object("Topic", "b", "{deadLetter: {topic: a}}")),
        &[
            "m.yaml:4: KTL1017 Topic default/a, spec.deadLetter.topic: dead letters would go round in a circle: a → b → a; leave deadLetter out at one of them",
            "m.yaml:9: KTL1017 Topic default/b, spec.deadLetter.topic: dead letters would go round in a circle: b → a → b; leave deadLetter out at one of them",
        ],
    );
    let route = |name: &str, from: &str, to: &str| {
        object("Route", name, &format!("{{from: {{topic: {from}}}, rules: [{{to: [{{topic: {to}}}]}}]}}"))
    };
    assert_said(
        &(topics(&["a", "b"]) + &route("there", "a", "b") + &route("back", "b", "a")),
        &[
            "m.yaml:14: KTL1017 Route default/there, spec.rules: messages would go round in a circle: a → b → a; a route changes nothing in a message, so what passed once would pass again",
            "m.yaml:19: KTL1017 Route default/back, spec.rules: messages would go round in a circle: b → a → b; a route changes nothing in a message, so what passed once would pass again",
        ],
    );
}

#[test]
fn ports_and_subscriptions_that_two_would_share_are_said() {
    let widget = format!("{{{RUN}, endpoint: {{port: 8080}}, consumes: [{{topic: a, subscription: s}}]}}");
    assert_said(
        &(topics(&["a"]) + &object("Widget", "one", &widget) + &object("Widget", "two", &widget)),
        &[
            "m.yaml:14: KTL1022 Widget default/two, spec.consumes[0].subscription: default/one/one of Widget default/one (m.yaml:6) has the same subscription s to topic a, so each message would go to only one of the two; give it a name of its own",
            "m.yaml:14: KTL1020 Widget default/two, spec.endpoint.port: default/one/one of Widget default/one (m.yaml:6) listens on port 8080 as well; choose another, or leave port out to be given one as $PORT",
        ],
    );
    assert_said(
        &object("Widget", "x", &format!("{{{RUN}, replicas: 3, endpoint: {{port: 8080}}}}")),
        &[
            "m.yaml:4: KTL1020 Widget default/x, spec.endpoint.port: 3 replicas cannot listen on port 8080; leave port out, and each is given its own as $PORT",
        ],
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

#[test]
fn buses_of_different_storage_are_said() {
    let bus = |name: &str, size: &str| {
        object("MessageBus", name, &format!("{{embedded: {{storage: {{size: {size}}}}}}}"))
    };
    assert_said(
        &(bus("orders", "1Gi") + &bus("logs", "2Gi")),
        &[
            "m.yaml:9: KTL1005 MessageBus default/logs, spec.embedded.storage: one hub serves all message buses here, and MessageBus default/orders (m.yaml:1) has other storage; give both the same, or put all topics on one bus",
        ],
    );
    assert_said(
        &(topics(&["a"]) + &bus("orders", "1Gi")),
        &[
            "m.yaml:9: KTL1005 MessageBus default/orders, spec.embedded.storage: one hub serves all message buses here, and the bus default of Topic default/a (m.yaml:1), which is not declared, has other storage; give both the same, or put all topics on one bus",
        ],
    );
    let same = [Source { name: "m.yaml".to_owned(), text: bus("orders", "1Gi") + &bus("logs", "1Gi") }];
    assert!(load(&same).is_ok());
    let own = [Source { name: "m.yaml".to_owned(), text: topics(&["a"]) + &bus("default", "1Gi") }];
    assert!(load(&own).is_ok());
}

#[test]
fn nothing_is_said_of_references_while_a_text_cannot_be_read() {
    let sources = [
        Source {
            name: "a.yaml".to_owned(),
            text: object("Widget", "w", &format!("{{{RUN}, produces: [{{topic: t}}]}}")),
        },
        Source { name: "b.yaml".to_owned(), text: "kind: [".to_owned() },
    ];
    let problems = load(&sources).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].file, "b.yaml");
}
