//! The operator ends: alone, and in the middle of a group's restart.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use super::{
    pods::plain,
    row::{Row, times},
    seen::Seen,
};
use crate::{
    Error, Result,
    clock::now,
    lab::{
        Lab,
        kontrol::{label, name_of, number, object, on, test_widget},
    },
};

/// From the leader's end to the next one's first action: the pod that was deleted just before comes again.
pub(super) async fn failover(lab: &Lab, n: usize) -> Result<Vec<Row>> {
    let seen = Seen::watch(lab);
    let mut taken = Vec::new();
    lab.apply(&plain("hello"))?;
    for _ in 0..n {
        lab.until_operators().await?;
        let pod = lab.until_pods("hello", "hello", 1).await?.remove(0);
        let ended = now();
        lab.kill_leader().await?;
        lab.api::<Pod>().delete(&name_of(&pod), &DeleteParams::default()).await?;
        let next = format!("hello-0-{}", number(&pod, "incarnation") + 1);
        taken.push(seen.until(&next, |pod| pod.created).await? - ended);
        seen.until(&next, |pod| pod.ready).await?;
    }
    Ok(times([("k8s.failover: leader killed → next action", taken)]))
}

/// The widgets of the group and the incarnations that they are in.
type Incarnations = BTreeSet<(String, u64)>;

async fn incarnations(lab: &Lab) -> Result<Incarnations> {
    let pods = lab.api::<Pod>().list(&ListParams::default()).await?.items;
    let alive = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(alive.map(|pod| (label(pod, "widget"), number(pod, "incarnation"))).collect())
}

fn epoch(group: &Value) -> u64 {
    group["status"]["epoch"].as_u64().unwrap_or_default()
}

fn is_ready(group: &Value) -> bool {
    let all = group["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().any(|known| known["type"] == "Ready" && known["status"] == "True")
}

/// `n` faults of a group of ten over two nodes; in every other one the operator is killed. After each, what was restarted is compared with what one
/// restart of each is, and again when the next one begins, so that a late second restart counts too.
pub(super) async fn one_for_all(lab: &Lab, n: usize, say: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
    let widgets: Vec<Value> = (0..10)
        .map(|number| {
            json!({"name": format!("w{number}"), "container": test_widget(&[]), "shutdown": {"grace": "1s"},
                   // The next one need not wait for the sidecar's word: a hundred faults take their time.
                   "start": {"when": "Running"}, "placement": on(["node0", "node1"][number % 2])})
        })
        .collect();
    let spec = json!({"strategy": "OneForAll", "intensity": {"maxRestarts": 1000, "period": "1s"}, "widgets": widgets});
    lab.apply(&object("WidgetGroup", "team", &spec))?;
    let group = lab.until_ready("WidgetGroup", "team").await?;
    let (mut quiet, mut killed, mut wrong) = (Vec::new(), Vec::new(), 0_u64);
    let mut expected = (epoch(&group), incarnations(lab).await?);
    let mut compare = |what: &str, expected: &mut (u64, Incarnations), found: (u64, Incarnations)| {
        if *expected == found {
            return;
        }
        wrong += 1;
        say(&format!("{what}: {found:?} in place of {expected:?}"));
        *expected = found;
    };
    for fault in 1..=n {
        lab.until_operators().await?;
        let now_there = (epoch(&lab.get("WidgetGroup", "team").await?), incarnations(lab).await?);
        compare(&format!("before fault {fault}"), &mut expected, now_there);
        let victim = format!("w{}", fault % 10);
        let pod = lab.until_pods("team", &victim, 1).await?.remove(0);
        let ended = now();
        lab.api::<Pod>().delete(&name_of(&pod), &DeleteParams::default()).await?;
        if fault % 2 == 0 {
            lab.kill_leader().await?;
        }
        let what = format!("fault {fault} to be over");
        let group = lab
            .until_object("WidgetGroup", "team", &what, |group| is_ready(group) && epoch(group) > expected.0)
            .await?;
        if fault % 2 == 0 { &mut killed } else { &mut quiet }.push(ended.elapsed());
        expected.0 += 1;
        expected.1 = expected.1.into_iter().map(|(widget, incarnation)| (widget, incarnation + 1)).collect();
        compare(&format!("fault {fault}"), &mut expected, (epoch(&group), incarnations(lab).await?));
    }
    lab.until_operators().await?;
    let at_last = (epoch(&lab.get("WidgetGroup", "team").await?), incarnations(lab).await?);
    compare("at last", &mut expected, at_last);
    if expected.1.len() != 10 {
        return Err(Error::Invalid(format!("the group has {:?}", expected.1)));
    }
    let mut rows =
        vec![Row::count("k8s.one_for_all: faults that did not restart all ten exactly once", n, wrong)];
    rows.extend(times([
        ("k8s.one_for_all: fault → the group of ten is ready again", quiet),
        ("the same, with the operator killed in it", killed),
    ]));
    Ok(rows)
}
