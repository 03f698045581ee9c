//! A connection from its handshake to its end.

use std::{io, time::Duration};

use bytes::BytesMut;
use kontrol_core::code::Code;
use kontrol_proto::v1;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Frame, FrameError, Inbound, Link, frame, outbox::Outbox};
use crate::{
    clock,
    identity::{Tls, spiffe},
    service::Error,
};

/// The protocol's version, in `LinkHello`.
pub(super) const VERSION: u32 = 1;
/// The time that connecting, or saying hello, may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Silence after which the other side is asked for a sign of life; twice more of it, and the connection is given up.
const QUIET: Duration = Duration::from_secs(5);
/// What is read at once.
const READ: usize = 16 << 10;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `<namespace>/<group>/<widget>/<ordinal>` or `hub`, as its certificate says.
    pub subject: String,
    /// Its incarnation, as it says; the fence is checked by who accepts.
    pub incarnation: u64,
}

/// Why a connection ended, or was never made.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The network or TLS failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// Nothing came for too long.
    #[error("the other side has been silent for too long")]
    Silent,
    /// The other side closed it.
    #[error("the other side has closed the connection")]
    Closed,
    /// A certificate is over.
    #[error("{0}", Code::CertificateExpired.meaning())]
    Expired,
    /// This side refused the other: a malformed frame, a foreign certificate, a fenced incarnation.
    #[error("refused: {0}")]
    Refused(Error),
    /// The other side refused this one.
    #[error("the other side refused: {0}")]
    RefusedByPeer(Error),
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        Self::Refused(Error::new(Code::InvalidRequest, "", error.to_string()))
    }
}

/// A connection whose two sides know each other. Run it, or nothing moves.
#[derive(Debug)]
pub struct Handshake<S> {
    /// Who is there.
    pub peer: Peer,
    /// The sending half.
    pub link: Link,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    expires: Instant,
}

