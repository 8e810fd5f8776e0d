//! What a prune removes is what the rules say and nothing that anybody may need; cut off anywhere, the next one ends it.

use jiff::tz::TimeZone;

use super::*;
use crate::backup::prune::{self, Outcome, Pruning};
use crate::gateway::retention::{KeepRule, Retention};
use crate::state_dir::made::NotedBackup;
use crate::state_dir::pins;

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = 1_795_867_200_000;

/// A box with backups of which only the names and the times matter.
struct Shelf {
    gateway: Gateway,
    made: usize,
}

impl Shelf {
    fn new(retention: Retention) -> Shelf {
        let mut gateway = Gateway::new();
        gateway.profile.retention = retention;
        std::fs::create_dir_all(gateway.backups()).unwrap();
        Shelf { gateway, made: 0 }
    }

    /// Puts a backup there as one of this box's, so many days old.
    fn makes(&mut self, kind: Option<BackupKind>, days: i64, complete: bool) -> String {
        let (name, sha256, size) = self.brings(days);
        let lack = Lack {
            part: Part::Configs,
            why: "permission denied".into(),
        };
        let note = NotedBackup {
            name: name.clone(),
            size,
            made_ms: NOW_MS - days * DAY_MS,
            kind,
            lacks: if complete { vec![] } else { vec![lack] },
        };
        made::remember(&self.gateway.profile, &sha256, Some(note)).unwrap();
        name
    }

