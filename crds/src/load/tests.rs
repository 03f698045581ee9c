use super::*;
use crate::Source;

const RICH: &str = include_str!("../../tests/manifests/pipeline.yaml");

#[test]
fn the_rich_manifest_becomes_a_world() {
    let world = load(&[Source { name: "examples/rag.yaml".to_owned(), text: RICH.to_owned() }])
        .unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
    assert_eq!(world.trees.len(), 1);
    assert_eq!((world.buses.len(), world.topics.len(), world.routes.len()), (1, 3, 1));
}
