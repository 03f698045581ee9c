//! A real Kubernetes cluster on one machine: etcd, the control plane, and two nodes with a kubelet and a containerd each.
//!
//! ```text
//!   host ──veth── [ control: bridge · etcd · apiserver · controller-manager · scheduler · CoreDNS · kwok ]
//!                      │ veth                                   │ veth
//!              [ node0: containerd · kubelet · kube-proxy ]  [ node1: the same ]
//!                   pods 10.X.32.0/24                            pods 10.X.33.0/24
//! ```
//!
//! Each box is a network namespace. A run has a name; its namespaces, cgroups, folder and addresses are its own, so that two runs on one
//! machine never meet. What a run makes is in its [`ledger`](Ledger) before it is made and every process of it is in its cgroups, so
//! [`Cluster::down`] cleans up whatever a crash of the run has left, and ends nothing that is not the run's.
//!
//! It refuses to be more than a cluster for tests: one etcd without fsync, no enforcement of network policies, certificates for a month.

mod addresses;
pub mod bench;
mod bootstrap;
mod cgroup;
mod clean;
mod clock;
mod cluster;
mod component;
mod control;
mod error;
mod fake;
pub mod images;
pub mod lab;
mod ledger;
pub mod measure;
mod mend;
mod mounts;
mod name;
mod network;
mod node;
mod pki;
mod process;
mod provisioner;
mod ready;
mod run;
mod tools;
mod up;
mod wait;

pub use addresses::Addresses;
pub use cluster::{Cluster, NodeState, Options, State, Status};
pub use component::{Component, enter};
pub use error::Error;
pub use ledger::{Entry, Ledger};
pub use name::RunName;
pub use provisioner::provision;
pub use run::Run;
pub use tools::{Tool, Tools, Version};
pub use wait::until;

/// The result of what this crate does.
pub type Result<T, E = Error> = std::result::Result<T, E>;
