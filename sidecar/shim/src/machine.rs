//! What the shim does with what it hears, as a pure state machine.
//!
//! ```text
//!   Running ──stop──► Stopping ──grace over──► Killing ──► (the command ends)
//!      └────────kill, or the world is gone───────▲
//! ```

use std::time::Duration;

use crate::Order;

/// What happens to a shim whose command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Order(Order),
    /// The other end of the control socket is closed.
    WorldGone,
    /// Time has passed.
    Tick,
}

/// What is sent to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Term,
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopping { kill_at: Duration },
    Killing,
}

/// The state of a shim whose command runs. Times are measured from any fixed point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    state: State,
    grace: Duration,
}

impl Machine {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { state: State::Running, grace }
    }

    /// Takes an input; says what to send to the group.
    pub(crate) fn on(&mut self, input: Input, now: Duration) -> Option<Signal> {
        match (self.state, input) {
            (State::Running, Input::Order(Order::Stop(grace))) => {
                self.state = State::Stopping { kill_at: now.saturating_add(grace.unwrap_or(self.grace)) };
                Some(Signal::Term)
            }
            (State::Stopping { kill_at }, Input::Order(Order::Stop(Some(grace)))) => {
                self.state = State::Stopping { kill_at: kill_at.min(now.saturating_add(grace)) };
                None
            }
            (State::Stopping { kill_at }, Input::Tick) if kill_at <= now => Some(self.kill()),
            (State::Running | State::Stopping { .. }, Input::Order(Order::Kill) | Input::WorldGone) => {
                Some(self.kill())
            }
            _ => None,
        }
    }

    /// When [`Input::Tick`] is due.
    pub(crate) fn wake(&self) -> Option<Duration> {
        match self.state {
            State::Stopping { kill_at } => Some(kill_at),
            State::Running | State::Killing => None,
        }
    }

    fn kill(&mut self) -> Signal {
        self.state = State::Killing;
        Signal::Kill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_command_that_ignores_the_stop_is_killed_after_its_grace() {
        let mut machine = Machine::new(SECOND * 10);
        assert_eq!(machine.on(Input::Order(Order::Stop(None)), SECOND), Some(Signal::Term));
        assert_eq!(machine.wake(), Some(SECOND * 11));
        assert_eq!(machine.on(Input::Tick, SECOND * 5), None);
        assert_eq!(machine.on(Input::Tick, SECOND * 11), Some(Signal::Kill));
        assert_eq!(machine.on(Input::Tick, SECOND * 12), None);
        assert_eq!(machine.wake(), None);
    }

    #[test]
    fn a_second_stop_can_only_shorten_the_grace() {
        let mut machine = Machine::new(SECOND * 10);
        machine.on(Input::Order(Order::Stop(None)), Duration::ZERO);
        assert_eq!(machine.on(Input::Order(Order::Stop(Some(SECOND * 60))), SECOND), None);
        assert_eq!(machine.wake(), Some(SECOND * 10));
        machine.on(Input::Order(Order::Stop(Some(SECOND))), SECOND);
        assert_eq!(machine.wake(), Some(SECOND * 2));
    }

    #[test]
    fn a_world_that_is_gone_kills_at_once_in_any_state() {
        let mut machine = Machine::new(SECOND);
        assert_eq!(machine.on(Input::WorldGone, Duration::ZERO), Some(Signal::Kill));
        let mut machine = Machine::new(SECOND);
        machine.on(Input::Order(Order::Stop(None)), Duration::ZERO);
        assert_eq!(machine.on(Input::WorldGone, Duration::ZERO), Some(Signal::Kill));
        assert_eq!(machine.on(Input::Order(Order::Kill), Duration::ZERO), None);
    }
}
