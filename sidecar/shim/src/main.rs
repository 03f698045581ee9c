//! `kontrol-shim`: runs one command under a world's eyes. See the library's documentation.

use std::{
    env,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
};

use kontrol_shim::{Event, Options, USAGE};

/// The command could not be started.
const NOT_STARTED: u8 = 127;
/// The command line is wrong.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => return complain(&format!("kontrol-shim: {error}\n{USAGE}"), USAGE_ERROR),
    };
    let control = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(stdin) => UnixStream::from(stdin),
        Err(error) => return complain(&format!("kontrol-shim: no stdin: {error}"), USAGE_ERROR),
    };
    match kontrol_shim::run(&options, control) {
        Ok(Event::Ended { code, signal, .. }) => {
            let status = code.or_else(|| signal.map(|signal| 128 + signal)).unwrap_or(1);
            ExitCode::from(u8::try_from(status).unwrap_or(1))
        }
        Ok(_) => ExitCode::from(NOT_STARTED),
        Err(error) => complain(&format!("kontrol-shim: {error}"), 1),
    }
}

fn complain(text: &str, status: u8) -> ExitCode {
    drop(writeln!(io::stderr(), "{text}"));
    ExitCode::from(status)
}
