//! What is acknowledged survives: a process is killed again and again while a publisher and a consumer work.
//!
//! The publisher and the consumer are this program, at the doors of two widgets. Every event has a known id, and one that is not
//! acknowledged is published again under the same id. The consumer has some events in hand at all times, and asks for a confirmation
//! of each acknowledgement. Allowed is any number of deliveries until one is confirmed; not allowed are: an event that was acknowledged
//! and never delivered (lost), a delivery after a confirmed acknowledgement, and one event under two places in the log.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use kontrol_proto::v1::{
    PublishStreamRequest, SubscribeRequest,
    publish_stream_response::Outcome,
    subscribe_request::{Ack, Action, Credit, Open},
    subscribe_response,
    topics_client::TopicsClient,
};
use tokio::{sync::mpsc, task::LocalSet};
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::Channel;

use super::{door::publish_request, quiet::Busy, results::Row, stats::Samples};
use crate::world::{self, Manifest, Signal, World, until};

const KILLS: usize = 100;
const IN_FLIGHT: usize = 64;
const CREDITS: u32 = 256;
/// Events that the consumer has in hand before it acknowledges the first of them: there is always one for a kill to take back.
const HELD: usize = 8;
/// The pause after something was refused because the hub was away.
const PAUSE: Duration = Duration::from_millis(5);

/// What publishers and consumer have seen.
#[derive(Debug, Default)]
struct Ledger {
    /// Events that the hub acknowledged.
    acknowledged: HashSet<u64>,
    /// Where each delivered event is in the log.
    delivered: HashMap<u64, u64>,
    /// Events whose acknowledgement is confirmed.
    confirmed: HashSet<u64>,
    deliveries: u64,
    after_confirmation: u64,
    stored_twice: u64,
    stop: bool,
}

impl Ledger {
    fn lost(&self) -> usize {
        self.acknowledged.iter().filter(|id| !self.delivered.contains_key(id)).count()
    }
}

type Shared = Rc<RefCell<Ledger>>;

fn manifest() -> anyhow::Result<Manifest> {
    let consumes = format!("consumes: [{{topic: load, maxInFlight: {CREDITS}}}]");
    let group = Manifest::group("bench", &[])
        .widget("publisher", &["--reports=once"], &["produces: [{topic: load}]"])?
        .widget("consumer", &["--reports=once"], &[&consumes])?;
    Ok(group.topic("load", &["dedupWindow: 10m", "retry: {limit: 1000}"]))
}

