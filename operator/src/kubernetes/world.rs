//! The world itself: one task that owns the state, and around it watches, requests, the lease and the pages.

use std::{io, sync::Arc};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{admin, client::Client, elect, lease::Candidate, metrics::Metrics, options::Options};

/// Why a world cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A port cannot be listened on.
    #[error("{address} cannot be listened on: {source}")]
    Listen {
        /// Which.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The pages ended.
    #[error("the admin server ended: {0}")]
    Admin(#[source] io::Error),
}

/// A world on a cluster.
#[derive(Debug)]
pub struct World {
    client: Client,
    options: Options,
    metrics: Arc<Metrics>,
}

impl World {
    /// A world that speaks to the API server through `client`.
    pub fn new(client: kube::Client, options: Options) -> Self {
        Self { client: Client::new(client), options, metrics: Arc::new(Metrics::new()) }
    }

    /// Its metrics.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Runs until `stop`; then the lease is given up, and what runs on the cluster goes on.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let listener = listen(&self.options.admin).await?;
        let (ready, pending) = watch::channel(vec!["the first look at the cluster".to_owned()]);
        let (leads, mut leading) = watch::channel(None);
        let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
        let shown = admin::Shown { metrics: Arc::clone(&self.metrics), pending };
        let pages = admin::serve(listener, shown, stop.clone());
        tasks.spawn(async move { pages.await.map_err(Error::Admin) });
        let candidate = Candidate {
            namespace: self.options.namespace.clone(),
            name: self.options.lease_name.clone(),
            me: self.options.pod_name.clone(),
            duration: self.options.lease_duration,
        };
        let election =
            elect::run(self.client.clone(), candidate, self.options.lease_renew, leads, stop.clone());
        tasks.spawn(async move {
            election.await;
            Ok(())
        });
        ready.send_replace(Vec::new());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Ok(()) = leading.changed() => {
                    self.metrics.leader.set(leading.borrow_and_update().is_some().into());
                }
                Some(ended) = tasks.join_next() => {
                    if let Ok(Err(error)) = ended {
                        stop.cancel();
                        return Err(error);
                    }
                }
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

async fn listen(address: &str) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address: address.to_owned(), source };
    TcpListener::bind(address).await.map_err(failed)
}
