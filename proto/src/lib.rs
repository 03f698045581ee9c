//! Kontrol's wire: the messages and services of `kontrol.v1`, generated from the `.proto` files beside this crate.
//!
//! ```text
//!   widget ──Topics, Calls, Widget──► sidecar ──Identity, sessions──► operator
//! ```
//!
//! Invariants: field numbers are never reused; a change is additive. The generated structs stay at the edges: what travels inside the
//! other crates are the types of `kontrol-core`.

pub mod session;
pub mod status;

/// The generated messages, clients and servers of `kontrol.v1`. Each item is documented in its `.proto` file.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, clippy::doc_markdown, clippy::large_enum_variant)]
pub mod v1 {
    tonic::include_proto!("kontrol.v1");

    /// The compiled descriptors of all files, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/kontrol.v1.bin"));
}

pub use prost::{Message, bytes::Bytes};

#[cfg(test)]
mod tests {
    use prost::Message;

    #[test]
    fn the_descriptor_set_names_every_service() {
        let set = prost_types::FileDescriptorSet::decode(super::v1::FILE_DESCRIPTOR_SET).unwrap();
        let services: Vec<_> = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .map(prost_types::ServiceDescriptorProto::name)
            .collect();
        for service in ["Topics", "Calls", "Widget", "Identity"] {
            assert!(services.contains(&service), "{service} is missing from {services:?}");
        }
    }
}
