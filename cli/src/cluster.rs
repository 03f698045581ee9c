//! `kubectl kontrol`: the questions of a `kontrol up`, asked of a cluster.
//!
//! ```text
//!   names, flags ─► Access ─lists of objects and pods─► Known (a View) ─► tree, why, status   rendered as for the local world
//!                      └──◄─ patches: restart, scale, rollout pause|resume|undo ◄─ names
//! ```
//!
//! Invariants: everything is asked with the user's rights; nothing but the API server is asked; what only the operator hears is unknown
//! and shown so; no command changes what it has not found by name first.

mod access;
mod change;
mod failure;
mod known;
mod logs;
mod rollout;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kontrol_core::{code::Code, id::InstanceId, time::Timestamp};
use kontrol_operator::{
    clock,
    view::{self, Named, names},
};
use kontrol_proto::v1;
use tokio::time::sleep;

use crate::{
    Outcome,
    args::{Ask, Format, Kube},
    ask, complain, print, render, status, view as shown,
};
use access::Access;
pub(crate) use failure::Failure;
use known::Known;

/// How often `tree -w` and what waits look again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the tree does not say of a cluster.
const UNKNOWN: &str = "Loads and queues are not shown: on a cluster they are metrics.";

pub(crate) async fn run(command: Ask, flags: &Kube) -> Outcome {
    let answered = async {
        let access = Access::open(flags).await?;
        answer(&access, command).await
    };
    match answered.await {
        Ok(outcome) => outcome,
        Err(failure) => {
            complain(&failure.text);
            failure.outcome
        }
    }
}

/// The names of everything that is there, for completion.
pub(crate) async fn names_there(flags: &Kube) -> Result<Vec<String>, Failure> {
    let access = Access::open(flags).await?;
    Ok(names::names(&Known::fetch(&access, clock::now()).await?))
}

pub(crate) async fn answer(access: &Access, command: Ask) -> Result<Outcome, Failure> {
    match command {
        Ask::Tree { watch, output } => tree(access, watch, output).await,
        Ask::Status { name, wait, timeout, output } => {
            let access = of_name(access, name.as_deref());
            let look = async || {
                let known = look(&access).await?;
                let path = match &name {
                    Some(name) => Some(describe(&known.one(&access, name)?)),
                    None => None,
                };
                Ok((known.tree(clock::now()), path))
            };
            status::follow(look, wait.then_some(timeout), output).await
        }
        Ask::Why { name, output } => {
            let access = of_name(access, Some(&name));
            let known = look(&access).await?;
            let named = known.one(&access, &name)?;
            let mut answer = view::why(&known, &named, clock::now());
            answer.lines.extend(known.refusals(&named));
            match output {
                Format::Text => print(&render::why(&answer)),
                format => render::structured(format, &shown::Why::from(answer)),
            }
            Ok(Outcome::Done)
        }
        Ask::Logs { name, follow, tail, sidecars, output } => {
            let access = of_name(access, name.as_deref());
            let wanted = logs::Wanted { name, follow, tail, sidecars };
            logs::show(&access, &wanted, &mut |line| {
                ask::log(line, output);
                !ask::nobody_reads()
            })
            .await?;
            Ok(Outcome::Done)
        }
        Ask::Restart { name } => {
            let access = of_name(access, Some(&name));
            let named = look(&access).await?.one(&access, &name)?;
            let known = look(&access).await?;
            change::restart(&access, &known, &named, clock::now()).await?;
            print(&format!("{} is being restarted", named.describe()));
            Ok(Outcome::Done)
        }
        Ask::Scale { name, replicas } => {
            let access = of_name(access, Some(&name));
            let known = look(&access).await?;
            let (widget, before) = change::scale(&access, &known, &name, replicas).await?;
            print(&ask::scaled(&widget.to_string(), before, replicas));
            Ok(Outcome::Done)
        }
        Ask::Rollout(rollout) => {
            let access = of_name(access, Some(rollout.name()));
            rollout::run(&access, rollout).await
        }
        Ask::Down { .. } => Err(Failure {
            outcome: Outcome::Invalid,
            text: "`down` ends a `kontrol up` of this machine; on a cluster delete what you applied: `kubectl delete -f MANIFEST`".to_owned(),
        }),
    }
}

async fn look(access: &Access) -> Result<Known, Failure> {
    Known::fetch(access, clock::now()).await
}

/// The namespace that a full name begins with goes before that of the flags.
fn of_name(access: &Access, name: Option<&str>) -> Access {
    match name.map(|name| name.split('/').collect::<Vec<_>>()).as_deref() {
        Some([namespace, _, _]) if access.namespace.is_some() => access.within(namespace),
        _ => access.clone(),
    }
}

