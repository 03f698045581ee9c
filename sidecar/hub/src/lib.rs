//! Kontrol's embedded hub: one durable log and the topics that live on it.

pub mod api;
mod clock;
mod dedup;
mod engine;
mod error;
mod hub;
mod index;
pub mod io;
mod log;
mod receipt;
mod record;
mod recovery;
mod segment;
mod state;
mod subscription;
mod topic;

pub use api::{
    Config, Cut, Delivery, Nak, Notify, Publish, Published, Recovery, Signal, Stats, TopicConfig, Who,
    dead_letter,
};
pub use clock::Clock;
pub use error::{Error, Failure, OpenError};
pub use hub::{Consumer, Hub};
pub use receipt::Receipt;
