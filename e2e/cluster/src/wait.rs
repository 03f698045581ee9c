//! Waiting for a condition, with a deadline and a word on what was seen last.

use std::{thread, time::Duration};

use crate::{Error, Result, clock};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(25);

/// Waits until `check` gives a value; `Ok(Err(seen))` says what it saw instead. `what` names the condition in the error.
pub fn until<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<Result<T, String>>,
) -> Result<T> {
    let deadline = clock::now() + within;
    loop {
        match check()? {
            Ok(value) => return Ok(value),
            Err(last) if clock::now() > deadline => {
                return Err(Error::Timeout { what: what.to_owned(), after: within, last });
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// Runs `future` to its end on a thread with a runtime of its own, so that it may be called from anywhere.
pub(crate) fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Error::Machine(format!("no runtime: {error}")))?;
            runtime.block_on(future)
        });
        thread.join().unwrap_or_else(|_| Err(Error::Machine("a thread of this program panicked".to_owned())))
    })
}
