//! A node is lost, and no node is lost.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    busy::Busy,
    row::{Row, times},
    seen::Seen,
};
use crate::{
    Error, Result,
    clock::now,
    lab::{
        Lab,
        kontrol::{self, name_of, object, on, test_widget, wrapped_widget},
        operator::{leader, operators},
        web::{address, get},
    },
};

/// The operator's port for people and Prometheus.
const ADMIN: u16 = 7401;
/// The pause between two looks for false alarms.
const LOOK: Duration = Duration::from_secs(1);

/// Replicas keep apart where they can.
fn spread() -> Value {
    json!({"topologySpread": [{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
    }]})
}

/// Deletes operators until one stands on each node, and the one that leads on `node`, or on the other one where `there` is false.
async fn lead(lab: &Lab, node: &str, there: bool) -> Result<()> {
    let pods = Api::<Pod>::namespaced(lab.client().clone(), kontrol::SYSTEM);
    for _ in 0..8 {
        lab.until_operators().await?;
        let leader = lab.leader().await?;
        let all = operators(lab.client()).await?;
        let beside = all.iter().find(|pod| {
            name_of(pod) != name_of(&leader) && kontrol::node_of(pod) == kontrol::node_of(&leader)
        });
        if beside.is_none() && (kontrol::node_of(&leader) == node) == there {
            return Ok(());
        }
        let goes = name_of(beside.unwrap_or(&leader));
        pods.delete(&goes, &DeleteParams::default()).await?;
        let what = format!("{goes} to be gone");
        lab.wait(&what, async || Ok(pods.get_opt(&goes).await?.map_or(Ok(()), |pod| Err(name_of(&pod)))))
            .await?;
    }
    Err(Error::Invalid(format!(
        "operators would not stand on both nodes with the lead beside {node}: {there}"
    )))
}

/// From a node's end to the replacement's creation and to its Ready on the other node: where the leader is elsewhere, and where it goes with the node.
pub(super) async fn loss(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    let (created, ready) = lose(lab, n, false).await?;
    let (with_leader_created, with_leader_ready) = lose(lab, n, true).await?;
    Ok(times([
        ("k8s.node_loss: power gone → replacement created", created),
        ("the same → replacement Ready", ready),
        ("k8s.node_loss, the leader with it: power gone → replacement created", with_leader_created),
        ("the same → replacement Ready", with_leader_ready),
    ]))
}

/// Takes the power from node1 so often; the leader is there or not.
async fn lose(lab: &Lab, n: usize, leading: bool) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let seen = Seen::watch(lab);
    let (mut created, mut ready) = (Vec::new(), Vec::new());
    for round in 0..n {
        lead(lab, "node1", leading).await?;
        let name = format!("pair{round}-{}", u8::from(leading));
        let spec = json!({"container": test_widget(&[]), "replicas": 2, "placement": spread(), "shutdown": {"grace": "1s"}});
        lab.apply(&object("Widget", &name, &spec))?;
        let pods = lab.until_pods(&name, &name, 2).await?;
        let lost = pods.iter().find(|pod| kontrol::node_of(pod) == "node1");
        let lost = lost.ok_or_else(|| Error::Invalid("no replica stands on node1".to_owned()))?;
        let ended = now();
        lab.cluster().node_kill("node1")?;
        let next = format!("{name}-{}-2", kontrol::number(lost, "ordinal"));
        let measured = async {
            created.push(seen.until(&next, |pod| pod.created).await? - ended);
            ready.push(seen.until(&next, |pod| pod.ready).await? - ended);
            Ok(())
        };
        let measured: Result<()> = measured.await;
        lab.cluster().node_restart("node1")?;
        lab.cluster().wait_for_node("node1", true, Duration::from_mins(2))?;
        let well = until_well(lab).await;
        measured?;
        well?;
        lab.until_pods(&name, &name, 2).await?;
        lab.objects("Widget").delete(&name, &DeleteParams::background()).await?;
        lab.until_operators().await?;
    }
    Ok((created, ready))
}

