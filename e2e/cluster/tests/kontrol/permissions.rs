//! Rights that are taken from the operator while it runs: it is noticed, and all is put right when they come back.

use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    core::v1::Pod,
};
use kontrol_e2e_cluster::{
    Result,
    lab::{
        Lab,
        kontrol::{SYSTEM, name_of, object, test_widget},
        operator::{leader, operators},
        web::{address, get},
    },
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::changed::Changed;

/// Who the operator is to the API server.
const USER: &str = "system:serviceaccount:kontrol-system:kontrol-operator";

/// A right, as rules name it.
#[derive(Clone, Copy)]
struct Right {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
}

impl Right {
    /// Takes these verbs out of what a role allows.
    fn out_of(self, role: &mut Value) {
        let has =
            |list: &Value, word: &str| list.as_array().is_some_and(|all| all.iter().any(|one| one == word));
        let rules = role["rules"].as_array_mut().unwrap();
        for mut rule in std::mem::take(rules) {
            if has(&rule["apiGroups"], self.group) && has(&rule["resources"], self.resource) {
                let mut less = rule.clone();
                less["resources"] = json!([self.resource]);
                less["verbs"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|verb| !self.verbs.iter().any(|gone| verb == gone));
                rules.push(less);
                rule["resources"].as_array_mut().unwrap().retain(|resource| resource != self.resource);
            }
            let some = |field: &str| !rule[field].as_array().is_none_or(Vec::is_empty);
            if some("resources") && some("verbs") {
                rules.push(rule);
            }
        }
        rules.retain(|rule| !rule["verbs"].as_array().is_none_or(Vec::is_empty));
    }

    /// Whether the operator has the first of these verbs, in the lab's namespace or in its own.
    async fn is_there(self, lab: &Lab, namespace: &str) -> Result<bool> {
        let (resource, part) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let asked = ResourceAttributes {
            namespace: Some(namespace.to_owned()),
            group: Some(self.group.to_owned()),
            resource: Some(resource.to_owned()),
            subresource: Some(part.to_owned()),
            verb: self.verbs.first().map(|verb| (*verb).to_owned()),
            name: (namespace == SYSTEM).then(|| "kontrol-operator".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(USER.to_owned()),
            resource_attributes: Some(asked),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let made = Api::<SubjectAccessReview>::all(lab.client().clone());
        let answer = made.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// Takes it away from the whole cluster, and waits until that is in force.
    async fn take(self, lab: &Lab) -> Changed {
        self.take_from(lab, &["clusterrole", "kontrol-operator"], lab.namespace()).await
    }

    async fn take_from(self, lab: &Lab, role: &[&str], namespace: &str) -> Changed {
        let taken = Changed::new(lab.cluster(), role, |role| self.out_of(role)).unwrap();
        lab.wait("the right to be gone", async || {
            Ok(if self.is_there(lab, namespace).await? { Err("it is there") } else { Ok(()) })
        })
        .await
        .unwrap();
        taken
    }
}

/// The sum of a metric over both operators.
async fn sum(lab: &Lab, sample: &str) -> Result<u64> {
    let mut sum = 0;
    for pod in operators(lab.client()).await? {
        let text = get(&address(&pod, 7401), "/metrics").await.unwrap_or_default();
        let of = text.lines().filter_map(|line| line.strip_prefix(sample)?.trim().parse::<f64>().ok());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = of.sum::<f64>() as u64;
        sum += count;
    }
    Ok(sum)
}

/// Waits until the operators have counted a request of this verb that was forbidden.
async fn until_counted(lab: &Lab, verb: &str, before: u64) {
    let what = format!("a forbidden {verb} to be counted");
    lab.wait(&what, async || {
        let count = forbidden(lab, verb).await?;
        Ok(if count > before { Ok(()) } else { Err(count) })
    })
    .await
    .unwrap();
}

async fn forbidden(lab: &Lab, verb: &str) -> Result<u64> {
    let sample =
        format!("kontrol_operator_api_request_failures_total{{code=\"forbidden\",verb=\"{verb}\"}} ");
    sum(lab, &sample).await
}

fn widget(name: &str) -> Value {
    object("Widget", name, &json!({"container": test_widget(&[]), "shutdown": {"grace": "1s"}}))
}

#[tokio::test]
async fn breaks_the_right_to_make_pods_and_a_widget_says_so_until_it_is_back() {
    let lab = Lab::with_kontrol("nocreate").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&widget("runs")).unwrap();
    lab.until_ready("Widget", "runs").await.unwrap();
    let running = lab.until_pods("runs", "runs", 1).await.unwrap().remove(0);
    let before = forbidden(&lab, "create").await.unwrap();
    let taken = Right { group: "", resource: "pods", verbs: &["create"] }.take(&lab).await;
    lab.apply(&widget("waits")).unwrap();
    lab.until_object("Widget", "waits", "a condition to name what is forbidden", |widget| {
        let conditions = widget["status"]["conditions"].to_string();
        conditions.contains("Forbidden") && conditions.contains("cannot create resource")
    })
    .await
    .unwrap();
    until_counted(&lab, "create", before).await;
    taken.put_back().unwrap();
    lab.until_ready("Widget", "waits").await.unwrap();
    let after = lab.until_pods("runs", "runs", 1).await.unwrap().remove(0);
    assert_eq!(after.metadata.uid, running.metadata.uid, "who runs is not touched");
}

#[tokio::test]
async fn breaks_the_right_to_delete_pods_and_what_is_to_go_goes_when_it_is_back() {
    let lab = Lab::with_kontrol("nodelete").await.unwrap();
    lab.until_operators().await.unwrap();
    lab.apply(&widget("shrinks")).unwrap();
    lab.until_ready("Widget", "shrinks").await.unwrap();
    let pod = lab.until_pods("shrinks", "shrinks", 1).await.unwrap().remove(0);
    let before = forbidden(&lab, "delete").await.unwrap();
    let taken = Right { group: "", resource: "pods", verbs: &["delete"] }.take(&lab).await;
    lab.patch("Widget", "shrinks", &json!({"spec": {"replicas": 0}})).await.unwrap();
    until_counted(&lab, "delete", before).await;
    assert!(lab.api::<Pod>().get_opt(&name_of(&pod)).await.unwrap().is_some());
    taken.put_back().unwrap();
    lab.until_pods("shrinks", "shrinks", 0).await.unwrap();
    lab.until_object("Widget", "shrinks", "its status to say that none is left", |widget| {
        widget["status"]["replicas"] == 0
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn breaks_the_right_to_write_statuses_and_nothing_is_done_that_is_not_written() {
    let lab = Lab::with_kontrol("nostatus").await.unwrap();
    lab.until_operators().await.unwrap();
    let before = forbidden(&lab, "patch").await.unwrap();
    let right = Right { group: "kontrol.dev", resource: "widgets/status", verbs: &["patch", "update"] };
    let taken = right.take(&lab).await;
    lab.apply(&widget("unwritten")).unwrap();
    until_counted(&lab, "patch", before).await;
    let pods = lab.pods("unwritten", "unwritten").await.unwrap();
    assert!(pods.is_empty(), "nothing is made before it is decided in writing: {pods:?}");
    taken.put_back().unwrap();
    lab.until_ready("Widget", "unwritten").await.unwrap();
    let pods = lab.until_pods("unwritten", "unwritten", 1).await.unwrap();
    assert_eq!(name_of(&pods[0]), "unwritten-0-1");
}

#[tokio::test]
async fn breaks_the_right_to_renew_the_lease_and_nobody_acts_until_it_is_back() {
    let lab = Lab::with_kontrol("nolease").await.unwrap();
    lab.until_operators().await.unwrap();
    let right = Right { group: "coordination.k8s.io", resource: "leases", verbs: &["update", "patch"] };
    let lapses = sum(&lab, "kontrol_operator_lease_lapses_total ").await.unwrap();
    let taken = right.take_from(&lab, &["role", "kontrol-operator", "--namespace", SYSTEM], SYSTEM).await;
    lab.wait("the leader to have stopped acting", async || {
        let now = sum(&lab, "kontrol_operator_lease_lapses_total ").await?;
        let leads = sum(&lab, "kontrol_operator_leader ").await?;
        Ok(if now > lapses && leads == 0 { Ok(()) } else { Err((now, leads)) })
    })
    .await
    .unwrap();
    lab.apply(&widget("later")).unwrap();
    let silent = lab.get("Widget", "later").await.unwrap();
    assert!(silent["status"]["supervision"].is_null(), "{silent}");
    taken.put_back().unwrap();
    lab.until_operators().await.unwrap();
    assert!(leader(lab.client()).await.unwrap().is_some());
    lab.until_ready("Widget", "later").await.unwrap();
}
