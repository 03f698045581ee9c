//! The operator's errors as the wire says them.

use kontrol_core::code::Code;
use kontrol_proto::v1;
use tonic::Status;

/// An error as a problem.
pub(super) fn problem(code: Code, subject: &str, message: String) -> v1::Problem {
    v1::Problem { code: code.as_str().to_owned(), message, subject: subject.to_owned(), retry_after_ms: 0 }
}

/// An error as a gRPC status with its problem as details.
pub(crate) fn status(code: Code, subject: &str, message: String) -> Status {
    kontrol_proto::status::status(code.status().number().into(), &problem(code, subject, message))
}

#[cfg(test)]
mod tests {
    use kontrol_proto::status::problem_of;

    use super::*;

    #[test]
    fn an_error_keeps_its_code_through_a_status() {
        let status = status(Code::NoSuchObject, "rag", "there is no rag here".to_owned());
        let problem = problem_of(&status).unwrap();
        assert_eq!((problem.code.as_str(), problem.subject.as_str()), (Code::NoSuchObject.as_str(), "rag"));
        assert_eq!(i32::from(status.code()), Code::NoSuchObject.status().number());
    }
}
