//! A Kubernetes API server within the process, and a kubelet, both with every fault that a test asks for.
//!
//! ```text
//!   kube::Client ──tower──► Session ──► faults ──► State (pure: request and time in, answer out) ──► history
//!        or a socket           │                      ▲                                               │
//!   (127.0.0.1:0)              └── holds, cuts, calls │ Kubelet: nodes and pods, step by step         ▼
//!                                                     └───────────────────────────────── watches, garbage collection
//! ```
//!
//! Objects are JSON, as in etcd. Verbs, selectors, paged and streaming lists, watches with bookmarks and `410 Gone`, the forms of patch,
//! server-side apply with a set of fields per manager, preconditions, finalizers, owner references, namespaces, quotas, schemas with
//! pruning, defaults and CEL, scale, eviction, token and access reviews behave as the real server's do, as far as a controller can tell;
//! what it does not know it refuses (`404`, `405`, `415`), and never answers as if it knew.
//!
//! A [`Session`] is one process that speaks to the server: it has a user, its calls are counted, its watches can be held back or broken,
//! each of its calls can meet a [`Fault`], and it can be cut off for good, as a crash does. Nothing is drawn but from a seed, and ids are
//! counted, so that one schedule of calls gives one history.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use kontrol_e2e_apiserver::{ApiServer, Fault, fault};
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use kube::api::{Api, PostParams};
//!
//! let server = ApiServer::new();
//! let session = server.session("system:serviceaccount:kontrol-system:kontrol-operator");
//! session.set_faults(fault::nth_write(0, Fault::ErrorBefore));
//! let maps: Api<ConfigMap> = Api::namespaced(session.client(), "default");
//! let mut map = ConfigMap::default();
//! map.metadata.name = Some("a".to_owned());
//! assert!(maps.create(&PostParams::default(), &map).await.is_err());
//! assert!(maps.create(&PostParams::default(), &map).await.is_ok());
//! # });
//! ```

mod clock;
mod discovery;
mod failure;
pub mod fault;
mod fields;
mod kubelet;
mod managers;
mod request;
mod resource;
mod review;
mod schema;
mod selector;
mod server;
mod session;
mod state;
mod watch;

pub use clock::Clock;
pub use failure::Failure;
pub use fault::{Call, Fault, Faults};
pub use kubelet::{Ended, Kubelet, Machine};
pub use review::{Denied, Rules, Token};
pub use server::{ApiServer, Change, Listening};
pub use session::{Answered, Following, Session};
