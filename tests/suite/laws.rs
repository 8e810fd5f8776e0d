//! The laws of the sources: who may import whom, and what may stand where. Read from the sources themselves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders of what is shipped.
const PRODUCT: [&str; 4] = [
    "journal-format/src",
    "agent-protocol/src",
    "engine/src",
    "webapp/src",
];

/// The folder of the whole project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Of a file of unit tests the module that says so, as a path without its ending: `tests` or `golden`, or the `tests` in
/// whose folder it lies. What lies above the folder that is read does not count.
fn declared_for_tests(folder: &str, file: &Path) -> Option<PathBuf> {
    let module = file.with_extension("");
    let below = module.strip_prefix(root().join(folder)).unwrap();
    let named = |part: &Path, is_file: bool| {
        part.ends_with("tests") || (is_file && part.ends_with("golden"))
    };
    let part = below.ancestors().find(|p| named(p, *p == below))?;
    Some(root().join(folder).join(part))
}

/// Every file of sources below a folder.
fn files(folder: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// Every source below a folder, with its path from the root; without its unit tests and comments.
pub fn sources(folder: &str) -> Vec<(String, String)> {
    files(folder)
        .into_iter()
        .filter(|path| declared_for_tests(folder, path).is_none())
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code: Vec<&str> = text
                .split("#[cfg(test)]\nmod tests {")
                .next()
                .unwrap()
                .lines()
                .filter(|l| !l.trim_start().starts_with("//"))
                .collect();
            (
                path.strip_prefix(root()).unwrap().display().to_string(),
                code.join("\n"),
            )
        })
        .collect()
}