/// Connects to `address`, expecting `subject` there, and says hello.
pub async fn connect(
    address: &str,
    subject: &str,
    tls: &Tls,
    hello: v1::LinkHello,
) -> Result<Handshake<tokio_rustls::client::TlsStream<TcpStream>>, Ended> {
    let handshake = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(tls.client()).connect(spiffe::server_name(), tcp).await?;
        let leaf =
            spiffe::Leaf::of(stream.get_ref().1.peer_certificates(), tls.trust()).map_err(Ended::Refused)?;
        leaf.expect(subject).map_err(Ended::Refused)?;
        greet(stream, leaf, tls, hello).await
    };
    timeout(HANDSHAKE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Accepts a connection: verifies the certificate and exchanges hellos. The fence is the caller's to check.
pub async fn accept(
    tcp: TcpStream,
    tls: &Tls,
    hello: v1::LinkHello,
) -> Result<Handshake<tokio_rustls::server::TlsStream<TcpStream>>, Ended> {
    let handshake = async {
        tcp.set_nodelay(true)?;
        let stream = TlsAcceptor::from(tls.server()).accept(tcp).await?;
        let leaf =
            spiffe::Leaf::of(stream.get_ref().1.peer_certificates(), tls.trust()).map_err(Ended::Refused)?;
        greet(stream, leaf, tls, hello).await
    };
    timeout(HANDSHAKE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn greet<S: AsyncRead + AsyncWrite>(
    stream: S,
    leaf: spiffe::Leaf,
    tls: &Tls,
    hello: v1::LinkHello,
) -> Result<Handshake<S>, Ended> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut out = BytesMut::new();
    frame::encode(0, &Frame::Hello(hello), &mut out)?;
    writer.write_all(&out).await?;
    writer.flush().await?;
    let mut input = BytesMut::with_capacity(READ);
    let incarnation = loop {
        match frame::decode(&mut input)? {
            Some((0, Frame::Hello(hello))) if hello.subject == leaf.subject && hello.version == VERSION => {
                break hello.incarnation;
            }
            Some((0, Frame::Hello(hello))) => {
                let v1::LinkHello { subject, version, .. } = hello;
                let message = format!("{} says that it is {subject}, version {version}", leaf.subject);
                return Err(Ended::Refused(Error::new(Code::ForeignCertificate, subject, message)));
            }
            Some((0, Frame::GoAway(goodbye))) => {
                return Err(Ended::RefusedByPeer(Error::from_wire(goodbye.status, goodbye.problem)));
            }
            Some((_, other)) => {
                let message = format!("a frame of kind {} came before hello", other.kind());
                return Err(Ended::Refused(Error::new(Code::OutOfOrder, leaf.subject, message)));
            }
            None if reader.read_buf(&mut input).await? == 0 => return Err(Ended::Closed),
            None => {}
        }
    };
    let expires = tls.until(leaf.not_after);
    let peer = Peer { subject: leaf.subject, incarnation };
    Ok(Handshake { peer, link: Link::new(), reader, writer, input, expires })
}

impl<S: AsyncRead + AsyncWrite> Handshake<S> {
    /// Moves frames until the connection ends, and says why it did.
    pub async fn run(self, inbound: &mut impl Inbound) -> Ended {
        let Self { link, reader, mut writer, input, expires, peer } = self;
        let guard = link.ended.clone().drop_guard();
        // One writer from the beginning to the end: a goodbye never lands in the middle of a frame.
        let mut writing = std::pin::pin!(write(&mut writer, &link.outbox));
        let ended = tokio::select! {
            ended = read(reader, input, &link, inbound) => {
                if let Ended::Refused(error) = &ended {
                    link.refuse(error);
                }
                link.close();
                // The goodbye is worth a moment, not more.
                drop(timeout(Duration::from_secs(1), writing.as_mut()).await);
                ended
            }
            ended = writing.as_mut() => ended,
            () = tokio::time::sleep_until(expires) => Ended::Expired,
        };
        link.close();
        drop(guard);
        tracing::debug!(peer = peer.subject, %ended, "link ended");
        ended
    }
}

async fn read<S: AsyncRead>(
    mut reader: ReadHalf<S>,
    mut input: BytesMut,
    link: &Link,
    inbound: &mut impl Inbound,
) -> Ended {
    let mut quiet = 0;
    let mut heard = true;
    let check = tokio::time::sleep_until(clock::now() + QUIET);
    tokio::pin!(check);
    loop {
        loop {
            match frame::decode(&mut input) {
                Ok(Some((stream, frame))) => match take(stream, frame, link, inbound) {
                    Ok(()) => {}
                    Err(ended) => return ended,
                },
                Ok(None) => break,
                Err(error) => return error.into(),
            }
        }
        if input.is_empty() && input.capacity() < READ {
            input = BytesMut::with_capacity(READ);
        }
        tokio::select! {
            biased;
            read = reader.read_buf(&mut input) => match read {
                Ok(0) => return Ended::Closed,
                Ok(_) => heard = true,
                Err(error) => return error.into(),
            },
            () = &mut check => {
                check.as_mut().reset(clock::now() + QUIET);
                quiet = if heard { 0 } else { quiet + 1 };
                heard = false;
                if quiet > 2 {
                    return Ended::Silent;
                }
                if quiet > 0 && link.push(0, &Frame::Ping(v1::LinkPing { nonce: quiet })).is_err() {
                    return Ended::Closed;
                }
            }
        }
    }
}

fn take(stream: u64, frame: Frame, link: &Link, inbound: &mut impl Inbound) -> Result<(), Ended> {
    match frame {
        Frame::Ping(ping) => link.push(0, &Frame::Pong(ping)).map_err(|_| Ended::Closed),
        Frame::Pong(_) => Ok(()),
        Frame::Hello(hello) => inbound.incarnation(hello.incarnation).map_err(Ended::Refused),
        Frame::GoAway(v1::LinkGoAway { status, problem: Some(problem) }) => {
            Err(Ended::RefusedByPeer(Error::from_wire(status, Some(problem))))
        }
        Frame::GoAway(_) => {
            inbound.going_away();
            Ok(())
        }
        frame => inbound.frame(stream, frame).map_err(Ended::Refused),
    }
}

async fn write<S: AsyncWrite>(writer: &mut WriteHalf<S>, outbox: &Outbox) -> Ended {
    let mut buffer = BytesMut::new();
    loop {
        let Some(taken) = outbox.take(buffer).await else {
            return match writer.shutdown().await {
                Ok(()) => Ended::Closed,
                Err(error) => error.into(),
            };
        };
        buffer = taken;
        if let Err(error) = async {
            writer.write_all(&buffer).await?;
            writer.flush().await
        }
        .await
        {
            return error.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Inbound for Nothing {
        fn frame(&mut self, _: u64, _: Frame) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_goodbye_comes_after_the_frame_that_was_being_written() {
        let (here, there) = tokio::io::duplex(64);
        let (reader, writer) = tokio::io::split(here);
        let handshake = Handshake {
            peer: Peer { subject: "hub".into(), incarnation: 0 },
            link: Link::new(),
            reader,
            writer,
            input: BytesMut::new(),
            expires: clock::now() + Duration::from_mins(1),
        };
        let chunk = Frame::Chunk(v1::LinkChunk { data: vec![b'x'; 1_000].into(), ..Default::default() });
        handshake.link.push(1, &chunk).unwrap();
        let (mut reader, mut writer) = tokio::io::split(there);
        let other = async {
            // The frame is begun, and does not fit.
            let mut input = BytesMut::new();
            reader.read_buf(&mut input).await.unwrap();
            writer.write_all(&[0, 0, 0, 9, 99, 0, 0, 0, 0, 0, 0, 0, 1]).await.unwrap();
            while reader.read_buf(&mut input).await.unwrap() > 0 {}
            input
        };
        let mut inbound = Nothing;
        let (ended, mut input) = tokio::join!(handshake.run(&mut inbound), other);
        assert!(matches!(ended, Ended::Refused(_)), "{ended}");
        assert_eq!(frame::decode(&mut input), Ok(Some((1, chunk))));
        assert!(matches!(frame::decode(&mut input), Ok(Some((0, Frame::GoAway(_))))));
        assert!(input.is_empty());
    }
}
