//! The addresses of a run: one `/16` of `10.128.0.0/9` for each, claimed by its index.

use std::net::Ipv4Addr;

/// How many runs a machine can hold.
pub(crate) const RUNS: u8 = 100;

/// The addresses of the run with one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Addresses {
    index: u8,
}

impl Addresses {
    /// Those of the run with `index` (below 100).
    pub const fn new(index: u8) -> Self {
        Self { index }
    }

    /// The index.
    pub fn index(self) -> u8 {
        self.index
    }

    const fn at(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 128 + self.index, third, fourth)
    }

    /// All of them: `10.X.0.0/16`.
    pub fn all(self) -> String {
        format!("{}/16", self.at(0, 0))
    }

    /// The control plane: the API server and `CoreDNS` listen here, and it is the nodes' and the host's way to each other.
    pub fn control(self) -> Ipv4Addr {
        self.at(0, 1)
    }

    /// The host's end of the veth pair.
    pub fn host(self) -> Ipv4Addr {
        self.at(0, 254)
    }

    /// The node with this number.
    pub fn node(self, number: u8) -> Ipv4Addr {
        self.at(0, 10 + number)
    }

    /// All pods' addresses.
    pub fn pods(self) -> String {
        format!("{}/19", self.at(32, 0))
    }

    /// The addresses of the pods on one node.
    pub fn pods_of(self, number: u8) -> String {
        format!("{}/24", self.at(32 + number, 0))
    }

    /// The services' addresses.
    pub fn services(self) -> String {
        format!("{}/20", self.at(96, 0))
    }

    /// The service `kubernetes`.
    pub fn api_service(self) -> Ipv4Addr {
        self.at(96, 1)
    }

    /// The service `kube-dns`.
    pub fn dns_service(self) -> Ipv4Addr {
        self.at(96, 10)
    }

    /// Where the API server is found, from the host and from the nodes.
    pub fn server(self) -> String {
        format!("https://{}:6443", self.control())
    }
}
