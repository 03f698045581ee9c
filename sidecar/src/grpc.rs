//! The gRPC door: `kontrol.v1` on a Unix socket and on loopback, with the standard health and reflection services.
//!
//! Everything here translates between the generated types and [`Service`]; what is refused was refused there.

mod calls;
mod connection;
mod listen;
mod pipeline;
mod serve;
mod status;
mod topics;
mod widget;

pub use kontrol_proto::status::problem_of;
pub use listen::bind_socket;
pub use status::to_status;

use std::time::Duration;

use kontrol_core::limits;
use kontrol_proto::v1::{
    self, calls_server::CallsServer, topics_server::TopicsServer, widget_server::WidgetServer,
};
use tokio::net::{TcpListener, UnixListener};
use tonic::{metadata::MetadataMap, transport::Server};

use crate::{clock, service::Service};

/// The largest request or reply of the door: a message and what goes with it.
pub const MAX_MESSAGE: usize = limits::MESSAGE + limits::ENVELOPE;
/// The largest request that is read to be refused with a reason.
const MAX_READ: usize = 2 * limits::MESSAGE;

/// Serves both listeners until `drained` is over.
pub async fn serve(
    service: Service,
    socket: UnixListener,
    tcp: TcpListener,
    drained: impl Future<Output = ()> + Clone,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let watch = follow_readiness(service.clone(), reporter);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| tracing::warn!(%error, "reflection is off"))
        .ok();
    let router = Server::builder()
        .max_concurrent_streams(1024)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(
            TopicsServer::new(topics::Door(service.clone()))
                .max_decoding_message_size(MAX_READ)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            CallsServer::new(calls::Door(service.clone()))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(WidgetServer::new(widget::Door(service.clone())))
        .add_service(health)
        .add_optional_service(reflection);
    let unix =
        router.clone().serve_with_incoming_shutdown(listen::unix(socket, service.clone()), drained.clone());
    let tcp = router.serve_with_incoming_shutdown(listen::tcp(tcp, service), drained);
    let doors = async { tokio::try_join!(unix, tcp).map(drop) };
    tokio::select! {
        ended = doors => ended,
        () = watch => Ok(()),
    }
}

/// Tells the standard health service whether the sidecar is ready to work.
async fn follow_readiness(service: Service, reporter: tonic_health::server::HealthReporter) {
    let mut changes = service.changes();
    let mut draining = service.draining();
    loop {
        let status = if service.is_ready() {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        for name in ["", "kontrol.v1.Topics", "kontrol.v1.Calls", "kontrol.v1.Widget"] {
            reporter.set_service_status(name, status).await;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { break },
            changed = draining.changed() => if changed.is_err() { break },
        }
    }
    std::future::pending::<()>().await;
}

/// The most by which this side gives up before its caller does, who would hear no reason otherwise.
const AHEAD: Duration = Duration::from_millis(20);

/// The deadline that a caller gave with `grpc-timeout`, a little early: so that the caller hears why.
fn deadline(metadata: &MetadataMap) -> Option<tokio::time::Instant> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number.checked_mul(3600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    clock::now().checked_add(timeout.saturating_sub((timeout / 10).min(AHEAD)))
}
