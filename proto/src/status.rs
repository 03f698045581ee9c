//! Errors as gRPC says them: the status code, the message, and a [`Problem`] in the details, where every gRPC client finds them.

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use crate::v1::Problem;

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

const PROBLEM: &str = "type.googleapis.com/kontrol.v1.Problem";

/// A status of this code that says what the problem says, and holds it in its details.
pub fn status(code: Code, problem: &Problem) -> Status {
    let detail = Any { type_url: PROBLEM.to_owned(), value: problem.encode_to_vec() };
    let details = RpcStatus { code: code.into(), message: problem.message.clone(), details: vec![detail] };
    Status::with_details(code, problem.message.clone(), details.encode_to_vec().into())
}

/// The problem in the details of a status; none: it has no such details.
pub fn problem_of(status: &Status) -> Option<Problem> {
    let details = RpcStatus::decode(status.details()).ok()?;
    let detail = details.details.into_iter().find(|detail| detail.type_url == PROBLEM)?;
    Problem::decode(detail.value.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_back_from_the_details_of_its_status() {
        let problem = Problem {
            code: "KTL3005".into(),
            message: "the buffer of orders is full".into(),
            subject: "orders".into(),
            retry_after_ms: 250,
        };
        let status = status(Code::ResourceExhausted, &problem);
        assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, problem.message.as_str()));
        assert_eq!(problem_of(&status), Some(problem));
    }

    #[test]
    fn other_details_or_none_are_no_problem() {
        let other = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".into(), value: vec![1, 2, 3] };
        let other = RpcStatus { details: vec![other], ..RpcStatus::default() }.encode_to_vec();
        for details in [Vec::new(), vec![0xff; 7], other] {
            assert_eq!(problem_of(&Status::with_details(Code::Internal, "", details.into())), None);
        }
    }
}
