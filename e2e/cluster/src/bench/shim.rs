//! The shim's restarts in place, as the sidecar beside it hears of them.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::time::sleep;

use super::row::{Row, times};
use crate::{
    Error, Result,
    clock::now,
    error::at,
    lab::{
        Lab, PATIENCE,
        kontrol::{name_of, object, wrapped_widget},
        web::{address, get},
    },
};

/// The sidecar's port for people and Prometheus.
const ADMIN: u16 = 7413;
/// The pause between two looks at its page.
const LOOK: Duration = Duration::from_millis(1);

/// What the sidecar's page says of its widget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    /// Ends that the shim has answered with another process.
    restarts: u64,
    /// Whether the process of now has said that it is ready.
    ready: bool,
}

impl Page {
    fn parse(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok())
        };
        let restarts = value("kontrol_widget_restarts_total")?;
        let ready = value("kontrol_widget_health{state=\"ready\"}")? > 0.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        Some(Self { restarts: restarts as u64, ready })
    }

    async fn of(address: &str) -> Result<Self> {
        let text = get(address, "/metrics").await.map_err(at(address))?;
        Self::parse(&text).ok_or_else(|| Error::Invalid(format!("{address} says nothing of a widget")))
    }
}

/// When the sidecar knew of an end, and when it had heard its replacement.
struct Heard {
    ended: Instant,
    replaced: Instant,
}

/// Looks at the sidecar's page until it tells of another end than `before`, and of a word of the process after it.
async fn hears(address: &str, before: u64) -> Result<Heard> {
    let (begun, mut ended, mut ready) = (now(), None, false);
    loop {
        let page = Page::of(address).await?;
        let seen = now();
        if page.restarts > before {
            let ended = *ended.get_or_insert(seen);
            // The count may be on the page a moment before the word of the process that is gone is off it: the second look in a row counts.
            if page.ready && ready {
                return Ok(Heard { ended, replaced: seen });
            }
            ready = page.ready;
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::Invalid(format!("{address} heard of no replacement: {page:?}")));
        }
        sleep(LOOK).await;
    }
}

/// From a wrapped widget's end to the first word of its replacement at the sidecar, as its page tells. The widget's health is its own word, so
/// that what the sidecar knows ends with each process.
pub(super) async fn restart(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    const PROGRAM: &str = "kontrol-test-widget";
    let (mut known, mut heard) = (Vec::new(), Vec::new());
    let spec = json!({"container": wrapped_widget(&[]), "shutdown": {"grace": "1s"}, "health": {"report": {}},
                      "intensity": {"maxRestarts": 1000, "period": "1s"}});
    lab.apply(&object("Widget", "inner", &spec))?;
    let pod: Pod = lab.until_pods("inner", "inner", 1).await?.remove(0);
    let address = address(&pod, ADMIN);
    for _ in 0..n {
        let what = format!("{} to run", name_of(&pod));
        let before = lab
            .wait(&what, async || {
                let page = Page::of(&address).await?;
                Ok(if page.ready { Ok(page.restarts) } else { Err(page) })
            })
            .await?;
        let child = lab.child(&pod, "widget", PROGRAM)?;
        let child = Pid::from_raw(child).ok_or_else(|| Error::Invalid(format!("no process {child}")))?;
        let ended = now();
        kill_process(child, Signal::KILL)
            .map_err(|error| at(format!("/proc/{}", child.as_raw_pid()))(error.into()))?;
        let seen = hears(&address, before).await?;
        known.push(seen.ended - ended);
        heard.push(seen.replaced - ended);
    }
    let same = lab.until_pods("inner", "inner", 1).await?.remove(0);
    if same.metadata.uid != pod.metadata.uid {
        return Err(Error::Invalid(format!("{} was replaced by {}", name_of(&pod), name_of(&same))));
    }
    Ok(times([
        ("k8s.restart.shim: end → the sidecar hears the replacement", heard),
        ("the same → the sidecar knows of the end", known),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_of_restarts_and_of_readiness() {
        let text = "# TYPE kontrol_widget_restarts_total counter\nkontrol_widget_restarts_total 3\n\
                    kontrol_widget_health{state=\"unknown\"} 0\nkontrol_widget_health{state=\"ready\"} 1\n";
        assert_eq!(Page::parse(text), Some(Page { restarts: 3, ready: true }));
        assert_eq!(Page::parse("up 1\n"), None);
    }
}
