//! Reading bodies, never more than is allowed.

use axum::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kontrol_core::code::Code;
use serde::de::DeserializeOwned;

use super::{MAX_BODY, Problem};
use crate::service::Error;

/// The whole body, or 413 with `too_large` as its code.
pub(super) async fn read(body: Body, too_large: Code) -> Result<Bytes, Problem> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = match too_large {
                Code::MessageTooLarge => format!("the body is {}", Error::over_every_limit()),
                _ => format!("the body is over the limit of {MAX_BODY} bytes that the door takes"),
            };
            Err(Error::new(too_large, "", message).into())
        }
        Err(error) => {
            let message = format!("the body cannot be read to its end: {error}");
            Err(Error::new(Code::InvalidRequest, "", message).into())
        }
    }
}

/// A body of JSON; an empty one stands for nothing.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<Option<T>, Problem> {
    let bytes = read(body, Code::RequestTooLarge).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::new(Code::InvalidRequest, "", format!("the body cannot be understood: {error}")).into()
    })
}
