//! Torn or corrupt: cuts, flips, zeros, and lines that were moved or came from elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use proptest::prelude::*;

use super::*;
use crate::sample::*;
use crate::{Direction, Entry, Header, RestoreId, Role, Step};

/// A journal with little in it, for tests that try every bit.
fn small() -> Pen {
    let mut plan = plan();
    plan.files.clear();
    plan.services.clear();
    plan.tunnels_down.clear();
    plan.tunnels_up.clear();
    plan.staging.clear();
    plan.warnings.clear();
    let mut pen = Pen::opened_with(header(&plan));
    pen.write(Entry::Plan(plan.into()));
    pen.write(driver(Role::Restore, 0));
    pen.begin(Step::SafetyBackup, Direction::Forward);
    pen.write(driver(Role::Recover, 1));
    pen
}

fn line(pen: &Pen, n: usize) -> std::ops::Range<usize> {
    let begin = if n == 0 { 0 } else { pen.ends[n - 1] };
    begin..pen.ends[n]
}

fn soundness(bytes: &[u8]) -> Soundness {
    scan(bytes).soundness()
}

fn is_prefix(found: &Scan, pen: &Pen) -> bool {
    pen.records.starts_with(&found.records) && found.records.len() < pen.records.len()
}

#[test]
fn a_whole_journal_gives_its_records_state_and_chain_back() {
    for pen in [
        Pen::restored(),
        Pen::rolled_back(),
        Pen::forward_until(Step::TunnelsUp),
    ] {
        let found = scan(&pen.bytes);
        assert_eq!(found.records, pen.records);
        assert_eq!(found.state.as_ref(), Some(&pen.state));
        assert_eq!(
            (found.valid_len, &found.tail),
            (pen.bytes.len(), &Tail::Clean)
        );
        let mut more = pen.clone();
        more.write(driver(Role::Recover, 1));
        let mut appended = pen.bytes.clone();
        appended.extend(
            found
                .chain
                .unwrap()
                .encode(more.records.last().unwrap())
                .unwrap(),
        );
        assert_eq!(appended, more.bytes);
    }
}

#[test]
fn each_soundness_has_its_exit_status() {
    let restored = Pen::restored();
    let open = Pen::armed();
    let mut newer = header(&plan());
    newer.format.minor = Format::CURRENT.minor + 1;
    let cases = [
        (
            restored.bytes.clone(),
            Soundness::Closed(Verdict::Restored),
            0,
        ),
        (open.bytes.clone(), Soundness::Open, 10),
        (Vec::new(), Soundness::Empty, 11),
        (
            open.bytes[..open.bytes.len() - 1].to_vec(),
            Soundness::Torn,
            11,
        ),
        (restored.bytes[1..].to_vec(), Soundness::Corrupt, 12),
        (Pen::opened_with(newer).bytes, Soundness::Newer, 13),
    ];
    for (bytes, expected, status) in cases {
        assert_eq!(
            (soundness(&bytes), expected.exit_status()),
            (expected, status)
        );
    }
}

#[test]
fn cut_at_every_byte_it_is_clean_or_torn_with_the_records_before() {
    let pen = Pen::armed();
    for end in 0..pen.bytes.len() {
        let found = scan(&pen.bytes[..end]);
        let whole = pen.ends.iter().filter(|e| **e <= end).count();
        assert_eq!(found.records, pen.records[..whole]);
        let behind = end - whole.checked_sub(1).map_or(0, |last| pen.ends[last]);
        let expected = if behind == 0 {
            Tail::Clean
        } else {
            Tail::Torn { bytes: behind }
        };
        assert_eq!(found.tail, expected, "cut at {end}");
        assert!(found.chain.is_some());
    }
}

#[test]
fn every_flipped_bit_is_corruption_and_no_record_behind_it_is_believed() {
    let pen = small();
    for at in 0..pen.bytes.len() {
        for bit in 0..8 {
            let mut bytes = pen.bytes.clone();
            bytes[at] ^= 1 << bit;
            let found = scan(&bytes);
            assert_eq!(
                found.soundness(),
                Soundness::Corrupt,
                "bit {bit} of byte {at}"
            );
            let line_of_flip = pen.ends.iter().filter(|e| **e <= at).count();
            assert_eq!(found.records, pen.records[..line_of_flip]);
            assert!(found.chain.is_none());
        }
    }
}

