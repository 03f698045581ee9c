//! What the chart's admission policies and rights let pass, and what they refuse.

use std::process::Command;

use kontrol_e2e_cluster::lab::{
    Lab,
    kontrol::{SYSTEM, tree},
};

#[tokio::test]
async fn breaks_both_operators_and_the_policies_refuse_forged_identities_all_the_same() {
    let lab = Lab::with_kontrol("policies").await.unwrap();
    let path = lab.cluster().search_path().unwrap();
    let try_all = || {
        Command::new(tree("hack/chart/policies"))
            .args(["kontrol", SYSTEM])
            .env("KUBECONFIG", lab.cluster().kubeconfig())
            .env("PATH", &path)
            .output()
    };
    // What plays the operator makes pods that the real one would not leave alone.
    let tried = lab.without_operators(async || Ok(try_all())).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&tried.stdout);
    assert!(tried.status.success(), "{said}{}", String::from_utf8_lossy(&tried.stderr));
    let cases = said.lines().last().and_then(|line| line.strip_suffix(" cases")?.parse().ok());
    assert!(cases.is_some_and(|cases: u32| cases > 40), "{said}");
}
