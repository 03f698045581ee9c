//! Errors as gRPC says them: the status code, the message, and a `Problem` in the details, as sidecars do.

use kontrol_core::code::Code;
use kontrol_proto::v1;
use prost::Message;
use tonic::Status;

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
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

const PROBLEM: &str = "type.googleapis.com/kontrol.v1.Problem";

/// An error as a gRPC status with its problem as details.
pub(crate) fn status(code: Code, subject: &str, message: String) -> Status {
    let problem = v1::Problem {
        code: code.as_str().to_owned(),
        message: message.clone(),
        subject: subject.to_owned(),
        retry_after_ms: 0,
    };
    let number = code.status().number();
    let problem = Any { type_url: PROBLEM.to_owned(), value: problem.encode_to_vec() };
    let details = RpcStatus { code: number, message: message.clone(), details: vec![problem] };
    Status::with_details(tonic::Code::from(number), message, details.encode_to_vec().into())
}

/// The `Problem` in the details of a status; none: it has no such details.
pub fn problem_of(status: &Status) -> Option<v1::Problem> {
    let details = RpcStatus::decode(status.details()).ok()?;
    let any = details.details.into_iter().find(|any| any.type_url == PROBLEM)?;
    v1::Problem::decode(any.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_code_through_a_status() {
        let status = status(Code::NoSuchObject, "rag", "there is no rag here".to_owned());
        let problem = problem_of(&status).unwrap();
        assert_eq!((problem.code.as_str(), problem.subject.as_str()), (Code::NoSuchObject.as_str(), "rag"));
        assert_eq!(problem_of(&Status::internal("none")), None);
    }
}
