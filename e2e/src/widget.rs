//! A widget's side of the doors: what a native client in a few lines looks like, for the test widget and the benchmarks.

use std::path::PathBuf;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use kontrol_proto::v1::{
    CallRequest, CallResponse, Health, ReportRequest, ServeRequest, ServeResponse,
    calls_client::CallsClient,
    calls_server::{Calls, CallsServer},
    serve_request::{self, Open},
    serve_response::Event,
    widget_client::WidgetClient,
};
use tokio::net::{TcpListener, UnixStream};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

/// A channel to a door's Unix socket.
pub async fn door(socket: impl Into<PathBuf>) -> anyhow::Result<Channel> {
    let socket = socket.into();
    let path = socket.clone();
    Endpoint::from_static("http://door")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        }))
        .await
        .with_context(|| format!("connecting to the door {}", socket.display()))
}

/// Says that the widget is ready.
pub async fn report_ready(client: &mut WidgetClient<Channel>) -> Result<(), Status> {
    let request = ReportRequest { health: Health::Ready.into(), ..ReportRequest::default() };
    client.report(request).await.map(|_| ())
}

/// Answers every call with its own data, until the sidecar ends the stream.
pub async fn serve_echo(channel: Channel) -> anyhow::Result<()> {
    let (answers, requests) = tokio::sync::mpsc::channel(1024);
    answers
        .send(ServeRequest { action: Some(serve_request::Action::Open(Open { concurrency: 1024 })) })
        .await?;
    let mut events = CallsClient::new(channel).serve(ReceiverStream::new(requests)).await?.into_inner();
    while let Some(ServeResponse { event }) = events.message().await? {
        if let Some(Event::Request(request)) = event {
            let chunk = serve_request::Chunk {
                call: request.call,
                r#final: true,
                datacontenttype: request.datacontenttype,
                data: request.data,
            };
            answers.send(ServeRequest { action: Some(serve_request::Action::Chunk(chunk)) }).await?;
        }
    }
    Ok(())
}

/// The same echo without sidecars: a gRPC server on a loopback port. What a call costs at least.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Direct {
    /// Serves on `listener` until the process ends.
    pub async fn serve(self, listener: TcpListener) -> anyhow::Result<()> {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder().add_service(CallsServer::new(self)).serve_with_incoming(incoming).await?;
        Ok(())
    }
}

type Replies<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Calls for Direct {
    type CallStreamStream = Replies<kontrol_proto::v1::CallChunk>;
    type ServeStream = Replies<ServeResponse>;

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallResponse>, Status> {
        let CallRequest { datacontenttype, data, .. } = request.into_inner();
        Ok(Response::new(CallResponse { datacontenttype, data, answered_by: String::new() }))
    }

    async fn call_stream(&self, _: Request<CallRequest>) -> Result<Response<Self::CallStreamStream>, Status> {
        Err(Status::unimplemented("the direct echo answers single replies alone"))
    }

    async fn serve(
        &self,
        _: Request<Streaming<ServeRequest>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        Err(Status::unimplemented("the direct echo has no widget behind it"))
    }
}
