//! Hearing what became of what was asked, and taking everything out at the end.

use std::{sync::Arc, time::Duration};

use kontrol_hub::Who;

use super::{History, Life};
use crate::topics::{SUBS, topics};

impl History {
    /// Hears what became of what was published and settled.
    pub(super) fn answers(&mut self, life: &mut Life) -> Result<(), String> {
        let mut waiting = Vec::new();
        for (mut receipt, messages) in life.publishing.drain(..) {
            match receipt.try_take() {
                None => waiting.push((receipt, messages)),
                Some(Err(_)) => {
                    // Uncertain: it may be stored, and may have dropped something.
                    for message in
                        messages.iter().filter(|message| self.model.sent[**message].topic == "ring")
                    {
                        let _ = message;
                        *self.model.droppable.entry(("ring", "r")).or_default() += 1;
                    }
                }
                Some(Ok(stored)) => {
                    self.report.published += 1;
                    for (message, published) in messages.into_iter().zip(stored) {
                        self.report.duplicates += u64::from(published.duplicate);
                        self.report.dropped += published.dropped;
                        *self.model.droppable.entry(("ring", "r")).or_default() += published.dropped;
                        if published.duplicate || self.model.sequence(message).is_none() {
                            self.model.stored(message, published.sequence)?;
                        } else {
                            return Err(format!("message {message} was stored again: its id was forgotten"));
                        }
                    }
                }
            }
        }
        life.publishing = waiting;
        let mut waiting = Vec::new();
        for mut settling in life.settling.drain(..) {
            match settling.receipt.try_take() {
                None => waiting.push(settling),
                Some(Err(_)) => {}
                Some(Ok(())) => {
                    self.report.acknowledged += 1;
                    self.model.settled(settling.sub, settling.place, settling.given_up);
                }
            }
        }
        life.settling = waiting;
        Ok(())
    }

    /// Takes everything out: a consumer of each subscription acknowledges all it gets.
    pub(super) fn drain(&mut self, life: &mut Life) -> Result<(), String> {
        for round in 0.. {
            self.now = self.now.plus(Duration::from_secs(2));
            life.hub.tick(self.now);
            drop(life.hub.configure(self.now, &topics()));
            for sub in SUBS {
                let who = Who { instance: "default/g/drain/0".to_owned(), incarnation: 1 };
                if let Ok(consumer) = life.hub.subscribe("default", sub.0, sub.1, who, 1_000, Arc::new(|| ()))
                {
                    life.consumers.push((sub, consumer, Vec::new()));
                }
            }
            for _ in 0..life.consumers.len() * 3 {
                self.poll(life)?;
            }
            for _ in 0..2_000 {
                self.settle(life, true)?;
            }
            while life.hub.step() {}
            while life.hub.step_folder() {}
            self.answers(life)?;
            if let Some(failure) = life.hub.failure() {
                return Err(format!("failed while draining: {failure}"));
            }
            let left: u64 = life.hub.signals(self.now).iter().map(|signal| signal.depth).sum();
            if left == 0 && life.hub.signals(self.now).len() == SUBS.len() {
                break;
            }
            if round > 200 {
                return Err(format!("{left} messages never come out: {:?}", life.hub.signals(self.now)));
            }
        }
        Ok(())
    }
}
