//! Keeping the link to the hub: connect, resume what is open, announce incarnations, and start over when it ends.

use std::{sync::Arc, time::Duration};

use kontrol_core::code::Code;
use tokio::time::sleep;

use super::{Bus, State};
use crate::{
    identity::{Tls, spiffe},
    link::{self, Ended, Frame, Inbound, Link},
    service::Error,
};

/// The first and the longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

struct FromHub(Arc<Bus>);

impl Inbound for FromHub {
    fn frame(&mut self, stream: u64, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::Published(published) => self.0.published(stream, published.stored),
            Frame::Failure(failure) => {
                let error = Error::from_wire(failure.status, failure.problem.clone());
                if !self.0.refused(stream, error) {
                    self.0.subscription_frame(stream, Frame::Failure(failure))?;
                }
            }
            frame => self.0.subscription_frame(stream, frame)?,
        }
        Ok(())
    }
}

impl Bus {
    /// Keeps the link for as long as it is polled, ends the widget's subscriptions when it is replaced, and asks for more messages when
    /// a new configuration lets it.
    pub async fn run(self: Arc<Self>) {
        let (mut lives, mut changes) = (self.shared.lives(), self.shared.changes());
        let watch = async {
            while lives.changed().await.is_ok() {
                self.replace_widget();
            }
        };
        let widen = async {
            while changes.changed().await.is_ok() {
                self.grant_all(&mut self.lock());
            }
        };
        tokio::select! {
            () = watch => {}
            () = widen => {}
            () = self.keep() => {}
        }
    }

    async fn keep(self: &Arc<Self>) {
        let mut pause = PAUSE.0;
        let (mut identity, mut incarnations) = (self.shared.identity.clone(), self.shared.incarnation());
        loop {
            let Some(address) = self.address().await else { return };
            let Some(tls) = identity.ready().await else { return };
            let session = self.session(&address, &tls).await;
            let (Ok(ended) | Err(ended)) = &session;
            self.lock().reason = ended.to_string();
            match session {
                Ok(Ended::RefusedByPeer(error)) => {
                    if pause == PAUSE.0 {
                        tracing::warn!(hub = address, code = %error.code, %error, "the hub refuses this sidecar");
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
                Ok(ended) => {
                    pause = PAUSE.0;
                    tracing::info!(hub = address, %ended, "the link to the hub ended");
                }
                Err(ended) => {
                    if pause == PAUSE.0 {
                        tracing::warn!(hub = address, %ended, "the hub cannot be reached");
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
            // A new incarnation may be welcome where the old one was not.
            tokio::select! {
                () = sleep(pause) => {}
                changed = incarnations.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn address(&self) -> Option<String> {
        let mut changes = self.shared.changes();
        loop {
            if let Some(address) = self.shared.config().hub.clone() {
                return Some(address);
            }
            changes.changed().await.ok()?;
        }
    }

    async fn session(self: &Arc<Self>, address: &str, tls: &Tls) -> Result<Ended, Ended> {
        let incarnations = self.shared.incarnation();
        let hub = self.shared.config().hub_subject.clone();
        let hub = hub.as_deref().unwrap_or(spiffe::HUB);
        let handshake = link::connect(address, hub, tls, self.shared.hello()).await.inspect_err(|ended| {
            if matches!(ended, Ended::Refused(error) if error.code == Code::ForeignCertificate) {
                self.shared.stats.foreign_certificates.inc();
            }
        })?;
        let link = handshake.link.clone();
        self.attach(&link);
        self.shared.stats.hub_connects.inc();
        self.shared.stats.hub_connected.set(1);
        let mut inbound = FromHub(Arc::clone(self));
        let ended = tokio::select! {
            ended = handshake.run(&mut inbound) => ended,
            () = announce(&link, incarnations, &self.shared) => Ended::Closed,
            () = self.moved(address) => Ended::Closed,
        };
        self.shared.stats.hub_connected.set(0);
        self.detach();
        Ok(ended)
    }

    /// Waits until the configuration names another hub.
    async fn moved(&self, address: &str) {
        let mut changes = self.shared.changes();
        while changes.changed().await.is_ok() {
            if self.shared.config().hub.as_deref() != Some(address) {
                return;
            }
        }
    }

    fn attach(&self, link: &Link) {
        let mut state = self.lock();
        let State { pending, subscriptions, streams, .. } = &mut *state;
        streams.clear();
        for (stream, pending) in pending {
            pending.send(*stream, link);
        }
        for (id, subscription) in subscriptions {
            let stream = self.shared.next_id();
            streams.insert(stream, *id);
            subscription.open(stream, link);
        }
        state.link = Some(link.clone());
        self.grant_all(&mut state);
    }

    fn detach(&self) {
        let mut state = self.lock();
        state.link = None;
        state.streams.clear();
        let lost: u64 = state.subscriptions.values_mut().map(super::subscribe::Entry::lost).sum();
        drop(state);
        (0..lost).for_each(|_| self.shared.stats.deliveries_in_flight.dec());
        self.shared.touch();
    }
}

/// Tells the other side of each new incarnation, until the link ends.
pub(crate) async fn announce(
    link: &Link,
    mut incarnations: tokio::sync::watch::Receiver<u64>,
    shared: &crate::shared::Shared,
) {
    // Between connecting and subscribing a change may have passed.
    incarnations.mark_changed();
    while incarnations.changed().await.is_ok() {
        if link.push(0, &Frame::Hello(shared.hello())).is_err() {
            return;
        }
    }
}
