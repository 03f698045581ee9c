use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{id::ObjectId, spec::RouteRule};

fn with<T>(data: &str, look: impl FnOnce(&Event<'_>) -> T) -> T {
    let extensions = BTreeMap::from([("urgency".to_owned(), "high".to_owned())]);
    look(&Event {
        id: "1",
        source: "/default/rag/input",
        r#type: "document.added",
        subject: Some("a.txt"),
        time_micros: Some(1_700_000_000_000_000),
        datacontenttype: Some("application/json; charset=utf-8"),
        dataschema: None,
        extensions: &extensions,
        data: data.as_bytes(),
    })
}

fn route(filter: Option<&str>, rules: &[(Option<&str>, &[&str])], all: bool) -> spec::Route {
    let name = |text: &&str| Name::new(text).unwrap();
    spec::Route {
        id: ObjectId { namespace: name(&"default"), name: name(&"r") },
        from: name(&"documents"),
        filter: filter.map(str::to_owned),
        rules: rules
            .iter()
            .map(|(when, to)| RouteRule { when: when.map(str::to_owned), to: to.iter().map(name).collect() })
            .collect(),
        all,
    }
}

fn targets(route: &spec::Route, data: &str) -> (Vec<String>, Vec<String>) {
    let matched = with(data, |event| Router::compile(route).unwrap().targets("documents", event));
    let topics = matched.to.iter().map(ToString::to_string).collect();
    (topics, matched.failures.iter().map(ToString::to_string).collect())
}

fn holds(text: &str, data: &str) -> Result<bool, Failed> {
    let expression = Expression::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    with(data, |event| expression.holds(&Scope::new("documents", event, expression.reads_data())))
}

#[test]
fn expressions_see_the_event_its_data_and_the_topic() {
    for text in [
        "event.id == '1' && event.source.endsWith('/input') && event.type == 'document.added'",
        "event.subject == 'a.txt' && event.time > 0 && event.datacontenttype.startsWith('application/json')",
        "event.urgency == 'high' && !has(event.dataschema)",
        "topic == 'documents'",
        "event.data.size > 10 && event.data.size + 1 == 12 && event.data.ratio < 0.6",
        "event.data.tags.exists(tag, tag == 'x') && event.data['tags'][1] == 'y'",
        "event['data'].size == 11",
        "size(event.data.tags.filter(t, t != 'x')) == 1 && 'x' in event.data.tags",
        "event.data.nothing == null",
        "type(event.data.size) == int",
    ] {
        assert_eq!(
            holds(text, r#"{"size": 11, "ratio": 0.5, "tags": ["x", "y"], "nothing": null}"#),
            Ok(true),
            "{text}"
        );
    }
}

#[test]
fn the_first_rule_that_matches_decides_unless_all_are_asked_for() {
    let rules: &[(Option<&str>, &[&str])] = &[
        (Some("event.data.urgent"), &["priority", "audit"]),
        (Some("event.data.bulk"), &["batch", "audit"]),
        (None, &["normal"]),
    ];
    let first = route(None, rules, false);
    assert_eq!(targets(&first, r#"{"urgent": true, "bulk": true}"#).0, ["priority", "audit"]);
    assert_eq!(targets(&first, r#"{"urgent": false, "bulk": false}"#).0, ["normal"]);
    let all = route(None, rules, true);
    assert_eq!(
        targets(&all, r#"{"urgent": true, "bulk": true}"#).0,
        ["priority", "audit", "batch", "normal"]
    );
    let filtered = route(Some("event.type == 'else'"), rules, true);
    assert_eq!(targets(&filtered, "{}").0, Vec::<String>::new());
}

#[test]
fn a_rule_that_fails_counts_as_not_matching_and_says_so() {
    let route = route(
        None,
        &[(Some("event.data.price > 10"), &["a"]), (Some("event.id"), &["b"]), (None, &["rest"])],
        false,
    );
    let (to, failures) = targets(&route, "{}");
    assert_eq!(to, ["rest"]);
    assert_eq!(
        failures,
        [
            "rules[0].when: No such key: price",
            "rules[1].when: it gives a value of type string; a condition has to give true or false"
        ]
    );
}

#[test]
fn data_that_is_no_json_is_not_there() {
    assert_eq!(holds("has(event.data)", "{not json"), Ok(false));
    let deep = "[".repeat(100_000);
    assert_eq!(holds("has(event.data)", &deep), Ok(false));
}

#[test]
fn an_error_says_where_and_what() {
    let error = |text: &str| Expression::compile(text).unwrap_err().to_string();
    assert!(error("event.type ==").starts_with("line 1, column 14: "), "{}", error("event.type =="));
    assert_eq!(
        error("topic == 'a' &&\n evnt.type == 'b'"),
        "line 2, column 2: there is no variable \"evnt\"; expressions see event and topic"
    );
    assert_eq!(
        error("data.price > 1"),
        "line 1, column 1: there is no variable \"data\"; expressions see event and topic; write event.data"
    );
    assert!(error("topic = 'a'").ends_with("there is no operator =; write == to compare"));
    assert!(error("event.Type == 'x'").contains("there is no event.Type"));
    assert!(error("event.id.matches('a+')").contains("there is no function \"matches\""));
    assert!(error(" ").contains("an empty text is no condition"));
    assert!(error("Foo{a: 1} == 1").contains("there is no type"));
}

#[test]
fn an_expression_is_bounded() {
    let refused = |text: &str| Expression::compile(text).is_err();
    assert!(refused(&"a".repeat(MAX_LENGTH + 1)));
    assert!(refused(&format!("{}1{}", "(".repeat(500), ")".repeat(500))));
    assert!(refused(&format!("1{} > 0", "+1".repeat(500))));
    assert!(refused(&format!("event{}", ".a".repeat(500))));
    assert!(refused(&format!("event{}", "[0]".repeat(300))));
    assert!(refused(&format!("event.id{}", ".size()".repeat(140))));
    assert!(refused(&format!("{}true", "true?true:".repeat(100))));
    let hidden = "(')'==(r'\\'==(\"\"\"\")\"\"\"==( // )\n".repeat(20);
    assert!(refused(&hidden), "brackets in strings and comments close nothing");
    assert!(refused("event.data.a.all(x, event.data.b.exists(y, y == x))"), "cost beyond linear");
    assert!(!refused(&format!("true{}", " && topic == 'a'".repeat(60))));
    assert!(!refused(&format!("{}true", "!".repeat(1_000))), "an even number of negations is none");
}

#[test]
fn errors_of_all_expressions_come_at_once_with_their_places() {
    let bad = route(Some("("), &[(Some("true"), &["a"]), (Some("nope"), &["b"])], false);
    let errors = Router::compile(&bad).unwrap_err();
    let places: Vec<_> = errors.iter().map(|(place, _)| place.to_string()).collect();
    assert_eq!(places, ["filter", "rules[1].when"]);
}

/// A quadratic evaluation of this would take hours, and the test would be ended for its time.
#[test]
fn a_list_of_a_hundred_thousand_is_looked_through() {
    let data = format!("[{}]", vec!["1"; 100_000].join(","));
    for text in [
        "event.data.all(x, x == 1)",
        "size(event.data.filter(x, x == 1)) > 1",
        "event.data.map(x, x)[0] == 1",
    ] {
        assert_eq!(holds(text, &data), Ok(true), "{text}");
    }
}

fn fragments() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "event",
        ".",
        "data",
        "topic",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "&&",
        "||",
        "!",
        "-",
        "'a'",
        "\"",
        "1",
        "1.5",
        "1u",
        "b'x'",
        "r'",
        "?",
        ":",
        ",",
        "==",
        "in",
        "has(",
        ".all(x,",
        ".map(x,",
        "size(",
        " ",
        "\\",
        "\n",
        "\u{1f980}",
        "/",
        "%",
        "9223372036854775807",
        "e999",
        "null",
        "true",
        "x",
        "\0",
        "`",
        "_",
        "//",
    ];
    prop::collection::vec(prop::sample::select(PIECES), 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in prop_oneof![".*", fragments()], data in prop_oneof!["[0-9\\[\\]{}\":,a-e]*", Just("[[1,{\"a\":-1}],1e400,18446744073709551615]".to_owned())]) {
        if let Ok(expression) = Expression::compile(&text) {
            let result = with(&data, |event| expression.holds(&Scope::new("t", event, true)));
            prop_assert_ne!(result, Err(Failed::Evaluation("the evaluation broke off".to_owned())));
        }
    }
}
