//! `docs/errors.md`, written from the table of codes.

use std::fmt;

use super::Code;

const RANGES: [(&str, &str); 6] = [
    ("KTL1", "Manifests"),
    ("KTL2", "Supervision"),
    ("KTL3", "Messages, topics and the hub"),
    ("KTL4", "Calls, peers and the doors"),
    ("KTL5", "Control and identity"),
    ("KTL6", "The local world and the command line"),
];

const HEAD: &str = "\
# Error codes

Every error that Kontrol reports carries a code that stays the same in all versions: in the output of `kontrol`, in events, in logs
(`code`), in the details of a gRPC status (`kontrol.v1.Problem`) and in the body of an HTTP error (RFC 9457, member `code`).
This page is generated from `core/src/code.rs` by `cargo run -p kontrol-core --example errors > docs/errors.md`.
";

/// The text of `docs/errors.md`.
pub fn page() -> String {
    Page.to_string()
}

struct Page;

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        for (prefix, title) in RANGES {
            writeln!(f, "\n## {title} (`{prefix}xxx`)\n")?;
            writeln!(f, "| code | name | what happened | what to do | gRPC | HTTP |")?;
            writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
            for code in Code::ALL.iter().filter(|code| code.as_str().starts_with(prefix)) {
                let (name, meaning, way_out) = (code.name(), code.meaning(), code.way_out());
                let (status, number, http) = (code.status().as_str(), code.status().number(), code.http());
                writeln!(
                    f,
                    "| `{code}` | {name} | {meaning} | {way_out} | `{status}` ({number}) | {http} |"
                )?;
            }
        }
        Ok(())
    }
}
