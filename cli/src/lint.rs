//! `kontrol lint`, and the reading of manifests for `up`.

use std::path::{Path, PathBuf};

use kontrol_crds::{Problem, Source, World, convert::Runtime};
use kontrol_operator::local::Desired;
use serde::Serialize;

use crate::{
    Outcome,
    args::{Format, Lint},
    complain, print, render,
};

pub(crate) fn run(lint: &Lint, runtime: Runtime) -> Outcome {
    match read(&lint.paths, runtime) {
        Ok(desired) => {
            let text = format!("ok: {}", summary(&desired));
            match lint.output {
                Format::Text => print(&text),
                format => render::structured::<[Row; 0]>(format, &[]),
            }
            Outcome::Done
        }
        Err(problems) => {
            match lint.output {
                Format::Text => problems.iter().for_each(|problem| complain(&problem.to_string())),
                format => {
                    let rows: Vec<Row> = problems.iter().map(Row::of).collect();
                    render::structured(format, &rows);
                }
            }
            Outcome::Invalid
        }
    }
}

/// How much is declared: `1 tree, 4 widgets, 3 topics, 1 route`.
pub(crate) fn summary(desired: &Desired) -> String {
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let mut parts = vec![count(desired.trees.len(), "tree"), count(desired.widgets().count(), "widget")];
    let rest = [(desired.topics.len(), "topic"), (desired.routes.len(), "route")];
    parts.extend(rest.into_iter().filter(|(number, _)| *number > 0).map(|(number, one)| count(number, one)));
    parts.join(", ")
}

/// Reads everything; what is wrong is all in the error.
pub(crate) fn read(paths: &[PathBuf], runtime: Runtime) -> Result<Desired, Vec<Problem>> {
    Ok(desired(kontrol_crds::load_for(&sources(paths)?, runtime)?))
}

/// The texts of all manifests.
pub(crate) fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, Vec<Problem>> {
    let mut sources: Vec<Source> = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        match kontrol_crds::manifest::read_path(Path::new(path)) {
            Ok(read) => sources.extend(read),
            Err(unreadable) => problems.extend(unreadable),
        }
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

/// What these texts declare, as this machine is to run it.
pub(crate) fn desired_of(sources: &[Source]) -> Result<Desired, Vec<Problem>> {
    Ok(desired(kontrol_crds::load(sources)?))
}

fn desired(World { trees, buses, topics, routes }: World) -> Desired {
    Desired { trees, buses, topics, routes }
}

#[derive(Serialize)]
struct Row {
    code: String,
    file: String,
    line: Option<u64>,
    object: Option<String>,
    path: String,
    message: String,
}

impl Row {
    fn of(problem: &Problem) -> Self {
        Self {
            code: problem.code.to_string(),
            file: problem.file.clone(),
            line: problem.line,
            object: problem.object.clone(),
            path: problem.path.clone(),
            message: problem.message.clone(),
        }
    }
}
