//! One widget.

use std::{collections::BTreeMap, path::PathBuf};

use kontrol_core::{
    code::Code,
    id::{Name, WidgetId},
    limits::{REPLICAS, REPORT_NAME},
    spec,
};

use super::{Pauses, Runtime, backoff, container, intensity, revision};
use crate::{
    api,
    check::{NO_PATH, is_path},
    fault::Checker,
};

/// What a widget takes over from its group, and what it is converted for.
pub(super) struct Around<'a> {
    /// The world whose revision counts.
    pub(super) runtime: Runtime,
    /// The group's intensity.
    pub(super) intensity: spec::Intensity,
    /// The group's roll-out.
    pub(super) rollout: Option<&'a api::Rollout>,
    /// The name of its `Widget` object, which is that of subscriptions that give none.
    pub(super) object: &'a str,
}

/// Converts the spec of a widget.
pub(super) fn convert(
    check: &mut Checker,
    id: Option<WidgetId>,
    widget: &api::WidgetSpec,
    around: &Around<'_>,
) -> Option<spec::Widget> {
    let ends = !widget.significant || widget.restart != api::Restart::Always;
    check.ensure(
        ends,
        "significant",
        "a significant widget needs restart: OnFailure or Never, or it would never end by itself",
    );
    let endpoint = widget.endpoint.as_ref().map(|endpoint| spec::Endpoint { port: endpoint.port });
    let has_endpoint = endpoint.is_some();
    let process = widget
        .process
        .as_ref()
        .map(|process| check.within("process", |check| convert_process(check, process)));
    let health = widget
        .health
        .as_ref()
        .and_then(|health| check.within("health", |check| convert_health(check, health, has_endpoint)));
    let consumes = check.each("consumes", &widget.consumes, |check, consume| {
        let topic = check.name("topic", &consume.topic);
        let own = consume.subscription.as_deref();
        let subscription = match own {
            Some(own) => check.name("subscription", own),
            None => Name::new(around.object).ok(),
        };
        let via = match &consume.http {
            Some(http) => spec::ConsumeVia::Http(path(check, http, has_endpoint)),
            None => spec::ConsumeVia::Door,
        };
        Some(spec::Consume {
            topic: topic?,
            subscription: subscription?,
            via,
            max_in_flight: consume.max_in_flight,
        })
    });
    let serves = check.each("serves", &widget.serves, |check, served| {
        let method = check.name("method", &served.method);
        let via = match &served.http {
            Some(http) => spec::ServeVia::Http(path(check, http, has_endpoint)),
            None => spec::ServeVia::Door,
        };
        Some(spec::Served { method: method?, via })
    });
    let produces =
        check.each("produces", &widget.produces, |check, produce| check.name("topic", &produce.topic));
    let calls = check.each("calls", &widget.calls, |check, call| {
        let target = WidgetId::resolve(&call.target, id.as_ref()?);
        target.map_err(|error| check.fault("target", Code::InvalidName, error.to_string())).ok()
    });
    let scaling = widget
        .scaling
        .as_ref()
        .map(|scaling| check.within("scaling", |check| convert_scaling(check, scaling)));
    let most = match &scaling {
        Some(scaling) if scaling.class == spec::ScalingClass::Kontrol => scaling.max,
        _ => widget.replicas,
    };
    if most > 1
        && process.is_some()
        && let Some(port) = endpoint.and_then(|endpoint| endpoint.port)
    {
        let message = format!(
            "{most} replicas cannot listen on port {port}; leave port out, and each is given its own as $PORT"
        );
        check.within("endpoint", |check| check.fault("port", Code::DuplicatePort, message));
    }
    let many = widget.replicas > 1 || scaling.as_ref().is_some_and(|scaling| scaling.max > 1);
    let replaces = widget.replica_end.map_or(many, |end| end == api::ReplicaEnd::ReplacesReplica);
    let replica_end = if replaces { spec::ReplicaEnd::ReplacesReplica } else { spec::ReplicaEnd::EndsWidget };
    let shutdown = convert_shutdown(check, &widget.shutdown);
    let start = check.within("start", |check| convert_start(check, &widget.start));
    let intensity = widget.intensity.as_ref().map_or(around.intensity, |own| intensity(check, own));
    let container = container::convert(check, widget, around.object);
    let rollout = container::rollout(check, widget, around.rollout);
    let resilience = check.within("resilience", |check| convert_resilience(check, &widget.resilience));
    Some(spec::Widget {
        id: id?,
        revision: revision::of(widget, around.runtime),
        process: process.map(Box::new),
        container,
        rollout,
        replicas: widget.replicas,
        restart: widget.restart.into(),
        significant: widget.significant,
        shutdown,
        start,
        replica_end,
        intensity,
        health: health.map(Box::new),
        endpoint,
        consumes: consumes.into(),
        produces: produces.into(),
        serves: serves.into(),
        calls: calls.into(),
        resilience: (resilience != spec::Resilience::default()).then(|| Box::new(resilience)),
        scaling: scaling.map(Box::new),
    })
}