#[test]
fn a_zeroed_line_in_the_middle_is_corruption_and_at_the_end_a_torn_tail() {
    let pen = Pen::rolled_back();
    for n in 0..pen.records.len() {
        let mut with_newline = pen.bytes.clone();
        with_newline[line(&pen, n)].fill(0);
        let mut but_newline = pen.bytes.clone();
        let range = line(&pen, n);
        but_newline[range.start..range.end - 1].fill(0);
        let last = n + 1 == pen.records.len();
        assert_eq!(
            soundness(&with_newline),
            if last {
                Soundness::Torn
            } else {
                Soundness::Corrupt
            },
            "line {n}"
        );
        for bytes in [with_newline, but_newline] {
            let found = scan(&bytes);
            assert!(is_prefix(&found, &pen));
            assert!(last || found.soundness() == Soundness::Corrupt, "line {n}");
        }
    }
}

#[test]
fn lines_swapped_removed_doubled_or_merged_are_corruption() {
    let pen = Pen::rolled_back();
    let join = |lines: Vec<&[u8]>| lines.concat();
    let lines: Vec<&[u8]> = (0..pen.records.len())
        .map(|n| &pen.bytes[line(&pen, n)])
        .collect();
    for n in 0..lines.len() - 1 {
        let mut swapped = lines.clone();
        swapped.swap(n, n + 1);
        let mut removed = lines.clone();
        removed.remove(n);
        let mut doubled = lines.clone();
        doubled.insert(n, lines[n]);
        let mut merged = lines.clone();
        merged[n] = lines[n].strip_suffix(b"\n").unwrap();
        for (what, changed) in [
            ("swapped", swapped),
            ("removed", removed),
            ("doubled", doubled),
            ("merged", merged),
        ] {
            let found = scan(&join(changed));
            assert_eq!(found.soundness(), Soundness::Corrupt, "line {n} {what}");
            assert!(pen.records.starts_with(&found.records));
        }
    }
    let mut twice = lines.clone();
    twice.push(lines[lines.len() - 1]);
    assert_eq!(soundness(&join(twice)), Soundness::Corrupt);
}

#[test]
fn a_line_of_another_restore_is_corruption() {
    let plan = plan();
    let other_header = Header {
        restore: RestoreId::new("20261122T185220Z-ffffffff").unwrap(),
        ..header(&plan)
    };
    let mut other = Pen::opened_with(other_header);
    other.write(Entry::Plan(plan.into()));
    other.write(driver(Role::Restore, 0));
    let pen = Pen::begun();
    for n in 0..pen.records.len() {
        let mut spliced = pen.bytes[..line(&pen, n).start].to_vec();
        spliced.extend_from_slice(&other.bytes[line(&other, n)]);
        let only_header = n == 0;
        assert_eq!(
            soundness(&spliced) == Soundness::Corrupt,
            !only_header,
            "line {n}"
        );
    }
}

#[test]
fn a_good_line_that_the_grammar_refuses_is_corruption_even_at_the_end() {
    let pen = Pen::armed();
    let mut chain = scan(&pen.bytes).chain.unwrap();
    let mut bytes = pen.bytes.clone();
    bytes.extend(chain.encode(&pen.record(Entry::Committed)).unwrap());
    let found = scan(&bytes);
    assert_eq!(found.records, pen.records);
    let Tail::Corrupt { offset, line, why } = found.tail else {
        panic!("{:?}", found.tail)
    };
    assert_eq!(
        (offset, line),
        (pen.bytes.len(), pen.records.len() as u64 + 1)
    );
    insta::assert_snapshot!(why, @"record 8 may not stand here: fence is not done in this boot");
}

#[test]
fn zeros_behind_the_last_record_or_its_beginning_are_a_torn_tail() {
    let pen = Pen::armed();
    for zeros in [1, 511, 4096] {
        for cut in 0..200 {
            let mut bytes = pen.bytes[..pen.bytes.len() - cut].to_vec();
            bytes.resize(bytes.len() + zeros, 0);
            let found = scan(&bytes);
            assert_eq!(
                found.soundness(),
                Soundness::Torn,
                "{zeros} zeros behind a cut of {cut}"
            );
            assert!(pen.records.starts_with(&found.records));
        }
    }
    assert_eq!(soundness(&[0; 100]), Soundness::Torn);
    assert_eq!(soundness(b"\n"), Soundness::Corrupt);
}

