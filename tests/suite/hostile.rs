//! Hostile archives, databases, configs, rules and journals, every one through the real program on a gateway: refused with
//! the place named and without a changed byte, or survived as the threat demands. `docs/threats.md` lists them by threat.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fixtures::hostile::{
    Backup, Case, Expected, archives, configs, databases, journals, metadata, rules,
};
use fixtures::{Finished, Tree};

use crate::on_a_gateway::{Gateway, path, small};

/// A gateway whose power is off and on again, so that nothing but Holdfast could change it; a sound backup of it from when
/// it ran; and an `/etc` of its own.
struct Target {
    gateway: Gateway,
    sound: Backup,
    archives: tempfile::TempDir,
    /// The folder that is `/etc` inside.
    etc: tempfile::TempDir,
}

impl Target {
    fn at_rest() -> Option<Target> {
        let mut target = Target::running()?;
        let sandbox = target.gateway.sandbox;
        target.gateway.sandbox = sandbox.reboot().unwrap();
        target.keep_etc_apart();
        Some(target)
    }

    fn running() -> Option<Target> {
        let gateway = Gateway::start(small)?;
        let sound = Backup::read(&gateway.backup()).unwrap();
        assert_eq!(sound.tunnels_up().len(), 2);
        let target = Target {
            gateway,
            sound,
            archives: tempfile::tempdir().unwrap(),
            etc: tempfile::tempdir().unwrap(),
        };
        target.keep_etc_apart();
        // Or all that follows would be refused for another reason than its own.
        let file = target.write(&target.sound.bytes().unwrap());
        target
            .gateway
            .holdfast(&["verify", path(&file)])
            .ok()
            .unwrap();
        Some(target)
    }

    /// Whatever else runs on the machine may write to its own.
    fn keep_etc_apart(&self) {
        let etc = path(self.etc.path());
        self.gateway.run(&[
            "bash",
            "-c",
            &format!("cp -a /etc/. {etc} && mount --bind {etc} /etc"),
        ]);
    }

    /// Everything that must not change: the gateway's folder and what lies beside it, and `/etc`.
    fn tree(&self) -> Tree {
        let sample = self.gateway.sample();
        let beside = sample.root().parent().unwrap();
        let state = sample.state_dir();
        Tree::of(&[beside, self.etc.path()], &[&state]).unwrap()
    }

    fn spool(&self) -> Vec<PathBuf> {
        let spool = self.gateway.sample().state_dir().join("spool");
        let entries = std::fs::read_dir(spool).into_iter().flatten();
        entries.map(|e| e.unwrap().path()).collect()
    }

    fn write(&self, archive: &[u8]) -> PathBuf {
        let file = self.archives.path().join("hostile.zip");
        std::fs::write(&file, archive).unwrap();
        file
    }

    /// What is wrong with how this case went; empty if nothing is.
    fn tried(&self, case: &Case, before: &Tree) -> Vec<String> {
        let file = self.write(&case.archive(&self.sound).unwrap());
        let mut wrong = Vec::new();
        let verified = self.gateway.holdfast(&["verify", path(&file)]);
        wrong.extend(unfit_for_a_terminal(&verified));
        match case.expected {
            Expected::Refused(says) => {
                wrong.extend(not_refused("verify", &verified, says));
                // What `verify` takes may go far, and the next case needs the gateway as it is.
                if verified.code() == 3 {
                    let restored = self.gateway.holdfast(&["restore", path(&file), "--yes"]);
                    wrong.extend(not_refused("restore", &restored, says));
                    wrong.extend(unfit_for_a_terminal(&restored));
                }
            }
            Expected::Survived(says) => {
                if verified.code() != 0 || !verified.stdout.contains(says) {
                    wrong.push(format!("not taken with {says:?}: {}", cut(&verified)));
                }
            }
            Expected::Disarmed => {
                if !matches!(verified.code(), 0 | 3) {
                    wrong.push(format!("neither taken nor refused: {}", cut(&verified)));
                }
            }
        }
        wrong.extend(before.diff(&self.tree()));
        let left = self.spool();
        if !left.is_empty() {
            wrong.push(format!("left in the spool: {left:?}"));
        }
        wrong
    }

