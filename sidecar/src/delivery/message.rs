//! One message, posted in the binary mode of `CloudEvents`.

use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

use super::{Failed, HttpEndpoint, post, put, reason, verdict};
use crate::{
    clock, cloudevents,
    service::{Delivery, Outcome},
};

pub(super) async fn deliver(to: &HttpEndpoint, address: &str, path: &str, delivery: &Delivery) -> Outcome {
    let headers = match headers(delivery) {
        Ok(headers) => headers,
        Err(error) => return Outcome::Term { reason: error.to_string() },
    };
    let request = match post(address, path, headers, delivery.event.data.clone()) {
        Ok(request) => request,
        Err(error) => {
            return Outcome::Term { reason: format!("http://{address}{path} cannot be posted to: {error}") };
        }
    };
    match to.send(request).await {
        Ok(response) => {
            let status = response.status();
            let retry_after = verdict::retry_after(response.headers(), clock::unix_micros());
            let said = reason(response.into_body()).await;
            let reason = if said.is_empty() {
                format!("POST {path} answered {status}")
            } else {
                format!("POST {path} answered {status}: {said}")
            };
            verdict::of_message(status, retry_after, reason)
        }
        Err(failed @ Failed::NotListening(_)) => {
            Outcome::Nak { delay: to.pause(), reason: failed.to_string(), attempt_counts: false }
        }
        Err(failed @ Failed::Broken(_)) => Outcome::Nak {
            delay: std::time::Duration::ZERO,
            reason: failed.to_string(),
            attempt_counts: true,
        },
    }
}

fn headers(delivery: &Delivery) -> Result<HeaderMap, cloudevents::Error> {
    let mut headers = cloudevents::to_headers(&delivery.event)?;
    if !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    put(&mut headers, "kontrol-topic", &delivery.topic);
    headers.insert("kontrol-sequence", delivery.sequence.into());
    headers.insert("kontrol-attempt", delivery.attempt.into());
    headers.insert("kontrol-max-attempts", delivery.max_attempts.into());
    Ok(headers)
}
