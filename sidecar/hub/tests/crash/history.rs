//! One history: a hub without threads, driven by a seed.

use std::{sync::Arc, time::Duration};

use kontrol_core::{spec, time::Timestamp};
use kontrol_hub::{
    Config, Consumer, Error, Hub, Nak, OpenError, Publish, Published, Receipt, Who,
    io::faulty::{Crash, Disk, Fault, Omit, Random},
};

use crate::{
    model::{Model, Sent, Sub, Told},
    report::Report,
    topics::{SUBS, topics},
};

mod answers;

/// How long a delivery may be held.
pub(crate) const LEASE: Duration = Duration::from_secs(1);

struct Held {
    sub: Sub,
    place: usize,
    delivery: u64,
}

/// A settlement that was not answered yet.
struct Settling {
    receipt: Receipt<()>,
    sub: Sub,
    place: usize,
    given_up: bool,
}

/// One life of the hub, from opening to going down.
struct Life {
    hub: Hub,
    consumers: Vec<(Sub, Consumer, Vec<Held>)>,
    publishing: Vec<(Receipt<Vec<Published>>, Vec<usize>)>,
    settling: Vec<Settling>,
}

struct History {
    random: Random,
    disk: Disk,
    config: Config,
    now: Timestamp,
    model: Model,
    batch: usize,
    report: Report,
    verbose: bool,
}

/// Plays the history of a seed.
pub(crate) fn play(seed: u64, omit: Omit, verbose: bool) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let segment = 8192 * (1 + random.below(3));
    let config = Config {
        storage: spec::Storage { size: segment * (5 + random.below(8)), segment },
        seed,
        ..Config::default()
    };
    let disk = Disk::new(seed ^ 0xd15c, omit);
    let now = Timestamp::from_micros(1_000_000_000);
    let mut history = History {
        random,
        disk,
        config,
        now,
        model: Model::default(),
        batch: 0,
        report: Report::default(),
        verbose,
    };
    history.run().map_err(|error| format!("seed {seed}: {error}"))?;
    Ok(history.report)
}

