//! Accepting links: who may come in, and when a connection that is open is no longer welcome.

use std::sync::Arc;

use kontrol_core::code::Code;
use kontrol_proto::v1;
use tokio::{net::TcpListener, sync::watch, time::sleep};
use tokio_util::task::TaskTracker;

use super::{Ended, Frame, Inbound, Link, Peer, session};
use crate::{identity::Identity, service::Error};

/// The side that accepts.
pub trait Accept: Send + Sync + 'static {
    /// What takes the frames of one connection.
    type Inbound: Inbound + 'static;

    /// What is said first.
    fn hello(&self) -> v1::LinkHello;

    /// The lowest incarnation of `subject` that is listened to.
    fn fence(&self, subject: &str) -> u64;

    /// Tells when fences may have changed.
    fn fences(&self) -> watch::Receiver<u64>;

    /// Tells when this side takes no new streams.
    fn draining(&self) -> watch::Receiver<Option<std::time::Duration>>;

    /// Tells when this side's own incarnation has changed; none: it has none.
    fn incarnations(&self) -> Option<watch::Receiver<u64>>;

    /// Admits a connection, or says why not.
    fn admit(&self, peer: &Peer, link: &Link) -> Result<Self::Inbound, Error>;

    /// A connection ended, or was refused before it began; for logs and metrics.
    fn ended(&self, peer: Option<&Peer>, ended: &Ended);
}

/// Accepts connections for as long as it is polled. Connections run as tasks of `tasks`.
pub async fn serve<A: Accept>(listener: TcpListener, identity: Identity, tasks: TaskTracker, accept: Arc<A>) {
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => {
                let (identity, accept) = (identity.clone(), Arc::clone(&accept));
                tasks.spawn(async move {
                    let Some(tls) = identity.current() else {
                        tracing::debug!(%address, "a connection came before our certificate");
                        return;
                    };
                    match session::accept(tcp, &tls, accept.hello()).await {
                        Ok(handshake) => connection(handshake, &*accept).await,
                        Err(ended) => accept.ended(None, &ended),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection<A: Accept, S>(handshake: session::Handshake<S>, accept: &A)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (peer, link) = (handshake.peer.clone(), handshake.link.clone());
    let admitted = check(accept, &peer.subject, peer.incarnation).and_then(|()| accept.admit(&peer, &link));
    let (inner, refused) = match admitted {
        Ok(inner) => (Some(inner), None),
        Err(error) => {
            link.refuse(&error);
            (None, Some(error))
        }
    };
    let incarnation = std::sync::atomic::AtomicU64::new(peer.incarnation);
    let mut inbound = Checked { inner, accept, subject: &peer.subject, incarnation: &incarnation };
    let fences = async {
        let mut fences = accept.fences();
        while fences.changed().await.is_ok() {
            let at = incarnation.load(std::sync::atomic::Ordering::Relaxed);
            if let Err(error) = check(accept, &peer.subject, at) {
                link.refuse(&error);
                link.ended().cancelled().await;
                return error;
            }
        }
        std::future::pending().await
    };
    let tell = async {
        let (mut draining, incarnations) = (accept.draining(), accept.incarnations());
        let drain = async {
            if draining.wait_for(Option::is_some).await.is_ok() {
                drop(link.push(0, &Frame::GoAway(v1::LinkGoAway::default())));
            }
            std::future::pending::<()>().await;
        };
        let announce = async {
            let Some(mut incarnations) = incarnations else { return std::future::pending().await };
            while incarnations.changed().await.is_ok() {
                drop(link.push(0, &Frame::Hello(accept.hello())));
            }
            std::future::pending::<()>().await;
        };
        tokio::join!(drain, announce);
    };
    let run = handshake.run(&mut inbound);
    tokio::pin!(run);
    let ended = tokio::select! {
        ended = &mut run => ended,
        error = fences => Ended::Refused(error),
        () = tell => Ended::Closed,
    };
    let ended = refused.map_or(ended, Ended::Refused);
    accept.ended(Some(&peer), &ended);
}

fn check<A: Accept>(accept: &A, subject: &str, incarnation: u64) -> Result<(), Error> {
    let fence = accept.fence(subject);
    if incarnation >= fence {
        return Ok(());
    }
    let message =
        format!("{subject} with incarnation {incarnation} has been replaced by incarnation {fence}");
    Err(Error::new(Code::StaleIncarnation, subject, message))
}

/// Hands frames on as long as their sender is not below its fence.
struct Checked<'a, A: Accept> {
    inner: Option<A::Inbound>,
    accept: &'a A,
    subject: &'a str,
    incarnation: &'a std::sync::atomic::AtomicU64,
}

impl<A: Accept> Inbound for Checked<'_, A> {
    fn frame(&mut self, stream: u64, frame: Frame) -> Result<(), Error> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        check(self.accept, self.subject, self.incarnation.load(std::sync::atomic::Ordering::Relaxed))?;
        inner.frame(stream, frame)
    }

    fn incarnation(&mut self, incarnation: u64) -> Result<(), Error> {
        self.incarnation.fetch_max(incarnation, std::sync::atomic::Ordering::Relaxed);
        check(self.accept, self.subject, incarnation)?;
        self.inner.as_mut().map_or(Ok(()), |inner| inner.incarnation(incarnation))
    }

    fn going_away(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.going_away();
        }
    }
}