async fn tree(access: &Access, watch: bool, output: Format) -> Result<Outcome, Failure> {
    let mut shown = None;
    loop {
        let known = look(access).await?;
        let tree = known.tree(clock::now());
        if shown.as_ref() != Some(&tree) {
            if output != Format::Text || !tree.roots.is_empty() {
                ask::show(&tree, output, watch);
            }
            if output == Format::Text {
                known.notes(access, &tree).iter().for_each(|note| print(note));
            }
            shown = Some(tree);
        }
        if !watch || ask::nobody_reads() {
            return Ok(Outcome::Done);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// As a row of `status` is found: `widget`, `group` or `supervisor`, and its full name.
fn describe(named: &Named) -> (&'static str, String) {
    match named {
        Named::Widget(id) => ("widget", id.to_string()),
        Named::Group(id) => ("group", id.to_string()),
        Named::Supervisor(id) => ("supervisor", id.to_string()),
    }
}

impl Known {
    /// The one thing that a name means; a name may also be that of a Widget object or of a pod.
    pub(super) fn one(&self, access: &Access, name: &str) -> Result<Named, Failure> {
        let found = names::one(self, name);
        if let (Err(refused), Some(named)) = (&found, self.object_named(name))
            && refused.code == Code::NoSuchObject
        {
            return Ok(named);
        }
        found.map_err(|refused| {
            let place = format!(" {}", access.place());
            Failure::new(format!("{}: {}", refused.code, refused.message.replacen(" here", &place, 1)))
        })
    }

    /// The widget whose object (`rag-llm`) or pod (`rag-llm-0-3`) has this name.
    fn object_named(&self, name: &str) -> Option<Named> {
        let declared = || view::View::roots(self).flat_map(view::widgets);
        let object = declared().find(|widget| format!("{}-{}", widget.id.group, widget.id.widget) == name);
        let of_pod = || {
            declared()
                .find(|widget| self.pods_of(&widget.id).any(|(id, pod)| name == pod || name == replica(&id)))
        };
        object.or_else(of_pod).map(|widget| Named::Widget(widget.id.clone()))
    }

    /// The ordinal where a name is that of a replica's pod.
    pub(super) fn ordinal_of(&self, name: &str) -> Option<u32> {
        let widgets = view::View::roots(self).flat_map(view::widgets);
        let mut all = widgets.flat_map(|widget| self.pods_of(&widget.id));
        all.find(|(id, pod)| name == *pod || name == replica(id)).map(|(id, _)| id.ordinal)
    }

    fn pods_of<'a>(
        &'a self,
        id: &kontrol_core::id::WidgetId,
    ) -> impl Iterator<Item = (InstanceId, &'a str)> + use<'a> {
        let pods: Vec<_> = view::View::replicas(self, id)
            .filter_map(|replica| Some((replica.id.clone(), replica.pod?)))
            .collect();
        pods.into_iter()
    }

    /// What is wrong with the objects that something is declared by.
    fn refusals(&self, named: &Named) -> Vec<String> {
        let own = match named {
            Named::Widget(id) => [id.group.as_str(), id.widget.as_str()].map(str::to_owned).to_vec(),
            Named::Group(id) | Named::Supervisor(id) => vec![id.name.to_string()],
        };
        let of = self.problems.iter().filter(|((_, key), _)| own.iter().any(|name| **name == *key.name));
        of.map(|((kind, key), problem)| format!("{} {}: {}", kind.as_str(), key.name, problem.message))
            .collect()
    }

    /// What a tree does not show.
    fn notes(&self, access: &Access, tree: &v1::TreeResponse) -> Vec<String> {
        let problems = self.problems.iter();
        let mut notes: Vec<String> = problems
            .map(|((kind, key), problem)| format!("! {} {key}: {}", kind.as_str(), problem.message))
            .collect();
        if tree.roots.is_empty() {
            notes.push(format!(
                "Nothing is declared {}; `-n` names another namespace, `-A` shows all.",
                access.place()
            ));
        } else {
            notes.push(UNKNOWN.to_owned());
        }
        notes
    }
}

/// The host name of a replica, which is its pod's without the incarnation.
fn replica(id: &InstanceId) -> String {
    let widget = &id.widget;
    if widget.group == widget.widget {
        format!("{}-{}", widget.widget, id.ordinal)
    } else {
        format!("{}-{}-{}", widget.group, widget.widget, id.ordinal)
    }
}

/// A time as people read it.
fn ago(at: Option<Timestamp>, now: Timestamp) -> String {
    let Some(at) = at else { return "unknown".to_owned() };
    let since = now.since(at);
    kontrol_core::duration::format(Duration::from_secs(since.as_secs()))
}