/// Waits until the leader keeps away from no node: one that has just come back is avoided until it gives a sign of life.
async fn until_well(lab: &Lab) -> Result<()> {
    lab.wait("every node to be well in the leader's eyes", async || {
        let word = Word::hear(lab).await;
        Ok(if word.as_ref().is_some_and(|word| word.suspect + word.lost == 0) { Ok(()) } else { Err(word) })
    })
    .await
}

/// What stands still where nothing is wrong: pods by name, with the restarts of their containers, and what objects count.
#[derive(Debug, Default)]
struct Standing {
    /// Restarts of all containers of each pod that was ever there.
    pods: BTreeMap<String, i32>,
    /// Restarts that the status of widgets counts, and epochs of groups.
    counted: u64,
}

impl Standing {
    async fn look(&mut self, lab: &Lab) -> Result<()> {
        for pod in lab.api::<Pod>().list(&ListParams::default()).await? {
            let status = pod.status.clone().unwrap_or_default();
            let all = status.container_statuses.into_iter().chain(status.init_container_statuses).flatten();
            let restarts = all.map(|container| container.restart_count).sum();
            self.pods.insert(name_of(&pod), restarts);
        }
        Ok(())
    }

    async fn count(&mut self, lab: &Lab) -> Result<()> {
        self.counted = 0;
        for (kind, field) in [("Widget", "restarts"), ("WidgetGroup", "epoch")] {
            for object in lab.objects(kind).list(&ListParams::default()).await? {
                self.counted += object.data["status"][field].as_u64().unwrap_or_default();
            }
        }
        Ok(())
    }

    fn restarts(&self) -> i64 {
        self.pods.values().copied().map(i64::from).sum()
    }
}

/// What the leader says of nodes and of its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Word {
    leader: String,
    suspect: u64,
    lost: u64,
}