/// Publishes until it is told to stop, and then until everything is acknowledged.
async fn publish(channel: Channel, ledger: Shared) -> anyhow::Result<()> {
    let mut client = TopicsClient::new(channel);
    let mut next = 0_u64;
    let mut open: HashSet<u64> = HashSet::new();
    loop {
        let (requests, outgoing) = mpsc::channel(IN_FLIGHT);
        // Its own sidecar may be the one that was killed.
        let Ok(answers) = client.publish_stream(ReceiverStream::new(outgoing)).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut answers = answers.into_inner();
        let mut waiting: VecDeque<u64> = open.iter().copied().collect();
        loop {
            while !ledger.borrow().stop && open.len() < IN_FLIGHT {
                open.insert(next);
                waiting.push_back(next);
                next += 1;
            }
            if open.is_empty() {
                return Ok(());
            }
            for tag in waiting.drain(..) {
                let publish = Some(publish_request(tag.to_string()));
                // A stream that has ended says so below.
                drop(requests.send(PublishStreamRequest { tag, publish }).await);
            }
            match answers.message().await {
                Ok(Some(answer)) => {
                    if let Some(Outcome::Published(_)) = answer.outcome {
                        open.remove(&answer.tag);
                        ledger.borrow_mut().acknowledged.insert(answer.tag);
                    } else {
                        tokio::time::sleep(PAUSE).await;
                        waiting.push_back(answer.tag);
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Consumes until it is stopped. A confirmation that a kill swallowed is never said again: what was acknowledged does not come back.
async fn consume(channel: Channel, ledger: Shared) -> anyhow::Result<()> {
    let mut client = TopicsClient::new(channel);
    loop {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let say = |action| {
            // A stream that has ended says so below.
            drop(requests.send(SubscribeRequest { action: Some(action) }));
        };
        say(Action::Open(Open { topic: "load".into(), subscription: String::new(), credits: CREDITS }));
        let mut in_hand: HashMap<u64, u64> = HashMap::new();
        let mut held: VecDeque<u64> = VecDeque::new();
        let Ok(events) = client.subscribe(UnboundedReceiverStream::new(outgoing)).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let mut events = events.into_inner();
        while let Ok(Some(response)) = events.message().await {
            match response.event {
                Some(subscribe_response::Event::Delivery(delivery)) => {
                    let id: u64 = delivery.event.context("a delivery without an event")?.id.parse()?;
                    let mut ledger = ledger.borrow_mut();
                    ledger.deliveries += 1;
                    if ledger.confirmed.contains(&id) {
                        ledger.after_confirmation += 1;
                    }
                    if *ledger.delivered.entry(id).or_insert(delivery.sequence) != delivery.sequence {
                        ledger.stored_twice += 1;
                    }
                    in_hand.insert(delivery.delivery, id);
                    held.push_back(delivery.delivery);
                    if held.len() > HELD
                        && let Some(delivery) = held.pop_front()
                    {
                        say(Action::Ack(Ack { delivery, confirm: true }));
                    }
                    say(Action::Credit(Credit { messages: 1 }));
                }
                Some(subscribe_response::Event::Settled(settled)) => {
                    if let Some(id) = in_hand.remove(&settled.delivery) {
                        ledger.borrow_mut().confirmed.insert(id);
                    }
                }
                Some(subscribe_response::Event::Opened(_) | subscribe_response::Event::Refused(_)) | None => {
                }
            }
        }
    }
}

/// Kills this process `kills` times, each time after some more events were acknowledged; from each kill to further acknowledgements.
async fn kill(world: &World, name: &str, kills: usize, ledger: &Shared) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    let mut victim = world.process(name, None).await?;
    // A small generator of numbers, the same each time: how many acknowledgements to wait for.
    let mut draw = 0x2545_f491_u64;
    for _ in 0..kills {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let some = 1 + usize::try_from(draw >> 33)? % 1_000;
        acknowledged(ledger, some).await?;
        world::signal(victim, Signal::KILL)?;
        let killed = Instant::now();
        victim = world.process(name, Some(victim)).await?;
        acknowledged(ledger, 2 * IN_FLIGHT).await?;
        samples.push(killed.elapsed());
    }
    Ok(samples)
}

/// Waits until `more` events are acknowledged.
async fn acknowledged(ledger: &Shared, more: usize) -> anyhow::Result<()> {
    let before = ledger.borrow().acknowledged.len();
    until("events are acknowledged", async || {
        Ok((ledger.borrow().acknowledged.len() >= before + more).then_some(()))
    })
    .await
}

/// What came of killing a process under load.
#[derive(Clone, Debug, Default)]
pub struct Survived {
    /// Events that were acknowledged.
    pub acknowledged: usize,
    /// Of these, the ones that were never delivered.
    pub lost: usize,
    /// Deliveries after a confirmed acknowledgement, and events that were stored twice.
    pub beyond: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Deliveries of what had been delivered before, and whose acknowledgement was not confirmed.
    pub repeated: u64,
    back: Samples,
}

/// Publishes to a consumer while the process of this name is killed so many times: `hub`, `bench/publisher-0 sidecar` or
/// `bench/consumer-0 sidecar`.
pub async fn survive(name: &str, kills: usize) -> anyhow::Result<Survived> {
    LocalSet::new().run_until(under_load(name, kills)).await
}

async fn under_load(name: &str, kills: usize) -> anyhow::Result<Survived> {
    let ledger = Shared::default();
    let world = World::up(&manifest()?).await?;
    let publisher = publish(world.door("bench", "publisher").await?, Rc::clone(&ledger));
    let publisher = tokio::task::spawn_local(publisher);
    let consumer = consume(world.door("bench", "consumer").await?, Rc::clone(&ledger));
    let consumer = tokio::task::spawn_local(consumer);
    let back = kill(&world, name, kills, &ledger).await;
    let ended = publisher.is_finished() || consumer.is_finished();
    ledger.borrow_mut().stop = true;
    if ended {
        consumer.abort();
        publisher.await??;
        consumer.await??;
        anyhow::bail!("a client ended before its time");
    }
    let back = back.with_context(|| format!("kontrol up wrote:\n{}", world.output()))?;
    publisher.await??;
    // What is missing for good is counted below.
    let all = async || Ok((ledger.borrow().lost() == 0).then_some(()));
    drop(until("everything is delivered", all).await);
    consumer.abort();
    let ledger = ledger.borrow();
    ensure!(!ledger.acknowledged.is_empty(), "nothing was acknowledged");
    Ok(Survived {
        acknowledged: ledger.acknowledged.len(),
        lost: ledger.lost(),
        beyond: ledger.after_confirmation + ledger.stored_twice,
        deliveries: ledger.deliveries,
        repeated: ledger.deliveries - ledger.delivered.len() as u64,
        back,
    })
}

/// `hub.crash`.
pub(super) fn crash() -> anyhow::Result<Vec<Row>> {
    let busy = Busy::begin()?;
    let survived = super::runtime()?.block_on(survive("hub", KILLS))?;
    let Survived { acknowledged, lost, beyond, deliveries, repeated, back } = survived;
    let mut violations = Samples::default();
    violations.push_value(lost as f64 + beyond as f64);
    let note = format!(
        "{KILLS} times kill -9 under load: of {acknowledged} acknowledged events {lost} were lost and {beyond} delivered beyond the contract; \
         {deliveries} deliveries, {repeated} of them repeated before their acknowledgement was confirmed; kill → {} further acknowledgements p50 {:.0} ms, max {:.0} ms; {}",
        2 * IN_FLIGHT,
        back.percentile(50.0),
        back.percentile(100.0),
        busy.end()?,
    );
    let row = Row { n: KILLS, ..violations.row("hub.crash", "count", note) };
    Ok(vec![row])
}
