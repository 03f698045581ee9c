//! `kontrol.v1.Widget`.

use kontrol_proto::v1;
use tonic::{Request, Response, Status};

use crate::service::{Report, Service, Word};

/// See the module.
pub(super) struct Door(pub(super) Service);

#[tonic::async_trait]
impl v1::widget_server::Widget for Door {
    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let request = request.into_inner();
        let health = match request.health() {
            v1::Health::Unspecified => None,
            v1::Health::Ready => Some(Word::Ready),
            v1::Health::NotReady => Some(Word::NotReady),
            v1::Health::Failed => Some(Word::Failed),
        };
        self.0.report(Report { health, message: request.message, load: request.load })?;
        Ok(Response::new(v1::ReportResponse {}))
    }

    async fn state(&self, _: Request<v1::StateRequest>) -> Result<Response<v1::StateResponse>, Status> {
        Ok(Response::new(self.0.state()))
    }
}