impl Word {
    fn parse(leader: String, text: &str) -> Self {
        let nodes = |health: &str| {
            let name = format!("kontrol_operator_nodes{{health=\"{health}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
            value.unwrap_or_default()
        };
        Self { suspect: nodes("Suspect"), lost: nodes("Lost"), leader }
    }

    /// What the leader says, or nothing where none can be asked.
    async fn hear(lab: &Lab) -> Option<Self> {
        let pod = leader(lab.client()).await.ok()??;
        let text = get(&address(&pod, ADMIN), "/metrics").await.ok()?;
        Some(Self::parse(name_of(&pod), &text))
    }
}

/// How often something was called wrong, by what was said before and now.
#[derive(Debug, Default)]
struct Alarms {
    suspected: u64,
    lost: u64,
    handed_over: u64,
}

impl Alarms {
    fn add(&mut self, before: &Word, now: &Word) {
        self.suspected += now.suspect.saturating_sub(before.suspect);
        self.lost += now.lost.saturating_sub(before.lost);
        self.handed_over += u64::from(before.leader != now.leader);
    }
}

/// Widgets of each kind of supervision over both nodes, with a hub; gives how many pods they are.
async fn stand(lab: &Lab) -> Result<usize> {
    let group = |strategy: &str| {
        let widgets: Vec<Value> = ["a", "b", "c", "d"]
            .iter()
            .zip(["node0", "node1"].iter().cycle())
            .map(|(name, node)| json!({"name": name, "container": test_widget(&[]), "placement": on(node)}))
            .collect();
        json!({"strategy": strategy, "widgets": widgets})
    };
    lab.apply(&object("Topic", "work", &json!({})))?;
    lab.apply(&object("WidgetGroup", "all", &group("OneForAll")))?;
    lab.apply(&object("WidgetGroup", "rest", &group("RestForOne")))?;
    let many = json!({"container": test_widget(&[]), "replicas": 4, "placement": spread(), "health": {"report": {}},
                      "produces": [{"topic": "work"}]});
    lab.apply(&object("Widget", "many", &many))?;
    let inner = json!({"container": wrapped_widget(&[]), "replicas": 2, "placement": spread(), "health": {"report": {}}});
    lab.apply(&object("Widget", "inner", &inner))?;
    for group in ["all", "rest"] {
        lab.until_ready("WidgetGroup", group).await?;
    }
    lab.until_pods("many", "many", 4).await?;
    lab.until_pods("inner", "inner", 2).await?;
    let what = "the hub to be ready";
    lab.wait(what, async || {
        let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items;
        let ready = pods.iter().filter(|pod| crate::lab::is_ready(pod)).count();
        // The hub's pod beside fourteen of widgets.
        Ok(if ready == pods.len() && ready > 14 { Ok(ready) } else { Err((ready, pods.len())) })
    })
    .await
}

/// Nothing breaks for so many minutes, on a machine that `busy` threads keep busy: how often Kontrol acted as if something had.
pub(super) async fn false_alarms(
    lab: &Lab,
    minutes: u64,
    busy: usize,
    say: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    lab.until_operators().await?;
    let pods = stand(lab).await?;
    let (mut standing, mut before) = (Standing::default(), Standing::default());
    before.look(lab).await?;
    before.count(lab).await?;
    let (mut word, mut alarms, mut unheard) = (None, Alarms::default(), 0);
    let begun = now();
    let busy = Busy::begin(busy);
    let mut told = 0;
    while begun.elapsed() < Duration::from_mins(minutes) {
        sleep(LOOK).await;
        // A look that fails on so busy a machine is no alarm: what it would have seen stays to be seen.
        unheard += u64::from(standing.look(lab).await.is_err());
        match Word::hear(lab).await {
            Some(now) => alarms.add(&word.replace(now.clone()).unwrap_or_else(|| now.clone()), &now),
            None => unheard += 1,
        }
        if begun.elapsed() > Duration::from_mins(told + 1) {
            told += 1;
            say(&format!(
                "{told} of {minutes} minutes, {pods} pods, load {:.1}: {alarms:?}, {unheard} looks in vain",
                busy.load()
            ));
        }
    }
    let load = busy.end();
    lab.until_operators().await?;
    standing.look(lab).await?;
    standing.count(lab).await?;
    let new: Vec<_> = standing.pods.keys().filter(|name| !before.pods.contains_key(*name)).collect();
    let now_there = operators(lab.client()).await?.len();
    say(&format!("load {load:.1} on average, {now_there} operators; pods that came: {new:?}"));
    let restarts = u64::try_from(standing.restarts() - before.restarts()).unwrap_or_default();
    let counted = standing.counted.saturating_sub(before.counted);
    let minutes = usize::try_from(minutes).unwrap_or(usize::MAX);
    let replaced = u64::try_from(new.len()).unwrap_or(u64::MAX);
    Ok([
        (
            format!("k8s.node_loss: false alarms in so many minutes ({pods} pods, load {load:.0})"),
            replaced + alarms.lost + counted,
        ),
        ("pods that were replaced".to_owned(), replaced),
        ("nodes that were given up".to_owned(), alarms.lost),
        ("restarts and epochs that status counts".to_owned(), counted),
        ("containers that the kubelet started again".to_owned(), restarts),
        ("no alarm: nodes that were suspect and recovered".to_owned(), alarms.suspected),
        ("no alarm: leaders that handed over".to_owned(), alarms.handed_over),
    ]
    .into_iter()
    .map(|(name, count)| Row::count(&name, minutes, count))
    .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_counts_once_for_as_long_as_it_stands() {
        let word = |leader: &str, suspect, lost| Word { leader: leader.to_owned(), suspect, lost };
        let said = [
            word("a", 0, 0),
            word("a", 1, 0),
            word("a", 1, 0),
            word("a", 0, 1),
            word("b", 0, 1),
            word("b", 0, 0),
        ];
        let mut alarms = Alarms::default();
        for two in said.windows(2) {
            alarms.add(&two[0], &two[1]);
        }
        assert_eq!((alarms.suspected, alarms.lost, alarms.handed_over), (1, 1, 1));
    }

    #[test]
    fn the_leaders_page_tells_of_nodes() {
        let text =
            "kontrol_operator_nodes{health=\"Healthy\"} 1\nkontrol_operator_nodes{health=\"Lost\"} 1\n";
        assert_eq!(Word::parse("a".to_owned(), text), Word { leader: "a".to_owned(), suspect: 0, lost: 1 });
    }
}
