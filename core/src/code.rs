//! The stable error codes. One table is the source of every message's code, of its gRPC and HTTP status, and of `docs/errors.md`.
//!
//! A code never changes its meaning and is never used again; what is no longer said is struck from the table and its number stays
//! free. The first digit says where to look:
//!
//! | range | about |
//! | --- | --- |
//! | `KTL1xxx` | manifests |
//! | `KTL2xxx` | supervision: starting, ending and restarting |
//! | `KTL3xxx` | messages, topics, the hub |
//! | `KTL4xxx` | calls, peers, the doors |
//! | `KTL5xxx` | control and identity |
//! | `KTL6xxx` | the local world and the command line |

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

mod page;
mod status;
#[cfg(test)]
mod tests;

pub use page::page;
pub use status::Status;

/// A text that is none of the codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no error code of this version; docs/errors.md lists them")]
pub struct Unknown(String);

macro_rules! codes {
    ($($number:literal $name:ident $status:ident $http:literal $meaning:literal $way_out:literal;)*) => {
        /// A stable error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = $meaning] $name = $number,)*
        }

        impl Code {
            /// Every code, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it is written everywhere, such as `KTL1003`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => concat!("KTL", stringify!($number)),)* }
            }

            /// The code's name, for people and metric labels, such as `UnknownKind`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// What happened, in one line.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }

            /// What to do about it, in one line.
            pub const fn way_out(self) -> &'static str {
                match self { $(Self::$name => $way_out,)* }
            }

            /// The gRPC status that carries it.
            pub const fn status(self) -> Status {
                match self { $(Self::$name => Status::$status,)* }
            }

            /// The HTTP status that carries it.
            pub const fn http(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }
        }
    };
}

