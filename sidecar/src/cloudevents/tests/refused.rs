//! What is no event, and what is said about it.

use bytes::Bytes;
use http::HeaderMap;

use crate::cloudevents::{Error, Event, from_json, read, to_headers};

fn binary(changes: &[(&'static str, Option<&str>)]) -> Result<Event, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")] {
        headers.insert(name, value.parse().unwrap());
    }
    for (name, value) in changes {
        match value {
            None => {
                headers.remove(*name);
            }
            Some(value) => {
                headers.insert(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
        }
    }
    read(&headers, Bytes::new())
}

fn json(change: &str) -> Result<Event, Error> {
    from_json(format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{change}}}"#).as_bytes())
}

#[test]
fn a_missing_required_attribute_is_named() {
    for (header, name) in
        [("ce-specversion", "specversion"), ("ce-id", "id"), ("ce-source", "source"), ("ce-type", "type")]
    {
        assert_eq!(binary(&[(header, None)]), Err(Error::Missing(name)));
    }
    assert_eq!(from_json(br#"{"specversion":"1.0","id":"1","source":"/s"}"#), Err(Error::Missing("type")));
    assert_eq!(Error::Missing("id").http(), 400);
    assert_eq!(Error::Missing("id").code().as_str(), "KTL3007");
}

#[test]
fn another_version_is_named() {
    assert_eq!(binary(&[("ce-specversion", Some("0.3"))]), Err(Error::Version("0.3".into())));
    assert_eq!(
        Error::Version("0.3".into()).to_string(),
        r#"the CloudEvent's specversion is "0.3"; only "1.0" is read"#
    );
}

#[test]
fn attributes_that_break_the_rules_are_named() {
    for (header, value, attribute) in [
        ("ce-id", "", "id"),
        ("ce-type", "", "type"),
        ("ce-subject", "", "subject"),
        ("ce-source", "with%20space", "source"),
        ("ce-source", "%22quoted%22", "source"),
        ("ce-time", "yesterday", "time"),
        ("ce-dataschema", "no-scheme", "dataschema"),
        ("ce-datacontenttype", "text/plain", "datacontenttype"),
        ("content-type", "nonsense", "datacontenttype"),
        ("ce-my-extension", "x", "my-extension"),
        ("ce-my_extension", "x", "my_extension"),
        ("ce-data", "x", "data"),
        ("ce-subject", "%C0%A0", "subject"),
        ("ce-subject", "%00", "subject"),
        ("ce-subject", "\"open", "subject"),
    ] {
        let error = binary(&[(header, Some(value))]).unwrap_err();
        assert_eq!((error.attribute(), error.http()), (attribute, 400), "{header}: {value}: {error}");
    }
}

#[test]
fn an_attribute_that_comes_twice_is_named() {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-id", "2"), ("ce-source", "/s"), ("ce-type", "t")]
    {
        headers.append(name, value.parse().unwrap());
    }
    assert_eq!(read(&headers, Bytes::new()).unwrap_err().attribute(), "id");
    assert_eq!(
        json(r#","id":"2""#).unwrap_err().to_string(),
        r#"the body is no CloudEvent in JSON: "id" is there more than once at line 1 column 64"#
    );
}

#[test]
fn json_values_that_no_attribute_can_have_are_named() {
    for value in ["1.5", "3000000000", "[]", "{}"] {
        assert_eq!(
            json(&format!(r#","myextension":{value}"#)).unwrap_err().attribute(),
            "myextension",
            "{value}"
        );
    }
    assert_eq!(json(r#","MyExtension":"x""#).unwrap_err().attribute(), "MyExtension");
    assert_eq!(json(r#","":"x""#).unwrap_err().attribute(), "");
}

#[test]
fn bodies_that_are_no_events_are_refused_with_the_place() {
    for body in ["", "[]", "1", "{", r#"{"specversion":"1.0"} x"#] {
        assert!(matches!(from_json(body.as_bytes()), Err(Error::Body(_))), "{body}");
    }
    for change in [
        r#","data":1,"data_base64":"AA==""#,
        r#","data_base64":"%%%""#,
        r#","data_base64":1"#,
        r#","datacontenttype":"text/plain","data":{}"#,
    ] {
        assert!(matches!(json(change), Err(Error::Body(_))), "{change}");
    }
}

#[test]
fn batches_and_other_formats_are_415() {
    for (content_type, expected) in [
        ("application/cloudevents-batch+json", Error::Batch),
        ("application/cloudevents+avro", Error::Format("application/cloudevents+avro".into())),
        ("application/cloudevents", Error::Format("application/cloudevents".into())),
        (
            "application/cloudevents+json; charset=utf-16",
            Error::Format("application/cloudevents+json; charset=utf-16".into()),
        ),
    ] {
        let error = binary(&[("content-type", Some(content_type))]).unwrap_err();
        assert_eq!((error.http(), &error), (415, &expected));
    }
}

#[test]
fn what_no_header_can_carry_is_refused_when_written() {
    let event = Event { datacontenttype: "text/plain\n".into(), ..Event::default() };
    assert_eq!(to_headers(&event).unwrap_err().attribute(), "datacontenttype");
    let event = Event { extensions: [("two words".to_owned(), String::new())].into(), ..Event::default() };
    assert_eq!(to_headers(&event).unwrap_err().attribute(), "two words");
    let event = Event { time_micros: i64::MIN, ..Event::default() };
    assert_eq!(to_headers(&event).unwrap_err().attribute(), "time");
}
