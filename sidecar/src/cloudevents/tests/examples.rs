//! The examples of the HTTP protocol binding and of the JSON event format, version 1.0.2, both ways.

use bytes::Bytes;
use http::HeaderMap;

use crate::cloudevents::{Event, Mode, from_http, from_json, read, to_headers, to_json};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn value(json: &str) -> serde_json::Value {
    serde_json::from_str(json).unwrap()
}

/// What all examples of the JSON event format have in common.
fn some_event(id: &str, datacontenttype: &str, data: &'static [u8]) -> Event {
    Event {
        id: id.into(),
        source: "/mycontext".into(),
        r#type: "com.example.someevent".into(),
        time_micros: 1_522_949_460_000_000,
        datacontenttype: datacontenttype.into(),
        extensions: [("comexampleextension1", "value"), ("comexampleothervalue", "5")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        data: Bytes::from_static(data),
        ..Event::default()
    }
}

fn some_headers(id: &'static str, content_type: &'static str) -> HeaderMap {
    headers(&[
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-source", "/mycontext"),
        ("ce-id", id),
        ("ce-time", "2018-04-05T17:31:00Z"),
        ("ce-comexampleextension1", "value"),
        ("ce-comexampleothervalue", "5"),
        ("content-type", content_type),
    ])
}

#[test]
fn binary_mode_example_of_the_http_binding() {
    let headers = headers(&[
        ("host", "webhook.example.com"),
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-time", "2018-04-05T03:56:24Z"),
        ("ce-id", "1234-1234-1234"),
        ("ce-source", "/mycontext/subcontext"),
        ("content-type", "application/json; charset=utf-8"),
    ]);
    assert_eq!(Mode::of(&headers), Ok(Mode::Binary));
    let event = read(&headers, Bytes::from_static(b"{ \"k\": 1 }")).unwrap();
    let expected = Event {
        id: "1234-1234-1234".into(),
        source: "/mycontext/subcontext".into(),
        r#type: "com.example.someevent".into(),
        time_micros: 1_522_900_584_000_000,
        datacontenttype: "application/json; charset=utf-8".into(),
        data: Bytes::from_static(b"{ \"k\": 1 }"),
        ..Event::default()
    };
    assert_eq!(event, expected);
    let mut written = to_headers(&event).unwrap();
    written.insert("host", "webhook.example.com".parse().unwrap());
    assert_eq!(written, headers);
}

#[test]
fn structured_mode_example_of_the_http_binding() {
    let headers = headers(&[
        ("host", "webhook.example.com"),
        ("content-type", "application/cloudevents+json; charset=utf-8"),
    ]);
    assert_eq!(Mode::of(&headers), Ok(Mode::Structured));
    let body = r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "id" : "1",
        "source" : "/mycontext",
        "data" : {
            "application" : "data"
        }
    }"#;
    let event = read(&headers, Bytes::from_static(body.as_bytes())).unwrap();
    assert_eq!(
        (event.r#type.as_str(), event.datacontenttype.as_str()),
        ("com.example.someevent", "application/json")
    );
    assert_eq!(value(std::str::from_utf8(&event.data).unwrap()), serde_json::json!({"application": "data"}));
}

#[test]
fn json_example_with_binary_data() {
    let text = r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "id" : "A234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "datacontenttype" : "application/vnd.apache.thrift.binary",
        "data_base64" : "AAEC/w=="
    }"#;
    let event = from_json(text.as_bytes()).unwrap();
    assert_eq!(event, some_event("A234-1234-1234", "application/vnd.apache.thrift.binary", &[0, 1, 2, 255]));
    assert_eq!(
        to_headers(&event).unwrap(),
        some_headers("A234-1234-1234", "application/vnd.apache.thrift.binary")
    );
    let mut expected = value(text);
    expected["comexampleothervalue"] = "5".into();
    assert_eq!(value(&to_json(&event, &[]).unwrap()), expected, "extensions are written as texts");
}

#[test]
fn json_example_with_xml_data() {
    let text = r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "id" : "B234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "unsetextension": null,
        "datacontenttype" : "application/xml",
        "data" : "<much wow=\"xml\"/>"
    }"#;
    let event = from_json(text.as_bytes()).unwrap();
    assert_eq!(event, some_event("B234-1234-1234", "application/xml", br#"<much wow="xml"/>"#));
    assert_eq!(to_headers(&event).unwrap(), some_headers("B234-1234-1234", "application/xml"));
    assert_eq!(from_http(&to_headers(&event).unwrap(), event.data.clone()).unwrap(), event);
    assert_eq!(value(&to_json(&event, &[]).unwrap())["data"], r#"<much wow="xml"/>"#);
}

#[test]
fn json_example_with_a_json_object() {
    let text = r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "subject": null,
        "id" : "C234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "datacontenttype" : "application/json",
        "data" : {
            "appinfoA" : "abc",
            "appinfoB" : 123,
            "appinfoC" : true
        }
    }"#;
    let event = from_json(text.as_bytes()).unwrap();
    assert_eq!(
        Event { data: Bytes::new(), ..event.clone() },
        some_event("C234-1234-1234", "application/json", b"")
    );
    assert_eq!(to_headers(&event).unwrap(), some_headers("C234-1234-1234", "application/json"));
    let data = value(std::str::from_utf8(&event.data).unwrap());
    assert_eq!(data, serde_json::json!({"appinfoA": "abc", "appinfoB": 123, "appinfoC": true}));
    assert_eq!(value(&to_json(&event, &[]).unwrap())["data"], data);
}

#[test]
fn json_example_with_a_literal_string_and_no_content_type() {
    let text = r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "subject": null,
        "id" : "D234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "data" : "I'm just a string"
    }"#;
    let event = from_json(text.as_bytes()).unwrap();
    assert_eq!(event, some_event("D234-1234-1234", "application/json", br#""I'm just a string""#));
    assert_eq!(to_headers(&event).unwrap(), some_headers("D234-1234-1234", "application/json"));
    assert_eq!(value(&to_json(&event, &[]).unwrap())["data"], "I'm just a string");
}

#[test]
fn attribute_table_of_the_json_format() {
    let event = from_json(
        br#"{"type": "com.example.someevent", "specversion": "1.0", "source": "/mycontext", "subject": "larger-context",
             "id": "1234-1234-1234", "time": null, "datacontenttype": "application/json", "flag": true, "number": -7}"#,
    )
    .unwrap();
    assert_eq!((event.subject.as_str(), event.time_micros), ("larger-context", 0));
    assert_eq!(event.extensions["flag"], "true");
    assert_eq!(event.extensions["number"], "-7");
    assert!(event.data.is_empty());
}

#[test]
fn data_null_is_a_payload_and_no_data_is_none() {
    let required = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
    assert_eq!(&from_json(format!("{{{required},\"data\":null}}").as_bytes()).unwrap().data[..], b"null");
    assert!(from_json(format!("{{{required}}}").as_bytes()).unwrap().data.is_empty());
}
