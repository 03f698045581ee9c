//! Each right of the operator's own namespace, and that to read definitions, taken away from one that leads: it is named, and one leads when
//! it is back.

use std::time::Duration;

use kontrol_e2e_apiserver::ApiServer;
use tokio::{task::JoinSet, time::Instant};

use super::{removed::each, rules};
use crate::{
    leaders::{LEASES, NAMESPACE, Replica, labelled},
    operator::USER,
};

/// What one that leads does not do for longer than this is what only one that begins does.
const SOON: Duration = Duration::from_secs(8);
/// Asked once in ten minutes at the most; tested beside the code that asks.
const ELSEWHERE: (&str, &str) = ("update", "secrets");

fn misses(replica: &Replica, verb: &str, resource: &str) -> bool {
    let sample = format!("kontrol_operator_right_missing{{resource=\"{resource}\",verb=\"{verb}\"}} 1");
    replica.metrics.page().contains(&sample)
}

fn now() -> Instant {
    #[allow(clippy::disallowed_methods, reason = "a test's deadline")]
    Instant::now()
}

async fn taken(server: ApiServer, verb: String, resource: String) {
    let what = format!("{verb} {resource}");
    server.set_rules(USER, rules());
    let first = Replica::start(&server, "operator-a");
    first.until(&what, |first| first.acts() && labelled(&server, "operator-a")).await;
    server.deny(USER, &verb, &resource);
    first.session.drop_watches(false);
    server.compact();
    drop(server.delete(LEASES, NAMESPACE, "kontrol-operator"));
    server.edit("pods", NAMESPACE, "operator-a", |pod| {
        pod["metadata"]["labels"].as_object_mut().unwrap().remove("kontrol.dev/leader");
    });
    let end = now() + SOON;
    while !misses(&first, &verb, &resource) && now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if misses(&first, &verb, &resource) {
        server.allow_again(USER);
        first.until(&what, |first| first.acts() && labelled(&server, "operator-a")).await;
        return;
    }
    first.stop.cancel();
    first.task.join_all().await;
    drop(server.delete("secrets", NAMESPACE, "kontrol-authority"));
    let second = Replica::start(&server, "operator-b");
    second.until(&format!("{what} is missed"), |second| misses(second, &verb, &resource)).await;
    server.allow_again(USER);
    second.until(&what, |second| second.acts() && labelled(&server, "operator-b")).await;
}

#[tokio::test]
async fn each_right_of_its_own_that_is_taken_away_is_noticed_and_its_return_heals() {
    let blank = ApiServer::new();
    let definitions = ("get".to_owned(), "customresourcedefinitions.apiextensions.k8s.io".to_owned());
    let own = each(&[2]).into_iter().chain([definitions]);
    let mut tasks = JoinSet::new();
    for (verb, resource) in own.filter(|(verb, resource)| (verb.as_str(), resource.as_str()) != ELSEWHERE) {
        let clock = kontrol_e2e_apiserver::Clock::new(jiff::Timestamp::now);
        tasks.spawn(taken(blank.fork(clock), verb, resource));
    }
    tasks.join_all().await;
}
