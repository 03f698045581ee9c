//! Writes `docs/errors.md` to standard output.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(kontrol_core::code::page().as_bytes())
}
