//! What must hold, whatever happens: kept beside the hub from what its callers were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kontrol_core::time::Timestamp;
use kontrol_hub::{Delivery, dead_letter};

/// What a publisher knows of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was refused: it is not stored.
    Refused,
    /// The hub went down before it answered: it may be stored.
    Nothing,
    /// It is durable, with this sequence.
    Stored(u64),
}

/// A message that was published.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) topic: &'static str,
    pub(crate) key: Option<u64>,
    pub(crate) batch: usize,
    pub(crate) told: Told,
    pub(crate) at: Timestamp,
}

/// What is known of a message in a subscription.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// A settlement was confirmed, or promised within this life of the hub.
    settled: bool,
    /// A settlement was asked for, by the consumer or by the last attempt's end, and nobody was told that it is durable.
    maybe: bool,
    /// In flight in this life, until then.
    flight: Option<Timestamp>,
    delivered: bool,
}

/// A subscription, as the model names it.
pub(crate) type Sub = (&'static str, &'static str);

/// What must hold.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) sent: Vec<Sent>,
    /// The sequence of a message of which something is known.
    known: HashMap<usize, u64>,
    seen: BTreeMap<Sub, BTreeMap<usize, Seen>>,
    /// Dead letters by the subscription and the sequence they come from, with their own sequence.
    letters: BTreeMap<(String, String, u64), u64>,
    /// Messages given up for certain.
    given_up: BTreeSet<(Sub, usize)>,
    /// Messages that some publisher was told were dropped, or that a publisher who was told nothing may have dropped.
    pub(crate) droppable: HashMap<Sub, u64>,
}

impl Model {
    /// A publisher was told that its message is durable.
    pub(crate) fn stored(&mut self, message: usize, sequence: u64) -> Result<(), String> {
        self.sent[message].told = Told::Stored(sequence);
        self.know(message, sequence)
    }

    fn know(&mut self, message: usize, sequence: u64) -> Result<(), String> {
        match self.known.insert(message, sequence) {
            Some(first) if first != sequence => {
                Err(format!("message {message} was stored twice: as {first} and as {sequence}"))
            }
            _ => Ok(()),
        }
    }

    /// The sequence of a message that is certainly stored.
    pub(crate) fn sequence(&self, message: usize) -> Option<u64> {
        self.known.get(&message).copied()
    }

    /// A consumer got a message.
    pub(crate) fn delivered(
        &mut self,
        sub: Sub,
        delivery: &Delivery,
        now: Timestamp,
        lease: Timestamp,
    ) -> Result<usize, String> {
        let text = std::str::from_utf8(&delivery.event).map_err(|_| "an event is not what was published")?;
        let number = text.trim_end_matches('.').parse::<usize>();
        let message =
            number.ok().filter(|number| *number < self.sent.len()).ok_or("an event nobody published")?;
        let sequence = delivery.sequence;
        if delivery.attempt > delivery.max_attempts || delivery.attempt == 0 {
            return Err(format!("message {message} is tried for the {}th time", delivery.attempt));
        }
        if sub.0 == "dead" {
            self.dead_letter(sub, delivery, message)?;
        } else {
            let sent = &self.sent[message];
            if sent.topic != sub.0 {
                return Err(format!("message {message} of {} came out of {}", sent.topic, sub.0));
            }
            if sent.told == Told::Refused {
                return Err(format!("message {message} was refused and yet delivered"));
            }
            self.know(message, sequence)?;
            self.in_order(sub, message, sequence)?;
        }
        let place = if sub.0 == "dead" { usize::try_from(sequence).unwrap_or(0) } else { message };
        let seen = self.seen.entry(sub).or_default().entry(place).or_default();
        if seen.settled {
            return Err(format!(
                "message {message} (sequence {sequence}) came again in {sub:?} after it was settled"
            ));
        }
        if seen.flight.is_some_and(|until| now < until) {
            return Err(format!("message {message} came again in {sub:?} while it was in flight"));
        }
        // After the last attempt, the hub may give it up by itself.
        let maybe = seen.maybe || delivery.attempt == delivery.max_attempts;
        *seen = Seen { flight: Some(lease), delivered: true, maybe, ..*seen };
        Ok(place)
    }

