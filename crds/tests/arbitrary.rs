//! No text makes the loading panic, and no manifest that it accepts is half of one.

use kontrol_crds::{Source, load};
use proptest::prelude::*;

const RICH: &str = include_str!("manifests/pipeline.yaml");

fn loads(text: String) {
    let lines = text.lines().count() as u64 + 1;
    if let Err(problems) = load(&[Source { name: "m.yaml".to_owned(), text }]) {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
            assert!(!problem.message.is_empty());
        }
    }
}

/// Texts that mean something to YAML or to a manifest.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~\n\t]{0,12}",
        prop::sample::select(vec![
            "",
            "null",
            "~",
            "{}",
            "[]",
            "[",
            "{",
            "}",
            "]",
            ": ",
            "- ",
            "\n---\n",
            "&a ",
            "*a",
            "<<: *a",
            "!!binary x",
            "|",
            ">",
            "'",
            "\"",
            "0",
            "-1",
            "1e400",
            ".nan",
            "99999999999999999999999",
            "yes",
            "Supervisor",
            "Widget",
            "0s",
            "1Ti",
            "99999999999Ti",
            "rag",
            "house",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        if let Ok(mut sources) = kontrol_crds::manifest::read_path(file.path()) {
            loads(std::mem::take(&mut sources[0].text));
        }
    }

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        loads(text);
    }

    #[test]
    fn any_change_of_a_manifest_is_answered(
        edits in prop::collection::vec((0..RICH.len(), 0_usize..20, piece()), 1..4)
    ) {
        let mut text = RICH.to_owned();
        for (at, length, piece) in edits {
            let start = at.min(text.len());
            let end = (start + length).min(text.len());
            if text.is_char_boundary(start) && text.is_char_boundary(end) {
                text.replace_range(start..end, &piece);
            }
        }
        loads(text);
    }

    #[test]
    fn any_value_in_any_place_is_answered(line in 0_usize..200, piece in piece()) {
        let text: Vec<String> = RICH
            .lines()
            .enumerate()
            .map(|(index, text)| match text.split_once(": ") {
                Some((key, _)) if index == line => format!("{key}: {piece}"),
                _ => text.to_owned(),
            })
            .collect();
        loads(text.join("\n"));
    }
}
