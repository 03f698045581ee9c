//! A connection of the gRPC door, made for few wake-ups.
//!
//! ```text
//!   HTTP/2 ─frame by frame─► buffer ─one write for all that became ready together─► socket
//! ```
//!
//! Two habits of sockets cost a switch of processes a call. An HTTP/2 server writes a reply's data and its trailers one after the other,
//! and each write wakes the client, which can use the first only with the second. And a Unix socket tells its writer of new room
//! whenever the other side has read, which wakes whoever has registered for it: so the socket is registered for reading alone, and for
//! writing only while it is full. A connection has two descriptors, one for each of these: more are taken at no time.
//!
//! The ends of pipes that are used for this are sockets, against what tokio asks of `from_owned_fd_unchecked`. That is done knowingly: it is
//! a promise about what reading and writing mean, not one of memory, and it is the one way to be registered for a single direction, since
//! `AsyncFd::with_interest` is deprecated as unsound and what replaces it is `unsafe`. What a pipe's end does here, a socket does too: it is
//! read and written by `read` and `write`, it is readable at its end, and an error wakes both. The tests of this module hold that for
//! the tokio in use: the whole stream in both directions, its end, a peer that went, and a full socket.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use rustix::io::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::unix::pipe,
    sync::Notify,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::Connected;

/// Bytes that may wait to be written; beyond, HTTP/2 waits.
const LIMIT: usize = 64 << 10;
/// The largest buffer that is kept for the next round.
const KEEP: usize = 16 << 10;

/// The reading and buffering half; the other half is [`Connection::begin`]'s task. Dropped without a shutdown, what the socket does not
/// take at once is lost.
#[derive(Debug)]
pub(super) struct Connection {
    /// A socket all the same; see the module.
    incoming: pipe::Receiver,
    outgoing: Arc<Outgoing>,
    _here: DropGuard,
}

#[derive(Debug, Default)]
struct Outgoing {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    phase: Phase,
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    #[default]
    Open,
    /// What is in the buffer is the last.
    Closing,
    Closed,
    Failed(io::ErrorKind),
}

