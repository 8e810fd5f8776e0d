//! The audit log under everything that befalls it: tampering, power cuts, full disks, several processes, its own length.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use journal_format::{AskedBy, Code};
use proptest::prelude::*;

use super::check::{AuditCount, AuditFlaw, InAuditLog, read};
use super::entry::{AuditResult, AuditedDeed};
use super::*;

fn deed(n: usize) -> Audited {
    let who = match n % 3 {
        0 => AskedBy::Agent,
        1 => AskedBy::on_command_line(0, Some("anna")),
        _ => AskedBy::on_page(Some("b\u{1b}ert"), true, "10.0.0.7".parse().ok()),
    };
    let result = match n % 4 {
        3 => AuditResult::Not(Code::NO_SPACE),
        _ => AuditResult::Done,
    };
    let subject = format!("/var/backups/{n}\n.zip");
    let all = AuditedDeed::ALL;
    Audited::new(who, all[n % all.len()], Some(&subject), result)
}

struct Log {
    folder: tempfile::TempDir,
    profile: Profile,
}

impl Log {
    fn empty() -> Log {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile {
            state_dir: folder.path().into(),
            ..Profile::default()
        };
        make(&profile);
        Log { folder, profile }
    }

    /// So many entries, in files that turn at this length.
    fn of(entries: usize, turns: u64) -> Log {
        let log = Log::empty();
        for n in 0..entries {
            append(&log.dir(), &deed(n), n as i64, turns).unwrap();
        }
        log
    }

    fn dir(&self) -> PathBuf {
        dir(&self.profile)
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        std::fs::read(file(&self.dir(), number)).unwrap()
    }

    fn set(&self, number: u64, bytes: &[u8]) {
        std::fs::write(file(&self.dir(), number), bytes).unwrap();
    }

    fn found(&self) -> Found {
        let mut found = Found::default();
        let count = read(&self.dir(), |it| match it {
            InAuditLog::Entry(line) => found.entries.push(*line),
            InAuditLog::Opaque(_) => found.opaque += 1,
            InAuditLog::Flaw(flaw) => found.flaws.push(flaw.clone()),
            InAuditLog::Torn(flaw) => found.torn.push(flaw.clone()),
        });
        found.count = count.unwrap();
        found
    }
}

#[derive(Debug, Default)]
struct Found {
    count: AuditCount,
    entries: Vec<AuditLine>,
    opaque: usize,
    flaws: Vec<AuditFlaw>,
    torn: Vec<AuditFlaw>,
}

impl Found {
    fn is_sound(&self) -> bool {
        self.flaws.is_empty() && self.torn.is_empty()
    }
}

