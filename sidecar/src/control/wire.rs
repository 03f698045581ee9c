//! A session on the wire.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kontrol_core::{code::Code, limits::SIGNALS, trust::TrustDomain};
use kontrol_proto::{
    session::{self, Configuration, RESPONSE},
    v1::{self, session_request, session_response},
};
use rustls::ClientConfig;
use tokio::{
    io::{ReadHalf, WriteHalf},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;

use crate::{
    clock,
    identity::{CONNECT, away, dial},
    service::{Error, causes},
};

/// Silence after which the operator is asked for a sign of life; as much again, and the session is given up.
const QUIET: Duration = Duration::from_secs(5);
/// The time that a message may take until it is written: whoever takes none is gone, or hangs.
const TAKEN: Duration = Duration::from_secs(5);

type Incoming = BoxStream<'static, Result<session_response::Message, session::Error>>;

/// A session that the operator has taken.
pub struct Wire {
    address: String,
    into: WriteHalf<TlsStream<TcpStream>>,
    incoming: Incoming,
    /// What came with the first sign of life.
    first: Option<Configuration>,
    /// How often it was asked for a sign of life.
    asked: u64,
    silence: Silence,
}

/// The operator's silence.
#[derive(Debug)]
struct Silence {
    /// When it has lasted for too long.
    ends: Instant,
    /// Whether the sign of life that was asked for is still to come.
    asked: bool,
}

impl Silence {
    fn new(now: Instant) -> Self {
        Self { ends: now + QUIET, asked: false }
    }

    /// It has lasted for too long: whether to ask for a sign of life. False: that was done before.
    fn lasted(&mut self, now: Instant) -> bool {
        self.ends = now + QUIET;
        !std::mem::replace(&mut self.asked, true)
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lost(address: &str, why: &str) -> Error {
    Error::new(Code::ControlUnavailable, address, format!("the session with {address} ended: {why}"))
}

/// What comes from the operator. A stream, so that waiting for the next may be given up in the middle of a message.
fn incoming(from: ReadHalf<TlsStream<TcpStream>>) -> Incoming {
    stream::unfold(from, async |mut from| {
        let response = session::read::<v1::SessionResponse>(&mut from, RESPONSE).await.transpose()?;
        Some((response, from))
    })
    .filter_map(async |response| response.map(|response| response.message).transpose())
    .boxed()
}

impl Wire {
    /// Connects, says `hello` and waits until the operator has taken it.
    pub async fn open(
        address: &str,
        tls: Arc<ClientConfig>,
        trust: &TrustDomain,
        hello: v1::Hello,
    ) -> Result<Self, Error> {
        let dialed = dial(address, tls, trust).await;
        let stream = dialed.map_err(|error| away(address, &causes(&error)))?;
        let (from, into) = tokio::io::split(stream);
        let (incoming, silence) = (incoming(from), Silence::new(clock::now()));
        let mut this = Self { address: address.to_owned(), into, incoming, first: None, asked: 0, silence };
        this.say(session_request::Message::Hello(hello)).await?;
        this.ask().await?;
        let first = timeout(CONNECT, this.next()).await;
        this.first = first.map_err(|_| lost(&this.address, "it did not answer"))??;
        Ok(this)
    }

    /// Says something. To be waited for: one that is given up in the middle breaks the session.
    pub(super) async fn say(&mut self, message: session_request::Message) -> Result<(), Error> {
        let request = v1::SessionRequest { message: Some(message) };
        let written = timeout(TAKEN, session::write(&mut self.into, &request, SIGNALS)).await;
        let written = written.map_err(|_| lost(&self.address, "it takes nothing"))?;
        written.map_err(|error| lost(&self.address, &error.to_string()))
    }

    /// What the operator says next; none: it gave a sign of life.
    async fn next(&mut self) -> Result<Option<Configuration>, Error> {
        let said = self.incoming.next().await;
        let said = said.ok_or_else(|| lost(&self.address, "it was closed"))?;
        let said = said.map_err(|error| lost(&self.address, &error.to_string()))?;
        self.silence = Silence::new(clock::now());
        match said {
            session_response::Message::Sidecar(config) => Ok(Some(Configuration::Sidecar(config.into()))),
            session_response::Message::Hub(config) => Ok(Some(Configuration::Hub(config))),
            session_response::Message::Pong(_) => Ok(None),
            session_response::Message::GoAway(v1::GoAway { problem, .. }) => {
                let v1::Problem { code, message, .. } = problem.unwrap_or_default();
                let code = code.parse().unwrap_or(Code::ControlUnavailable);
                Err(Error { code, ..lost(&self.address, &message) })
            }
        }
    }

    /// Waits for the next configuration. May be given up, and waited for again.
    pub(super) async fn hear(&mut self) -> Result<Configuration, Error> {
        loop {
            let said = match self.first.take() {
                Some(first) => Some(first),
                None => self.next().await?,
            };
            if let Some(configuration) = said {
                return Ok(configuration);
            }
        }
    }

    /// When it has been silent for too long, and is to be [asked](Self::ask) for a sign of life.
    pub(super) fn silent_at(&self) -> Instant {
        self.silence.ends
    }

    /// Asks for a sign of life. An error where the last one that was asked for did not come.
    pub(super) async fn ask(&mut self) -> Result<(), Error> {
        if !self.silence.lasted(clock::now()) {
            return Err(lost(&self.address, "it gives no sign of life"));
        }
        self.asked += 1;
        self.say(session_request::Message::Ping(v1::Ping { nonce: self.asked })).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_is_asked_once_and_then_given_up() {
        let start = clock::now();
        let mut silence = Silence::new(start);
        assert_eq!(silence.ends, start + QUIET);
        assert!(silence.lasted(silence.ends));
        assert_eq!(silence.ends, start + 2 * QUIET);
        assert!(!silence.lasted(silence.ends));
        assert!(Silence::new(start).lasted(start + QUIET), "whoever was heard is asked again");
    }
}
