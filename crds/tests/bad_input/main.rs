//! What is said of manifests that are wrong: exact texts, because people read them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod references;
mod shape;

use kontrol_crds::{Source, load};

fn said(text: &str) -> String {
    let source = Source { name: "m.yaml".to_owned(), text: text.to_owned() };
    match load(&[source]) {
        Ok(world) => panic!("accepted as {world:?}"),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[track_caller]
fn assert_said(text: &str, expected: &[&str]) {
    let expected = expected.join("\n");
    let said = said(text);
    assert!(said == expected, "said:\n{said}\nexpected:\n{expected}");
}

/// A document of a kind with a name and a spec in flow style.
fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: kontrol.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

fn topics(names: &[&str]) -> String {
    names.iter().map(|name| object("Topic", name, "{}")).collect()
}

const RUN: &str = "process: {command: [w]}";
