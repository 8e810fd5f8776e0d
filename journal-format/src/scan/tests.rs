//! Torn or corrupt: cuts, flips, zeros, and lines that were moved or came from elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod newer;

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