impl Connection {
    /// Wraps a socket that does not block. The future writes what the connection buffers, until the connection is shut down or dropped.
    pub(super) fn begin(socket: OwnedFd) -> io::Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        let incoming = pipe::Receiver::from_owned_fd_unchecked(socket)?;
        let socket = incoming.as_fd().try_clone_to_owned()?;
        let outgoing = Arc::<Outgoing>::default();
        let here = CancellationToken::new();
        let writing = {
            let (outgoing, gone) = (Arc::clone(&outgoing), here.clone());
            async move { outgoing.end(outgoing.drain(socket, &gone).await) }
        };
        Ok((Self { incoming, outgoing, _here: here.drop_guard() }, writing))
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Buffers as much as there is room for.
    fn put(&self, parts: &[io::IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        match state.phase {
            Phase::Open => {}
            Phase::Closing | Phase::Closed => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Phase::Failed(kind) => return Poll::Ready(Err(kind.into())),
        }
        let before = state.buffer.len();
        if before >= LIMIT {
            state.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        for part in parts {
            let room = (LIMIT - state.buffer.len()).min(part.len());
            state.buffer.extend_from_slice(&part[..room]);
        }
        let taken = state.buffer.len() - before;
        drop(state);
        self.filled.notify_one();
        Poll::Ready(Ok(taken))
    }

    /// Waits for something to write and takes it, handing back the buffer written before; none: nothing more will come.
    async fn take(&self, mut spare: Vec<u8>, gone: &CancellationToken) -> Option<Vec<u8>> {
        spare.clear();
        spare.shrink_to(KEEP);
        loop {
            {
                let mut state = self.lock();
                if !state.buffer.is_empty() {
                    let taken = std::mem::replace(&mut state.buffer, spare);
                    let waiting = state.waiting.take();
                    drop(state);
                    wake(waiting);
                    return Some(taken);
                }
                if matches!(state.phase, Phase::Closing) {
                    return None;
                }
            }
            tokio::select! {
                biased;
                () = self.filled.notified() => {}
                () = gone.cancelled() => return None,
            }
        }
    }

    async fn drain(&self, mut socket: OwnedFd, gone: &CancellationToken) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(taken) = self.take(buffer, gone).await {
            buffer = taken;
            tokio::select! {
                biased;
                written = write(socket, &buffer) => socket = written?,
                () = gone.cancelled() => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        match rustix::net::shutdown(&socket, rustix::net::Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn end(&self, ended: io::Result<()>) {
        let mut state = self.lock();
        state.phase = ended.map_or_else(|error| Phase::Failed(error.kind()), |()| Phase::Closed);
        state.buffer = Vec::new();
        let waiting = state.waiting.take();
        drop(state);
        wake(waiting);
    }
}

/// Writes everything, waiting for room where there is none, and hands the socket back: it is registered for no longer than that.
async fn write(socket: OwnedFd, mut bytes: &[u8]) -> io::Result<OwnedFd> {
    while !bytes.is_empty() {
        match rustix::io::write(&socket, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut full = pipe::Sender::from_owned_fd_unchecked(socket)?;
                full.write_all(bytes).await?;
                return full.into_nonblocking_fd();
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(socket)
}

fn wake(waiting: Option<Waker>) {
    if let Some(waiting) = waiting {
        waiting.wake();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.incoming).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.outgoing.put(&[io::IoSlice::new(bytes)], cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.outgoing.put(parts, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is buffered leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.outgoing.lock().phase {
            Phase::Failed(kind) => Poll::Ready(Err(kind.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.outgoing.lock();
        match state.phase {
            Phase::Closed => return Poll::Ready(Ok(())),
            Phase::Failed(kind) => return Poll::Ready(Err(kind.into())),
            Phase::Open | Phase::Closing => state.phase = Phase::Closing,
        }
        state.waiting = Some(cx.waker().clone());
        drop(state);
        self.outgoing.filled.notify_one();
        Poll::Pending
    }
}

impl Connected for Connection {
    /// No handler is told the caller's address, at the TCP door either: none asks.
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::net::UnixStream as Plain, time::Duration};

    use tokio::{io::AsyncReadExt as _, net::UnixStream, time::timeout};

    use super::*;

    fn pair() -> (OwnedFd, UnixStream) {
        let (here, there) = Plain::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        there.set_nonblocking(true).unwrap();
        (here.into(), UnixStream::from_std(there).unwrap())
    }

    #[tokio::test]
    async fn what_is_written_before_the_task_runs_leaves_in_one_write() {
        let (here, there) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let (mut connection, writing) = Connection::begin(here).unwrap();
        for part in [&b"headers"[..], b" and data", b" and trailers"] {
            connection.write_all(part).await.unwrap();
            connection.flush().await.unwrap();
        }
        let (ended, ()) = tokio::join!(connection.shutdown(), writing);
        ended.unwrap();
        let mut packet = [0; 64];
        let read = rustix::io::read(&there, &mut packet).unwrap();
        assert_eq!(&packet[..read], b"headers and data and trailers");
    }

    #[tokio::test]
    async fn more_than_the_socket_takes_arrives_whole_and_ends_with_the_shutdown() {
        let (here, mut there) = pair();
        let (mut connection, writing) = Connection::begin(here).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
        let sent = async {
            connection.write_all(&bytes).await.unwrap();
            connection.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let received = there.read_to_end(&mut read);
        let ((), (), received) = tokio::join!(sent, writing, received);
        received.unwrap();
        assert!(read == bytes);
    }

    /// The descriptors of this process that are this socket.
    fn descriptors(inode: u64) -> usize {
        let is_it = |entry: io::Result<std::fs::DirEntry>| {
            let target = std::fs::read_link(entry.ok()?.path()).ok()?;
            (target.to_str()? == format!("socket:[{inode}]")).then_some(())
        };
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(is_it).count()
    }

    #[tokio::test]
    async fn a_full_socket_takes_no_descriptor_more() {
        let (here, mut there) = pair();
        let inode = rustix::fs::fstat(&here).unwrap().st_ino;
        let (mut connection, writing) = Connection::begin(here).unwrap();
        let outgoing = Arc::clone(&connection.outgoing);
        let bytes = vec![7; 3_000_000];
        let sent = async {
            connection.write_all(&bytes).await.unwrap();
            let idle = descriptors(inode);
            connection.shutdown().await.unwrap();
            idle
        };
        let received = async {
            // Full at one look after the other, between which the writer had its turn: it waits for the socket.
            let mut looks = 0;
            while looks < 3 {
                let full = outgoing.lock().waiting.is_some();
                looks = if full { looks + 1 } else { 0 };
                tokio::task::yield_now().await;
            }
            let full = descriptors(inode);
            let mut read = Vec::new();
            there.read_to_end(&mut read).await.unwrap();
            (full, read.len())
        };
        let (idle, (), (full, read)) = tokio::join!(sent, writing, received);
        assert_eq!((full, read), (2, 3_000_000));
        assert_eq!(idle, 2);
    }

    #[tokio::test]
    async fn what_comes_is_read_whole_up_to_its_end() {
        let (here, mut there) = pair();
        let (mut connection, _writing) = Connection::begin(here).unwrap();
        let bytes = vec![7; 3_000_000];
        let sent = async {
            there.write_all(&bytes).await.unwrap();
            there.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let ((), received) = tokio::join!(sent, connection.read_to_end(&mut read));
        received.unwrap();
        assert!(read == bytes);
    }

    #[tokio::test]
    async fn a_reader_that_went_fails_the_writer() {
        let (here, there) = pair();
        let (mut connection, writing) = Connection::begin(here).unwrap();
        drop(there);
        connection.write_all(b"to nobody").await.unwrap();
        writing.await;
        assert_eq!(connection.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(connection.shutdown().await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_waits_for_no_reader() {
        let (here, there) = pair();
        let (mut connection, writing) = Connection::begin(here).unwrap();
        let filling = async {
            // Until the socket and the buffer are full.
            while timeout(Duration::from_millis(50), connection.write_all(&[1; 10_000])).await.is_ok() {}
            drop(connection);
        };
        timeout(Duration::from_secs(10), async { tokio::join!(filling, writing) }).await.unwrap();
        let mut there = there.into_std().unwrap();
        there.set_nonblocking(false).unwrap();
        assert!(there.read_to_end(&mut Vec::new()).unwrap() > LIMIT);
    }
}
