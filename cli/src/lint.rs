//! `kontrol lint`, and the reading of manifests for `up`.

use std::path::{Path, PathBuf};

use kontrol_crds::{Problem, Source, World};
use kontrol_operator::local::Desired;
use serde::Serialize;

use crate::{
    Outcome,
    args::{Format, Lint},
    complain, print, render,
};

pub(crate) fn run(lint: &Lint) -> Outcome {
    match read(&lint.paths) {
        Ok((desired, _)) => {
            let widgets = desired.widgets().count();
            let text = format!(
                "ok: {} trees, {widgets} widgets, {} topics, {} routes",
                desired.trees.len(),
                desired.topics.len(),
                desired.routes.len()
            );
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

/// Reads everything; what is wrong is all in the error.
pub(crate) fn read(paths: &[PathBuf]) -> Result<(Desired, Vec<Source>), Vec<Problem>> {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        match kontrol_crds::manifest::read_path(Path::new(path)) {
            Ok(read) => sources.extend(read),
            Err(unreadable) => problems.extend(unreadable),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let World { trees, buses, topics, routes } = kontrol_crds::load(&sources)?;
    Ok((Desired { trees, buses, topics, routes }, sources))
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
