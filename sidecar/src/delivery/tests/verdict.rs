use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::super::verdict::{of_call, of_message, retry_after};
use crate::service::{Outcome, Status};

fn message(status: u16) -> Outcome {
    of_message(StatusCode::from_u16(status).unwrap(), None, "why".to_owned())
}

#[test]
fn success_acknowledges_a_message() {
    for status in [200, 201, 202, 204] {
        assert_eq!(message(status), Outcome::Ack);
    }
}

#[test]
fn what_will_never_work_ends_a_message_and_what_may_work_later_returns_it() {
    for status in [400, 401, 403, 404, 405, 409, 410, 413, 415, 422] {
        assert_eq!(message(status), Outcome::Term { reason: "why".to_owned() }, "{status}");
    }
    for status in [302, 408, 425, 429, 500, 502, 503, 504] {
        let nak = Outcome::Nak { delay: Duration::ZERO, reason: "why".to_owned(), attempt_counts: true };
        assert_eq!(message(status), nak, "{status}");
    }
}

#[test]
fn a_pause_that_the_widget_asks_for_is_kept() {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let outcome = of_message(status, Some(Duration::from_secs(7)), String::new());
    assert_eq!(
        outcome,
        Outcome::Nak { delay: Duration::from_secs(7), reason: String::new(), attempt_counts: true }
    );
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = 1_445_412_470_000_000; // Wed, 21 Oct 2015 07:27:50 GMT
    let read = |text: &str| {
        let headers: HeaderMap = [(http::header::RETRY_AFTER, text.parse().unwrap())].into_iter().collect();
        retry_after(&headers, now)
    };
    assert_eq!(read("120"), Some(Duration::from_mins(2)));
    assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(10)));
    assert_eq!(read("Wed, 21 Oct 2015 07:27:00 GMT"), Some(Duration::ZERO), "in the past");
    assert_eq!(read("soon"), None);
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn statuses_of_calls_keep_overload_apart_from_failure() {
    for (status, expected) in [
        (200, None),
        (204, None),
        (400, Some(Status::InvalidArgument)),
        (404, Some(Status::Unimplemented)),
        (422, Some(Status::InvalidArgument)),
        (429, Some(Status::ResourceExhausted)),
        (500, Some(Status::Internal)),
        (502, Some(Status::Internal)),
        (503, Some(Status::Unavailable)),
        (302, Some(Status::Internal)),
    ] {
        assert_eq!(of_call(StatusCode::from_u16(status).unwrap()), expected, "{status}");
    }
}
