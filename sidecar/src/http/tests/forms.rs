use std::time::Duration;

use axum::{body::to_bytes, http::header, response::IntoResponse};
use kontrol_core::code::Code;

use super::super::{Problem, reply::Form, request::Accept, sse};
use crate::{
    cloudevents,
    service::{Chunk, Error, Status},
};

fn chunk(sequence: u64, data: &'static [u8]) -> Chunk {
    Chunk { sequence, data: data.into(), ..Chunk::default() }
}

async fn written(problem: impl Into<Problem>) -> (u16, String, serde_json::Value) {
    let response = problem.into().into_response();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    let retry =
        response.headers().get(header::RETRY_AFTER).map_or("", |value| value.to_str().unwrap()).to_owned();
    let status = response.status().as_u16();
    (status, retry, serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap())
}

#[tokio::test]
async fn every_code_becomes_a_problem_with_its_own_status() {
    for code in Code::ALL {
        let (status, _, body) = written(Error::new(*code, "it", "because")).await;
        assert_eq!(status, code.http(), "{code}");
        assert_eq!(body["status"], code.http());
        assert_eq!(body["code"], code.as_str());
        assert_eq!(body["type"], format!("https://kontrol.dev/errors#{code}"));
        assert_eq!(body["title"], code.meaning());
        assert_eq!(body["detail"], "because");
        assert_eq!(body["subject"], "it");
        assert_eq!(body["help"], code.way_out());
    }
}

#[tokio::test]
async fn a_widgets_own_status_decides_over_the_codes() {
    let statuses = [
        (Status::InvalidArgument, 400),
        (Status::NotFound, 404),
        (Status::AlreadyExists, 409),
        (Status::ResourceExhausted, 429),
        (Status::Unimplemented, 501),
        (Status::Unavailable, 503),
        (Status::DeadlineExceeded, 504),
    ];
    for (chosen, expected) in statuses {
        let (status, _, body) = written(Error::of_widget(chosen, "", "no")).await;
        assert_eq!((status, &body["code"]), (expected, &"KTL4011".into()), "{chosen:?}");
    }
    assert_eq!(
        written(Error::of_widget(Status::Internal, "", "no")).await.0,
        502,
        "the widget behind is at fault"
    );
}

#[tokio::test]
async fn when_to_try_again_is_said_in_seconds_rounded_up_and_in_milliseconds() {
    let error = Error::new(Code::BufferFull, "", "full").retry_after(Duration::from_millis(1_001));
    let (status, retry, body) = written(error).await;
    assert_eq!((status, retry.as_str(), &body["retryAfterMs"]), (429, "2", &1_001.into()));
}

#[tokio::test]
async fn a_cloudevent_in_an_unknown_form_is_415() {
    let (status, _, body) = written(cloudevents::Error::Batch).await;
    assert_eq!((status, &body["status"], &body["code"]), (415, &415.into(), &"KTL3007".into()));
}

#[test]
fn lines_of_data_are_lines_of_the_event() {
    assert_eq!(sse::event("chunk", Some(7), "a\n\nb"), "event: chunk\nid: 7\ndata: a\ndata: \ndata: b\n\n");
    assert_eq!(sse::event("open", None, "{}"), "event: open\ndata: {}\n\n");
}

#[test]
fn a_chunk_is_its_data_or_base64_where_no_event_can_carry_it() {
    let form = Form::Events;
    assert_eq!(form.chunk(&chunk(0, b" the"), ""), "event: chunk\nid: 0\ndata:  the\n\n");
    assert_eq!(form.chunk(&chunk(1, b"a\r\nb"), ""), "event: chunk_base64\nid: 1\ndata: YQ0KYg==\n\n");
    assert_eq!(form.chunk(&chunk(2, &[0xff]), ""), "event: chunk_base64\nid: 2\ndata: /w==\n\n");
    assert_eq!(form.end(3, "a/b/c/0"), "event: end\ndata: {\"chunks\":3,\"answeredBy\":\"a/b/c/0\"}\n\n");
}

#[test]
fn a_line_holds_json_text_or_base64() {
    let form = Form::Lines;
    let json = form.chunk(&chunk(0, b"{\n\"a\": 1}"), "application/json");
    assert_eq!(json, "{\"sequence\":0,\"datacontenttype\":\"application/json\",\"data\":{\"a\": 1}}\n");
    let text = form.chunk(&chunk(1, b"a\nb"), "text/plain");
    assert_eq!(text, "{\"sequence\":1,\"datacontenttype\":\"text/plain\",\"data\":\"a\\nb\"}\n");
    assert_eq!(form.chunk(&chunk(2, b"token"), ""), "{\"sequence\":2,\"data\":\"token\"}\n");
    assert_eq!(form.chunk(&chunk(2, &[0xff]), ""), "{\"sequence\":2,\"data_base64\":\"/w==\"}\n");
    assert_eq!(form.end(3, "x"), "{\"end\":true,\"chunks\":3,\"answeredBy\":\"x\"}\n");
    let error = form.error(&Error::new(Code::ReplyBroken, "", "broken").into());
    let error: serde_json::Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(error["error"]["code"], "KTL4010");
}

#[test]
fn the_form_is_what_the_client_accepts() {
    let form = |accept: &str| Form::of(&Accept(accept.to_owned()));
    assert_eq!(form(""), None);
    assert_eq!(form("*/*"), None);
    assert_eq!(form("application/json, text/event-stream;q=0.9"), Some(Form::Events));
    assert_eq!(form("application/x-ndjson"), Some(Form::Lines));
}