/// A record of several sectors, and the journal before it.
fn long_last() -> (Pen, usize) {
    let mut pen = Pen::armed();
    let from = pen.bytes.len();
    pen.write(Entry::Stuck {
        problem: crate::Problem {
            stderr: Some("x".repeat(5000)),
            ..problem("go on")
        },
    });
    (pen, from)
}

#[test]
fn a_record_whose_sectors_did_not_all_arrive_is_a_torn_tail() {
    let (pen, from) = long_last();
    let first = from.next_multiple_of(512);
    for begin in [from, first, first + 1024] {
        for end in [first + 1536, first + 4096] {
            let mut bytes = pen.bytes.clone();
            bytes[begin..end].fill(0);
            assert_eq!(
                scan(&bytes).tail,
                Tail::Torn {
                    bytes: bytes.len() - from
                }
            );
        }
    }
}

#[test]
fn zeros_that_no_cut_off_write_leaves_are_corruption() {
    let (pen, from) = long_last();
    let first = from.next_multiple_of(512);
    for (begin, end) in [
        (first + 1, first + 512),
        (first, first + 511),
        (first + 7, first + 8),
    ] {
        let mut bytes = pen.bytes.clone();
        bytes[begin..end].fill(0);
        assert_eq!(soundness(&bytes), Soundness::Corrupt);
    }
    // The record before lost its end, but the one behind it is there.
    let mut two = pen.clone();
    two.write(driver(Role::RecoverByHand, 0));
    let mut bytes = two.bytes.clone();
    let end = pen.bytes.len() + 30;
    bytes[first..end].fill(0);
    assert_eq!(soundness(&bytes), Soundness::Corrupt);
}

#[test]
fn a_tail_that_is_not_of_the_next_record_is_corruption() {
    let pen = Pen::armed();
    let hash = "0".repeat(64);
    for tail in [
        "hello".to_owned(),
        format!("{hash}x"),
        format!("{hash} {{\"seq\":9"),
        format!("{hash} {{\"seq\":8,\"at_ms\":1}}"),
        format!("{hash} {{\"seq\":8,\"at_ms\":1,}}"),
        format!("{hash} {{\"seq\":8,\t"),
        "\n".to_owned(),
        format!("{hash} {{\"seq\":8,\"at_ms\":1}}\n"),
    ] {
        let bytes = [&pen.bytes[..], tail.as_bytes()].concat();
        assert_eq!(soundness(&bytes), Soundness::Corrupt, "{tail:?}");
    }
    let tail = format!("{hash} {{\"seq\":8,\"at_");
    assert_eq!(
        soundness(&[&pen.bytes[..], tail.as_bytes()].concat()),
        Soundness::Torn
    );
}

/// A journal as the program of the next minor version writes it: line by line, whatever it holds.
struct Quill {
    bytes: Vec<u8>,
    last: [u8; 32],
}

impl Quill {
    fn line(&mut self, json: &str) {
        let hash = blake3::hash(&[&self.last[..], json.as_bytes()].concat());
        self.bytes
            .extend_from_slice(format!("{} {json}\n", hash.to_hex()).as_bytes());
        self.last = *hash.as_bytes();
    }

    /// These records, with a header of the next minor version.
    fn newer(records: &[Value]) -> Quill {
        let mut quill = Quill {
            bytes: Vec::new(),
            last: [0; 32],
        };
        for (n, record) in records.iter().enumerate() {
            let mut record = record.clone();
            if n == 0 {
                record["entry"]["header"]["format"]["minor"] = NEXT.minor.into();
            }
            quill.line(&record.to_string());
        }
        quill
    }
}

const NEXT: Format = Format {
    major: Format::CURRENT.major,
    minor: Format::CURRENT.minor + 1,
};

fn values(pen: &Pen) -> Vec<Value> {
    let values = pen.records.iter().map(serde_json::to_value);
    values.collect::<Result<_, _>>().unwrap()
}

