//! Why the hub refuses, with the stable code of each reason.

use std::{sync::Arc, time::Duration};

use kontrol_core::code::Code;

/// Why a request was refused. Nothing of a refused request is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such topic in the namespace.
    #[error("there is no topic {namespace}/{topic}")]
    UnknownTopic {
        /// The namespace asked for.
        namespace: String,
        /// The topic asked for.
        topic: String,
    },
    /// The topic has no subscription of this name.
    #[error("topic {topic} has no subscription {subscription}")]
    UnknownSubscription {
        /// The topic asked for.
        topic: String,
        /// The subscription asked for.
        subscription: String,
    },
    /// The message is larger than its topic, or the log's segments, allow.
    #[error("a message of {size} bytes is over the {limit} bytes that topic {topic} takes")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The message's size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A subscription's buffer is full and its topic rejects new messages.
    #[error(
        "subscription {subscription} of topic {topic} is full: {depth} messages wait, its limit is {limit}"
    )]
    Full {
        /// The topic.
        topic: String,
        /// The subscription that is full.
        subscription: String,
        /// Messages that wait in it.
        depth: u64,
        /// How many may.
        limit: u64,
    },
    /// The hub's storage, or the disk under it, has no room for another segment.
    #[error("the hub's storage is full: {used} of {limit} bytes are in use")]
    StorageFull {
        /// Bytes that the log takes.
        used: u64,
        /// Bytes that it may take.
        limit: u64,
    },
    /// More was published than the disk has taken so far; asking again after the pause makes sense.
    #[error("the hub writes more slowly than it is given to; ask again in {} ms", .retry_after.as_millis())]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The consumer is an older incarnation than the fence of its instance.
    #[error("{instance} with incarnation {incarnation} has been replaced by incarnation {fence}")]
    Fenced {
        /// The instance.
        instance: String,
        /// The incarnation that asked.
        incarnation: u64,
        /// The lowest that is listened to.
        fence: u64,
    },
    /// The delivery was settled before, or its lease has ended.
    #[error("delivery {delivery} is not in flight: it was settled, or its lease has ended")]
    UnknownDelivery {
        /// The delivery's number.
        delivery: u64,
    },
    /// The hub is being closed and takes nothing new.
    #[error("the hub is closing")]
    Closing,
    /// The hub has failed: the disk refused, and what was not acknowledged is not durable.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl Error {
    /// The stable code.
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownTopic { .. } => Code::TopicNotFound,
            Self::UnknownSubscription { .. } => Code::SubscriptionNotFound,
            Self::TooLarge { .. } => Code::MessageTooLarge,
            Self::Full { .. } => Code::BufferFull,
            Self::StorageFull { .. } => Code::StorageFull,
            Self::Busy { .. } => Code::HubUnavailable,
            Self::Fenced { .. } => Code::StaleIncarnation,
            Self::UnknownDelivery { .. } => Code::UnknownDelivery,
            Self::Closing => Code::HubDraining,
            Self::Failed(_) => Code::StorageFailed,
        }
    }
}

/// Why the hub ended: the first error of the disk. The process is to exit and start again from the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hub's log failed: {0}")]
pub struct Failure(pub(crate) Arc<str>);

/// Why a hub did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another hub holds the folder.
    #[error("another hub uses this folder")]
    Locked,
    /// The log is damaged where it was durable.
    #[error("{file} is damaged at byte {offset}: {reason}")]
    Corrupt {
        /// The segment's file name.
        file: String,
        /// Where the first record that cannot be read starts.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// The folder cannot be read or written.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's reason.
        #[source]
        error: std::io::Error,
    },
}

impl OpenError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Locked => Code::AlreadyRunning,
            Self::Corrupt { .. } => Code::LogCorrupt,
            Self::Config(_) => Code::ConfigurationRefused,
            Self::Io { error, .. } => match error.kind() {
                std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::PermissionDenied => {
                    Code::StorageReadOnly
                }
                std::io::ErrorKind::StorageFull => Code::StorageFull,
                _ => Code::StorageFailed,
            },
        }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |error| Self::Io { doing, error }
    }
}
