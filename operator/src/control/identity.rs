//! Certificates for those that prove themselves with a join token.

use std::sync::Arc;

use kontrol_core::code::Code;
use kontrol_proto::v1::{IssueRequest, IssueResponse, identity_server::Identity};
use tonic::{Request, Response, Status};

use super::{Known, status};
use crate::{authority::Authority, clock};

pub(super) struct Issuing {
    authority: Arc<Authority>,
    known: Known,
}

impl Issuing {
    pub(super) fn new(authority: Arc<Authority>, known: Known) -> Self {
        Self { authority, known }
    }
}

#[tonic::async_trait]
impl Identity for Issuing {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let IssueRequest { subject, join_token, csr } = request.into_inner();
        let refused = |error: crate::authority::Error| {
            tracing::warn!(code = error.code().as_str(), subject, %error, "certificate refused");
            status(error.code(), &subject, error.to_string())
        };
        self.authority.verify(&subject, &join_token).map_err(refused)?;
        if !(self.known)(&subject) {
            return Err(status(
                Code::UnknownSubject,
                &subject,
                format!("{subject} is not, or no longer, part of this world"),
            ));
        }
        let issued = self.authority.issue(&subject, &csr, clock::now()).map_err(refused)?;
        Ok(Response::new(IssueResponse {
            chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
            authorities: vec![self.authority.certificate().to_vec().into()],
            not_after: i64::try_from(issued.not_after.as_micros() / 1_000_000).unwrap_or(i64::MAX),
        }))
    }
}
