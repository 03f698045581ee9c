//! The way to the API server, with the user's own rights and nothing else.

use std::time::Duration;

use http::{Method, Request, header};
use kontrol_operator::kubernetes::{client::chain, kind::Kind};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::time::timeout;

use super::failure::{Asked, Failure};
use crate::args::Kube;

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// A cluster, and what of it is meant.
#[derive(Clone)]
pub(crate) struct Access {
    pub(super) client: Client,
    /// The namespace; none: all of them.
    pub(super) namespace: Option<String>,
    /// The API server, for what is said of it.
    server: String,
    patience: Duration,
}

/// How an object is to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patch {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
}

impl Access {
    /// Finds the cluster as kubectl does.
    pub(crate) async fn open(flags: &Kube) -> Result<Self, Failure> {
        let config = config(flags).await?;
        let namespace = flags.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| {
            Failure::new(format!("the kubeconfig cannot be used for {server}: {}", chain(&error)))
        })?;
        let access = Self::new(client, (!flags.all_namespaces).then_some(namespace), flags.request_timeout);
        Ok(Self { server, ..access })
    }

    /// Asks through this client.
    pub(crate) fn new(client: Client, namespace: Option<String>, patience: Duration) -> Self {
        Self { client, namespace, server: "the cluster".to_owned(), patience }
    }

    /// The same cluster, another namespace.
    pub(super) fn within(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// Where it looks, in words.
    pub(super) fn place(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "in any namespace".to_owned(),
        }
    }

    /// All objects of a kind, each as its JSON.
    pub(super) async fn list(&self, kind: Kind, selector: &str) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(default)]
            metadata: Meta,
            #[serde(borrow, default)]
            items: Option<Vec<&'a RawValue>>,
        }
        #[derive(Default, Deserialize)]
        struct Meta {
            #[serde(default, rename = "continue")]
            next: String,
        }
        let namespace = self.namespace.as_deref();
        let asked = Asked { verb: "list", kind, part: "", namespace, name: "" };
        let mut found = Vec::new();
        let mut next = String::new();
        loop {
            let mut uri = format!("{}?limit={PAGE}", kind.path(namespace));
            for (key, value) in [("labelSelector", selector), ("continue", next.as_str())] {
                if !value.is_empty() {
                    uri = format!("{uri}&{key}={}", encoded(value));
                }
            }
            let text = self.send(Method::GET, &uri, None, asked).await?;
            let page: Page<'_> = serde_json::from_str(&text).map_err(|error| {
                Failure::new(format!("the list of {} cannot be read: {error}", kind.plural()))
            })?;
            found.extend(page.items.unwrap_or_default().into_iter().map(|item| item.get().to_owned()));
            next = page.metadata.next;
            if next.is_empty() {
                return Ok(found);
            }
        }
    }

    /// One object, or a part of it.
    pub(super) async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value, Failure> {
        let asked = Asked { verb: "get", kind, part: "", namespace: Some(namespace), name };
        let uri = format!("{}/{name}", kind.path(Some(namespace)));
        read(&self.send(Method::GET, &uri, None, asked).await?)
    }

    /// Changes an object, or a part of it such as `scale`.
    pub(super) async fn patch(
        &self,
        (kind, part): (Kind, &str),
        (namespace, name): (&str, &str),
        manager: &str,
        (form, patch): (Patch, &Value),
    ) -> Result<Value, Failure> {
        let asked = Asked { verb: "patch", kind, part, namespace: Some(namespace), name };
        let part = if part.is_empty() { String::new() } else { format!("/{part}") };
        let uri = format!("{}/{name}{part}?fieldManager={manager}", kind.path(Some(namespace)));
        read(&self.send(Method::PATCH, &uri, Some((form, patch)), asked).await?)
    }

    async fn send(
        &self,
        method: Method,
        uri: &str,
        patch: Option<(Patch, &Value)>,
        asked: Asked<'_>,
    ) -> Result<String, Failure> {
        let form = match patch {
            Some((Patch::Json, _)) => "application/json-patch+json",
            Some((Patch::Merge, _)) | None => "application/merge-patch+json",
        };
        let body = patch.map(|(_, value)| value.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, form)
            .body(body)
            .map_err(|error| Failure::new(format!("the request cannot be made: {error}")))?;
        match timeout(self.patience, self.client.request_text(request)).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(error)) => Err(self.failure(&error, asked)),
            Err(_) => {
                let seconds = self.patience.as_secs();
                Err(self.unreachable(&format!("it gave no answer within {seconds} s (--request-timeout)")))
            }
        }
    }

    /// What an error of the client means.
    pub(super) fn failure(&self, error: &kube::Error, asked: Asked<'_>) -> Failure {
        match error {
            kube::Error::Api(status) => asked.failed(status.code, &status.message),
            kube::Error::Auth(error) => {
                Failure::new(format!("your credentials for {} cannot be had: {}", self.server, chain(error)))
            }
            error => self.unreachable(&chain(error)),
        }
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::unreachable(format!(
            "{} cannot be reached: {why}; see `kubectl cluster-info`, or choose another cluster with --context",
            self.server
        ))
    }
}

async fn config(flags: &Kube) -> Result<Config, Failure> {
    let unusable = |error: &dyn std::error::Error| {
        Failure::unreachable(format!(
            "no cluster is known here: {}; name a kubeconfig with --kubeconfig or KUBECONFIG, and a context with --context",
            chain(error)
        ))
    };
    let options = KubeConfigOptions { context: flags.context.clone(), ..KubeConfigOptions::default() };
    match &flags.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(&error))
        }
        None if flags.context.is_some() => {
            Config::from_kubeconfig(&options).await.map_err(|error| unusable(&error))
        }
        None => Config::infer().await.map_err(|error| unusable(&error)),
    }
}

fn read(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("the answer of the API server cannot be read: {error}")))
}

/// A value of a query.
fn encoded(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    let mut encoded = String::new();
    for c in text.chars() {
        if plain(c) {
            encoded.push(c);
        } else {
            let mut bytes = [0; 4];
            encoded.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        }
    }
    encoded
}