    /// Tries all of these, one after the other.
    fn holds_against(&self, cases: &[Case]) {
        let before = self.tree();
        let mut wrong = Vec::new();
        for case in cases {
            let found = self.tried(case, &before);
            wrong.extend(found.iter().map(|why| format!("{case:?}\n    {why}")));
        }
        let restores = self.gateway.restores();
        assert!(restores.is_empty(), "a restore began: {restores:?}");
        assert!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n")
        );
    }

    fn restore(&self, archive: &[u8]) -> Finished {
        let file = self.write(archive);
        self.gateway.holdfast(&["restore", path(&file), "--yes"])
    }

    fn live(&self, database: &str) -> rusqlite::Connection {
        let sample = self.gateway.sample();
        let found = sample.databases().into_iter().find(|d| d.name == database);
        rusqlite::Connection::open(found.unwrap().path).unwrap()
    }
}

/// Enough of it to see what went wrong among a hundred others.
fn cut(finished: &Finished) -> String {
    let said = [finished.stderr.as_str(), &finished.stdout].concat();
    let said: String = said.chars().take(400).collect();
    format!("exit status {}\n{said}", finished.code())
}

fn not_refused(command: &str, finished: &Finished, says: &str) -> Option<String> {
    let well = finished.code() == 3 && finished.stderr.contains(says);
    (!well).then(|| {
        format!(
            "{command} did not refuse it with {says:?}: {}",
            cut(finished)
        )
    })
}

/// Text from an archive may not steer the terminal that it is shown on, nor fill it.
fn unfit_for_a_terminal(finished: &Finished) -> Option<String> {
    let said = [finished.stdout.as_str(), &finished.stderr].concat();
    let steers = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    if let Some(c) = said.chars().find(|c| steers(*c)) {
        return Some(format!("the output holds {c:?}"));
    }
    (said.len() > 24 << 10).then(|| format!("the output has {} bytes", said.len()))
}

#[test]
fn hostile_archives_are_refused_by_name_and_change_nothing() {
    let Some(target) = Target::at_rest() else {
        return;
    };
    target.holds_against(&archives::all());
}

#[test]
fn hostile_metadata_are_refused_or_told_of_and_change_nothing() {
    let Some(target) = Target::at_rest() else {
        return;
    };
    target.holds_against(&metadata::all());
}

#[test]
fn hostile_databases_are_refused_or_disarmed_and_change_nothing() {
    let Some(target) = Target::at_rest() else {
        return;
    };
    target.holds_against(&databases::all());
}

#[test]
fn hostile_configs_are_refused_or_told_of_and_change_nothing() {
    let Some(target) = Target::at_rest() else {
        return;
    };
    target.holds_against(&configs::all());
}

#[test]
fn hostile_rules_are_refused_and_change_nothing() {
    let Some(target) = Target::at_rest() else {
        return;
    };
    target.holds_against(&rules::all());
}

#[test]
fn forged_journals_are_never_called_sound() {
    let Some(target) = Target::running() else {
        return;
    };
    let sound = target.sound.bytes().unwrap();
    target.restore(&sound).ok().unwrap();
    let journal = std::fs::read(target.gateway.last_restore().join("journal")).unwrap();
    for forgery in journals::all() {
        let file = target.archives.path().join("journal");
        std::fs::write(&file, forgery.of(&journal)).unwrap();
        for command in ["verify", "show"] {
            let judged = target.gateway.holdfast(&["journal", command, path(&file)]);
            let fits = match (command, forgery.called) {
                ("verify", journals::Called::Corrupt) => judged.code() == 12,
                ("verify", journals::Called::CutOff) => matches!(judged.code(), 11 | 12),
                _ => true,
            };
            assert!(fits, "{}: {}", forgery.what, cut(&judged));
            assert_eq!(unfit_for_a_terminal(&judged), None, "{}", forgery.what);
        }
    }
}