fn convert_start(check: &mut Checker, start: &api::Start) -> spec::Start {
    spec::Start {
        when: match start.when {
            api::StartedWhen::Ready => spec::StartedWhen::Ready,
            api::StartedWhen::Running => spec::StartedWhen::Running,
        },
        timeout: check.positive("timeout", &start.timeout),
    }
}

fn convert_process(check: &mut Checker, process: &api::Process) -> spec::Process {
    if process.command.first().is_none_or(String::is_empty) {
        check.invalid("command", "command needs a program as its first item, such as [python3, worker.py]");
    }
    check.each("command", &process.command, |check, argument| {
        check.ensure(!argument.contains('\0'), "", "a command cannot hold a NUL character");
        Some(())
    });
    let folder = process.working_dir.as_deref();
    check.ensure(folder != Some(""), "workingDir", "is empty; leave it out for the folder of the manifest");
    check.ensure(
        !folder.unwrap_or_default().contains('\0'),
        "workingDir",
        "a folder cannot hold a NUL character",
    );
    let mut env = BTreeMap::new();
    check.each("env", &process.env, |check, entry| {
        let api::EnvVar { name, value } = entry;
        variable(check, name);
        check.ensure(!value.contains('\0'), "value", "a variable cannot hold a NUL character");
        env.insert(name.clone(), value.clone());
        Some(())
    });
    let limits = process.limits.as_ref().map_or(spec::Limits::default(), |limits| {
        check.within("limits", |check| {
            let memory = limits.memory.as_ref().and_then(|memory| check.bytes("memory", memory));
            check.ensure(memory != Some(0), "memory", "must be above 0; leave it out for no limit");
            spec::Limits { memory, open_files: limits.open_files.map(u64::from) }
        })
    });
    spec::Process {
        command: process.command.clone(),
        working_dir: process.working_dir.as_ref().map(PathBuf::from),
        env,
        limits,
    }
}

/// The name of a variable.
pub(super) fn variable(check: &mut Checker, name: &str) {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let valid =
        !name.is_empty() && name.chars().all(letters) && !name.starts_with(|c: char| c.is_ascii_digit());
    check.ensure(
        valid,
        "name",
        "is no name of a variable: letters, digits and '_', not starting with a digit",
    );
    let own = !name.starts_with("KONTROL_");
    check.ensure(
        own,
        "name",
        "names that start with KONTROL_ are given by Kontrol itself; choose another name",
    );
}

fn convert_health(check: &mut Checker, health: &api::Health, has_endpoint: bool) -> Option<spec::Health> {
    let probe = match (&health.report, &health.http) {
        (Some(_), None) => Some(spec::HealthProbe::Report),
        (None, Some(http)) => Some(spec::HealthProbe::Http(path(check, http, has_endpoint))),
        _ => {
            check.invalid("", "health is told in exactly one way: give report: {} or http: {path: /healthz}");
            None
        }
    };
    let timeout = check.positive("timeout", &health.timeout);
    let interval = check.positive("interval", &health.interval);
    check.ensure(
        interval < timeout,
        "timeout",
        "must be longer than interval, or a replica would be hung before it is asked",
    );
    Some(spec::Health { probe: probe?, timeout, interval })
}

fn path(check: &mut Checker, http: &api::HttpDelivery, has_endpoint: bool) -> String {
    check.within("http", |check| {
        check.ensure(
            has_endpoint,
            "",
            "needs the widget's endpoint; add endpoint: {} to get a port as $PORT",
        );
        check.ensure(is_path(&http.path), "path", NO_PATH);
    });
    http.path.clone()
}

