//! Errors as gRPC says them.

use tonic::Status;

use crate::service::Error;

/// The gRPC form of an error: its problem is in the details.
pub fn to_status(error: &Error) -> Status {
    kontrol_proto::status::status(error.status.number().into(), &error.problem())
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
    use kontrol_proto::status::problem_of;
    use tonic::Code;

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