#[test]
fn what_the_laws_pass_over_is_built_for_tests_alone() {
    let mut seen = 0;
    for folder in PRODUCT {
        for file in files(folder) {
            let Some(module) = declared_for_tests(folder, &file) else {
                continue;
            };
            let above = module.parent().unwrap();
            let parent = match above == root().join(folder) {
                true => above.join("lib.rs"),
                false => above.with_extension("rs"),
            };
            let name = module.file_name().unwrap().to_str().unwrap();
            let declared = format!("#[cfg(test)]\nmod {name};");
            let text = fs::read_to_string(&parent).unwrap();
            assert!(text.contains(&declared), "{}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
    let law = |file: &str| declared_for_tests("engine/src", &root().join("engine/src").join(file));
    let at = |module: &str| Some(root().join("engine/src").join(module));
    assert_eq!(law("a/tests.rs"), at("a/tests"));
    assert_eq!(law("a/tests/b.rs"), at("a/tests"));
    for code in [
        "a.rs",
        "a/tested.rs",
        "a/my_tests/b.rs",
        "golden/b.rs",
        "a/tests_of.rs",
    ] {
        assert_eq!(law(code), None, "{code}");
    }
}

/// Every place where one of these words stands in the sources below a folder, but for the files that may.
fn places(folder: &str, words: &[&str], may: &[&str]) -> Vec<String> {
    sources(folder)
        .into_iter()
        .filter(|(path, _)| !may.iter().any(|m| path.starts_with(m)))
        .flat_map(|(path, code)| {
            let hits = code.lines().filter(|l| words.iter().any(|w| l.contains(w)));
            hits.map(|l| format!("{path}: {}", l.trim()))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn none(found: Vec<String>) {
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The crates that a crate may be built on, besides those of the registry.
fn members_in(krate: &str, section: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
    let members = [
        "journal-format",
        "agent-protocol",
        "engine",
        "webapp",
        "fixtures",
        "tests",
        "benches",
    ];
    let section = text
        .split(&format!("[{section}]\n"))
        .nth(1)
        .unwrap_or_default();
    let lines = section.lines().take_while(|l| !l.starts_with('['));
    let names = lines.filter_map(|l| l.split(['.', ' ', '=']).next());
    names
        .filter(|n| members.contains(n))
        .map(str::to_owned)
        .collect()
}

#[test]
fn crates_are_built_only_on_those_they_may() {
    assert_eq!(
        members_in("journal-format", "dependencies"),
        Vec::<String>::new()
    );
    assert_eq!(
        members_in("agent-protocol", "dependencies"),
        ["journal-format"]
    );
    assert_eq!(
        members_in("engine", "dependencies"),
        ["agent-protocol", "journal-format"]
    );
    assert_eq!(
        members_in("webapp", "dependencies"),
        ["agent-protocol", "journal-format"]
    );
    for krate in ["journal-format", "agent-protocol", "engine", "webapp"] {
        assert!(
            !members_in(krate, "dev-dependencies").contains(&"engine".to_owned()),
            "{krate}"
        );
    }
    let engine = fs::read_to_string(root().join("engine/Cargo.toml")).unwrap();
    for foreign in ["rocket", "tokio", "async", "hyper"] {
        assert!(
            !engine.contains(foreign),
            "the engine is synchronous and knows no web: {foreign}"
        );
    }
}

#[test]
fn the_journals_format_knows_no_file_no_process_no_clock_and_no_async() {
    let words = [
        "std::fs",
        "std::process",
        "std::time",
        "SystemTime",
        "Instant",
        "async ",
        "std::env",
        "std::net",
    ];
    none(places("journal-format/src", &words, &[]));
}

/// The sources of a file or folder that must be there.
pub fn sources_of(path: &str) -> Vec<(String, String)> {
    let all = sources("engine/src").into_iter();
    let found: Vec<_> = all.filter(|(p, _)| p.starts_with(path)).collect();
    assert!(!found.is_empty(), "{path} has moved");
    found
}

#[test]
fn what_decides_never_sees_the_host() {
    let pure = [
        "engine/src/plan/order.rs",
        "engine/src/plan/planner",
        "engine/src/plan/preview.rs",
        "engine/src/plan/replaced.rs",
        "engine/src/restore/decide.rs",
        "engine/src/restore/next.rs",
        "engine/src/gateway/kernel_facts.rs",
        "engine/src/gateway/peers.rs",
        "engine/src/text",
    ];
    let outside = ["crate::host", "std::fs", "std::process", "std::time"];
    for path in pure {
        for (file, code) in sources_of(path) {
            let mut lines = code.lines();
            let seen = lines.find(|line| outside.iter().any(|word| line.contains(word)));
            assert_eq!(seen, None, "{file}");
        }
    }
}

#[test]
fn the_calls_that_change_the_system_are_made_in_few_files_and_those_are_known() {
    let config = fs::read_to_string(root().join("engine/clippy.toml")).unwrap();
    for call in [
        "std::process::Command::new",
        "engine::host::programs::execute",
        "engine::host::permit::Permit::after_intent",
        "engine::gateway::database::settle",
        "engine::gateway::database::copying::snapshot",
        "nix::fcntl::renameat2",
    ] {
        assert!(config.contains(&format!("path = \"{call}\"")), "{call}");
    }
    let exceptions = places("engine/src", &["clippy::disallowed_methods"], &[]);
    let files: BTreeSet<&str> = exceptions
        .iter()
        .filter_map(|place| place.split(':').next()?.strip_prefix("engine/src/"))
        .collect();
    let known = [
        "agent/door.rs",
        "backup/growing.rs",
        "files/spool.rs",
        "host/linux.rs",
        "host/linux/act.rs",
        "host/linux/ask.rs",
        "host/linux/hold.rs",
        "host/live_database.rs",
        "host/programs.rs",
        // Tests may.
        "lib.rs",
        "restore/journal.rs",
        "restore/launch.rs",
        "restore/process.rs",
        "state_dir.rs",
    ];
    assert_eq!(files, BTreeSet::from(known));
    none(places("webapp/src", &["process::Command"], &[]));
}

#[test]
fn one_type_appends_to_a_journal() {
    none(places(
        "engine/src",
        &["open_journal(", ".append(&bytes"],
        &["engine/src/restore/journal.rs", "engine/src/host"],
    ));
    none(places(
        "engine/src",
        &["Permit {", "Permit::"],
        &["engine/src/restore/journal.rs", "engine/src/host/permit.rs"],
    ));
}

#[test]
fn steps_never_import_each_other() {
    let steps: Vec<String> = fs::read_dir(root().join("engine/src/restore/step"))
        .unwrap()
        .map(|e| {
            e.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    for (path, code) in sources("engine/src/restore/step") {
        for step in &steps {
            for form in [format!("super::{step}"), format!("step::{step}")] {
                assert!(!code.contains(&form), "{path} imports {step}");
            }
        }
    }
}

#[test]
fn no_match_on_steps_or_decisions_has_a_catch_all() {
    let files = [
        "engine/src/restore/decide.rs",
        "engine/src/restore/next.rs",
        "engine/src/restore/driver.rs",
        "engine/src/restore/step.rs",
        "engine/src/agent/trail.rs",
        "journal-format/src/state.rs",
        "journal-format/src/state/grammar.rs",
        "journal-format/src/view.rs",
        "journal-format/src/render.rs",
    ];
    for file in files {
        let folder = file.split('/').next().unwrap();
        let (path, code) = sources(&format!("{folder}/src"))
            .into_iter()
            .find(|(p, _)| p == file)
            .expect("the file moved");
        let catch_all = code.lines().find(|l| l.trim_start().starts_with("_ =>"));
        assert_eq!(catch_all, None, "{path}");
    }
}

#[test]
fn every_module_says_what_it_is() {
    for folder in [
        "journal-format/src",
        "agent-protocol/src",
        "engine/src",
        "webapp/src",
        "fixtures/src",
        "tests/suite",
        "benches/src",
    ] {
        for (path, _) in sources(folder) {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            assert!(
                text.starts_with("//! "),
                "{path} does not begin with what it owns"
            );
            assert!(
                !text.contains(concat!("(being", " built)")),
                "{path} is a placeholder"
            );
        }
    }
}

#[test]
fn a_call_that_a_signal_may_interrupt_is_made_again() {
    let calls = [
        "nix::fcntl::openat(",
        "nix::fcntl::openat2(",
        "nix::fcntl::fallocate(",
        "nix::fcntl::readlinkat(",
        "nix::sys::statvfs::statvfs(",
        "nix::sys::stat::fchmod(",
        "nix::unistd::fchown(",
        "nix::unistd::fsync(",
        "nix::unistd::syncfs(",
    ];
    let alone = places("engine/src", &calls, &[]);
    // Behind `again(|| ` at once, or in a closure that goes to it.
    let again = |place: &String| place.contains("again(|| ") || place.contains("let open = || ");
    none(alone.into_iter().filter(|place| !again(place)).collect());
}

#[test]
fn no_room_is_named_after_nothing() {
    for folder in [
        "journal-format/src",
        "agent-protocol/src",
        "engine/src",
        "webapp/src",
        "fixtures/src",
        "tests/suite",
        "benches/src",
    ] {
        for (path, _) in sources(folder) {
            for name in ["utils", "common", "misc", "helpers"] {
                assert!(!path.contains(name), "{path}");
            }
        }
    }
}

/// The names of types that are defined at the beginning of a line: those that another file can meet.
fn types(code: &str) -> Vec<&str> {
    code.lines()
        .filter_map(|line| {
            let line = line.strip_prefix("pub").map_or(line, str::trim_start);
            let line = line.split_once(") ").map_or(line, |(scope, rest)| {
                if scope.starts_with('(') { rest } else { line }
            });
            let words = ["struct ", "enum ", "trait ", "type "];
            let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
            rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
        })
        .collect()
}

#[test]
fn a_types_name_says_one_thing_in_the_whole_product() {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in PRODUCT {
        for (path, code) in sources(folder) {
            for name in types(&code) {
                defined
                    .entry(name.to_owned())
                    .or_default()
                    .push(path.clone());
            }
        }
    }
    assert!(defined.len() > 300, "{}", defined.len());
    defined.retain(|_, files| files.len() > 1);
    assert_eq!(defined, BTreeMap::new());
    assert_eq!(
        types("pub(super) struct A;\nenum B {\n    type C = D;\npub trait E: F {}"),
        ["A", "B", "E"]
    );
}

/// Functions of more lines than this, with their file, but for those before which a comment says why they are long.
fn long_functions(path: &str, text: &str, most: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let inner = line.trim_start();
        let begins = [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "async fn ",
            "pub async fn ",
        ];
        if !begins.iter().any(|b| inner.starts_with(b)) || line.ends_with(';') {
            continue;
        }
        let indent = &line[..line.len() - inner.len()];
        let end = format!("{indent}}}");
        let length = lines[at..]
            .iter()
            .position(|l| *l == end)
            .map_or(0, |n| n + 1);
        let mut before = lines[..at].iter().rev();
        let said = before
            .by_ref()
            .take_while(|l| l.trim_start().starts_with("//") || l.trim_start().starts_with("#["))
            .any(|l| l.contains("Long: "));
        if length > most && !said {
            found.push(format!("{path}: {length} lines: {inner}"));
        }
    }
    found
}

#[test]
fn no_file_has_over_500_lines_and_no_function_over_80_unless_it_says_why() {
    let mut found = Vec::new();
    for folder in [
        "engine/src",
        "webapp/src",
        "journal-format/src",
        "agent-protocol/src",
        "tests",
    ] {
        for path in files(folder) {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().display().to_string();
            let length = text.lines().count();
            if length > 500 && !text.lines().take(10).any(|l| l.contains("Long: ")) {
                found.push(format!("{path}: {length} lines"));
            }
            found.extend(long_functions(&path, &text, 80));
        }
    }
    none(found);
    let long = |body: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(body));
    assert_eq!(long_functions("a.rs", &long(78), 80), [""; 0]);
    assert_eq!(long_functions("a.rs", &long(79), 80).len(), 1);
    let said = format!("// Long: a table.\n{}", long(79));
    assert_eq!(long_functions("a.rs", &said, 80), [""; 0]);
}