    /// Puts a backup there that this box did not make.
    fn brings(&mut self, days: i64) -> (String, Digest, u64) {
        self.made += 1;
        let at = jiff::Timestamp::from_millisecond(NOW_MS - days * DAY_MS).unwrap();
        let metadata = serde_json::json!({
            "backup_version": "1.0",
            "created_at": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "timestamp": format!("number {}", self.made),
            "contents": { "databases": [], "configs": [], "iptables_rules": [] },
        });
        let name = format!("wireguard_backup_{:03}.zip", self.made);
        let path = self.gateway.backups().join(&name);
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        zip.start_file(
            "backup_metadata.json",
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
        std::io::Write::write_all(&mut zip, metadata.to_string().as_bytes()).unwrap();
        zip.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let sha256 = Digest::of_bytes(Sha256::digest(&bytes).into());
        (name, sha256, bytes.len() as u64)
    }

    fn plan(&self) -> Pruning {
        let host = crate::host::linux::Linux::new(&self.gateway.profile);
        prune::plan(&self.gateway.profile, &host, NOW_MS, &TimeZone::UTC).unwrap()
    }

    fn prune(&self) -> Outcome {
        prune::carry_out(&self.gateway.profile, &self.plan())
    }

    fn there(&self) -> Vec<String> {
        let entries = self.gateway.backups().read_dir().unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn last(n: u32) -> KeepRule {
    KeepRule {
        last: n,
        ..KeepRule::default()
    }
}

#[test]
fn by_default_what_was_made_by_hand_stays_and_of_the_rest_seven_days_and_the_last_good_one() {
    let mut shelf = Shelf::new(Retention::default());
    let mut stay = Vec::new();
    for days in [40, 30, 8, 7, 6, 3, 0] {
        for kind in BackupKind::ALL {
            let name = shelf.makes(Some(kind), days, true);
            if kind == BackupKind::ByHand || days < 7 {
                stay.push(name);
            }
        }
    }
    let outcome = shelf.prune();
    assert_eq!(outcome.gone.len(), 12);
    assert_eq!(shelf.there(), stay);
    assert!(shelf.prune().gone.is_empty());
    // After a month without one, or where the clock runs ahead, the newest stay.
    let mut shelf = Shelf::new(Retention::default());
    let old: Vec<String> = [90, 80, 70, 60]
        .map(|days| shelf.makes(Some(BackupKind::Scheduled), days, true))
        .into();
    shelf.prune();
    assert_eq!(shelf.there(), old[1..]);
    // The last good one stays however old it is; a safety backup is none.
    let days = KeepRule {
        within_days: 7,
        ..KeepRule::default()
    };
    let mut shelf = Shelf::new(Retention {
        scheduled: days,
        safety: days,
        ..Retention::default()
    });
    let first = shelf.makes(Some(BackupKind::Scheduled), 90, true);
    let second = shelf.makes(Some(BackupKind::Scheduled), 80, true);
    shelf.makes(Some(BackupKind::Scheduled), 70, false);
    shelf.makes(Some(BackupKind::Safety), 60, true);
    shelf.prune();
    assert_eq!(shelf.there(), [second]);
    assert!(!shelf.gateway.backups().join(first).exists());
}

#[test]
fn what_this_box_did_not_make_knows_no_kind_of_is_pinned_or_no_backup_stays_whatever_the_rules_say()
{
    let rule = last(1);
    let mut shelf = Shelf::new(Retention {
        by_hand: rule,
        page: rule,
        scheduled: rule,
        safety: rule,
        restores: rule,
    });
    let brought = shelf.brings(900).0;
    let unknown = shelf.makes(None, 800, true);
    let pinned = shelf.makes(Some(BackupKind::ByHand), 700, true);
    let old = shelf.makes(Some(BackupKind::ByHand), 600, true);
    let bad = shelf.makes(Some(BackupKind::ByHand), 500, false);
    let new = shelf.makes(Some(BackupKind::ByHand), 0, true);
    std::fs::write(shelf.gateway.backups().join("notes.zip"), "mine").unwrap();
    std::fs::write(shelf.gateway.backups().join("cut.zip"), "").unwrap();
    let backup = catalog_entry(&shelf, &pinned);
    pins::set(&shelf.gateway.profile, &backup, true).unwrap();
    // A pin goes with the file.
    let renamed = shelf.gateway.backups().join("wireguard_backup_999.zip");
    std::fs::rename(shelf.gateway.backups().join(&pinned), renamed).unwrap();
    assert_eq!(shelf.prune().gone.len(), 1);
    let mut stay = vec![brought, unknown, bad, new];
    stay.extend(["cut.zip", "notes.zip", "wireguard_backup_999.zip"].map(str::to_owned));
    stay.sort();
    assert_eq!(shelf.there(), stay);
    pins::set(&shelf.gateway.profile, &backup, false).unwrap();
    assert_eq!(shelf.prune().gone.len(), 1);
    assert!(!shelf.there().contains(&old));
    // Where it cannot be read what is pinned, nothing is removed.
    std::fs::write(shelf.gateway.profile.state_dir.join("pinned"), "half a li").unwrap();
    let host = crate::host::linux::Linux::new(&shelf.gateway.profile);
    assert!(prune::plan(&shelf.gateway.profile, &host, NOW_MS, &TimeZone::UTC).is_err());
}

#[test]
fn the_last_good_backup_is_one_that_can_still_be_read() {
    let days = KeepRule {
        within_days: 7,
        ..KeepRule::default()
    };
    let mut shelf = Shelf::new(Retention {
        scheduled: days,
        ..Retention::default()
    });
    shelf.makes(Some(BackupKind::Scheduled), 30, true);
    let good = shelf.makes(Some(BackupKind::Scheduled), 20, true);
    let damaged = shelf.makes(Some(BackupKind::Scheduled), 10, true);
    let path = shelf.gateway.backups().join(&damaged);
    let size = path.metadata().unwrap().len();
    std::fs::write(&path, vec![7; size as usize]).unwrap();
    shelf.prune();
    assert_eq!(shelf.there(), [good.clone(), damaged]);
    let latest = crate::archive::catalog::find(&shelf.gateway.profile, Path::new("latest"));
    assert_eq!(latest.unwrap(), shelf.gateway.backups().join(good));
}

#[test]
fn the_last_backup_that_has_a_database_as_sqlite_reads_it_stays_once_that_is_damaged() {
    let mut gateway = Gateway::new();
    gateway.profile.retention.by_hand = last(1);
    let name = |made: Made| made.path.file_name().unwrap().to_str().unwrap().to_owned();
    gateway.make().unwrap();
    let whole = name(gateway.make().unwrap());
    let users = gateway.dir.path().join("instance/wireguard.db");
    std::fs::write(users, "no database any more").unwrap();
    gateway.make().unwrap();
    let newest = name(gateway.make().unwrap());
    let shelf = Shelf { gateway, made: 0 };
    let host = crate::host::linux::Linux::new(&shelf.gateway.profile);
    let now_ms = jiff::Timestamp::now().as_millisecond() + DAY_MS;
    let plan = prune::plan(&shelf.gateway.profile, &host, now_ms, &TimeZone::UTC).unwrap();
    prune::carry_out(&shelf.gateway.profile, &plan);
    assert_eq!(shelf.there(), [whole, newest]);
}

fn catalog_entry(shelf: &Shelf, name: &str) -> Digest {
    let path = shelf.gateway.backups().join(name);
    let at = crate::archive::catalog::at(&shelf.gateway.profile, &path).unwrap();
    at.unwrap().sha256().unwrap().clone()
}

#[test]
fn a_backup_that_somebody_reads_stays_until_the_next_time() {
    let mut shelf = Shelf::new(Retention {
        page: last(1),
        ..Retention::default()
    });
    let old = shelf.makes(Some(BackupKind::Page), 3, true);
    shelf.makes(Some(BackupKind::Page), 2, true);
    shelf.makes(Some(BackupKind::Page), 1, true);
    let reader = crate::archive::opened(&shelf.gateway.backups().join(&old)).unwrap();
    let outcome = shelf.prune();
    assert_eq!(outcome.in_use, std::slice::from_ref(&old));
    assert_eq!(shelf.there().len(), 2);
    drop(reader);
    assert_eq!(shelf.prune().gone.len(), 1);
    assert_eq!(shelf.there().len(), 1);
}

#[test]
fn over_a_year_of_all_kinds_exactly_what_the_rules_keep_is_there_wherever_prunes_are_cut_off() {
    let rule = |daily, weekly, within_days| KeepRule {
        daily,
        weekly,
        within_days,
        ..KeepRule::default()
    };
    let retention = Retention {
        scheduled: rule(7, 4, 0),
        page: rule(0, 0, 3),
        safety: rule(2, 0, 1),
        ..Retention::default()
    };
    for cut_off in [0, 1, 2, 100] {
        let mut shelf = Shelf::new(retention.clone());
        let mut made: BTreeMap<BackupKind, Vec<(i64, String)>> = BTreeMap::new();
        for days in (0..=364).rev().step_by(4) {
            let at = (days / 4) as usize;
            let kind = BackupKind::ALL[[2, 2, 2, 1, 3, 2, 0][at % 7]];
            let name = shelf.makes(Some(kind), days, true);
            made.entry(kind)
                .or_default()
                .push((NOW_MS - days * DAY_MS, name));
            // At the time that it is then, and cut off behind so many.
            if at.is_multiple_of(5) {
                let host = crate::host::linux::Linux::new(&shelf.gateway.profile);
                let now_ms = NOW_MS - days * DAY_MS;
                let mut plan =
                    prune::plan(&shelf.gateway.profile, &host, now_ms, &TimeZone::UTC).unwrap();
                plan.going.truncate(cut_off);
                prune::carry_out(&shelf.gateway.profile, &plan);
            }
        }
        shelf.prune();
        let newest_good = made
            .iter()
            .filter(|(kind, _)| **kind != BackupKind::Safety)
            .flat_map(|(_, all)| all)
            .max()
            .unwrap();
        let mut stay = vec![newest_good.1.clone()];
        for (kind, all) in &made {
            let all: Vec<&(i64, String)> = all.iter().rev().collect();
            let times: Vec<i64> = all.iter().map(|(ms, _)| *ms).collect();
            let kept = retention.of(*kind).kept(&times, NOW_MS, &TimeZone::UTC);
            stay.extend(
                all.iter()
                    .zip(kept)
                    .filter(|(_, k)| *k)
                    .map(|(b, _)| b.1.clone()),
            );
        }
        stay.sort();
        stay.dedup();
        assert_eq!(shelf.there(), stay, "cut off behind {cut_off}");
        assert!(stay.len() > 20, "{stay:?}");
    }
}

#[test]
fn a_folder_that_a_prune_left_half_removed_goes_with_the_next_one() {
    let shelf = Shelf::new(Retention::default());
    let half = shelf
        .gateway
        .profile
        .restores_dir()
        .join(".pruned-20261122T185220Z-0a1b2c3d");
    std::fs::create_dir_all(half.join("originals")).unwrap();
    std::fs::write(half.join("originals/key"), "secret").unwrap();
    let outcome = shelf.prune();
    assert!(outcome.failed.is_empty() && !half.exists());
}

#[test]
fn of_the_audit_log_go_files_that_are_older_than_ninety_days_but_never_the_newest() {
    let shelf = Shelf::new(Retention::default());
    let dir = crate::state_dir::audit::dir(&shelf.gateway.profile);
    std::fs::create_dir_all(&dir).unwrap();
    let mut chain = journal_format::Chain::start();
    for (number, days) in [(1_u64, 200_i64), (2, 91), (3, 89), (4, 300)] {
        let line = serde_json::json!({ "seq": number - 1, "at_ms": NOW_MS - days * DAY_MS });
        let line = chain.seal(journal_format::Seq(number - 1), &line).unwrap();
        std::fs::write(dir.join(format!("{number:06}.log")), line).unwrap();
    }
    let going: Vec<String> = shelf
        .plan()
        .going
        .iter()
        .map(|(what, _)| what.name())
        .collect();
    assert_eq!(going, ["audit/000001.log", "audit/000002.log"]);
}
