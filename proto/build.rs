//! Compiles the `.proto` files in pure Rust, so that no host needs `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

/// The services between sidecars and the operator.
const SESSIONS: &str = "kontrol/v1/control.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=kontrol");
    let mut files = fs::read_dir("kontrol/v1")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort();
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("kontrol.v1.bin"), prost_bytes(&descriptors))?;
    // The operator has a stream for each sidecar, and most say little: their services have buffers of their own size.
    let (mut sessions, mut others) = (descriptors.clone(), descriptors);
    for file in &mut sessions.file {
        file.service.retain(|_| file.name.as_deref() == Some(SESSIONS));
    }
    for file in &mut others.file {
        file.service.retain(|_| file.name.as_deref() != Some(SESSIONS));
    }
    if sessions.file.iter().all(|file| file.service.is_empty()) {
        return Err(format!("{SESSIONS} has no service").into());
    }
    tonic_prost_build::configure().bytes(".").compile_fds(others)?;
    let out = out.join("sessions");
    fs::create_dir_all(&out)?;
    tonic_prost_build::configure()
        .extern_path(".kontrol.v1", "crate::v1")
        .codec_path("crate::buffers::Small")
        .out_dir(out)
        .compile_fds(sessions)?;
    Ok(())
}

fn prost_bytes(descriptors: &impl prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
