//! Connecting to the operator.

use std::{io, sync::Arc, time::Duration};

use kontrol_core::{code::Code, trust::TrustDomain};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::spiffe::{self, Leaf};
use crate::service::Error;

/// The time that connecting may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// Something is sent each second: an operator that acknowledges nothing for this long (ms) is gone, and another one may be there.
const UNHEARD: u32 = 4_000;

/// Connects to the operator, whose certificate must say that it is the operator.
pub(crate) async fn dial(
    address: &str,
    tls: Arc<ClientConfig>,
    trust: &TrustDomain,
) -> io::Result<TlsStream<TcpStream>> {
    let connected = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        rustix::net::sockopt::set_tcp_user_timeout(&tcp, UNHEARD)?;
        let stream = TlsConnector::from(tls).connect(spiffe::server_name(), tcp).await?;
        Leaf::of(stream.get_ref().1.peer_certificates(), trust)
            .and_then(|leaf| leaf.expect(spiffe::OPERATOR))
            .map_err(io::Error::other)?;
        Ok(stream)
    };
    timeout(CONNECT, connected).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// What is said where the operator cannot be reached.
pub(crate) fn away(address: &str, error: &str) -> Error {
    let message = format!("the operator at {address} cannot be reached: {error}");
    Error::new(Code::ControlUnavailable, address, message)
}
