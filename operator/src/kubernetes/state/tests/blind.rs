//! While the API server is away.

use super::*;

impl Cluster {
    /// The watch of pods says this.
    fn pods(&mut self, seen: Seen) {
        self.state.take(Input::Watch(Self::source(Kind::Pod), seen), self.now);
    }

    /// A minute passes, within which nothing can be done.
    fn minute(&mut self) {
        self.now = self.now.plus(Duration::from_mins(1));
        self.run_until_idle();
    }

    /// What starts is waited for this long, and no longer.
    fn starts_within(&mut self, time: Duration) {
        self.asked.clear();
        self.pass(time.saturating_sub(Duration::from_secs(1)));
        assert_eq!(self.names(Kind::Pod), ["llm-0-1"]);
        self.pass(Duration::from_secs(2));
        assert!(!self.asked_for(Verb::Delete, Kind::Pod).is_empty(), "it has not started in time");
    }
}

#[test]
fn what_starts_while_the_api_server_is_away_has_its_whole_time_after_it() {
    let mut cluster = lone();
    cluster.run();
    cluster.pods(Seen::Broken("no route".into()));
    cluster.minute();
    cluster.minute();
    cluster.pods(Seen::Alive);
    // A kubelet that was refused takes up to a minute to ask again, and a start may take one.
    cluster.starts_within(Duration::from_mins(2));
}

#[test]
fn a_start_that_is_seen_has_its_time_once() {
    let mut cluster = lone();
    cluster.run();
    cluster.starts_within(Duration::from_mins(1));
}

/// A world that watches two namespaces, each by watches of its own.
#[test]
fn what_one_namespace_missed_is_no_concern_of_another() {
    let options =
        Arc::new(Options { watch_namespaces: vec!["shop".into(), "lab".into()], ..Options::default() });
    let mut state = State::new(Arc::clone(&options), sources(&options));
    let mut now = Timestamp::from_micros(1_795_000_000_000_000);
    let mut say = |namespace: &str, seen: Seen, now| {
        for source in sources(&options) {
            if source.kind == Kind::Pod && source.namespace.as_deref() == Some(namespace) {
                state.take(Input::Watch(source, seen.clone()), now);
            }
        }
        (state.sees_since("shop"), state.sees_since("lab"))
    };
    for namespace in ["shop", "lab"] {
        say(namespace, Seen::Listed { version: 1, keys: BTreeSet::new() }, now);
    }
    say("lab", Seen::Broken("no route".into()), now);
    now = now.plus(Duration::from_mins(1));
    let (shop, lab) = say("lab", Seen::Alive, now);
    assert_eq!((shop, lab), (Timestamp::ZERO, now.plus(Duration::from_mins(1))));
}
