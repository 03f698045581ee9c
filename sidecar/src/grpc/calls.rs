//! `kontrol.v1.Calls`: calling, and answering through a `Serve` stream.

use std::pin::Pin;

use futures::{Stream, stream};
use kontrol_core::code::Code;
use kontrol_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use super::{deadline, serve};
use crate::service::{Call, Error, Service};

/// See the module.
pub(super) struct Door(pub(super) Service);

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::CallChunk, Status>> + Send>>;

fn call(request: Request<v1::CallRequest>, streamed: bool) -> Call {
    let deadline = deadline(request.metadata());
    let v1::CallRequest { target, method, headers, datacontenttype, data } = request.into_inner();
    Call { target, method, headers, datacontenttype, data, deadline, streamed }
}

#[tonic::async_trait]
impl v1::calls_server::Calls for Door {
    async fn call(&self, request: Request<v1::CallRequest>) -> Result<Response<v1::CallResponse>, Status> {
        let mut reply = self.0.call(call(request, false)).await?;
        let Some(chunk) = reply.next().await else {
            return Err(Error::new(Code::InvalidReply, "", "the reply has no chunk").into());
        };
        let chunk = chunk?;
        let answered_by = reply.answered_by().to_owned();
        Ok(Response::new(v1::CallResponse {
            datacontenttype: chunk.datacontenttype,
            data: chunk.data,
            answered_by,
        }))
    }

    type CallStreamStream = Chunks;

    async fn call_stream(&self, request: Request<v1::CallRequest>) -> Result<Response<Chunks>, Status> {
        let reply = self.0.call(call(request, true)).await?;
        let chunks = stream::unfold(Some(reply), |reply| async move {
            let mut reply = reply?;
            match reply.next().await? {
                Ok(chunk) => {
                    let answered_by =
                        if chunk.sequence == 0 { reply.answered_by().to_owned() } else { String::new() };
                    let chunk = v1::CallChunk {
                        sequence: chunk.sequence,
                        r#final: chunk.last,
                        datacontenttype: chunk.datacontenttype,
                        data: chunk.data,
                        answered_by,
                    };
                    Some((Ok(chunk), Some(reply)))
                }
                Err(error) => Some((Err(Status::from(error)), None)),
            }
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    type ServeStream = Pin<Box<dyn Stream<Item = Result<v1::ServeResponse, Status>> + Send>>;

    async fn serve(
        &self,
        request: Request<Streaming<v1::ServeRequest>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let session = serve::Session::new(self.0.clone(), request.into_inner());
        Ok(Response::new(Box::pin(stream::unfold(session, serve::Session::step))))
    }
}
