use kontrol_e2e_apiserver::ApiServer;
use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::{
    control::Pods as _,
    kubernetes::{
        authority::{self, Known},
        client::Client,
        metrics::Metrics,
    },
};

const AT: Timestamp = Timestamp::from_micros(1_000_000);

fn refusal(verb: &str, resource: &str, group: &str) -> Outcome {
    Outcome::Forbidden(format!(
        "x is forbidden: User \"system:serviceaccount:k:cannot be\" cannot {verb} resource \"{resource}\" in API group \"{group}\" in the namespace \"default\""
    ))
}

fn said(lacking: &Lacking, now: Timestamp) -> Vec<String> {
    lacking.rights(now).into_iter().map(ToString::to_string).collect()
}

fn done() -> Outcome {
    Outcome::Done("{}".to_owned())
}

#[test]
fn a_right_is_missing_from_its_refusal_until_it_is_had() {
    let mut lacking = Lacking::default();
    let request = Request::new(Verb::Merge, Kind::Widget, "default", "w").of("status");
    let asked = Asked::of(&request);
    let refusal = refusal("patch", "widgets/status", "kontrol.dev");
    let right = Right { verb: "patch".into(), resource: "widgets.kontrol.dev/status".into() };
    assert_eq!(lacking.note(&asked, &refusal, AT), [News::Lacks(right.clone())]);
    assert!(lacking.note(&asked, &refusal, AT).is_empty());
    assert_eq!(said(&lacking, AT), ["patch widgets.kontrol.dev/status"]);
    // No answer says nothing, and what is done elsewhere is another right.
    assert!(lacking.note(&asked, &Outcome::Failed(String::new()), AT).is_empty());
    let elsewhere = Request::new(Verb::Merge, Kind::Widget, "team", "w").of("status");
    assert!(lacking.note(&Asked::of(&elsewhere), &done(), AT).is_empty());
    // Whatever was wrong with it then, it was allowed.
    assert_eq!(lacking.note(&asked, &Outcome::Conflict(String::new()), AT), [News::Has(right)]);
    assert_eq!(said(&lacking, AT), [""; 0]);
}

#[test]
fn what_another_guard_refuses_is_no_missing_right() {
    let mut lacking = Lacking::default();
    let asked = Asked::of(&Request::new(Verb::Create, Kind::Pod, "default", "w-0-1"));
    let quota =
        "pods \"w-0-1\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3";
    assert!(lacking.note(&asked, &Outcome::Forbidden(quota.to_owned()), AT).is_empty());
    assert_eq!(said(&lacking, AT), [""; 0]);
}

#[test]
fn an_apply_may_lack_the_right_to_create_and_a_child_that_to_set_finalizers() {
    let mut lacking = Lacking::default();
    let apply = Asked::of(&Request::new(Verb::Apply, Kind::ConfigMap, "default", "kontrol-trust"));
    drop(lacking.note(&apply, &refusal("create", "configmaps", ""), AT));
    let owned = json!({"metadata": {"ownerReferences": [{"kind": "Widget", "name": "w"}]}});
    let create = Request::new(Verb::Create, Kind::Pod, "default", "w-0-1").with(owned);
    let create = Asked::of(&create);
    let why = "pods \"w-0-1\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
    drop(lacking.note(&create, &Outcome::Forbidden(why.to_owned()), AT));
    assert_eq!(said(&lacking, AT), ["create configmaps", "update widgets.kontrol.dev/finalizers"]);
    drop(lacking.note(&apply, &done(), AT));
    drop(lacking.note(&create, &done(), AT));
    assert_eq!(said(&lacking, AT), [""; 0]);
}

