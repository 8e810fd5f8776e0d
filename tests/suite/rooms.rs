//! The law of the rooms: what a folder of the engine may use stands in a table of ARCHITECTURE.md, and every path in its
//! sources is held against that table. Read from the sources; must not know a room that the table does not name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::laws::{root, sources, sources_of};

/// The rooms by name, and what each may use.
type Table = BTreeMap<String, BTreeSet<String>>;
/// The sources by their paths below `engine/src`.
type Sources = BTreeMap<String, String>;

/// The table: a line a room, from the top down; `all below` is every room of a later line.
fn table(architecture: &str) -> Table {
    let (_, behind) = architecture
        .split_once("| room | what it is | may use |\n|---|---|---|\n")
        .expect("ARCHITECTURE.md has no table of rooms");
    let lines: Vec<[&str; 3]> = behind
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            cells
                .try_into()
                .expect("a line of the table has three cells")
        })
        .collect();
    let name = |cell: &str| cell.trim_matches('`').to_owned();
    let rooms = lines.iter().enumerate().map(|(at, [room, _, may])| {
        let below = lines[at + 1..].iter().map(|[room, ..]| name(room));
        let may: BTreeSet<String> = match *may {
            "all below" => below.collect(),
            "nothing" => BTreeSet::new(),
            named => named.split(' ').map(name).collect(),
        };
        (name(room), may)
    });
    rooms.collect()
}

fn engine() -> Sources {
    let all = sources("engine/src").into_iter();
    let inside = all.map(|(path, code)| (path["engine/src/".len()..].to_owned(), code));
    // They only open the house.
    inside
        .filter(|(path, _)| path != "lib.rs" && path != "main.rs")
        .collect()
}

fn room_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Every path from the crate's root that a file names, in trees of `use` too.
fn paths(file: &str, code: &str) -> Vec<Vec<String>> {
    let module: Vec<&str> = file.strip_suffix(".rs").unwrap().split('/').collect();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        tree(&code[at + "crate::".len()..], &[], &mut found);
    }
    for (at, _) in code.match_indices("super::") {
        // The second of two is read with the first.
        if code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut from = module.as_slice();
        while let Some(further) = rest.strip_prefix("super::") {
            (rest, from) = (further, from.split_last().map_or(from, |(_, above)| above));
        }
        let from: Vec<String> = from.iter().map(|&s| s.to_owned()).collect();
        tree(rest, &from, &mut found);
    }
    found
}

/// Reads one path, or each of those in braces; gives what stands behind.
fn tree<'c>(code: &'c str, before: &[String], found: &mut Vec<Vec<String>>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches([',', ' ', '\n']);
            match rest.strip_prefix('}') {
                Some(behind) => return behind,
                None => rest = tree(rest, before, found),
            }
        }
    }
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_');
    let (name, rest) = code.split_at(end.unwrap_or(code.len()));
    let mut path = before.to_vec();
    path.push(name.to_owned());
    match rest.strip_prefix("::").filter(|_| !name.is_empty()) {
        Some(further) => tree(further, &path, found),
        None => {
            found.push(path);
            let end = rest.find([',', '}', ';', '\n']).unwrap_or(rest.len());
            // Behind `as` another name stands; and whatever it is, something must be eaten.
            if name.is_empty() {
                &rest[end.max(1).min(rest.len())..]
            } else {
                &rest[end..]
            }
        }
    }
}

/// What breaks the table: a room without a line, a line without a room, a path to a room that may not be used.
fn broken(table: &Table, sources: &Sources) -> Vec<String> {
    let rooms: BTreeSet<&str> = sources.keys().map(|path| room_of(path)).collect();
    let mut broken = Vec::new();
    for room in table.keys().filter(|room| !rooms.contains(room.as_str())) {
        broken.push(format!("{room} stands in the table and has no file"));
    }
    for (file, code) in sources {
        let Some(may) = table.get(room_of(file)) else {
            broken.push(format!("{file} is in no room of the table"));
            continue;
        };
        for path in paths(file, code) {
            let used = path[0].as_str();
            if rooms.contains(used) && used != room_of(file) && !may.contains(used) {
                broken.push(format!("{file} uses {}", path.join("::")));
            }
        }
    }
    broken
}

/// The files that a file uses. One that lies in another's folder is a part of it, and no other file.
fn uses(sources: &Sources) -> BTreeMap<&str, BTreeSet<&str>> {
    let file_of = |path: &[String]| {
        (1..=path.len()).rev().find_map(|length| {
            let file = format!("{}.rs", path[..length].join("/"));
            sources.get_key_value(&file).map(|(file, _)| file.as_str())
        })
    };
    let is_part = |a: &str, b: &str| b.starts_with(&format!("{}/", a.strip_suffix(".rs").unwrap()));
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, code) in sources {
        let used = paths(file, code)
            .into_iter()
            .filter_map(|path| file_of(&path));
        let others =
            used.filter(|used| used != file && !is_part(file, used) && !is_part(used, file));
        uses.entry(file).or_default().extend(others);
    }
    uses
}

