//! The way to a world, for those who live beside it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    clock,
    local::{
        Desired,
        admin::Ask,
        logs::{Level, Logs},
        state::{Input, Key, Report},
    },
};

/// What reaches the world.
pub(in crate::local) enum Message {
    Input(Box<Input>),
    Launched(Key, u32),
    Report(Key, Report),
    Ask(Ask),
}

/// The way to a world. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) mailbox: mpsc::Sender<Message>,
    pub(super) logs: Arc<Logs>,
    pub(super) ready: watch::Receiver<bool>,
}

impl Handle {
    /// The manifests have changed.
    pub async fn manifest(&self, desired: Desired) {
        self.input(Input::Manifest(desired)).await;
    }

    /// Everything is to stop in reverse order; forced: at once.
    pub async fn drain(&self, force: bool) {
        self.input(Input::Drain { force }).await;
    }

    /// What is written and decided.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Whether everything that is wanted is ready.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Adds a line of its own to the decisions.
    pub fn say(&self, level: Level, text: String) {
        self.logs.event(clock::now(), level, text);
    }

    /// The tree as it is; none: the world has ended.
    pub async fn tree(&self) -> Option<kontrol_proto::v1::TreeResponse> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Message::Ask(Ask::Tree(reply))).await.ok()?;
        answer.await.ok()
    }

    async fn input(&self, input: Input) {
        drop(self.mailbox.send(Message::Input(Box::new(input))).await);
    }
}
