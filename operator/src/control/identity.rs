//! Certificates for those that prove who they are. Anybody may ask, so what asking costs is bounded: how many wait, and how many tokens the
//! API server is asked about at a time, through the same door as the operator's own decisions.

use std::sync::Arc;

use kontrol_proto::v1::{IssueRequest, IssueResponse, identity_server::Identity};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{Figures, Known, Pod, Proof, Reason, Refusal, proof, status};
use crate::{authority::Authority, clock};

pub(super) struct Issuing {
    pub(super) authority: Arc<Authority>,
    pub(super) known: Known,
    pub(super) proof: Proof,
    pub(super) figures: Arc<Figures>,
    pub(super) limits: Limits,
}

/// How many may ask at a time, and about how many tokens the API server is asked at a time.
pub(super) struct Limits {
    line: Semaphore,
    reviews: Semaphore,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: Semaphore::new(512), reviews: Semaphore::new(8) }
    }
}

/// Who asks, once it is proven.
struct Proven {
    subject: String,
    pod: Option<Pod>,
}

impl Issuing {
    async fn prove(&self, request: &IssueRequest) -> Result<Proven, Refusal> {
        let wanted = &request.subject;
        let proven = match &self.proof {
            Proof::JoinToken => {
                let verified = self.authority.verify(wanted, &request.join_token);
                verified.map_err(|error| Refusal::new(Reason::JoinToken, error.to_string()))?;
                Proven { subject: wanted.clone(), pod: None }
            }
            Proof::Pod(pods) => {
                let token = &request.service_account_token;
                if token.is_empty() {
                    return Err(Refusal::new(Reason::Forged, "there is no service account token"));
                }
                proof::is_for_us(token)?;
                let review = {
                    let _turn = self.limits.reviews.acquire().await.map_err(|_| overloaded())?;
                    pods.review(token.clone()).await
                };
                let review = review.map_err(|error| {
                    Refusal::new(
                        Reason::Unreviewed,
                        format!("the API server gives no word on the token: {error}"),
                    )
                })?;
                let pod = proof::judge(review, token, clock::now())?;
                let subject = pods.subject(pod.clone()).await.ok_or_else(|| {
                    let message =
                        format!("the pod {}/{} is not, or no longer, one of ours", pod.namespace, pod.name);
                    Refusal::new(Reason::Unknown, message)
                })?;
                if subject != *wanted {
                    let Pod { namespace, name, .. } = &pod;
                    let message = format!("the pod {namespace}/{name} is {subject}, not {wanted}");
                    return Err(Refusal::new(Reason::ForeignSubject, message));
                }
                Proven { subject, pod: Some(pod) }
            }
        };
        if !(self.known)(&proven.subject) {
            let message = format!("{} is not, or no longer, part of this world", proven.subject);
            return Err(Refusal::new(Reason::Unknown, message));
        }
        Ok(proven)
    }

    async fn answer(&self, request: &IssueRequest) -> Result<IssueResponse, Refusal> {
        let _place = self.limits.line.try_acquire().map_err(|_| overloaded())?;
        let Proven { subject, pod } = self.prove(request).await?;
        let uid = pod.as_ref().map(|pod| pod.uid.as_str());
        let issued = self
            .authority
            .issue_to_pod(&subject, uid, &request.csr, clock::now())
            .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
        self.figures.issued();
        Ok(IssueResponse {
            chain: issued.chain.iter().map(|der| der.to_vec().into()).collect(),
            authorities: self.authority.bundle().iter().map(|der| der.to_vec().into()).collect(),
            not_after: i64::try_from(issued.not_after.as_micros() / 1_000_000).unwrap_or(i64::MAX),
        })
    }
}

fn overloaded() -> Refusal {
    Refusal::new(Reason::Overloaded, "too many ask for a certificate at the moment")
}

#[tonic::async_trait]
impl Identity for Issuing {
    async fn issue(&self, request: Request<IssueRequest>) -> Result<Response<IssueResponse>, Status> {
        let request = request.into_inner();
        self.answer(&request).await.map(Response::new).map_err(|refusal| {
            let (reason, subject) = (refusal.reason, &request.subject);
            if self.figures.refused(reason) {
                tracing::warn!(code = reason.code().as_str(), reason = reason.as_str(), subject, %refusal, "certificate refused");
            }
            status(reason.code(), subject, refusal.message)
        })
    }
}