/// A way from a file over others back to itself, for each file that has one.
fn circles(sources: &Sources) -> Vec<String> {
    let uses = uses(sources);
    let mut circles = Vec::new();
    for start in uses.keys() {
        let mut reached: BTreeMap<&str, &str> = BTreeMap::new();
        let mut next: Vec<&str> = vec![start];
        while let Some(file) = next.pop() {
            for used in &uses[file] {
                if reached.insert(used, file).is_none() {
                    next.push(used);
                }
            }
        }
        if let Some(last) = reached.get(start) {
            circles.push(format!("{start} comes back to itself through {last}"));
        }
    }
    circles
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn of(files: &[(&str, &str)]) -> Sources {
    let own = |(path, code): &(&str, &str)| ((*path).to_owned(), (*code).to_owned());
    files.iter().map(own).collect()
}

#[test]
fn a_room_uses_only_what_its_line_in_the_table_allows() {
    let architecture = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = table(&architecture);
    assert!(table.len() > 10, "{table:?}");
    // No two rooms may use each other.
    for (room, may) in &table {
        for used in may {
            assert!(
                table.contains_key(used),
                "{room} may use {used}, which is no room"
            );
            assert!(!table[used].contains(room), "{room} and {used}");
        }
    }
    none(broken(&table, &engine()));
}

#[test]
fn no_file_comes_back_to_itself_through_others() {
    none(circles(&engine()));
}

#[test]
fn these_laws_notice_an_arrow_upward_a_file_outside_a_room_that_is_gone_and_a_circle() {
    let table = table(
        "| room | what it is | may use |\n|---|---|---|\n| `top` | a | all below |\n| `middle` | b | `low` |\n| `low` | c | nothing |\n",
    );
    let good = of(&[
        ("top.rs", "use crate::{low, middle::{self, deep::X}};"),
        ("middle.rs", "pub mod deep;"),
        (
            "middle/deep.rs",
            "use super::super::low::Y as Z; fn f() { crate::low::g() }",
        ),
        ("low.rs", "fn g() {}"),
    ]);
    assert_eq!(broken(&table, &good), [""; 0]);
    assert_eq!(circles(&good), [""; 0]);
    for (path, code, says) in [
        (
            "low.rs",
            "use crate::{middle::{deep}};",
            "low.rs uses middle::deep",
        ),
        (
            "low/under.rs",
            "use super::super::top;",
            "low/under.rs uses top",
        ),
        (
            "middle/deep.rs",
            "fn f() { crate::top::go() }",
            "middle/deep.rs uses top::go",
        ),
        ("attic.rs", "", "attic.rs is in no room of the table"),
    ] {
        let mut bad = good.clone();
        bad.insert(path.to_owned(), code.to_owned());
        assert_eq!(broken(&table, &bad), [says]);
    }
    let mut bad = good.clone();
    bad.remove("low.rs");
    assert_eq!(
        broken(&table, &bad),
        ["low stands in the table and has no file"]
    );
    let mut bad = good;
    bad.insert("low/a.rs".into(), "use crate::low::b::B;".into());
    bad.insert("low/b.rs".into(), "use super::a::A;".into());
    assert_eq!(circles(&bad).len(), 2, "{:?}", circles(&bad));
}

/// The first line that looks at the gateway otherwise than through the traits of the host. The archive is an open file.
fn past_the_host(code: &str) -> Option<&str> {
    let past = [
        "std::fs",
        "unix::fs",
        "File::open",
        "File::options",
        "files::open",
        "access::look",
        "owner::resolve",
        "live_database",
        "Live::",
        "host::linux",
        "rusqlite",
    ];
    let mut lines = code.lines().filter(|line| *line != "use std::fs::File;");
    lines.find(|line| past.iter().any(|word| line.contains(word)))
}

#[test]
fn survey_and_plan_see_the_gateway_through_the_host_alone() {
    // It changes modes, and looks once more at what it changes.
    let closes = "engine/src/survey/exposure/close.rs";
    assert_eq!(sources_of(closes).len(), 1);
    for room in ["engine/src/survey", "engine/src/plan"] {
        for (file, code) in sources_of(room).iter().filter(|(file, _)| file != closes) {
            assert_eq!(past_the_host(code), None, "{file}");
        }
    }
    for past in [
        "let there = std::fs::read_link(path);",
        "use crate::host::live_database::Live;",
        "let file = File::open(path)?;",
    ] {
        assert_eq!(past_the_host(past), Some(past));
    }
}
