//! Kontrol's embedded hub: one durable log and the topics that live on it.

pub mod api;
mod error;
mod hub;
pub mod io;
mod receipt;

pub use api::{
    Config, Cut, Delivery, Nak, Notify, Publish, Published, Recovery, Signal, Stats, TopicConfig, Who,
    dead_letter,
};
pub use error::{Error, Failure, OpenError};
pub use hub::{Consumer, Hub};
pub use receipt::Receipt;
