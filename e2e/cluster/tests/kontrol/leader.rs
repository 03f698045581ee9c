//! The operator may end at any time: another one goes on from what is written.

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, name_of, number, object, on, test_widget},
    operator::leader,
};
use serde_json::json;

const WIDGETS: [&str; 4] = ["a", "b", "c", "d"];

/// How far a group restart has come when the operator is killed.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// As soon as the pod is gone from the API server.
    Fault,
    /// The decision is in status.
    Decided,
    /// The first pod of the new epoch is there.
    First,
    /// Half of them are there.
    Half,
}

#[tokio::test]
async fn breaks_the_operator_at_every_step_of_a_group_restart_and_each_fault_counts_once() {
    let lab = Lab::with_kontrol("steps").await.unwrap();
    let widgets: Vec<_> = WIDGETS
        .iter()
        .enumerate()
        .map(|(number, name)| {
            json!({"name": name, "container": test_widget(&[]), "shutdown": {"grace": "1s"},
                   "placement": on(["node0", "node1"][number % 2])})
        })
        .collect();
    let spec = json!({"strategy": "OneForAll", "intensity": {"maxRestarts": 100, "period": "10m"}, "widgets": widgets});
    lab.apply(&object("WidgetGroup", "team", &spec)).unwrap();
    lab.until_ready("WidgetGroup", "team").await.unwrap();
    for (fault, step) in (1_u64..).zip([Step::Fault, Step::Decided, Step::First, Step::Half]) {
        lab.until_operators().await.unwrap();
        let mut before = Vec::new();
        for widget in WIDGETS {
            before.push(lab.until_pods("team", widget, 1).await.unwrap().remove(0));
        }
        let victim = &before[usize::try_from(fault).unwrap() % WIDGETS.len()];
        lab.kubectl(&["delete", "pod", &name_of(victim), "--wait=false"]).unwrap();
        let what = format!("the restart to have come to {step:?}");
        lab.wait(&what, async || {
            let group = lab.get("WidgetGroup", "team").await?;
            let mut new = 0;
            for widget in WIDGETS {
                new += lab
                    .pods("team", widget)
                    .await?
                    .iter()
                    .filter(|pod| number(pod, "epoch") == fault)
                    .count();
            }
            let come = match step {
                Step::Fault => true,
                Step::Decided => group["status"]["epoch"] == fault,
                Step::First => new >= 1,
                Step::Half => new >= WIDGETS.len() / 2,
            };
            Ok(if come { Ok(()) } else { Err((group["status"]["epoch"].clone(), new)) })
        })
        .await
        .unwrap();
        let killed = lab.kill_leader().await.unwrap();
        lab.until_object("WidgetGroup", "team", &format!("the group to be ready after {step:?}"), |group| {
            let conditions = group["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|known| known["type"] == "Ready" && known["status"] == "True");
            ready && group["status"]["epoch"] == fault
        })
        .await
        .unwrap();
        let next = lab.leader().await.unwrap();
        assert_ne!(name_of(&killed), name_of(&next));
        for old in &before {
            let new = lab.until_replaced("team", old).await.unwrap();
            assert_eq!(
                number(&new, "incarnation"),
                number(old, "incarnation") + 1,
                "{step:?}: {}",
                name_of(&new)
            );
            assert_eq!(number(&new, "epoch"), fault);
        }
    }
    lab.until_operators().await.unwrap();
}

#[tokio::test]
async fn breaks_off_with_a_hand_over_and_the_next_one_acts_and_gives_identities() {
    let lab = Lab::with_kontrol("handover").await.unwrap();
    lab.until_operators().await.unwrap();
    let before = lab.leader().await.unwrap();
    let kubectl = |arguments: &[&str]| lab.cluster().kubectl(&[&["-n", SYSTEM], arguments].concat());
    kubectl(&["delete", "pod", &name_of(&before), "--wait=false"]).unwrap();
    lab.wait("another one to lead", async || {
        let now = leader(lab.client()).await?.as_ref().map(name_of);
        Ok(if now.as_ref().is_some_and(|name| *name != name_of(&before)) { Ok(()) } else { Err(now) })
    })
    .await
    .unwrap();
    // A widget of now needs the new leader to be made, and to be given an identity.
    lab.apply(&object("Widget", "hello", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "hello").await.unwrap();
    lab.until_pods("hello", "hello", 1).await.unwrap();
    lab.until_operators().await.unwrap();
}

#[tokio::test]
async fn breaks_both_operators_and_what_runs_goes_on() {
    let lab = Lab::with_kontrol("absent").await.unwrap();
    lab.apply(&object("Widget", "hello", &json!({"container": test_widget(&[])}))).unwrap();
    lab.until_ready("Widget", "hello").await.unwrap();
    let before = lab.until_pods("hello", "hello", 1).await.unwrap().remove(0);
    let again = lab.without_operators(async || {
        lab.signal(&before, "widget", "SIGUSR1")?;
        // The kubelet starts the container again without anybody.
        lab.until_pods("hello", "hello", 1).await
    });
    assert_eq!(again.await.unwrap()[0].metadata.uid, before.metadata.uid);
    lab.until_object("Widget", "hello", "the end of the meantime to be counted", |widget| {
        widget["status"]["instances"][0]["restarts"] == 1
    })
    .await
    .unwrap();
    let after = lab.until_pods("hello", "hello", 1).await.unwrap().remove(0);
    assert_eq!(after.metadata.uid, before.metadata.uid, "an operator that comes back takes nothing away");
}
