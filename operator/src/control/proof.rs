//! How a process proves who it is before it has a certificate.
//!
//! ```text
//!   local     join token ─────────────────────────────────────► subject
//!   cluster   service account token ──TokenReview──► Review ──judge (pure)──► Pod ──the world's pods──► subject
//! ```

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::BoxFuture;
use kontrol_core::{code::Code, time::Timestamp};

/// The audience of the tokens that sidecars show.
pub const AUDIENCE: &str = "kontrol.dev";

/// What proves a subject.
#[derive(Clone)]
pub enum Proof {
    /// The join token that the authority's secret makes of the subject.
    JoinToken,
    /// The token of a pod's service account.
    Pod(Arc<dyn Pods>),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JoinToken => "JoinToken",
            Self::Pod(_) => "Pod",
        })
    }
}

/// What a world in a cluster knows of pods. Given by the world; here it is only asked.
pub trait Pods: Send + Sync + 'static {
    /// Asks the API server about a token, with [`AUDIENCE`]. An error: it could not be asked.
    fn review(&self, token: String) -> BoxFuture<'_, Result<Review, String>>;

    /// The subject of a pod, as its labels say: `<namespace>/<group>/<widget>/<ordinal>`, or `<namespace>/hub/<bus>`. None: the world has no
    /// such pod, by its UID. May wait a moment for the world's cache to see a pod that is new.
    fn subject(&self, pod: Pod) -> BoxFuture<'_, Option<String>>;
}

/// What a `TokenReview` says of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// `status.authenticated`.
    pub authenticated: bool,
    /// `status.error`.
    pub error: String,
    /// `status.audiences`.
    pub audiences: Vec<String>,
    /// `status.user.username`, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// `authentication.kubernetes.io/pod-name` of `status.user.extra`.
    pub pod_name: Option<String>,
    /// `authentication.kubernetes.io/pod-uid`.
    pub pod_uid: Option<String>,
    /// `authentication.kubernetes.io/node-name`.
    pub node: Option<String>,
}

/// A pod, as its token proves it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID: a later pod of the same name has another.
    pub uid: String,
    /// The node, where the token names it (Kubernetes 1.33 does).
    pub node: Option<String>,
}

/// Why a process gets no certificate or no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The join token is not that of the subject.
    JoinToken,
    /// Nobody that the API server trusts has signed the token, or it was revoked with its pod.
    Forged,
    /// The token's time is over.
    Expired,
    /// The token is for somebody else.
    ForeignAudience,
    /// The token is not bound to a pod.
    Unbound,
    /// The world does not know the subject or the pod.
    Unknown,
    /// The subject is not the one that was proven.
    ForeignSubject,
    /// The signing request cannot be read, or a message of a session is above the limit.
    Malformed,
    /// The certificate is of another authority or trust domain, or there is none.
    ForeignCertificate,
    /// The API server could not be asked: nothing is known, and so nothing is given.
    Unreviewed,
    /// Too many ask at the same time.
    Overloaded,
}

impl Reason {
    /// Every reason, for metrics.
    pub const ALL: [Self; 11] = [
        Self::JoinToken,
        Self::Forged,
        Self::Expired,
        Self::ForeignAudience,
        Self::Unbound,
        Self::Unknown,
        Self::ForeignSubject,
        Self::Malformed,
        Self::ForeignCertificate,
        Self::Unreviewed,
        Self::Overloaded,
    ];

    /// The reason as a metric's label has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::ForeignAudience => "foreign_audience",
            Self::Unbound => "unbound",
            Self::Unknown => "unknown",
            Self::ForeignSubject => "foreign_subject",
            Self::Malformed => "malformed",
            Self::ForeignCertificate => "foreign_certificate",
            Self::Unreviewed => "unreviewed",
            Self::Overloaded => "overloaded",
        }
    }

    /// The stable code.
    pub const fn code(self) -> Code {
        match self {
            Self::JoinToken => Code::JoinTokenRefused,
            Self::Forged | Self::Expired | Self::Unbound => Code::TokenRefused,
            Self::ForeignAudience => Code::ForeignAudience,
            Self::Unknown => Code::UnknownSubject,
            Self::ForeignSubject => Code::ForeignSubject,
            Self::Malformed => Code::InvalidSigningRequest,
            Self::ForeignCertificate => Code::ForeignCertificate,
            Self::Unreviewed => Code::ReviewUnavailable,
            Self::Overloaded => Code::Overloaded,
        }
    }
}

/// A refusal. It never holds the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Whether the API server is asked about a token at all: what does not even say that it is for us is not, whoever has signed it.
pub(super) fn is_for_us(token: &str) -> Result<(), Refusal> {
    let forged = |message| Refusal::new(Reason::Forged, message);
    let claims = claims(token).ok_or_else(|| forged("this is no service account's token"))?;
    let audiences = audiences(&claims);
    if audiences.is_empty() {
        return Err(forged("the token does not say for whom it is"));
    }
    if audiences.iter().any(|audience| audience == AUDIENCE) { Ok(()) } else { Err(strange(&audiences)) }
}

/// Reads the pod out of a review. `token` is looked at only to say why it was refused.
pub fn judge(review: Review, token: &str, now: Timestamp) -> Result<Pod, Refusal> {
    let ours = |audience: &String| audience == AUDIENCE;
    if !review.authenticated {
        return Err(why(token, now));
    }
    if !review.audiences.iter().any(ours) {
        return Err(foreign(&review.audiences));
    }
    let namespace =
        review.username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let (Some((namespace, _)), Some(name), Some(uid)) = (namespace, review.pod_name, review.pod_uid) else {
        let message = format!("the token of {} is not bound to a pod", review.username);
        return Err(Refusal::new(Reason::Unbound, message));
    };
    Ok(Pod { namespace: namespace.to_owned(), name, uid, node: review.node })
}

fn foreign(audiences: &[String]) -> Refusal {
    let message = format!("the token is for {}, not for {AUDIENCE}", audiences.join(", "));
    Refusal::new(Reason::ForeignAudience, message)
}

/// Why the API server may have refused a token, by what the token says of itself; nothing is believed of it beyond that.
fn why(token: &str, now: Timestamp) -> Refusal {
    let forged = || Refusal::new(Reason::Forged, "the API server does not accept the token");
    let Some(claims) = claims(token) else { return forged() };
    let seconds = now.as_micros() / 1_000_000;
    if let Some(ended) = claims.get("exp").and_then(serde_json::Value::as_u64)
        && ended <= seconds
    {
        let message = format!("the token expired {} s ago", seconds - ended);
        return Refusal::new(Reason::Expired, message);
    }
    forged()
}

/// For whom a token says that it is.
fn audiences(claims: &serde_json::Value) -> Vec<String> {
    match claims.get("aud") {
        Some(serde_json::Value::String(one)) => vec![one.clone()],
        Some(serde_json::Value::Array(all)) => {
            all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

/// The token is for others, as it says itself.
fn strange(audiences: &[String]) -> Refusal {
    foreign(&audiences.iter().map(|audience| shown(audience)).collect::<Vec<_>>())
}

fn claims(token: &str) -> Option<serde_json::Value> {
    let payload = token.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// What a stranger wrote, fit for a log line.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
