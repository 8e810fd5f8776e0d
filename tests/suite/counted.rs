//! The figures of states in the documents come out of the tests: each enumeration compares its row of the table in
//! `docs/crash-safety.md`, and the sums there and in `README.md`. An engine with an effect more or less moves them a little:
//! what is a tenth off is wrong. With `HOLDFAST_COUNTS=write` in the environment it writes them instead. Owns where the
//! figures stand; counts nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Tests run side by side, and write into the same files.
static FILES: Mutex<()> = Mutex::new(());

const SUM: &str = "together";
const README_ROW: &str = "| enumerated states |";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// A number as a person reads it.
fn readable(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// The rows of the table: what, and the figures of the quick enumeration and of all of it.
fn rows(text: &str) -> Vec<(&str, [&str; 2])> {
    let table = text
        .lines()
        .skip_while(|l| !l.starts_with("| what | "))
        .skip(2)
        .take_while(|l| l.starts_with('|'));
    let row = |line| match cells(line)[..] {
        [what, quick, all] => (what, [quick, all]),
        _ => panic!("no row of figures: {line}"),
    };
    table.map(row).collect()
}

/// What was not counted yet counts for nothing.
fn number(figure: &str) -> u64 {
    match figure {
        "not yet" => 0,
        figure => figure.replace(',', "").parse().unwrap(),
    }
}

fn sums(text: &str) -> [u64; 2] {
    [0, 1].map(|column| {
        let figures = rows(text).into_iter().filter(|(what, _)| *what != SUM);
        figures.map(|(_, f)| number(f[column])).sum()
    })
}

fn with_row(text: &str, what: &str, column: usize, figure: &str) -> String {
    let mut found = false;
    let lines = text.lines().map(|line| {
        let mut cells = cells(line);
        if !line.starts_with('|') || cells[0] != what || cells.len() != 3 {
            return line.to_owned();
        }
        found = true;
        cells[column + 1] = figure;
        format!("| {} |", cells.join(" | "))
    });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    assert!(found, "the table has no row `{what}`");
    text
}

fn readme_row([quick, all]: [u64; 2]) -> String {
    format!(
        "{README_ROW} {} in `./scripts/test`, {} in all |",
        readable(quick),
        readable(all)
    )
}

/// So many states were counted, in the quick enumeration or in all of it.
pub fn compare(what: &str, states: u64, all: bool) {
    let _alone = FILES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = file("docs/crash-safety.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (column, figure) = (usize::from(all), readable(states));
    if std::env::var("HOLDFAST_COUNTS").as_deref() == Ok("write") {
        let mut text = with_row(&text, what, column, &figure);
        let sums = sums(&text);
        for column in [0, 1] {
            text = with_row(&text, SUM, column, &readable(sums[column]));
        }
        std::fs::write(&path, text).unwrap();
        let readme = std::fs::read_to_string(file("README.md")).unwrap();
        let row = readme_row(sums);
        let lines = readme
            .lines()
            .map(|l| if l.starts_with(README_ROW) { &row } else { l });
        std::fs::write(
            file("README.md"),
            lines.collect::<Vec<_>>().join("\n") + "\n",
        )
        .unwrap();
        return;
    }
    let rows = rows(&text);
    let row = rows.iter().find(|(name, _)| *name == what);
    let (_, figures) = row.unwrap_or_else(|| panic!("the table has no row `{what}`"));
    let written = number(figures[column]);
    assert!(
        written.abs_diff(states) * 10 <= states,
        "{what}: docs/crash-safety.md has {written}, {figure} were counted; if the engine's effects changed on purpose, \
         HOLDFAST_COUNTS=write in the environment of this test writes it"
    );
}

#[test]
fn the_sums_of_states_in_the_documents_are_those_of_the_table() {
    let _alone = FILES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = std::fs::read_to_string(file("docs/crash-safety.md")).unwrap();
    let [quick, all] = sums(&text);
    assert!(quick >= 10_000 && all > quick, "{quick} {all}");
    let sum = rows(&text).into_iter().find(|(what, _)| *what == SUM);
    let (quick_text, all_text) = (readable(quick), readable(all));
    assert_eq!(sum.unwrap().1, [&quick_text[..], &all_text]);
    let readme = std::fs::read_to_string(file("README.md")).unwrap();
    assert!(readme.contains(&readme_row([quick, all])), "README.md");
}