fn convert_shutdown(check: &mut Checker, shutdown: &api::Shutdown) -> spec::Shutdown {
    check.within("shutdown", |check| match (shutdown.policy, &shutdown.grace) {
        (api::ShutdownPolicy::Graceful, Some(grace)) => {
            spec::Shutdown::Graceful(check.duration("grace", grace))
        }
        (api::ShutdownPolicy::Graceful, None) => spec::Shutdown::default(),
        (api::ShutdownPolicy::Brutal, grace) => {
            let message = "grace belongs to policy Graceful; leave it out, or set policy: Graceful";
            check.ensure(grace.is_none(), "grace", message);
            spec::Shutdown::Brutal
        }
    })
}

fn convert_resilience(check: &mut Checker, resilience: &api::Resilience) -> spec::Resilience {
    let timeout = check.positive("timeout", &resilience.timeout);
    let breaker = &resilience.breaker;
    let breaker = check.within("breaker", |check| spec::BreakerPolicy {
        failures: breaker.failures,
        open_for: check.positive("openFor", &breaker.open_for),
        failure_rate_percent: breaker.failure_rate_percent,
        window: check.positive("window", &breaker.window),
        min_calls: breaker.min_calls,
    });
    let api::RetryBackoff { initial, max, factor_percent, jitter_percent } = &resilience.backoff;
    let (factor_percent, jitter_percent) = (*factor_percent, *jitter_percent);
    spec::Resilience {
        timeout,
        breaker,
        max_retries: resilience.max_retries,
        backoff: backoff(check, &Pauses { initial, max, factor_percent, jitter_percent }),
        retry_budget_percent: resilience.retry_budget_percent,
    }
}

fn convert_scaling(check: &mut Checker, scaling: &api::Scaling) -> spec::Scaling {
    let class = match scaling.class {
        api::ScalingClass::Kontrol => spec::ScalingClass::Kontrol,
        api::ScalingClass::External => spec::ScalingClass::External,
    };
    let decides = class == spec::ScalingClass::Kontrol;
    check.ensure(
        !decides || scaling.max.is_some(),
        "max",
        "is missing; give the most replicas, such as max: 8",
    );
    let example = "is missing; give what one replica should bear, such as target: {inFlight: 2}";
    check.ensure(!decides || scaling.target.is_some(), "target", example);
    let max = scaling.max.unwrap_or(REPLICAS);
    if scaling.min > max {
        check.invalid("max", format!("max {max} is below min {}; raise max or lower min", scaling.min));
    }
    let target = scaling.target.clone().unwrap_or_default();
    let given = scaling.target.is_none()
        || target.in_flight.is_some()
        || target.queue_depth.is_some()
        || target.queue_growth.is_some()
        || target.reported.is_some();
    check.ensure(given, "target", "give at least one target: inFlight, queueDepth, queueGrowth or reported");
    let targets = check.within("target", |check| {
        let mut amount = |field, amount: &Option<api::Amount>| {
            amount.as_ref().and_then(|amount| check.thousandths(field, amount))
        };
        let mut targets: Vec<_> = [
            amount("inFlight", &target.in_flight).map(spec::ScalingTarget::InFlight),
            amount("queueDepth", &target.queue_depth).map(spec::ScalingTarget::QueueDepth),
            amount("queueGrowth", &target.queue_growth).map(spec::ScalingTarget::QueueGrowth),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let Some(reported) = &target.reported {
            let value = check.within("reported", |check| {
                check.ensure(
                    !reported.name.is_empty(),
                    "name",
                    "is empty; write the name under which the widget reports the number",
                );
                check.ensure(
                    reported.name.chars().count() <= REPORT_NAME,
                    "name",
                    &format!("is longer than the {REPORT_NAME} characters under which a widget may report"),
                );
                check.thousandths("value", &reported.value)
            });
            targets.extend(value.map(|value| spec::ScalingTarget::Reported(reported.name.clone(), value)));
        }
        targets
    });
    spec::Scaling {
        class,
        min: scaling.min,
        max,
        targets,
        up_window: check.duration("upWindow", &scaling.up_window),
        down_window: check.duration("downWindow", &scaling.down_window),
    }
}
