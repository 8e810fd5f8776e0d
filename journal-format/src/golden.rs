//! Golden journals: what earlier versions wrote, one folder a version of the format, and the worked example of
//! `FORMAT.md`. They are added to, never rewritten: a journal in the field does not change either.
//!
//! A new one: name it below, run the tests with `HOLDFAST_GOLDEN=write`, and enter its digest and summary.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use crate::sample::*;
use crate::*;

fn given_up(mut pen: Pen) -> Pen {
    pen.step(Step::CleanUp, Direction::Back);
    pen.close(Verdict::NothingChanged);
    pen
}

fn stuck() -> Pen {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.fail(Step::TunnelsUp, Direction::Forward);
    pen.turn();
    pen.step(Step::Fence, Direction::Back);
    for _ in 0..3 {
        pen.fail(Step::StopServices, Direction::Back);
    }
    pen.write(Entry::Stuck {
        problem: problem("stop services: tried too often"),
    });
    pen
}

fn recovered_by_hand() -> Pen {
    let mut pen = stuck();
    pen.write(driver(Role::RecoverByHand, 0));
    pen.all_back();
    pen.step(Step::CleanUp, Direction::Back);
    pen.close(Verdict::RolledBack);
    pen
}

fn power_cut() -> Pen {
    let mut pen = Pen::forward_until(Step::TunnelsUp);
    pen.begin(Step::TunnelsUp, Direction::Forward);
    pen
}

fn resumed_after_power_cut() -> Pen {
    let mut pen = power_cut();
    pen.write(driver(Role::Recover, 1));
    for step in [
        Step::Fence,
        Step::StopServices,
        Step::TunnelsDown,
        Step::ResetRules,
    ] {
        pen.step(step, Direction::Forward);
    }
    pen.forward_between(Step::TunnelsUp, Step::CleanUp);
    pen.twice(Entry::Committed);
    pen.fail(Step::CleanUp, Direction::Forward);
    pen.twice(Entry::Closed {
        verdict: Verdict::Restored,
        warnings: vec!["the staging is left".into()],
    });
    pen
}

fn torn() -> Vec<u8> {
    let bytes = power_cut().bytes;
    bytes[..bytes.len() - 40].to_vec()
}

fn corrupt() -> Vec<u8> {
    let pen = power_cut();
    let mut bytes = pen.bytes;
    bytes[pen.ends[6] + 90] ^= 4;
    bytes
}

fn open_of_1_1() -> Pen {
    let mut pen = Pen::begun_with(plan_of_1_1());
    pen.arm();
    pen.forward_between(Step::Fence, Step::TunnelsUp);
    pen.begin(Step::TunnelsUp, Direction::Forward);
    pen
}

fn restored_of_1_1() -> Pen {
    let mut pen = Pen::begun_with(plan_of_1_1());
    pen.arm();
    pen.forward_between(Step::Fence, Step::CleanUp);
    pen.twice(Entry::Committed);
    pen.step(Step::CleanUp, Direction::Forward);
    pen.close(Verdict::Restored);
    pen
}