#[test]
fn what_is_appended_is_read_again_in_order_through_files_that_turn() {
    let log = Log::of(40, 1500);
    let found = log.found();
    assert!(found.is_sound(), "{found:?}");
    let read: Vec<Audited> = found.entries.iter().map(|l| l.audited.clone()).collect();
    assert_eq!(read, (0..40).map(deed).collect::<Vec<_>>());
    assert!(found.count.files > 3, "{:?}", found.count);
    for number in numbers(&log.dir()).unwrap() {
        assert!(log.bytes(number).len() < 1500 + 400);
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&file(&log.dir(), 1).metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn every_deed_has_one_word_which_stands_in_the_log_and_in_what_is_printed() {
    let page = include_str!("../../../../docs/audit.md");
    for deed in AuditedDeed::ALL {
        assert_eq!(serde_json::to_value(deed).unwrap(), deed.word());
        assert!(page.contains(&format!("`{}`", deed.word())), "{deed:?}");
    }
    let mut line = AuditLine {
        seq: 7,
        at_ms: 1_795_373_540_000,
        audited: deed(11),
    };
    line.audited.times = Some(37);
    insta::assert_snapshot!(line.to_string(), @r"2026-11-22T18:52:20Z  recovery        no-space                admin 'b\u{1b}ert' on the page from 10.0.0.7: /var/backups/11\n.zip (37 times)");
    insta::assert_snapshot!(serde_json::to_string(&line).unwrap(), @r#"{"seq":7,"at_ms":1795373540000,"who":{"page":{"user":"b\u001bert","admin":true,"address":"10.0.0.7"}},"what":"recovery","subject":"/var/backups/11\n.zip","result":"no-space","times":37}"#);
}

#[test]
fn what_a_newer_version_writes_is_sound_and_shown_as_it_is() {
    let log = Log::of(2, TURNS);
    let mut end = LogEnd::find(&log.dir()).unwrap();
    let newer = serde_json::json!({ "seq": 2, "what": "moon", "phase": 3 });
    let line = end.chain.seal(Seq(2), &newer).unwrap();
    log.set(1, &[log.bytes(1), line].concat());
    append(&log.dir(), &deed(3), 3, TURNS).unwrap();
    let found = log.found();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!((found.opaque, found.count.entries), (1, 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_byte_that_is_changed_anywhere_is_noticed(entries in 1..12_usize, at in any::<prop::sample::Index>(), change in 1..=255_u8) {
        let log = Log::of(entries, 900);
        let whole: Vec<(u64, Vec<u8>)> = numbers(&log.dir()).unwrap().into_iter().map(|n| (n, log.bytes(n))).collect();
        let lengths: usize = whole.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut at = at.index(lengths);
        let (number, mut bytes) = whole.into_iter().find(|(_, bytes)| {
            let here = at < bytes.len();
            at -= if here { 0 } else { bytes.len() };
            here
        }).unwrap();
        bytes[at] ^= change;
        log.set(number, &bytes);
        let found = log.found();
        prop_assert!(!found.is_sound(), "{found:?}");
        prop_assert!(found.flaws.iter().chain(&found.torn).any(|flaw| flaw.file == file(&log.dir(), number) || !found.flaws.is_empty()));
        // What is appended then is no entry that the chain would not vouch for.
        append(&log.dir(), &deed(0), 99, 900).unwrap();
        let last = log.found().entries.pop().unwrap();
        prop_assert_eq!(last.at_ms, 99);
    }

    #[test]
    fn a_line_that_is_removed_repeated_or_exchanged_with_the_next_is_noticed(entries in 3..12_usize, at in any::<prop::sample::Index>(), how in 0..3_u8) {
        let log = Log::of(entries, TURNS);
        let bytes = log.bytes(1);
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
        let at = at.index(entries - 1);
        match how {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at]),
            _ => lines.swap(at, at + 1),
        }
        log.set(1, &lines.concat());
        let found = log.found();
        prop_assert!(!found.flaws.is_empty(), "{found:?}");
        prop_assert_eq!(found.flaws[0].line as usize, at + 1 + usize::from(how == 1));
    }

    #[test]
    fn a_power_cut_in_any_line_costs_that_line_and_is_no_tampering(entries in 1..6_usize, cut in any::<prop::sample::Index>(), zeros in 0..600_usize) {
        let log = Log::of(entries, TURNS);
        let bytes = log.bytes(1);
        let last = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let cut = last + cut.index(bytes.len() - last);
        log.set(1, &[&bytes[..cut], &vec![0; zeros]].concat());
        let found = log.found();
        prop_assert_eq!(&found.flaws, &[]);
        prop_assert_eq!(found.torn.len(), usize::from(cut > last || zeros > 0));
        append(&log.dir(), &deed(0), 99, TURNS).unwrap();
        let found = log.found();
        prop_assert!(found.is_sound(), "{found:?}");
        prop_assert_eq!(found.count.entries, entries);
    }
}

#[test]
fn a_file_that_is_removed_or_exchanged_is_noticed_but_for_the_newest() {
    let newest = *numbers(&Log::of(20, 900).dir()).unwrap().last().unwrap();
    for number in 1..=newest {
        let log = Log::of(20, 900);
        std::fs::remove_file(file(&log.dir(), number)).unwrap();
        let found = log.found();
        assert_eq!(
            found.flaws.is_empty(),
            number == newest,
            "{number}: {found:?}"
        );
        // Also where the others are renamed to close the gap.
        let log = Log::of(20, 900);
        for later in number..newest {
            std::fs::rename(file(&log.dir(), later + 1), file(&log.dir(), later)).unwrap();
        }
        let renamed = log.found();
        assert_eq!(
            renamed.flaws.is_empty(),
            number == newest,
            "{number}: {renamed:?}"
        );
    }
}

#[test]
fn one_change_is_told_once_with_its_file_and_its_line() {
    let log = Log::of(9, TURNS);
    let text = String::from_utf8(log.bytes(1)).unwrap();
    log.set(
        1,
        text.replacen("/var/backups/4", "/var/backups/5", 1)
            .as_bytes(),
    );
    let found = log.found();
    assert_eq!(found.flaws.len(), 1, "{found:?}");
    assert_eq!(found.flaws[0].line, 5);
    assert_eq!(found.count.entries, 8);
}

#[test]
fn a_crash_right_after_a_file_was_begun_loses_nothing() {
    let log = Log::of(5, 900);
    let newest = *numbers(&log.dir()).unwrap().last().unwrap();
    log.set(newest + 1, b"");
    append(&log.dir(), &deed(5), 5, 900).unwrap();
    let found = log.found();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(found.count.entries, 6);
    assert!(!log.bytes(newest + 1).is_empty());
}

#[test]
fn what_is_no_line_that_was_cut_off_is_never_cut_off() {
    let log = Log::of(3, TURNS);
    let long = [log.bytes(1), vec![b'x'; 5 * LINE as usize]].concat();
    log.set(1, &long);
    append(&log.dir(), &deed(3), 3, TURNS).unwrap();
    assert_eq!(log.bytes(1), long);
    let found = log.found();
    assert_eq!(found.flaws[0].line, 4, "{found:?}");
    assert_eq!(found.entries.last().unwrap().at_ms, 3);
}

#[test]
fn an_entry_that_cannot_be_appended_leaves_the_others_whole_and_is_no_error() {
    let log = Log::of(3, TURNS);
    // No file can be made, as where no inode is left.
    std::fs::remove_file(log.dir().join(LOCK)).unwrap();
    std::fs::create_dir(log.dir().join(LOCK)).unwrap();
    note(&log.profile, deed(3));
    assert_eq!(log.found().count.entries, 3);
    // The folder is gone, as where `state_dir` is not mounted: nothing is made there.
    std::fs::remove_dir_all(log.dir()).unwrap();
    note(&log.profile, deed(3));
    assert_eq!(log.folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_lock_that_nobody_gives_up_costs_a_moment_and_an_entry() {
    let log = Log::of(1, TURNS);
    let held = locked(&log.dir()).unwrap();
    note(&log.profile, deed(1));
    drop(held);
    append(&log.dir(), &deed(2), 2, TURNS).unwrap();
    let found = log.found();
    assert!(found.is_sound());
    assert_eq!(found.count.entries, 2);
}

/// Appends as another process does: run by `entries_of_many_processes_make_one_chain`, and by nobody else.
#[test]
fn appends_what_another_process_appends() {
    let Some(dir) = std::env::var_os("HOLDFAST_AUDIT_APPENDS") else {
        return;
    };
    for n in 0..30 {
        append(
            Path::new(&dir),
            &deed(n),
            i64::from(std::process::id()),
            3000,
        )
        .unwrap();
    }
}

#[test]
fn entries_of_many_processes_make_one_chain() {
    let log = Log::empty();
    let this = std::env::current_exe().unwrap();
    let appends = || {
        let mut command = std::process::Command::new(&this);
        command.args([
            "--exact",
            "state_dir::audit::tests::appends_what_another_process_appends",
        ]);
        command.env("HOLDFAST_AUDIT_APPENDS", log.dir());
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut all = [appends(), appends(), appends()];
    assert!(all.iter_mut().all(|child| child.wait().unwrap().success()));
    let found = log.found();
    assert!(found.is_sound(), "{found:?}");
    let mut by_process: BTreeMap<i64, Vec<Audited>> = BTreeMap::new();
    for line in found.entries {
        by_process.entry(line.at_ms).or_default().push(line.audited);
    }
    let whole: Vec<Audited> = (0..30).map(deed).collect();
    assert_eq!(by_process.len(), 3);
    assert!(by_process.values().all(|deeds| *deeds == whole));
}

#[test]
fn of_old_files_the_oldest_go_and_the_chain_of_the_rest_is_vouched_for_wherever_a_crash_came() {
    let log = Log::of(40, 1500);
    let all = old::files(&log.dir()).unwrap();
    let numbers_there = numbers(&log.dir()).unwrap();
    assert_eq!(all.len() + 1, numbers_there.len());
    let dates: Vec<i64> = all.iter().map(|f| f.last_ms).collect();
    assert!(
        dates.is_sorted() && dates.iter().all(|ms| *ms < 40),
        "{dates:?}"
    );
    for gone in &all {
        let kept = log.bytes(gone.number);
        old::remove(&log.dir(), gone.number).unwrap();
        let found = log.found();
        assert!(found.is_sound(), "{found:?}");
        assert_eq!(found.entries[0].at_ms, gone.last_ms + 1);
        // A crash before the file went, or a file that could not be removed, and that again on the next day.
        for _ in 0..2 {
            log.set(gone.number, &kept);
            assert!(log.found().is_sound());
            old::remove(&log.dir(), gone.number).unwrap();
            assert!(log.found().is_sound());
        }
    }
    append(&log.dir(), &deed(40), 40, 1500).unwrap();
    assert!(log.found().is_sound());
    // What goes without a prune is missed as before, and so is what is changed.
    let log = Log::of(40, 1500);
    old::remove(&log.dir(), 1).unwrap();
    std::fs::remove_file(file(&log.dir(), 2)).unwrap();
    assert!(!log.found().is_sound());
    let log = Log::of(40, 1500);
    old::remove(&log.dir(), 1).unwrap();
    let changed = String::from_utf8(log.bytes(2))
        .unwrap()
        .replacen("backups", "nowhere", 1);
    log.set(2, changed.as_bytes());
    assert!(!log.found().is_sound());
}
