//! The scenarios that a real server shows too, in `make e2e`.

#[path = "../scenarios/all.rs"]
mod scenarios;

use kontrol_e2e_apiserver::ApiServer;
use scenarios::Place;

macro_rules! in_process {
    ($($module:ident::$name:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $name() {
            let server = ApiServer::new();
            let [client, operator] = [server.client(), server.client()];
            let place = Place { client, operator, namespace: "default".to_owned() };
            scenarios::$module::$name(&place).await;
        }
    )+};
}

scenarios::each_scenario!(in_process);