/// Its name, how it was made, the beginning of its BLAKE3, and what a scan says of it.
type Golden = (&'static str, fn() -> Vec<u8>, &'static str, &'static str);

const OF_1_1: [Golden; 3] = [
    (
        "nothing-changed",
        || given_up(Pen::begun_with(plan_of_1_1())).bytes,
        "f9357b5f0c92b889",
        "7 records, nothing changed, 0",
    ),
    (
        "open",
        || open_of_1_1().bytes,
        "8d908cf437aff0a4",
        "23 records, restoring, 10",
    ),
    (
        "restored",
        || restored_of_1_1().bytes,
        "fda6edeff4700264",
        "40 records, restored, 0",
    ),
];

const OF_1_0: [Golden; 9] = [
    (
        "restored",
        || Pen::restored().bytes,
        "168815fa418712a5",
        "40 records, restored, 0",
    ),
    (
        "rolled-back",
        || Pen::rolled_back().bytes,
        "fd2916794a66227d",
        "52 records, rolled back, 0",
    ),
    (
        "nothing-changed",
        || given_up(Pen::begun()).bytes,
        "9753e95150e92752",
        "7 records, nothing changed, 0",
    ),
    (
        "open",
        || power_cut().bytes,
        "ed5fd94007a94304",
        "23 records, restoring, 10",
    ),
    (
        "resumed-after-power-cut",
        || resumed_after_power_cut().bytes,
        "965037d73748bbf6",
        "50 records, restored, 0",
    ),
    (
        "stuck",
        || stuck().bytes,
        "3c7b9ae25ad64a7a",
        "35 records, stuck, 10",
    ),
    (
        "recovered-by-hand",
        || recovered_by_hand().bytes,
        "9f6d5ed7fcfe90ec",
        "62 records, rolled back, 0",
    ),
    (
        "torn",
        torn,
        "c1ce4dedd1b34cce",
        "22 records, restoring, 11",
    ),
    (
        "corrupt",
        corrupt,
        "23d854a654e54cff",
        "7 records, preparing, 12",
    ),
];

#[test]
fn every_golden_journal_is_unchanged_and_reads_as_it_did() {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let write = std::env::var_os("HOLDFAST_GOLDEN").is_some_and(|v| v == "write");
    let mut wrong = Vec::new();
    let of_1_0 = OF_1_0.iter().map(|g| ("1.0", g));
    for (version, (name, make, digest, expected)) in of_1_0.chain(OF_1_1.iter().map(|g| ("1.1", g)))
    {
        let folder = golden.join(version);
        let path = folder.join(format!("{name}.journal"));
        if write && !path.exists() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, make()).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let found = scan(&bytes);
        let standing = found
            .state
            .as_ref()
            .map_or("none", |s| Standing::of(s).words());
        let summary = format!(
            "{} records, {standing}, {}",
            found.records.len(),
            found.soundness().exit_status()
        );
        let now = &blake3::hash(&bytes).to_hex()[..16];
        if (now, summary.as_str()) != (*digest, *expected) {
            wrong.push(format!("{version} {name} {now} {summary}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const SPECIFICATION: &str = include_str!("../FORMAT.md");

fn worked_example() -> &'static str {
    let (_, behind) = SPECIFICATION.split_once("```journal\n").unwrap();
    behind.split_once("```").unwrap().0
}

#[test]
fn the_worked_example_of_the_specification_is_a_sound_journal() {
    let found = scan(worked_example().as_bytes());
    assert_eq!(found.tail, Tail::Clean);
    assert_eq!(
        found.soundness(),
        Soundness::Closed(Verdict::NothingChanged)
    );
    // The second hash by hand, as the specification explains it.
    let lines: Vec<&str> = worked_example().lines().collect();
    let first: blake3::Hash = lines[0][..64].parse().unwrap();
    let bound = [first.as_bytes().as_slice(), &lines[1].as_bytes()[65..]].concat();
    assert_eq!(lines[1][..64], *blake3::hash(&bound).to_hex());
    let texts: Vec<String> = found
        .records
        .iter()
        .map(|r| record_text(r, Detail::Whole))
        .collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_journal_of_an_earlier_version_is_gone_on_with_and_says_no_more_than_that_version_knows() {
    let open = include_bytes!("../golden/1.0/open.journal");
    let found = scan(open);
    let (mut state, mut chain) = (found.state.unwrap(), found.chain.unwrap());
    assert_eq!(state.header.format, Format::FIRST);
    let plan = state.plan.clone().unwrap();
    assert_eq!(
        (plan.digest(), plan.format()),
        (state.header.plan.clone(), Format::FIRST)
    );
    let record = Record {
        seq: state.seq.next(),
        at_ms: 0,
        up_ms: 0,
        entry: driver(Role::Recover, 1),
        info: None,
    };
    state.apply(&record).unwrap();
    let longer = [&open[..], &chain.encode(&record).unwrap()].concat();
    assert_eq!(scan(&longer).state, Some(state));
}

#[test]
fn a_problem_of_a_journal_of_1_0_has_no_code_and_one_with_a_code_may_not_stand_there() {
    let coded = Problem {
        about: vec!["wg0".into()],
        ..Problem::new(Code::IO, "go on", "look")
    };
    let entry = Entry::Stuck {
        problem: coded.clone(),
    };
    let mut of_1_0 = Pen::forward_until(Step::TunnelsUp);
    let refused = of_1_0.try_write(entry.clone()).unwrap_err();
    assert!(
        refused.why.contains("format 1.0 does not know"),
        "{refused}"
    );
    let within = entry.clone().within(Format::FIRST);
    let json = serde_json::to_value(&within).unwrap();
    let fields: Vec<&String> = json["stuck"]["problem"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(fields, ["advice", "what"]);
    of_1_0.write(within);
    assert_eq!(entry.clone().within(Format::V1_1), entry);
    let mut of_1_1 = Pen::begun_with(plan_of_1_1());
    of_1_1.write(entry);
    assert_eq!(scan(&of_1_1.bytes).state.unwrap().stuck, Some(coded));
}

#[test]
fn a_plan_whose_notes_say_more_than_a_sentence_may_not_stand_in_a_journal_of_1_0() {
    let noted = Plan {
        warnings: vec![Note::lost(Code::CLIENTS_GONE, "1 client will be gone: a")],
        ..plan()
    };
    assert_eq!(
        (plan().format(), noted.format()),
        (Format::FIRST, Format::V1_1)
    );
    let begun_as = |format| {
        let header = Header {
            format,
            ..header(&noted)
        };
        Pen::opened_with(header).try_write(Entry::Plan(noted.clone().into()))
    };
    let refused = begun_as(Format::FIRST).unwrap_err();
    assert!(
        refused.why.contains("format 1.0 does not know"),
        "{refused}"
    );
    begun_as(Format::V1_1).unwrap();
    let json = serde_json::to_string(&noted).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), noted);
}

#[test]
fn a_journal_of_1_0_takes_of_a_note_its_sentence_alone() {
    let note = Note::down(Code::LEFT_OVER, "a file is left").advising("remove it");
    let entry = |warnings: Vec<Note>| Entry::Closed {
        verdict: Verdict::Restored,
        warnings,
    };
    let before = || {
        let mut pen = Pen::forward_until(Step::CleanUp);
        pen.twice(Entry::Committed);
        pen.begin(Step::CleanUp, Direction::Forward);
        pen
    };
    let mut of_1_0 = before();
    let r#move = of_1_0.state.in_doubt.unwrap();
    let done = Entry::Done {
        r#move,
        did: Vec::new(),
        warnings: vec![note.clone()],
    };
    let refused = of_1_0.try_write(done.clone()).unwrap_err();
    assert!(
        refused.why.contains("format 1.0 does not know"),
        "{refused}"
    );
    assert_eq!(done.clone().within(Format::V1_1), done);
    of_1_0.write(done.within(Format::FIRST));
    assert!(of_1_0.try_write(entry(vec![note.clone()])).is_err());
    of_1_0.twice(entry(vec![note]).within(Format::FIRST));
    let found = scan(&of_1_0.bytes).state.unwrap();
    assert_eq!(
        found.closing_warnings,
        [Note::from("a file is left; what to do: remove it")]
    );
}

#[test]
fn a_journal_of_1_0_that_a_crash_left_without_a_plan_ends_in_sentences_alone() {
    let mut pen = Pen::opened_with(header(&plan()));
    pen.write(driver(Role::Recover, 1));
    let note = Note::down(Code::LEFT_OVER, "a file is left");
    let closed = Entry::Closed {
        verdict: Verdict::NothingChanged,
        warnings: vec![note],
    };
    let stuck = Entry::Stuck {
        problem: Problem::new(Code::IO, "go on", "look"),
    };
    for entry in [closed.clone(), stuck] {
        let refused = pen.try_write(entry).unwrap_err();
        assert!(
            refused.why.contains("format 1.0 does not know"),
            "{refused}"
        );
    }
    pen.twice(closed.within(Format::FIRST));
}

/// What a program of 1.0 holds of a problem. It takes a record for one that it knows if it writes it as it read it.
#[derive(serde::Serialize, serde::Deserialize)]
struct ProblemOf10 {
    what: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    advice: String,
}

#[test]
fn a_program_of_1_0_stops_at_a_code_and_at_what_a_problem_is_about_and_at_nothing_else() {
    let of_1_0 = problem("go on");
    let with_code = Problem {
        code: Some(Code::IO),
        ..of_1_0.clone()
    };
    let about = Problem {
        about: vec!["wg0".into()],
        ..of_1_0.clone()
    };
    for (problem, known) in [(of_1_0, true), (with_code, false), (about, false)] {
        let entry = Entry::Stuck { problem };
        let json = serde_json::to_value(&entry).unwrap()["stuck"]["problem"].clone();
        let held: ProblemOf10 = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(held).unwrap() == json, known);
        assert_eq!(entry.format() == Format::FIRST, known);
    }
}

#[test]
fn the_specification_names_every_record_step_and_limit() {
    let pen = Pen::begun();
    let mut words: Vec<String> = Step::ALL.iter().map(|s| format!("`{s}`")).collect();
    for entry in pen.vocabulary() {
        let json = serde_json::to_value(&entry).unwrap();
        let name = json
            .as_str()
            .map(str::to_owned)
            .or_else(|| json.as_object()?.keys().next().cloned());
        words.push(format!("`{}`", name.unwrap()));
    }
    words.push(format!("{} MiB", MAX_LINE_BYTES >> 20));
    words.push(format!("version {}", Format::CURRENT));
    for word in words {
        assert!(SPECIFICATION.contains(&word), "{word}");
    }
}

/// What the worked example was made with; printed by `HOLDFAST_GOLDEN=example`.
#[test]
fn the_worked_example_is_small_enough_to_read() {
    let mut plan = plan();
    plan.files.clear();
    plan.services.clear();
    let mut pen = Pen::opened_with(header(&plan));
    pen.write(Entry::Plan(plan.into()));
    pen.write(driver(Role::Restore, 0));
    let pen = given_up(pen);
    if std::env::var_os("HOLDFAST_GOLDEN").is_some_and(|v| v == "example") {
        print!(
            "```journal\n{}```\n",
            String::from_utf8(pen.bytes.clone()).unwrap()
        );
    }
    assert!(worked_example().len() < 8192);
}
