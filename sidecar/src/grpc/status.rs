//! Errors as gRPC says them: the status code, the message, and a `Problem` in the details.

use kontrol_proto::{Message, v1};
use tonic::{Code, Status};

use crate::service::Error;

/// `google.rpc.Status` (<https://google.aip.dev/193>), which the `grpc-status-details-bin` trailer holds.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: bytes::Bytes,
}

const PROBLEM: &str = "type.googleapis.com/kontrol.v1.Problem";

/// The gRPC form of an error.
pub fn to_status(error: &Error) -> Status {
    let code = error.status.number();
    let problem = Any { type_url: PROBLEM.to_owned(), value: error.problem().encode_to_vec().into() };
    let details = RpcStatus { code, message: error.message.clone(), details: vec![problem] };
    Status::with_details(Code::from_i32(code), error.message.clone(), details.encode_to_vec().into())
}

/// The `Problem` in the details of a status, for clients and tests; none: it has no such details.
pub fn problem_of(status: &Status) -> Option<v1::Problem> {
    let details = RpcStatus::decode(status.details()).ok()?;
    let any = details.details.into_iter().find(|any| any.type_url == PROBLEM)?;
    v1::Problem::decode(any.value).ok()
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        to_status(&error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kontrol_core::code;

    use super::*;

    #[test]
    fn an_error_keeps_its_code_and_hint_through_a_status() {
        let error = Error::new(code::Code::BufferFull, "orders", "the buffer of orders is full")
            .retry_after(Duration::from_millis(250));
        let status = to_status(&error);
        assert_eq!(status.code(), Code::ResourceExhausted);
        let problem = problem_of(&status);
        assert_eq!(problem, Some(error.problem()));
        assert_eq!(Error::from_wire(status.code().into(), problem), error);
    }
}
