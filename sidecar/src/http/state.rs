//! `POST /v1/report` and `GET /v1/state`.

use std::collections::HashMap;

use axum::{Json, body::Body, extract::State, http::StatusCode};
use kontrol_proto::v1;
use serde::{Deserialize, Serialize};

use super::{Door, Problem, body, request::invalid};
use crate::service::{Report, Word};

/// What a widget says of itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    health: Option<Health>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    load: HashMap<String, f64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
enum Health {
    Ready,
    NotReady,
    Failed,
}

pub(super) async fn report(State(door): State<Door>, body: Body) -> Result<StatusCode, Problem> {
    let Said { health, message, load } = body::json(body).await?.ok_or_else(|| {
        invalid(
            "",
            r#"the report is empty; write such as {"health":"ready","load":{"waiting":3}}"#.to_owned(),
        )
    })?;
    let health = health.map(|health| match health {
        Health::Ready => Word::Ready,
        Health::NotReady => Word::NotReady,
        Health::Failed => Word::Failed,
    });
    door.service.report(Report { health, message, load })?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the sidecar knows: `kontrol.v1.StateResponse` in JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Known {
    instance: String,
    incarnation: u64,
    control_connected: bool,
    config_version: u64,
    hub_connected: bool,
    targets: Vec<TargetState>,
    subscriptions: Vec<SubscriptionState>,
    /// None: the widget has said nothing yet.
    health: Option<Health>,
    in_flight: u32,
    draining: bool,
    /// Seconds since the Unix epoch.
    certificate_expires: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetState {
    target: String,
    ready: u32,
    endpoints: Vec<EndpointState>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointState {
    instance: String,
    address: String,
    breaker: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    in_flight: u32,
    ready: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionState {
    topic: String,
    subscription: String,
    via: String,
    in_flight: u32,
}

pub(super) async fn state(State(door): State<Door>) -> Json<Known> {
    Json(door.service.state().into())
}

impl From<v1::StateResponse> for Known {
    fn from(state: v1::StateResponse) -> Self {
        let health = match state.health() {
            v1::Health::Unspecified => None,
            v1::Health::Ready => Some(Health::Ready),
            v1::Health::NotReady => Some(Health::NotReady),
            v1::Health::Failed => Some(Health::Failed),
        };
        Self {
            health,
            instance: state.instance,
            incarnation: state.incarnation,
            control_connected: state.control_connected,
            config_version: state.config_version,
            hub_connected: state.hub_connected,
            targets: state.targets.into_iter().map(TargetState::from).collect(),
            subscriptions: state.subscriptions.into_iter().map(SubscriptionState::from).collect(),
            in_flight: state.in_flight,
            draining: state.draining,
            certificate_expires: state.certificate_expires,
        }
    }
}

impl From<v1::TargetState> for TargetState {
    fn from(state: v1::TargetState) -> Self {
        let v1::TargetState { target, ready, endpoints } = state;
        Self { target, ready, endpoints: endpoints.into_iter().map(EndpointState::from).collect() }
    }
}

impl From<v1::EndpointState> for EndpointState {
    fn from(state: v1::EndpointState) -> Self {
        let v1::EndpointState { instance, address, breaker, reason, in_flight, ready } = state;
        Self { instance, address, breaker, reason, in_flight, ready }
    }
}

impl From<v1::SubscriptionState> for SubscriptionState {
    fn from(state: v1::SubscriptionState) -> Self {
        let v1::SubscriptionState { topic, subscription, via, in_flight } = state;
        Self { topic, subscription, via, in_flight }
    }
}
