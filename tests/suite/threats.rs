//! The table of threats is whole, and every test that it names is there.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::laws::root;

/// The cells of each row that begins with a threat.
fn rows() -> Vec<(String, Vec<String>)> {
    let table = fs::read_to_string(root().join("docs/threats.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| A"));
    rows.map(|line| {
        let cells = line.trim_matches('|').split(" | ");
        let mut cells: Vec<String> = cells.map(|c| c.trim().to_owned()).collect();
        (cells.remove(0), cells)
    })
    .collect()
}

/// The names of all tests of the workspace.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders: Vec<PathBuf> = [
        "journal-format",
        "agent-protocol",
        "engine",
        "webapp",
        "fixtures",
        "tests",
    ]
    .map(|krate| root().join(krate))
    .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(entry).unwrap();
                for (_, behind) in text
                    .match_indices("#[test]")
                    .map(|(at, _)| text.split_at(at))
                {
                    let name = behind.split("fn ").nth(1).unwrap_or_default();
                    let name = name.split('(').next().unwrap_or_default();
                    found.insert(name.to_owned());
                }
            }
        }
    }
    found
}

#[test]
fn every_threat_has_a_row() {
    let ids: Vec<String> = rows().into_iter().map(|(id, _)| id).collect();
    let expected: Vec<String> = (1..=45)
        .filter(|n| *n != 11)
        .map(|n| format!("A{n}"))
        .collect();
    assert_eq!(ids, expected);
}

#[test]
fn every_row_names_tests_and_every_test_that_is_named_exists() {
    let there = tests();
    for (id, cells) in rows() {
        assert_eq!(cells.len(), 3, "{id}: {cells:?}");
        let named: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{id} names no test");
        for name in named {
            assert!(there.contains(name), "{id}: there is no test {name}");
        }
    }
}

#[test]
fn every_threat_that_hostile_input_belongs_to_is_in_the_table() {
    use fixtures::hostile::{archives, configs, databases, metadata, rules};
    let ids: BTreeSet<String> = rows().into_iter().map(|(id, _)| id).collect();
    let cases = [
        archives::all(),
        configs::all(),
        databases::all(),
        metadata::all(),
        rules::all(),
    ];
    let mut names = BTreeSet::new();
    for case in cases.iter().flatten() {
        assert!(ids.contains(case.threat), "{case:?}");
        assert!(
            names.insert(&case.what),
            "two cases are called {:?}",
            case.what
        );
    }
}
