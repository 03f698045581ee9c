//! What objects say of each other.

use super::*;

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

#[test]
fn sizes_that_the_hub_would_refuse_are_said() {
    let bus =
        |storage: &str| object("MessageBus", "default", &format!("{{embedded: {{storage: {storage}}}}}"));
    assert_said(
        &bus("{size: 128Mi}"),
        &[
            "m.yaml:4: KTL1005 MessageBus default/default, spec.embedded.storage.size: must hold at least four segments of segmentSize (default 64Mi)",
        ],
    );
    assert_said(
        &bus("{segmentSize: 2Gi}"),
        &[
            "m.yaml:4: KTL1005 MessageBus default/default, spec.embedded.storage.segmentSize: must be between 64Ki and 1Gi",
        ],
    );
    assert_said(
        &object("Topic", "a", "{maxMessageSize: 5Mi}"),
        &["m.yaml:4: KTL1005 Topic default/a, spec.maxMessageSize: must be between 1 and 4Mi"],
    );
    assert_said(
        &(bus("{segmentSize: 64Ki}") + &object("Topic", "a", "{}")),
        &[
            "m.yaml:9: KTL1005 Topic default/a, spec.maxMessageSize: bus default takes messages of up to 8192 bytes, an eighth of its segmentSize; \
           lower maxMessageSize (default 1Mi), or raise segmentSize",
        ],
    );
}