/// What is in the schema of a live database, in capital letters.
fn schema(conn: &rusqlite::Connection) -> String {
    let mut query = conn
        .prepare("SELECT name || ' ' || coalesce(sql, '') FROM sqlite_schema")
        .unwrap();
    let rows = query.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let plain = |text: String| {
        text.to_uppercase()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut texts: Vec<String> = rows.map(|r| plain(r.unwrap())).collect();
    texts.sort();
    texts.join("\n").replace("( ", "(").replace(" )", ")")
}

#[test]
fn nothing_that_a_schema_brings_along_arrives_at_the_gateway() {
    let Some(target) = Target::running() else {
        return;
    };
    // Those that are refused by themselves need no restore.
    let taken: Vec<databases::Implant> = databases::implants()
        .into_iter()
        .filter(|implant| {
            let archive = databases::with_implants(&target.sound, &[*implant]).unwrap();
            let file = target.write(&archive.bytes().unwrap());
            target.gateway.holdfast(&["verify", path(&file)]).code() == 0
        })
        .collect();
    let archive = databases::with_implants(&target.sound, &taken).unwrap();
    let restored = target.restore(&archive.bytes().unwrap());
    assert_eq!(restored.code(), 0, "{restored}");
    for implant in databases::implants() {
        let live = schema(&target.live(implant.database));
        assert!(!live.contains(implant.trace), "{}:\n{live}", implant.what);
    }
}

#[test]
fn a_database_of_another_shape_becomes_one_of_the_known_shape() {
    let Some(target) = Target::running() else {
        return;
    };
    let before = schema(&target.live(databases::USERS));
    for case in databases::all().iter().filter(|c| {
        c.expected == Expected::Disarmed
            && (c.what.contains("version number") || c.what.contains("kept in"))
            || c.what.contains("its index")
    }) {
        let restored = target.restore(&case.archive(&target.sound).unwrap());
        assert!(matches!(restored.code(), 0 | 3), "{case:?}: {restored}");
        let live = target.live(databases::USERS);
        assert_eq!(schema(&live), before, "{case:?}");
        for (pragma, normal) in [
            ("user_version", "0"),
            ("application_id", "0"),
            ("encoding", "UTF-8"),
        ] {
            let is = live.pragma_query_value(None, pragma, |row| {
                Ok(match row.get_ref(0)? {
                    rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                    other => other.as_str()?.to_owned(),
                })
            });
            assert_eq!(is.unwrap(), normal, "{case:?}: {pragma}");
        }
    }
}

#[test]
fn a_config_path_of_an_archive_leads_no_command_out_of_the_gateway() {
    let Some(target) = Target::running() else {
        return;
    };
    let own = target.gateway.sample().wireguard_dir();
    let standard = Path::new("/etc/wireguard");
    for evil in databases::config_paths() {
        let archive = databases::with_config_path(&target.sound, evil).unwrap();
        let file = target.write(&archive.bytes().unwrap());
        let verified = target.gateway.holdfast(&["verify", path(&file)]);
        assert!(matches!(verified.code(), 0 | 3), "{evil}: {verified}");
    }
    let archive = databases::with_config_path(&target.sound, "/tmp/evil.conf").unwrap();
    let restored = target.restore(&archive.bytes().unwrap());
    assert!(matches!(restored.code(), 0 | 3), "{restored}");
    let live = target.live(databases::CLIENTS);
    let mut query = live
        .prepare("SELECT name, config_path FROM clients")
        .unwrap();
    let rows = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    for row in rows {
        let (name, place): (String, String) = row.unwrap();
        let file = format!("{name}.conf");
        let place = Path::new(&place);
        assert!(
            place == own.join(&file) || place == standard.join(&file),
            "{name}: {place:?}"
        );
    }
}

#[test]
fn owners_and_modes_of_an_archive_open_no_file_of_the_gateway() {
    let Some(target) = Target::running() else {
        return;
    };
    let sample = target.gateway.sample();
    let entry = configs::first(&target.sound).unwrap();
    let config = [target.sound.entry(&entry).unwrap(), b"# changed\n"].concat();
    let archive = metadata::with_open_owners(&target.sound.with(&entry, &config));
    let databases = sample.databases();
    let files = |d: &Path| d.metadata().map(|m| m.ino()).ok();
    let before: Vec<_> = databases.iter().map(|d| files(&d.path)).collect();
    // Or they would be closed before, whatever the archive asks for.
    let file = target.write(&archive.bytes().unwrap());
    let restored =
        target
            .gateway
            .holdfast(&["restore", path(&file), "--yes", "--keep-open-folders"]);
    assert_eq!(restored.code(), 0, "{restored}");
    let capped = |file: &Path, most: u32| {
        let mode = file.metadata().unwrap().mode() & 0o7777;
        assert_eq!(mode & !most, 0, "{} has the mode {mode:o}", file.display());
    };
    for folder in [sample.configs_dir(), sample.wireguard_dir()] {
        for file in std::fs::read_dir(folder).unwrap() {
            capped(&file.unwrap().path(), 0o640);
        }
    }
    assert!(before.iter().any(Option::is_some));
    for (database, before) in databases.iter().zip(before) {
        let file = database.path.metadata().unwrap();
        assert_ne!(Some(file.ino()), before, "{:?} is replaced", database.path);
        assert_eq!(file.mode() & 0o7777, 0o660, "{:?}", database.path);
    }
}

#[test]
fn a_tunnel_named_as_an_interface_of_the_box_leaves_that_interface_alone() {
    let Some(target) = Target::running() else {
        return;
    };
    // An address of IPv6 is tentative for a moment after the sandbox began.
    let look = || {
        let said = target
            .gateway
            .run(&["ip", "-o", "address", "show", "dev", "eth0"]);
        said.replace(" tentative", "")
    };
    let before = look();
    let archive = configs::named_and_up(&target.sound, "eth0").unwrap();
    let restored = target.restore(&archive.bytes().unwrap());
    assert!(matches!(restored.code(), 0 | 3 | 4), "{restored}");
    assert_eq!(look(), before);
    let said = restored.to_string();
    assert!(said.contains("eth0"), "{said}");
}

#[test]
fn a_config_of_roots_that_is_not_the_gateways_is_not_taken_over_by_a_backup_from_elsewhere() {
    let Some(target) = Target::running() else {
        return;
    };
    let theirs = target
        .gateway
        .sample()
        .wireguard_dir()
        .join("wg-admin.conf");
    let before = std::fs::read(&theirs).unwrap();
    let archive = configs::named_and_up(&target.sound, "wg-admin").unwrap();
    let refused = target.restore(&archive.bytes().unwrap());
    assert_eq!(refused.code(), 3, "{refused}");
    assert!(refused.stderr.contains("wg-admin.conf over"), "{refused}");
    assert_eq!(std::fs::read(&theirs).unwrap(), before);
    target.gateway.run(&["ip", "link", "show", "wg-admin"]);
}

#[test]
fn rules_that_copy_traffic_or_shut_out_the_admin_are_shown_before_they_are_loaded() {
    let Some(target) = Target::running() else {
        return;
    };
    for (text, dangers) in rules::DANGEROUS {
        let restored = target.restore(&rules::with(&target.sound, text).bytes().unwrap());
        for danger in dangers {
            is_in_the_plan(&restored, danger);
        }
    }
}

/// The plan is shown before its record of the journal.
fn is_in_the_plan(restored: &Finished, words: &str) {
    let plan = restored.stdout.split("\n   1  ").next().unwrap();
    assert!(
        plan.contains(words),
        "{words:?} is not in the plan: {restored}"
    );
}

#[test]
fn another_box_an_old_date_and_a_changed_password_are_said_in_the_plan() {
    let Some(target) = Target::running() else {
        return;
    };
    let archive = metadata::from_another_place_and_time(&target.sound).unwrap();
    let restored = target.restore(&archive.bytes().unwrap());
    for words in ["another host, some-other-box", "over 30 days old", "admin"] {
        is_in_the_plan(&restored, words);
    }
}
