//! Writes what is generated from the API types: `crds/manifests/*.yaml` and `docs/reference.md`.

use std::{fs, io, path::Path};

use kontrol_crds::generated;

fn main() -> io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(here.join("manifests"))?;
    for (name, text) in generated::manifests() {
        fs::write(here.join("manifests").join(name), text)?;
    }
    fs::write(here.join("../docs/reference.md"), generated::reference())
}
