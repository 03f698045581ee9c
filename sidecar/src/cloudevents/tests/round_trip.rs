//! What is written reads back as it was.

use bytes::Bytes;
use http::HeaderMap;
use proptest::{collection::hash_map, prelude::*};

use crate::cloudevents::{Event, Mode, from_http, from_json, plain, read, to_headers, to_json};

prop_compose! {
    fn any_event()(
        id in "[^\\p{C}\u{fffe}\u{ffff}]{1,20}",
        source in "/[a-z0-9._~/:?#@!$&'()*+,;=-]{0,20}",
        kind in "[a-z.]{1,20}",
        subject in "[^\\p{C}]{0,20}",
        time_micros in -62_000_000_000_000_000_i64..253_000_000_000_000_000,
        datacontenttype in prop_oneof![
            Just(""), Just("application/json"), Just("text/plain; charset=utf-8"), Just("application/octet-stream"),
        ],
        dataschema in prop_oneof![Just(""), Just("https://example.com/schema#1")],
        extensions in hash_map("x[a-z0-9]{1,10}", "[^\\p{C}]{0,20}", 0..4),
        data in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..50),
            "[\\PC\\r\\n]{0,50}".prop_map(String::into_bytes),
            Just(br#"{"a":[1,2.50,"x"]}"#.to_vec()),
        ],
    ) -> Event {
        Event {
            id, source, r#type: kind, subject, time_micros,
            datacontenttype: datacontenttype.to_owned(), dataschema: dataschema.to_owned(),
            extensions, data: Bytes::from(data),
        }
    }
}

proptest! {
    #[test]
    fn in_binary_mode(event in any_event()) {
        let headers = to_headers(&event).unwrap();
        for value in headers.values() {
            prop_assert!(value.to_str().is_ok());
        }
        prop_assert_eq!(from_http(&headers, event.data.clone()).unwrap(), event);
    }

    #[test]
    fn in_json(event in any_event()) {
        let text = to_json(&event, &[]).unwrap();
        prop_assert!(!text.contains(['\n', '\r']));
        let read = from_json(text.as_bytes()).unwrap();
        if event.datacontenttype == "application/json" && !read.data.is_empty() && read.data != event.data {
            // JSON data keeps its tokens, not the line breaks between them.
            let value = |data: &[u8]| serde_json::from_slice::<serde_json::Value>(data).unwrap();
            prop_assert_eq!(value(&read.data), value(&event.data));
        } else {
            prop_assert_eq!(read, event);
        }
    }

    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(from_json(&body));
    }
}

#[test]
fn numbers_in_json_data_keep_their_digits() {
    let data = r#"{"big":123456789012345678901234567890,"exact":0.10000000000000000000000000001,"e":1E400}"#;
    let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#);
    let event = from_json(text.as_bytes()).unwrap();
    assert_eq!(&event.data[..], data.as_bytes());
    assert!(to_json(&event, &[]).unwrap().contains(data));
}

#[test]
fn json_that_is_broken_travels_as_base64() {
    let event = Event { datacontenttype: "application/json".into(), data: "{".into(), ..Event::default() };
    assert!(to_json(&event, &[]).unwrap().ends_with(r#""data_base64":"ew=="}"#));
}

#[test]
fn integers_stand_beside_and_win_over_extensions_of_their_name() {
    let extensions = [("kontrolattempt".to_owned(), "forged".to_owned())].into();
    let event = Event { id: "1".into(), extensions, ..Event::default() };
    assert_eq!(
        to_json(&event, &[("kontrolattempt", 2)]).unwrap(),
        r#"{"specversion":"1.0","id":"1","kontrolattempt":2}"#
    );
}

#[test]
fn trace_context_is_taken_from_the_message_unless_the_event_has_its_own() {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap());
    headers.insert("tracestate", "a=1".parse().unwrap());
    let event = read(&headers, Bytes::new()).unwrap();
    assert_eq!(event.extensions["tracestate"], "a=1");
    assert_eq!(to_headers(&event).unwrap()["traceparent"], headers["traceparent"]);
    assert_eq!(to_headers(&event).unwrap()["ce-traceparent"], headers["traceparent"]);
    let own = "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-00";
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-traceparent", own),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    let event = read(&headers, Bytes::new()).unwrap();
    assert_eq!(event.extensions["traceparent"], own);
    assert!(!event.extensions.contains_key("tracestate"), "the state belongs to the other parent");
}

#[test]
fn a_plain_body_becomes_data() {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(Mode::of(&headers), Ok(Mode::Plain));
    let event = plain(&headers, Bytes::from_static(b"hello")).unwrap();
    let expected = Event { datacontenttype: "text/plain".into(), data: "hello".into(), ..Event::default() };
    assert_eq!(event, expected);
}
