//! The session of the sidecar of `llm-0-1`.

use kontrol_proto::v1;

use super::*;
use crate::control::{Event, Session, Upward};

const SUBJECT: &str = "default/llm/llm/0";

impl Cluster {
    /// It opens, as the `number`th.
    pub(super) fn opens(&mut self, number: u64) {
        let (id, session) = Session::unheard(number);
        let hello = v1::Hello {
            subject: SUBJECT.to_owned(),
            pod: "llm-0-1".to_owned(),
            pod_uid: "u-llm-0-1".to_owned(),
            incarnation: 1,
            ..v1::Hello::default()
        };
        self.state.take(Input::Control(Event::Opened { id, hello, session }), self.now);
        self.run();
    }

    /// The sidecar says this on it.
    pub(super) fn hears(&mut self, number: u64, signals: v1::Signals) {
        let (id, _) = Session::unheard(number);
        let message = Upward::Signals(v1::Signals { incarnation: 1, ..signals });
        let said = Event::Said { id, subject: SUBJECT.to_owned(), message };
        self.state.take(Input::Control(said), self.now);
        self.run();
    }
}

#[test]
fn a_session_that_is_given_up_before_it_was_used_takes_the_one_before_along() {
    let mut cluster = Cluster::new();
    cluster.put(Kind::Widget, "llm", json!({"spec": {"replicas": 1, "container": container()}}));
    cluster.run();
    cluster.opens(1);
    cluster.opens(2);
    let mut ended = |number| {
        let (id, _) = Session::unheard(number);
        let closed = Event::Closed { id, subject: SUBJECT.to_owned() };
        cluster.state.take(Input::Control(closed), cluster.now);
        let effects = cluster.state.step(cluster.now);
        effects.iter().filter(|effect| matches!(effect, Effect::End(_))).count()
    };
    assert_eq!(ended(2), 1, "or it is never told anything again");
    assert_eq!(ended(1), 0);
}
