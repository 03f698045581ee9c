use std::{collections::HashSet, fs, path::Path};

use super::*;

#[test]
fn codes_are_unique_and_the_table_is_sorted() {
    let numbers: Vec<u16> = Code::ALL.iter().map(|code| *code as u16).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), Code::ALL.len());
}

#[test]
fn a_code_reads_back_and_belongs_to_a_range() {
    for code in Code::ALL {
        assert_eq!(code.as_str().parse(), Ok(*code));
        assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
        assert!((1000..7000).contains(&(*code as u16)), "{code}");
    }
    assert_eq!("KTL9999".parse::<Code>(), Err(Unknown("KTL9999".to_owned())));
}

#[test]
fn a_code_says_what_happened_and_what_to_do_in_one_line_each() {
    for code in Code::ALL {
        for line in [code.meaning(), code.way_out()] {
            assert!(line.ends_with('.') && !line.contains('\n') && !line.contains('|'), "{code}: {line}");
        }
        assert!((400..600).contains(&code.http()), "{code}");
        assert_ne!(code.status(), Status::Ok, "{code}");
    }
}

#[test]
fn a_status_is_found_by_its_number() {
    for status in Status::ALL {
        assert_eq!(Status::of(status.number()), *status);
    }
    assert_eq!(Status::of(99), Status::Unknown);
}

#[test]
fn the_page_of_errors_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let written = fs::read_to_string(path).unwrap();
    assert!(written == page(), "run: cargo run -p kontrol-core --example errors > docs/errors.md");
}