#[test]
fn of_a_newer_minor_version_all_is_read_and_nothing_acted_on() {
    let pen = Pen::restored();
    let found = scan(&Quill::newer(&values(&pen)).bytes);
    let readable = Tail::Newer {
        format: NEXT,
        readable: true,
    };
    assert_eq!((&found.tail, &found.chain), (&readable, &None));
    assert_eq!(
        (found.records.len(), found.opaque.len()),
        (pen.records.len(), 0)
    );
    let state = found.state.unwrap();
    assert_eq!(
        (state.stops_at, state.verdict()),
        (None, Some(Verdict::Restored))
    );

    let begun = Pen::begun();
    let mut quill = Quill::newer(&values(&begun));
    let known = quill.bytes.len();
    quill.line(r#"{"seq":3,"at_ms":1,"up_ms":2,"entry":{"paused":{"until":5}}}"#);
    quill.line(r#"{"seq":4,"at_ms":1,"up_ms":2,"entry":"committed"}"#);
    let found = scan(&quill.bytes);
    assert_eq!((&found.tail, &found.chain), (&readable, &None));
    assert_eq!(found.records.len(), 4);
    assert_eq!((found.opaque.len(), found.opaque[0].0), (1, Seq(3)));
    let state = found.state.unwrap();
    assert_eq!((state.seq, state.stops_at), (Seq(2), Some(Seq(3))));
    let mut flipped = quill.bytes.clone();
    flipped[known + 80] ^= 1;
    assert_eq!(soundness(&flipped), Soundness::Corrupt);
    assert_eq!(
        soundness(&quill.bytes[..quill.bytes.len() - 9]),
        Soundness::Newer
    );
}

/// Every object in a record, as the path to it.
fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(path.to_owned());
            for (name, field) in fields {
                objects(field, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{n}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A way to say more in one object than this program knows.
type More = fn(&mut Value);

const MORE: [More; 4] = [
    |object| object["lacks"] = serde_json::json!(["app.db"]),
    |object| object["mood"] = Value::Null,
    |object| object["mood"] = false.into(),
    |object| object["info"] = "not an object".into(),
];

/// Journals that have every kind of record, and every kind of object that may be in one.
fn of_every_kind() -> Vec<Pen> {
    let mut stuck = Pen::armed();
    stuck.write(Entry::Stuck {
        problem: problem("go on"),
    });
    let mut commands = plan();
    commands.services[0].control = crate::Control::Commands {
        stop: vec!["stop".into()],
        start: vec!["start".into()],
        active: vec!["active".into()],
    };
    let mut by_commands = Pen::opened_with(header(&commands));
    by_commands.write(Entry::Plan(commands.into()));
    vec![Pen::restored(), Pen::rolled_back(), stuck, by_commands]
}

#[test]
fn a_field_that_is_not_known_ends_the_fold_of_a_newer_journal_wherever_it_stands() {
    let mut kinds = std::collections::BTreeSet::new();
    for pen in of_every_kind() {
        let written = values(&pen);
        for (n, record) in written.iter().enumerate() {
            let mut places = Vec::new();
            objects(record, "", &mut places);
            for place in places {
                // One of each kind of place will do.
                let entry = record["entry"].as_object().and_then(|e| e.keys().next());
                let kind = format!(
                    "{entry:?} {}",
                    place.replace(|c: char| c.is_ascii_digit(), "N")
                );
                if !kinds.insert(kind) {
                    continue;
                }
                for more in MORE {
                    let mut changed = written.clone();
                    more(changed[n].pointer_mut(&place).unwrap());
                    let found = scan(&Quill::newer(&changed).bytes);
                    let seq = Seq(n as u64);
                    assert!(matches!(found.tail, Tail::Newer { readable: true, .. }));
                    assert_eq!(found.opaque.len(), 1, "{seq}{place}");
                    assert_eq!(found.opaque[0].0, seq, "{place}");
                    match found.state {
                        None => assert_eq!(n, 0, "{place}"),
                        Some(state) => {
                            assert_eq!(state.stops_at, Some(seq), "{place}");
                            assert_eq!(state.seq.next(), seq, "{place}");
                            assert_eq!(state.verdict(), None, "{seq}{place}");
                            assert_eq!(crate::Standing::of(&state), crate::Standing::Unknown);
                        }
                    }
                }
            }
        }
    }
    assert!(kinds.len() > 40, "{kinds:?}");
}

#[test]
fn what_a_newer_journal_says_is_not_known_once_one_word_of_it_is_not() {
    let mut verdict = values(&Pen::restored());
    let closed = verdict.len() - 2;
    for copy in [closed, closed + 1] {
        verdict[copy]["entry"]["closed"]["verdict"] = "left".into();
    }
    let mut step = values(&Pen::armed());
    step[3]["entry"]["intent"]["move"]["step"] = "ask".into();
    for (changed, stops) in [(verdict, closed as u64), (step, 3)] {
        let found = scan(&Quill::newer(&changed).bytes);
        assert_eq!(found.state.unwrap().stops_at, Some(Seq(stops)));
    }
}

#[test]
fn a_restore_that_ended_is_not_said_to_have_when_more_stands_behind_its_end() {
    let mut more = values(&Pen::restored());
    more.push(
        serde_json::json!({ "seq": more.len(), "at_ms": 1, "up_ms": 2, "entry": "reopened" }),
    );
    let state = scan(&Quill::newer(&more).bytes).state.unwrap();
    assert_eq!(state.verdict(), None);
    let view = crate::View::of(&state);
    assert_eq!(view.standing, crate::Standing::Unknown);
    insta::assert_snapshot!(view.headline, @"How it stands is not known: its journal is of format 1.2, and this program understands it only up to record 39. The program that wrote it can tell: holdfast 0.1.0.");
}

#[test]
fn a_field_that_is_not_known_is_corruption_in_a_journal_of_this_version() {
    let written = values(&Pen::armed());
    for n in 0..written.len() {
        let mut places = Vec::new();
        objects(&written[n], "", &mut places);
        for place in places {
            let mut changed = written.clone();
            MORE[0](changed[n].pointer_mut(&place).unwrap());
            let mut quill = Quill::newer(&[]);
            changed.iter().for_each(|r| quill.line(&r.to_string()));
            let found = scan(&quill.bytes);
            assert_eq!(found.soundness(), Soundness::Corrupt, "{n}{place}");
            assert_eq!(found.records.len(), n, "{n}{place}");
        }
    }
}

#[test]
fn what_is_for_people_alone_is_passed_over_beside_the_entry_and_nowhere_else() {
    let pen = Pen::restored();
    let mut told = values(&pen);
    for record in &mut told {
        record["info"] = serde_json::json!({ "asked_by": "anna", "why": ["again"] });
    }
    let newer = scan(&Quill::newer(&told).bytes);
    assert_eq!(newer.state.unwrap().verdict(), Some(Verdict::Restored));
    let mut quill = Quill::newer(&[]);
    told.iter().for_each(|r| quill.line(&r.to_string()));
    let own = scan(&quill.bytes);
    assert_eq!((&own.records, own.tail), (&pen.records, Tail::Clean));
    told[1]["entry"]["plan"]["info"] = serde_json::json!({});
    let state = scan(&Quill::newer(&told).bytes).state.unwrap();
    assert_eq!(state.stops_at, Some(Seq(1)));
}

#[test]
fn a_plan_that_says_what_a_version_does_not_know_has_no_place_in_a_journal_of_it() {
    let mut needs = [plan(), plan(), plan(), plan()];
    needs[0].firewall.ipv6_forward = Some(false);
    needs[1].peers = Some(digest(9));
    needs[2].without_safety_backup_of = vec!["app.db".into()];
    needs[3].left_out = vec![crate::LeftOut {
        what: "the database app.db".into(),
        why: "the backup has none".into(),
    }];
    for plan in needs {
        assert_eq!(plan.format(), Format::CURRENT);
        let mut pen = Pen::opened_with(Header {
            format: Format::FIRST,
            ..header(&plan)
        });
        let refused = pen.try_write(Entry::Plan(plan.clone().into())).unwrap_err();
        assert!(refused.why.contains("format 1.0"), "{refused}");
        let mut pen = Pen::opened_with(header(&plan));
        pen.write(Entry::Plan(plan.into()));
        assert_eq!(scan(&pen.bytes).records, pen.records);
    }
    assert_eq!(plan().format(), Format::FIRST);
}

#[test]
fn a_newer_major_version_is_not_read_and_an_older_one_does_not_exist() {
    let json = r#"{"seq":0,"entry":{"header":{"format":{"major":2,"minor":3},"all":"else"}}}"#;
    let seal = |json: &str| {
        let hash = blake3::hash(&[&[0; 32], json.as_bytes()].concat());
        format!("{} {json}\n", hash.to_hex()).into_bytes()
    };
    let found = scan(&[&seal(json)[..], b"whatever it may be\n"].concat());
    assert_eq!(
        found.tail,
        Tail::Newer {
            format: Format { major: 2, minor: 3 },
            readable: false
        }
    );
    assert_eq!((found.records.len(), found.chain), (0, None));
    assert_eq!(
        soundness(&seal(&json.replace("\"major\":2", "\"major\":0"))),
        Soundness::Corrupt
    );
}

#[test]
fn a_growing_file_is_followed_line_by_line() {
    let pen = Pen::rolled_back();
    let mut scanner = Scanner::new();
    let mut seen = Vec::new();
    let mut waiting: Vec<u8> = Vec::new();
    for chunk in pen.bytes.chunks(97) {
        waiting.extend_from_slice(chunk);
        let taken = scanner
            .feed(&waiting, |found, state| match found {
                ScannedLine::Record(record) => {
                    assert_eq!(state.unwrap().seq, record.seq);
                    seen.push(record);
                }
                ScannedLine::Opaque { .. } => panic!("all is known"),
            })
            .unwrap();
        waiting.drain(..taken);
    }
    assert_eq!(seen, pen.records);
    assert_eq!(scanner.valid_len(), pen.bytes.len());
    let stop = scanner
        .feed(b"no record\n", |_, _| panic!("no record"))
        .unwrap_err();
    assert!(matches!(stop, Stop::Bad { line: 35.., .. }), "{stop}");
    assert_eq!(scanner.state(), Some(&pen.state));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn any_legal_journal_reads_back_and_damaged_never_gives_other_records(
        choices in prop::collection::vec(any::<u16>(), 0..60),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let pen = Pen::walk(&choices);
        let found = scan(&pen.bytes);
        prop_assert_eq!(&found.records, &pen.records);
        prop_assert_eq!(found.state.as_ref(), Some(&pen.state));
        prop_assert_eq!(&found.tail, &Tail::Clean);

        let at = at.index(pen.bytes.len());
        let mut flipped = pen.bytes.clone();
        flipped[at] ^= 1 << bit;
        let found = scan(&flipped);
        prop_assert_eq!(found.soundness(), Soundness::Corrupt);
        prop_assert!(is_prefix(&found, &pen));
    }

    #[test]
    fn any_legal_journal_cut_anywhere_is_clean_or_torn(choices in prop::collection::vec(any::<u16>(), 0..60)) {
        let pen = Pen::walk(&choices);
        let mut scanner = Scanner::new();
        for n in 0..pen.records.len() {
            let range = line(&pen, n);
            for end in range.clone() {
                let found = scanner.clone().finish(&pen.bytes[range.start..end]);
                prop_assert_eq!(found.valid_len, range.start);
                let bytes = end - range.start;
                prop_assert_eq!(found.tail, if bytes == 0 { Tail::Clean } else { Tail::Torn { bytes } });
            }
            scanner.line(&pen.bytes[range]).unwrap();
            prop_assert_eq!(scanner.state().unwrap().seq, pen.records[n].seq);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), keep in 0_usize..3000) {
        let pen = Pen::begun();
        let kept = &pen.bytes[..keep.min(pen.bytes.len())];
        let found = scan(&[kept, &bytes[..]].concat());
        prop_assert!(pen.records.starts_with(&found.records));
    }
}

#[test]
fn the_journal_of_another_restore_is_corrupt_however_far_it_got_and_its_own_is_not() {
    for pen in [small(), Pen::armed(), Pen::restored(), Pen::rolled_back()] {
        let own = &pen.state.header.restore;
        assert_eq!(scan_of(own, &pen.bytes), scan(&pen.bytes));
        let other = RestoreId::new("20260101T000000Z-00000000").unwrap();
        let found = scan_of(&other, &pen.bytes);
        assert_eq!(found.soundness(), Soundness::Corrupt);
        assert_eq!(
            (found.records.len(), found.state, found.chain),
            (0, None, None)
        );
    }
}
