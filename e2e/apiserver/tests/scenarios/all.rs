//! What an API server does, told by a client of kube's: each fact is shown of the one within the process and of a real one.

pub(crate) mod apply;
pub(crate) mod custom;
pub(crate) mod deletion;
pub(crate) mod watching;
pub(crate) mod writing;

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind, Status},
};

/// Selects what the scenarios make: a real namespace holds more.
const OURS: &str = "scenario=yes";
/// What takes longer does not happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// An empty namespace on a server that has the definitions of Kontrol's kinds.
pub(crate) struct Place {
    pub(crate) client: Client,
    /// One that may write statuses of Kontrol's kinds.
    pub(crate) operator: Client,
    pub(crate) namespace: String,
}

impl Place {
    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn widgets(&self) -> Api<DynamicObject> {
        self.widgets_by(&self.client)
    }

    fn widgets_by(&self, client: &Client) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("kontrol.dev", "v1alpha1", "Widget");
        Api::namespaced_with(client.clone(), &self.namespace, &ApiResource::from_gvk(&kind))
    }
}

/// A config map with one entry.
fn map(name: &str, value: &str) -> ConfigMap {
    let metadata = serde_json::json!({"name": name, "labels": {"scenario": "yes"}});
    serde_json::from_value(serde_json::json!({"metadata": metadata, "data": {"key": value}})).unwrap()
}

/// What the server said, of an answer that must be a refusal.
fn refusal<T: std::fmt::Debug>(answer: Result<T, kube::Error>) -> Status {
    match answer {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("not refused: {other:?}"),
    }
}

/// Waits until `look` finds what it looks for.
async fn until(look: impl AsyncFn() -> Result<(), String>) {
    let began = tokio::time::Instant::now();
    while let Err(seen) = look().await {
        assert!(began.elapsed() < PATIENCE, "{seen}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Hands the name of each scenario, with its module, to a macro.
macro_rules! each_scenario {
    ($to:ident) => {
        $to! {
            apply::each_manager_has_its_own_fields,
            apply::what_a_manager_no_longer_names_goes_unless_another_holds_it,
            apply::a_field_of_another_manager_is_changed_by_force_alone,
            apply::applying_the_same_again_makes_no_version,
            apply::an_update_takes_the_fields_that_it_changes,
            apply::lists_with_keys_merge_item_by_item,
            custom::unknown_fields_go_and_defaults_come,
            custom::what_the_schema_or_a_rule_refuses_is_refused_with_its_message,
            custom::spec_and_status_are_written_apart_and_the_generation_counts_the_spec,
            custom::the_scale_of_a_widget_is_read_and_written,
            custom::an_update_of_a_custom_object_names_its_version,
            deletion::a_finalizer_keeps_an_object_until_it_is_taken_away,
            deletion::a_precondition_on_the_id_guards_a_namesake,
            deletion::what_loses_its_owner_is_removed_and_what_is_orphaned_is_not,
            watching::a_watcher_sees_what_is_and_what_comes,
            watching::what_leaves_a_selection_is_told_as_deleted,
            writing::a_created_object_has_an_id_a_version_and_a_time,
            writing::a_name_is_given_once,
            writing::a_replacement_of_an_old_version_is_a_conflict,
            writing::a_write_that_changes_nothing_makes_no_version,
            writing::each_form_of_a_patch_patches,
            writing::a_list_in_pages_shows_one_state,
        }
    };
}
pub(crate) use each_scenario;