codes! {
    1001 MalformedYaml InvalidArgument 400
        "The manifest is not well-formed YAML."
        "Correct the text at the line that the message names.";
    1002 UnknownField InvalidArgument 400
        "The manifest has a field that its kind does not know."
        "Correct the field's name, or move it to where the API reference has it.";
    1003 UnknownKind InvalidArgument 400
        "The manifest has a kind that Kontrol does not know."
        "Write one of the kinds that the message lists, and check `apiVersion`.";
    1004 UnsupportedVersion InvalidArgument 400
        "The manifest is written for an API version that this Kontrol does not read."
        "Upgrade Kontrol, or write the manifest for `kontrol.dev/v1alpha1`.";
    1005 InvalidValue InvalidArgument 400
        "A field's value has the wrong type or is out of its bounds."
        "Write a value as the message asks for it.";
    1006 MissingField InvalidArgument 400
        "A field that must be given is missing."
        "Add the field that the message names.";
    1007 DuplicateName AlreadyExists 409
        "Two objects of one kind, or two widgets of one group, have the same name."
        "Rename one of the two places that the message names.";
    1008 InvalidName InvalidArgument 400
        "A name is not an RFC 1123 label."
        "Use at most 63 lower-case letters, digits and '-', starting and ending with a letter or digit.";
    1009 UndeclaredTopic InvalidArgument 400
        "A widget, route or dead letter names a topic that no manifest declares."
        "Declare the `Topic`, or correct the name.";
    1010 UndeclaredTarget InvalidArgument 400
        "`calls` names a widget that no manifest declares."
        "Declare the widget, or write its address as widget, group/widget or namespace/group/widget.";
    1011 SupervisorCycle InvalidArgument 400
        "Supervisors name each other as children in a circle."
        "Remove one of the references that the message names.";
    1012 TwoParents InvalidArgument 400
        "A group or supervisor is a child of two supervisors."
        "Remove it from all but one of the supervisors that the message names.";
    1013 UndeclaredChild InvalidArgument 400
        "A supervisor names a child that no manifest declares."
        "Declare the group or supervisor in the same namespace, or correct the name.";
    1014 InvalidExpression InvalidArgument 400
        "A CEL expression does not compile, is too large, or uses what messages do not have."
        "Correct the expression at the place that the message names.";
    1015 NoRuntimeForWorld FailedPrecondition 409
        "The widget gives no way to run in this world."
        "Add `process` for the local world, `container` for a cluster.";
    1016 UndeclaredBus InvalidArgument 400
        "A topic names a message bus that no manifest declares."
        "Declare the `MessageBus`, or leave `bus` out to use the default one.";
    1017 RouteCycle InvalidArgument 400
        "Routes lead a message back to a topic that it came from."
        "Break the circle that the message names.";
    1018 UnreadableSource NotFound 404
        "A manifest's file or folder cannot be read."
        "Check the path and its permissions.";
    1019 NothingDeclared InvalidArgument 400
        "The given manifests declare nothing."
        "Give a file or folder that holds at least one object of `kontrol.dev/v1alpha1`.";
    1020 DuplicatePort InvalidArgument 400
        "Two replicas would listen on the same port."
        "Give each its own port, or leave `endpoint.port` out: each replica gets one as `PORT`.";
    1021 ForeignNamespace InvalidArgument 400
        "An object refers to one of another namespace where that is not possible."
        "Put both into one namespace.";
    1022 DuplicateSubscription InvalidArgument 400
        "Two widgets use one durable subscription."
        "Give each widget's subscription its own name.";

    2001 CommandNotFound NotFound 404
        "The widget's command does not exist."
        "Install it, correct `process.command`, or give its path relative to `process.workingDir`.";
    2002 CommandNotExecutable PermissionDenied 403
        "The widget's command is not executable."
        "Set the file's execute permission, or name its interpreter first in `process.command`.";
    2003 StartTimedOut DeadlineExceeded 504
        "The widget did not count as started within `start.timeout`."
        "See `kontrol logs`; let it report ready sooner, or raise `start.timeout`.";
    2004 StartFailed Internal 500
        "The widget's process could not be started."
        "The message has the system's reason, such as a working folder that does not exist.";
    2005 Hung Unavailable 503
        "The widget gave no sign of health for longer than `health.timeout`, and is restarted."
        "Find out what blocked it, or raise `health.timeout`.";
    2006 IntensityExhausted Unavailable 503
        "There were more restarts than the intensity allows; the parent decides, or the root waits."
        "`kontrol why` shows the chain of causes; after a correction, `kontrol restart` starts it at once.";
    2007 StopTimedOut DeadlineExceeded 504
        "The widget did not end within its grace after SIGTERM, and was killed."
        "Let it end on SIGTERM, or raise `shutdown.grace`.";
    2008 LeftProcesses Aborted 409
        "The widget ended and left child processes behind, which were killed."
        "Let it end its children before it ends.";
    2009 PortTaken Unavailable 503
        "The port that the widget declares is taken by another process."
        "End that process, or leave `endpoint.port` out to get a free port as `PORT`.";
    2010 WidgetReportedFailure Unavailable 503
        "The widget reported itself beyond repair, and is restarted."
        "See its report's message and `kontrol logs`.";
    2011 StatusLost DataLoss 500
        "The written status was lost; restart windows start empty."
        "Nothing has to be done; check the storage that held it.";
    2012 SidecarEnded Unavailable 503
        "The widget's sidecar ended, and is restarted; the widget is not counted as failed."
        "If it happens again, see the sidecar's log.";

    3001 TopicNotFound NotFound 404
        "There is no such topic in the caller's namespace."
        "Declare the `Topic`, or correct the name.";
    3002 PublishNotDeclared PermissionDenied 403
        "The widget does not declare that it publishes to this topic."
        "Add the topic to the widget's `produces`.";
    3003 MessageTooLarge ResourceExhausted 413
        "The message, envelope included, is larger than its topic allows."
        "Send less, or raise the topic's `maxMessageSize`, which goes up to 4 MiB.";
    3004 BufferFull ResourceExhausted 429
        "A subscription of the topic has reached its buffer's limit, and its overflow policy is `RejectNew`."
        "Publish again later, add consumers, or raise `buffer.limit`.";
    3005 StorageFull ResourceExhausted 507
        "The hub's storage or its disk is full; nothing was stored."
        "Let consumers catch up, shorten retention, or raise the bus's storage size.";
    3006 SubscriptionNotFound NotFound 404
        "The widget has no such subscription."
        "Add it to the widget's `consumes`, or name one that is there.";
    3007 InvalidEvent InvalidArgument 400
        "The message is no valid `CloudEvent`."
        "Correct the attribute that the message names.";
    3008 HubUnavailable Unavailable 503
        "The hub cannot be reached; nothing was stored."
        "Publish again; the hub comes back by itself.";
    3009 PublishUncertain Unavailable 503
        "The connection to the hub broke before its answer: the message may or may not be stored."
        "Publish again with the same id: it is stored once.";
    3010 UnknownDelivery FailedPrecondition 409
        "The delivery was already settled, or its lease has ended and it went to somebody else."
        "Nothing has to be done; settle within the topic's `ackTimeout` or send progress.";
    3011 SessionNotFound NotFound 404
        "There is no such open subscription session."
        "Subscribe again; unsettled messages are delivered again.";
    3012 LogCorrupt DataLoss 500
        "The hub's log is damaged in the middle; it refuses to go on over the gap."
        "Restore the segment that the message names from a copy, or move it away and accept its loss.";
    3013 StorageFailed Internal 500
        "The disk refused to store or sync; the hub ends rather than acknowledge what is not durable."
        "Check the disk; the hub recovers what was acknowledged when it starts again.";
    3014 StorageReadOnly FailedPrecondition 409
        "The hub's folder cannot be written."
        "Give the user permission to write, or choose another folder.";
    3015 RouteFailed InvalidArgument 400
        "A route's expression failed on a message; that rule counts as not matching."
        "Guard the expression, such as with `has(event.data.field)`.";
    3016 HubDraining Unavailable 503
        "The hub is shutting down and takes no more messages."
        "Publish again; it comes back by itself.";
    3017 SettleUncertain Unavailable 503
        "The hub did not answer for a settlement that was to be confirmed: it may or may not be stored."
        "Let what was done stand, and be ready for the message to come again: it does unless the settlement is stored.";

    4001 TargetNotDeclared PermissionDenied 403
        "The widget does not declare that it calls this target."
        "Add the target to the widget's `calls`.";
    4002 InvalidTarget InvalidArgument 400
        "The target is no address."
        "Write widget, group/widget or namespace/group/widget.";
    4003 NoReadyReplica Unavailable 503
        "No replica of the target is ready."
        "Try again; `kontrol why` says what the target waits for.";
    4004 MethodNotServed Unimplemented 501
        "The target does not serve this method."
        "Add the method to the target's `serves`, or correct its name.";
    4005 BreakerOpen Unavailable 503
        "The circuit breaker of the target is open after repeated failures."
        "Try again after the time that the error carries.";
    4006 DeadlineExceeded DeadlineExceeded 504
        "The call's deadline passed before its reply was complete."
        "Allow more time, or find out what the target waits for.";
    4007 Cancelled Cancelled 499
        "The caller gave the call up."
        "Nothing has to be done.";
    4008 Overloaded ResourceExhausted 429
        "The target works on as many calls as it takes at once."
        "Try again later, or add replicas.";
    4009 PeerUnreachable Unavailable 503
        "The target's sidecar cannot be reached."
        "Try again; the replica is replaced if it has ended.";
    4010 ReplyBroken Unavailable 502
        "The connection broke in the middle of a streamed reply; what was received stands, the rest is lost."
        "Call again if the method allows it; nothing is retried after the first chunk.";
    4011 WidgetError Internal 502
        "The target's widget answered with an error."
        "See the message and the target's log.";
    4012 StaleIncarnation FailedPrecondition 409
        "The caller is an older incarnation of its instance, which has been replaced."
        "Nothing has to be done; the replacement does the work.";
    4013 ForeignCertificate Unauthenticated 401
        "The other side's certificate is not one of this authority, or names somebody else."
        "Check that both belong to the same `kontrol up`; on a cluster, restart the one that is of another trust domain or of an earlier authority.";
    4014 RequestTooLarge ResourceExhausted 413
        "The request or reply is larger than the door takes."
        "Send less, or stream it in chunks.";
    4015 InvalidReply Internal 502
        "The widget's endpoint answered with something that cannot be read."
        "Correct the endpoint as the message asks.";
    4017 InvalidRequest InvalidArgument 400
        "The request cannot be understood."
        "Correct the header, parameter or body that the message names.";
    4018 NoSuchPath NotFound 404
        "The HTTP door has no such path or method."
        "See the list of paths in the documentation of the HTTP door.";
    4019 OutOfOrder FailedPrecondition 400
        "A stream's message came out of order, such as before its `open`."
        "Open the stream first, and once.";
    4020 EndpointUnreachable Unavailable 503
        "The widget's own endpoint cannot be reached."
        "Let the widget listen on the declared port, at the loopback address.";
    4021 SidecarDraining Unavailable 503
        "The sidecar is shutting down and takes no more work."
        "Try again; another replica or the replacement takes it.";
    4022 ReportOutOfBounds InvalidArgument 400
        "What a widget reports of itself is over a limit; its last report stands."
        "Report less, as the message says: a report is for health and a few numbers, logs and traces are for its output.";

    5001 JoinTokenRefused Unauthenticated 401
        "The join token does not prove the subject it was presented for."
        "Start the sidecar through `kontrol up`, which hands it its token; on a cluster, check that the operator made the pod and that its node reaches the API server.";
    5002 InvalidSigningRequest InvalidArgument 400
        "The certificate request cannot be read or asks for another name."
        "Start the sidecar through `kontrol up`; on a cluster, have the operator start it.";
    5003 SubjectMismatch PermissionDenied 403
        "The session's certificate names another subject than its first message."
        "Start the sidecar with the instance that its certificate was issued for; on a cluster, delete the pod, and leave `policies.enabled` on.";
    5004 NotConfigured Unavailable 503
        "The sidecar has no configuration yet."
        "Try again; it comes with the first connection to the operator.";
    5005 ConfigurationRefused FailedPrecondition 409
        "A configuration cannot be applied; the last one stays in force."
        "Correct what the message names.";
    5006 ControlUnavailable Unavailable 503
        "The operator cannot be reached; the last configuration stays in force."
        "Nothing has to be done; the connection comes back by itself.";
    5007 AuthorityUnusable FailedPrecondition 409
        "The authority's key or certificate cannot be read, or others can read it too."
        "Restore the files' permissions (0600), or remove the folder to have a new authority made; on a cluster, look at the Secret `kontrol-authority`.";
    5008 CertificateExpired Unauthenticated 401
        "A certificate has expired, and so its connections ended."
        "Check that the operator is there to renew it, and the clocks of both machines.";
    5009 UnknownSubject NotFound 404
        "The operator does not know this instance."
        "Nothing has to be done where it was just removed; otherwise check the manifest.";
    5010 TokenRefused Unauthenticated 401
        "A service account token is forged, expired or not bound to a pod."
        "Nothing has to be done in a pod that the operator made, whose kubelet renews its token; anything else gets no certificate.";
    5011 ForeignAudience Unauthenticated 401
        "A service account token was issued for another audience than `kontrol.dev`."
        "Project the token with the audience `kontrol.dev`, as the pods that the operator makes have it.";
    5012 ForeignSubject PermissionDenied 403
        "A pod asked for a certificate of a name that is not its own."
        "Nothing has to be done; look at the pod that the message names.";
    5013 ReviewUnavailable Unavailable 503
        "The API server could not be asked about a token."
        "Nothing has to be done; the sidecar asks again.";

    6001 AlreadyRunning AlreadyExists 409
        "Another `kontrol up` runs in this place."
        "Use it, end it with `kontrol down`, or choose another `--state-dir`.";
    6002 StateFolderUnusable FailedPrecondition 409
        "The state folder cannot be made, read or written."
        "Correct its permissions, or choose another with `--state-dir`.";
    6003 NotRunning Unavailable 503
        "No `kontrol up` runs in this place."
        "Start it, or name its state folder with `--state-dir`.";
    6004 BinaryNotFound NotFound 404
        "`kontrol-sidecar` or `kontrol-shim` is not next to `kontrol`."
        "Install all three in one folder, or set `KONTROL_BIN_DIR`.";
    6005 NoSuchObject NotFound 404
        "There is no widget, group or supervisor of this name."
        "`kontrol tree` lists the names.";
    6006 StatusUnreadable DataLoss 500
        "The written status cannot be read; it was set aside and the restart windows start empty."
        "Nothing has to be done; the message names the file that was set aside.";
    6007 Leftovers Aborted 409
        "An earlier `kontrol` ended without stopping its processes; they were ended."
        "Nothing has to be done.";
    6009 NotScalable FailedPrecondition 409
        "What was named has no number of replicas that may be set so: its `scaling` decides, it is no widget, or the number is out of bounds."
        "Change `scaling.min` and `scaling.max` or set `scaling.class: External`; name a widget; stay within 0 and 1000.";
    6010 StatusNotWritten Unavailable 503
        "The status could not be written; nothing is started or stopped until it can."
        "Free space on the disk that holds the state folder, or correct its permissions.";
    6011 ManifestRejected FailedPrecondition 409
        "The changed manifest has errors, or names what this machine does not have; what ran goes on as it was."
        "Correct what is listed, in the manifest or on the machine; it is taken as soon as it is mended.";
    6012 ListenFailed Unavailable 503
        "An address that Kontrol itself needs is taken or not allowed."
        "Choose another address, or leave it out to get a free one.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = Unknown;
    fn from_str(text: &str) -> Result<Self, Unknown> {
        Self::ALL.iter().find(|code| code.as_str() == text).copied().ok_or_else(|| Unknown(text.to_owned()))
    }
}

impl TryFrom<String> for Code {
    type Error = Unknown;
    fn try_from(text: String) -> Result<Self, Unknown> {
        text.parse()
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.as_str().to_owned()
    }
}