impl History {
    fn say(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            println!("{} {}", self.now, what());
        }
    }

    fn run(&mut self) -> Result<(), String> {
        for _ in 0..2 + self.random.below(4) {
            if self.random.chance(20) {
                // Trouble while opening, too.
                let fault = if self.random.chance(70) { Fault::Stop } else { Fault::Broken };
                self.disk.plan(self.random.below(30), fault);
            }
            let Some(mut life) = self.open()? else { continue };
            if self.random.chance(85) {
                let fault =
                    [Fault::Stop, Fault::Stop, Fault::Stop, Fault::Broken, Fault::NoSpace][self.pick(5)];
                self.disk.plan(self.random.below(200), fault);
            }
            for _ in 0..50 + self.random.below(250) {
                self.act(&mut life)?;
                if let Some(failure) = life.hub.failure() {
                    self.say(|| failure.to_string());
                    self.report.broken += u64::from(failure.to_string().contains("os error"));
                    break;
                }
            }
            self.go_down(life)?;
        }
        self.disk.make_room();
        let mut life = self.open()?.ok_or("the hub did not open without a fault")?;
        self.drain(&mut life)?;
        self.report.rolled += life.hub.stats().segments;
        self.go_down(life)?;
        self.model.drained(&SUBS)
    }

    fn pick(&mut self, bound: u64) -> usize {
        usize::try_from(self.random.below(bound)).unwrap()
    }

    /// Opens the hub. A planned fault may prevent it; nothing else may.
    fn open(&mut self) -> Result<Option<Life>, String> {
        self.model.crashed();
        let opened = Hub::open_stepped(self.disk.mount(), self.config.clone(), self.now);
        let (hub, recovery) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Io { doing, error }) if Self::disk_was_at_fault(&error) => {
                self.say(|| format!("no opening: {doing}: {error}"));
                self.crash();
                return Ok(None);
            }
            Err(error) => return Err(format!("lost: {error}")),
        };
        self.say(|| format!("opened: {recovery:?}"));
        self.report.cuts += u64::from(recovery.cut.is_some());
        let mut life = Life { hub, consumers: Vec::new(), publishing: Vec::new(), settling: Vec::new() };
        match life.hub.configure(self.now, &topics()) {
            Ok(_) | Err(Error::Failed(_) | Error::Busy { .. } | Error::StorageFull { .. }) => {}
            Err(error) => return Err(format!("configuring: {error}")),
        }
        self.step(&mut life)?;
        Ok(Some(life))
    }

    fn disk_was_at_fault(error: &std::io::Error) -> bool {
        error.raw_os_error().is_some() || error.to_string() == "the machine is gone"
    }

    fn crash(&mut self) {
        if self.random.chance(60) {
            self.report.power += 1;
            self.say(|| "power".to_owned());
            self.disk.crash(Crash::Power);
        } else {
            self.report.process += 1;
            self.say(|| "process".to_owned());
            self.disk.crash(Crash::Process);
        }
    }

    fn go_down(&mut self, mut life: Life) -> Result<(), String> {
        // What was answered before the end counts.
        self.answers(&mut life)?;
        for (receipt, messages) in life.publishing {
            drop(receipt);
            for message in messages {
                let sub = SUBS.iter().find(|sub| sub.0 == self.model.sent[message].topic).copied().unwrap();
                *self.model.droppable.entry(sub).or_default() += u64::from(sub.0 == "ring");
            }
        }
        life.consumers.clear();
        drop(life.hub);
        self.crash();
        Ok(())
    }

    fn act(&mut self, life: &mut Life) -> Result<(), String> {
        self.now = self.now.plus(Duration::from_millis(self.random.below(30)));
        match self.random.below(100) {
            0..30 => self.publish(life),
            30..33 => self.publish_again(life),
            33..36 => self.subscribe(life),
            36..37 => {
                if !life.consumers.is_empty() {
                    let at = self.pick(life.consumers.len() as u64);
                    self.unsubscribe(life, at);
                }
                Ok(())
            }
            37..52 => self.poll(life),
            52..72 => self.settle(life, false),
            72..88 => self.step(life),
            88..92 => {
                while life.hub.step_folder() {}
                Ok(())
            }
            92..98 => {
                life.hub.tick(self.now);
                Ok(())
            }
            98 => {
                self.disk.make_room();
                life.hub.step_idle();
                self.step(life)
            }
            _ => {
                self.now = self.now.plus(Duration::from_millis(self.random.below(3_000)));
                Ok(())
            }
        }
    }

    fn publish(&mut self, life: &mut Life) -> Result<(), String> {
        let count = if self.random.chance(80) { 1 } else { 2 + self.random.below(3) };
        self.batch += 1;
        let first = self.model.sent.len();
        for _ in 0..count {
            let topic = ["plain", "keyed", "ring", "keyed"][self.pick(4)];
            let key = (topic == "keyed" && self.random.chance(90)).then(|| self.random.below(4));
            let (batch, at) = (self.batch, self.now);
            self.model.sent.push(Sent { topic, key, batch, told: Told::Nothing, at });
        }
        self.send(life, (first..self.model.sent.len()).collect())
    }

    /// Sends messages that were sent before once more, as a publisher does that was told nothing.
    fn publish_again(&mut self, life: &mut Life) -> Result<(), String> {
        if self.model.sent.is_empty() {
            return Ok(());
        }
        let message = self.pick(self.model.sent.len() as u64);
        let batch = self.model.sent[message].batch;
        let fresh = self.now.since(self.model.sent[message].at) < Duration::from_secs(50);
        let again: Vec<_> =
            (0..self.model.sent.len()).filter(|other| self.model.sent[*other].batch == batch).collect();
        let waits = life.publishing.iter().any(|(_, messages)| messages.contains(&message));
        let refused = again.iter().any(|message| self.model.sent[*message].told == Told::Refused);
        if fresh && !refused && !waits { self.send(life, again) } else { Ok(()) }
    }

    fn send(&mut self, life: &mut Life, messages: Vec<usize>) -> Result<(), String> {
        let texts: Vec<_> = messages.iter().map(ToString::to_string).collect();
        let events: Vec<_> =
            texts.iter().map(|text| format!("{text:.<width$}", width = 20 + text.len() * 40)).collect();
        let keys: Vec<_> = messages
            .iter()
            .map(|message| self.model.sent[*message].key.map(|key| key.to_string()).unwrap_or_default())
            .collect();
        let batch: Vec<_> = (0..messages.len())
            .map(|at| Publish {
                namespace: "default",
                topic: self.model.sent[messages[at]].topic,
                source: "/default/g/w",
                id: &texts[at],
                key: &keys[at],
                event: events[at].as_bytes(),
            })
            .collect();
        match life.hub.publish(self.now, &batch) {
            Ok(receipt) => {
                self.say(|| format!("publish {messages:?}"));
                life.publishing.push((receipt, messages));
            }
            Err(Error::Failed(_)) => {}
            // A batch with the dead letters of what it drops must fit a record.
            Err(
                error @ (Error::Full { .. }
                | Error::Busy { .. }
                | Error::StorageFull { .. }
                | Error::TooLarge { .. }),
            ) => {
                self.say(|| format!("refused {messages:?}: {error}"));
                self.report.full += u64::from(matches!(error, Error::StorageFull { .. }));
                for message in messages {
                    // One that was sent before may be stored already.
                    if self.model.sent[message].at == self.now && self.model.sequence(message).is_none() {
                        self.model.sent[message].told = Told::Refused;
                    }
                }
            }
            Err(error) => return Err(format!("publishing: {error}")),
        }
        Ok(())
    }

    fn subscribe(&mut self, life: &mut Life) -> Result<(), String> {
        let sub = SUBS[self.pick(SUBS.len() as u64)];
        let who = Who { instance: format!("default/g/{}/0", sub.1), incarnation: 1 };
        match life.hub.subscribe("default", sub.0, sub.1, who, 1 + self.random.below(6), Arc::new(|| ())) {
            Ok(consumer) => life.consumers.push((sub, consumer, Vec::new())),
            // The topics were refused, or have gone with a torn tail.
            Err(Error::Failed(_) | Error::UnknownTopic { .. } | Error::UnknownSubscription { .. }) => {
                drop(life.hub.configure(self.now, &topics()));
            }
            Err(error) => return Err(format!("subscribing: {error}")),
        }
        Ok(())
    }

    fn unsubscribe(&mut self, life: &mut Life, at: usize) {
        let (sub, consumer, held) = life.consumers.swap_remove(at);
        drop(consumer);
        for Held { place, .. } in held {
            self.model.flight(sub, place, None);
        }
    }

    fn poll(&mut self, life: &mut Life) -> Result<(), String> {
        if life.consumers.is_empty() {
            return self.subscribe(life);
        }
        let at = self.pick(life.consumers.len() as u64);
        let max = 1 + self.pick(8);
        let (sub, consumer, held) = &mut life.consumers[at];
        if self.random.chance(50) {
            consumer.credit(self.random.below(5));
        }
        let deliveries = match consumer.poll(self.now, max) {
            Ok(deliveries) => deliveries,
            Err(Error::Failed(_)) => return Ok(()),
            Err(error) => return Err(format!("polling: {error}")),
        };
        for delivery in deliveries {
            self.report.delivered += 1;
            self.report.dead += u64::from(sub.0 == "dead");
            let lease = self.now.plus(LEASE);
            let place = self.model.delivered(*sub, &delivery, self.now, lease)?;
            if self.verbose {
                println!("{} {sub:?} got {place} as {}", self.now, delivery.sequence);
            }
            held.push(Held { sub: *sub, place, delivery: delivery.delivery });
        }
        Ok(())
    }

    fn settle(&mut self, life: &mut Life, always_ack: bool) -> Result<(), String> {
        let holding: Vec<_> =
            (0..life.consumers.len()).filter(|at| !life.consumers[*at].2.is_empty()).collect();
        if holding.is_empty() {
            return Ok(());
        }
        let at = holding[self.pick(holding.len() as u64)];
        let (_, consumer, held) = &mut life.consumers[at];
        let which = usize::try_from(self.random.below(held.len() as u64)).unwrap();
        let Held { sub, place, delivery } = held.swap_remove(which);
        let now = self.now;
        let choice = if always_ack { 0 } else { self.random.below(100) };
        let (receipt, given_up) = match choice {
            0..70 => (consumer.ack(now, delivery), false),
            70..76 => (consumer.term(now, delivery, "no use"), true),
            76..94 => {
                let delay = self.random.chance(50).then(|| Duration::from_millis(self.random.below(300)));
                let nak = Nak { delay, counts: self.random.chance(70), reason: "not now" };
                match consumer.nak(now, delivery, &nak) {
                    Ok(receipt) => {
                        drop(receipt);
                        self.model.flight(sub, place, None);
                    }
                    Err(error) => self.accept(&error)?,
                }
                return Ok(());
            }
            _ => {
                match consumer.progress(now, delivery) {
                    Ok(()) => {
                        self.model.flight(sub, place, Some(now.plus(LEASE)));
                        held.push(Held { sub, place, delivery });
                    }
                    Err(error) => self.accept(&error)?,
                }
                return Ok(());
            }
        };
        match receipt {
            Ok(receipt) => {
                self.say(|| format!("settling {place} of {sub:?}, given up: {given_up}"));
                self.model.settling(sub, place);
                life.settling.push(Settling { receipt, sub, place, given_up });
            }
            Err(error) => self.accept(&error)?,
        }
        Ok(())
    }

    fn accept(&self, error: &Error) -> Result<(), String> {
        self.say(|| format!("settling: {error}"));
        match error {
            Error::Failed(_)
            | Error::UnknownDelivery { .. }
            | Error::Busy { .. }
            | Error::StorageFull { .. } => Ok(()),
            other => Err(format!("settling: {other}")),
        }
    }

    fn step(&mut self, life: &mut Life) -> Result<(), String> {
        life.hub.step();
        self.answers(life)
    }
}