#[test]
fn what_is_refused_everywhere_hides_no_other_right_and_is_missing_until_it_is_had_everywhere() {
    let mut lacking = Lacking::default();
    let in_namespace =
        |number: usize| Asked::of(&Request::new(Verb::Create, Kind::Pod, &format!("team-{number}"), "w-0-1"));
    let many = 5 * NAMESPACES;
    for number in 0..many {
        let news = lacking.note(&in_namespace(number), &refusal("create", "pods", ""), AT);
        assert_eq!(news.len(), usize::from(number < NAMESPACES));
    }
    let leases = Asked::all("list", Kind::Lease, Some("kube-node-lease"));
    drop(lacking.note(&leases, &refusal("list", "leases", "coordination.k8s.io"), AT));
    assert_eq!(said(&lacking, AT), ["create pods", "list leases.coordination.k8s.io"]);
    for number in 0..NAMESPACES {
        drop(lacking.note(&in_namespace(number), &done(), AT));
    }
    assert_eq!(said(&lacking, AT), ["create pods", "list leases.coordination.k8s.io"]);
    for number in NAMESPACES..many {
        drop(lacking.note(&in_namespace(number), &done(), AT));
    }
    assert_eq!(said(&lacking, AT), ["list leases.coordination.k8s.io"]);
}

#[test]
fn a_refusal_in_the_words_of_others_names_no_right() {
    let mut lacking = Lacking::default();
    let asked = Asked::of(&Request::new(Verb::Create, Kind::Pod, "default", "w-0-1"));
    for forged in [refusal("create", "secrets", ""), refusal("steal", "pods", "")] {
        assert!(lacking.note(&asked, &forged, AT).is_empty());
    }
    assert_eq!(said(&lacking, AT), [""; 0]);
}

#[test]
fn a_change_of_what_is_there_says_nothing_of_the_right_to_set_finalizers() {
    let mut lacking = Lacking::default();
    let owned = json!({"metadata": {"ownerReferences": [{"kind": "Widget", "name": "w"}]}});
    let asked = |verb, kind| Asked::of(&Request::new(verb, kind, "default", "w").with(owned.clone()));
    let why = "pods \"w\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>";
    drop(lacking.note(&asked(Verb::Create, Kind::Pod), &Outcome::Forbidden(why.to_owned()), AT));
    drop(lacking.note(&asked(Verb::Apply, Kind::ConfigMap), &done(), AT));
    assert_eq!(said(&lacking, AT), ["update widgets.kontrol.dev/finalizers"]);
    drop(lacking.note(&asked(Verb::Create, Kind::Pod), &done(), AT));
    assert_eq!(said(&lacking, AT), [""; 0]);
}

#[test]
fn what_is_not_asked_for_any_more_is_forgotten() {
    let mut lacking = Lacking::default();
    let asked = Asked::all("list", Kind::Lease, Some("kube-node-lease"));
    drop(lacking.note(&asked, &refusal("list", "leases", "coordination.k8s.io"), AT));
    let almost = AT.plus(FORGOTTEN.saturating_sub(Duration::from_secs(1)));
    assert_eq!(said(&lacking, almost), ["list leases.coordination.k8s.io"]);
    assert_eq!(said(&lacking, AT.plus(FORGOTTEN)), [""; 0]);
}

#[tokio::test]
async fn what_the_authority_may_not_do_is_named_until_it_may() {
    let (server, metrics) = (ApiServer::new(), Metrics::new());
    let client = Client::new(server.session("operator").client()).noting(metrics.rights.clone());
    let is_missed = |verb: &str, resource: &str| {
        let sample = format!("kontrol_operator_right_missing{{resource=\"{resource}\",verb=\"{verb}\"}} 1");
        metrics.page().contains(&sample)
    };
    let reviews = "tokenreviews.authentication.k8s.io";
    let (asks, _asked) = mpsc::channel(1);
    let known = Known { client: client.clone(), asks };
    server.deny("operator", "create", reviews);
    assert!(known.review("token".to_owned()).await.is_err());
    assert!(is_missed("create", reviews), "{}", metrics.page());
    server.allow_again("operator");
    known.review("token".to_owned()).await.unwrap();
    assert!(!is_missed("create", reviews));

    let (namespace, now) = ("kontrol-system", clock::now());
    authority::open(&client, namespace, now).await.unwrap();
    server.edit("secrets", namespace, "kontrol-authority", |secret| {
        secret["metadata"]["annotations"]["kontrol.dev/rotate-requested-at"] = "now".into();
    });
    server.deny("operator", "update", "secrets");
    assert!(authority::rotate(&client, namespace, now).await.is_err());
    assert!(is_missed("update", "secrets"), "{}", metrics.page());
    server.allow_again("operator");
    authority::rotate(&client, namespace, now).await.unwrap();
    assert!(!is_missed("update", "secrets"));
}
