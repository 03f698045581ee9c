//! The examples of `docs/manifests.md` load, and its mistakes are answered as it says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

use std::path::Path;

use kontrol_crds::{Source, load};

/// The code blocks of the page with this heading.
fn blocks(heading: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manifests.md");
    let page = std::fs::read_to_string(path).unwrap();
    let opening = format!("```{heading}\n");
    page.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn said(name: &str, text: String) -> Vec<String> {
    let problems = load(&[Source { name: name.to_owned(), text }]).err().unwrap_or_default();
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_examples_of_the_guide_form_one_manifest() {
    let blocks = blocks("yaml");
    assert!(blocks.len() >= 7, "{}", blocks.len());
    assert_eq!(said("manifests.md", blocks.join("---\n")), Vec::<String>::new());
}

#[test]
fn the_mistakes_of_the_guide_are_answered_as_it_says() {
    let shown = blocks("console").pop().unwrap();
    let shown: Vec<&str> = shown.lines().skip(1).collect();
    assert_eq!(said("shop.yaml", blocks("yaml wrong").remove(0)), shown);
}