    fn dead_letter(&mut self, sub: Sub, delivery: &Delivery, message: usize) -> Result<(), String> {
        let get = |name: &str| {
            let found = delivery.extensions.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).ok_or(format!("a dead letter without {name}"))
        };
        let _ = sub;
        let from: u64 = get(dead_letter::SEQUENCE)?.parse().map_err(|_| "a dead letter without a number")?;
        get(dead_letter::REASON)?;
        let origin = (get(dead_letter::TOPIC)?, get(dead_letter::SUBSCRIPTION)?, from);
        if let Some(other) = self.letters.insert(origin.clone(), delivery.sequence)
            && other != delivery.sequence
        {
            return Err(format!("message {message} has two dead letters of {origin:?}"));
        }
        // The letter and the settlement are one write: where one is, the other is.
        let sub = self.seen.keys().copied().find(|sub| {
            format!("default/{}", sub.0) == origin.0 && sub.1 == origin.1 && sub.0 == self.sent[message].topic
        });
        if let Some(sub) = sub {
            self.seen.entry(sub).or_default().entry(message).or_default().settled = true;
        }
        Ok(())
    }

    /// No earlier message of the key that is certainly stored may be open.
    fn in_order(&self, sub: Sub, message: usize, sequence: u64) -> Result<(), String> {
        let Some(key) = self.sent[message].key else { return Ok(()) };
        let seen = self.seen.get(&sub);
        for (other, earlier) in &self.known {
            let sent = &self.sent[*other];
            if sent.topic != sub.0 || sent.key != Some(key) || *earlier >= sequence {
                continue;
            }
            let state = seen.and_then(|seen| seen.get(other)).copied().unwrap_or_default();
            if !state.settled && !state.maybe {
                return Err(format!(
                    "message {message} (sequence {sequence}) of key {key} came before message {other} (sequence {earlier}) was settled"
                ));
            }
        }
        Ok(())
    }

    fn place(&mut self, sub: Sub, place: usize) -> &mut Seen {
        self.seen.entry(sub).or_default().entry(place).or_default()
    }

    /// A settlement was accepted: within this life of the hub, the message does not come again.
    pub(crate) fn settling(&mut self, sub: Sub, place: usize) {
        let seen = self.place(sub, place);
        seen.flight = Some(Timestamp::from_micros(u64::MAX));
        seen.maybe = true;
    }

    /// A settlement is durable.
    pub(crate) fn settled(&mut self, sub: Sub, place: usize, given_up: bool) {
        self.place(sub, place).settled = true;
        if given_up {
            self.given_up.insert((sub, place));
        }
    }

    /// A message was given back, or its lease was extended: it may come again from then on.
    pub(crate) fn flight(&mut self, sub: Sub, place: usize, until: Option<Timestamp>) {
        self.place(sub, place).flight = until;
    }

    /// The hub went down: what it only promised is open again.
    pub(crate) fn crashed(&mut self) {
        for seen in self.seen.values_mut().flat_map(BTreeMap::values_mut) {
            seen.flight = None;
        }
    }

    /// Everything was drained: whatever was promised must have come out.
    pub(crate) fn drained(&self, subs: &[Sub]) -> Result<(), String> {
        for sub in subs.iter().filter(|sub| sub.0 != "dead") {
            let mut missing = 0;
            for (message, sent) in self.sent.iter().enumerate() {
                let Told::Stored(sequence) = sent.told else { continue };
                let delivered =
                    self.seen.get(sub).and_then(|seen| seen.get(&message)).is_some_and(|seen| seen.delivered);
                if sent.topic != sub.0 || delivered {
                    continue;
                }
                missing += 1;
                if missing > self.droppable.get(sub).copied().unwrap_or(0) {
                    return Err(format!("message {message} (sequence {sequence}) of {sub:?} is lost"));
                }
            }
        }
        for (sub, message) in &self.given_up {
            let Some(sequence) = self.known.get(message) else { continue };
            let origin = (format!("default/{}", sub.0), sub.1.to_owned(), *sequence);
            let has_letters = sub.0 == "keyed" || sub.0 == "ring";
            if has_letters && !self.letters.contains_key(&origin) {
                return Err(format!("message {message} was given up in {sub:?} and its dead letter is lost"));
            }
        }
        self.whole_batches()
    }

    fn whole_batches(&self) -> Result<(), String> {
        let mut batches: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for (message, sent) in self.sent.iter().enumerate() {
            // Of a topic that drops, nothing can be told from what is missing.
            if sent.topic == "ring" {
                continue;
            }
            let (known, all) = batches.entry(sent.batch).or_default();
            *known += u64::from(self.known.contains_key(&message));
            *all += 1;
        }
        match batches.iter().find(|(_, (known, all))| *known != 0 && known != all) {
            Some((batch, (known, all))) => {
                Err(format!("of batch {batch}, {known} of {all} messages are stored"))
            }
            None => Ok(()),
        }
    }
}
