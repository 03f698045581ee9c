//! The API server within the process behaves as this real one: the same scenarios, run here.

#[allow(clippy::panic, reason = "what the scenarios share fails as they do")]
#[path = "../../../apiserver/tests/scenarios/all.rs"]
mod scenarios;

use kontrol_e2e_cluster::lab::Lab;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use scenarios::Place;

/// Who may write statuses.
const OPERATOR: &str = "system:serviceaccount:kontrol-system:kontrol-operator";

/// A client that speaks as the operator.
pub(crate) async fn operator(lab: &Lab) -> Client {
    let files = Kubeconfig::read_from(lab.cluster().kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(files, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(OPERATOR.to_owned());
    Client::try_from(config).unwrap()
}

async fn place(lab: &Lab) -> Place {
    Place {
        client: lab.client().clone(),
        operator: operator(lab).await,
        namespace: lab.namespace().to_owned(),
    }
}

macro_rules! on_the_cluster {
    ($($module:ident::$name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let lab = Lab::with_kontrol("conforms").await.unwrap();
            scenarios::$module::$name(&place(&lab).await).await;
        }
    )+};
}

scenarios::each_scenario!(on_the_cluster);
