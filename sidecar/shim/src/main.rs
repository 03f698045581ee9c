//! `kontrol-shim`: runs one command under a world's eyes, or as the first process of a container. See the library's documentation.

use std::{
    env, fs,
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::Path,
    process::ExitCode,
};

use kontrol_shim::{Options, USAGE};

/// The command line is wrong.
const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "--install") {
        return match arguments.next() {
            Some(folder) => install(Path::new(&folder)),
            None => complain(&format!("kontrol-shim: --install takes a folder\n{USAGE}"), USAGE_ERROR),
        };
    }
    let options = match Options::parse(env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => return complain(&format!("kontrol-shim: {error}\n{USAGE}"), USAGE_ERROR),
    };
    if options.socket.is_some() {
        return match kontrol_shim::run_wrapped(&options) {
            Ok(status) => ExitCode::from(status),
            Err(error) => complain(&format!("kontrol-shim: {error}"), 1),
        };
    }
    let control = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(stdin) => UnixStream::from(stdin),
        Err(error) => return complain(&format!("kontrol-shim: no stdin: {error}"), USAGE_ERROR),
    };
    match kontrol_shim::run(&options, control) {
        Ok(event) => ExitCode::from(event.status()),
        Err(error) => complain(&format!("kontrol-shim: {error}"), 1),
    }
}

/// Copies this program, so that a container whose image does not hold it can run it.
fn install(folder: &Path) -> ExitCode {
    let copied = || -> io::Result<()> {
        let partial = folder.join("kontrol-shim.partial");
        fs::copy(env::current_exe()?, &partial)?;
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o555))?;
        fs::rename(partial, folder.join("kontrol-shim"))
    };
    match copied() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("kontrol-shim: {} cannot take the shim: {error}", folder.display()), 1)
        }
    }
}

fn complain(text: &str, status: u8) -> ExitCode {
    drop(writeln!(io::stderr(), "{text}"));
    ExitCode::from(status)
}
