//! Which archives this box made, in the order in which it made them: the SHA-256 of each, and what was noted of it, in a file
//! of root's. What is in one of them was in the gateway's own files, and goes back as it is. Owns that file; knows nothing of
//! what an archive holds, and believes no clock and no name: the last one is the last line.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use journal_format::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Code, OrCannot, Problem, cannot, cause};
use crate::files::open::if_there;
use crate::files::whole;
use crate::gateway::backup_kind::BackupKind;
use crate::gateway::parts::Lack;
use crate::gateway::profile::Profile;

/// So many archives are remembered: the newest, and those of the older ones whose files are still there first.
const KEPT: usize = 10_000;

/// What is known of a backup in the folder for backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotedBackup {
    /// Its file's name there.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What the clock said when it was made, milliseconds since 1970 UTC.
    pub made_ms: i64,
    /// On what occasion it was made; none in a note of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<BackupKind>,
    /// The parts that it should have and lacks. With one of them it is no good backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
}

impl NotedBackup {
    /// Whether it has every part.
    pub fn is_complete(&self) -> bool {
        self.lacks.is_empty()
    }

    /// Whether the clock says that it is yet to be made: it was wrong then, or is wrong now.
    pub fn lies_in_the_future(&self) -> bool {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |s| i64::try_from(s.as_millis()).unwrap_or(i64::MAX));
        self.made_ms > now
    }

    /// Whether it is still what it was, as far as that is seen without reading it.
    fn is_there(&self, profile: &Profile) -> bool {
        let path = profile.backups_dir().join(&self.name);
        let meta = std::fs::symlink_metadata(path);
        meta.is_ok_and(|m| m.is_file() && m.len() == self.size)
    }
}

/// The last backups that are still there, less those that restores made: of a gateway that somebody wanted to leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Last {
    /// The last good one, with its SHA-256.
    pub good: Option<(Digest, NotedBackup)>,
    /// An incomplete one that was made after it, the last of them.
    pub incomplete: Option<(Digest, NotedBackup)>,
    /// There is no good one, but there are backups of which it is not known whether they have every part: made by an older
    /// version, elsewhere, or under another name.
    pub unknown: bool,
}

fn path(profile: &Profile) -> PathBuf {
    profile.state_dir.join("made")
}

/// Remembers an archive before it gets its name in `dir`, with its note where that is the folder for backups, of which alone the
/// last good one is told.
pub fn remember_in(
    profile: &Profile,
    dir: &Path,
    archive: &Digest,
    note: NotedBackup,
) -> Result<(), Problem> {
    let real = |dir: &Path| dir.canonicalize().ok();
    let here = real(dir).is_some() && real(dir) == real(&profile.backups_dir());
    remember(profile, archive, here.then_some(note))
}

/// Remembers an archive before it gets its name: one that is not remembered would be taken for a stranger's.
pub fn remember(
    profile: &Profile,
    archive: &Digest,
    note: Option<NotedBackup>,
) -> Result<(), Problem> {
    let write = || -> io::Result<()> {
        let text = read(profile)?;
        let mut all: Vec<&str> = text.lines().filter(|l| digest_of(l).is_some()).collect();
        // One more is about to be noted.
        forget(profile, &mut all, KEPT - 1);
        let line = match note {
            Some(note) => format!("{archive} {}", serde_json::to_string(&note)?),
            None => archive.to_string(),
        };
        all.push(&line);
        let lines: String = all.iter().map(|l| format!("{l}\n")).collect();
        whole::write(&path(profile), lines.as_bytes(), 0o600)
    };
    let path = path(profile);
    write().or_cannot(
        Code::IO,
        format!(
            "note in {} that this machine made the backup",
            path.display()
        ),
        "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
    )
}

/// Keeps so many lines. Those go first whose file was in the folder for backups and is not there any more, then the oldest.
fn forget(profile: &Profile, lines: &mut Vec<&str>, most: usize) {
    let mut beyond = lines.len().saturating_sub(most);
    lines.retain(|line| {
        let gone = beyond > 0 && note_of(line).is_some_and(|(_, note)| !note.is_there(profile));
        beyond -= usize::from(gone);
        !gone
    });
    lines.drain(..beyond);
}

/// Whether this box made an archive, and still knows.
pub fn knows(profile: &Profile, archive: &Digest) -> Result<bool, Problem> {
    match read(profile) {
        Ok(text) => Ok(text.lines().any(|l| digest_of(l).as_ref() == Some(archive))),
        // Who may not look into root's folder can still verify, as anybody could.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(e) => Err(unreadable(profile, &e)),
    }
}

/// The backup in the folder for backups that has this SHA-256, if it was made there and is still there.
pub fn noted(profile: &Profile, archive: &Digest) -> Result<Option<NotedBackup>, Problem> {
    let text = read(profile).map_err(|e| unreadable(profile, &e))?;
    let mut found = text.lines().rev().filter_map(note_of);
    let note = found.find(|(digest, _)| digest == archive).map(|(_, n)| n);
    Ok(note.filter(|n| n.is_there(profile)))
}

/// Every archive that is remembered, oldest first, with what was noted of it.
pub fn all(profile: &Profile) -> Result<Vec<(Digest, Option<NotedBackup>)>, Problem> {
    let text = read(profile).map_err(|e| unreadable(profile, &e))?;
    let line = |line| Some((digest_of(line)?, note_of(line).map(|(_, note)| note)));
    Ok(text.lines().filter_map(line).collect())
}

/// The last backups by when they were made on this box.
pub fn last(profile: &Profile) -> Result<Last, Problem> {
    let text = read(profile).map_err(|e| unreadable(profile, &e))?;
    let mut last = Last::default();
    // A name that was free again and taken again is the later one's.
    let mut seen = HashSet::new();
    for (digest, note) in text.lines().rev().filter_map(note_of) {
        if !seen.insert(note.name.clone()) || !note.is_there(profile) {
            continue;
        }
        if note.kind == Some(BackupKind::Safety) {
            continue;
        }
        if note.is_complete() {
            last.good = Some((digest, note));
            return Ok(last);
        }
        last.incomplete.get_or_insert((digest, note));
    }
    let names = profile.backups_dir().read_dir().into_iter().flatten();
    last.unknown = names.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".zip") && !name.starts_with('.') && !seen.contains(&*name)
    });
    Ok(last)
}

/// Every line, oldest first.
fn read(profile: &Profile) -> io::Result<String> {
    let bytes = if_there(std::fs::read(path(profile)))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line is a digest, and behind it a note if there is one; a line that is neither is passed over.
fn digest_of(line: &str) -> Option<Digest> {
    let digest = line.split_once(' ').map_or(line, |(digest, _)| digest);
    Digest::new(digest).ok()
}

fn note_of(line: &str) -> Option<(Digest, NotedBackup)> {
    let note = serde_json::from_str(line.split_once(' ')?.1).ok()?;
    Some((digest_of(line)?, note))
}

fn unreadable(profile: &Profile, e: &io::Error) -> Problem {
    cannot(
        cause(e),
        format!("read {}: {e}", path(profile).display()),
        "see to the disk of the state folder",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gateway::parts::Part;

    fn digest(n: usize) -> Digest {
        Digest::of_blake3(blake3::hash(&n.to_le_bytes()))
    }

    struct Box {
        _dir: tempfile::TempDir,
        profile: Profile,
    }

    fn a_box() -> Box {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile {
            state_dir: dir.path().to_owned(),
            ..Profile::default()
        };
        std::fs::create_dir(profile.backups_dir()).unwrap();
        Box { _dir: dir, profile }
    }

    impl Box {
        /// A backup in the folder, noted as the box notes it.
        fn makes(&self, n: usize, name: &str, made_ms: i64, lacks: &[&str]) {
            std::fs::write(self.file(name), format!("backup {n}")).unwrap();
            let lack = |part: &&str| Lack {
                part: part.parse::<Part>().unwrap(),
                why: "database is locked\nbusy".into(),
            };
            let note = NotedBackup {
                name: name.into(),
                size: format!("backup {n}").len() as u64,
                made_ms,
                kind: None,
                lacks: lacks.iter().map(lack).collect(),
            };
            remember(&self.profile, &digest(n), Some(note)).unwrap();
        }

        fn file(&self, name: &str) -> PathBuf {
            self.profile.backups_dir().join(name)
        }

        /// The last good one, and the incomplete one after it.
        fn last(&self) -> (Option<String>, Option<String>) {
            let last = last(&self.profile).unwrap();
            let name = |found: Option<(Digest, NotedBackup)>| found.map(|(_, n)| n.name);
            (name(last.good), name(last.incomplete))
        }
    }

    fn good(name: &str) -> (Option<String>, Option<String>) {
        (Some(name.into()), None)
    }

    #[test]
    fn what_was_made_is_known_for_as_long_as_it_is_among_the_newest() {
        let Box { profile, _dir } = a_box();
        assert!(!knows(&profile, &digest(0)).unwrap());
        let lines: String = (0..KEPT).map(|n| format!("{}\n", digest(n))).collect();
        std::fs::write(path(&profile), lines).unwrap();
        assert!(knows(&profile, &digest(0)).unwrap());
        remember(&profile, &digest(KEPT), None).unwrap();
        assert!(knows(&profile, &digest(KEPT)).unwrap());
        assert!(!knows(&profile, &digest(0)).unwrap());
        assert!(knows(&profile, &digest(1)).unwrap());
        let mode = std::os::unix::fs::MetadataExt::mode(&path(&profile).metadata().unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_backup_that_is_still_there_is_known_longer_than_any_that_is_gone() {
        let here = a_box();
        here.makes(1, "wireguard_backup_1.zip", 1, &[]);
        here.makes(2, "wireguard_backup_2.zip", 2, &[]);
        here.makes(3, "wireguard_backup_3.zip", 3, &[]);
        std::fs::remove_file(here.file("wireguard_backup_2.zip")).unwrap();
        let mut text = std::fs::read_to_string(path(&here.profile)).unwrap();
        // Made in other folders, of which nothing is noted.
        text.extend((10..10 + KEPT - 3).map(|n| format!("{}\n", digest(n))));
        std::fs::write(path(&here.profile), text).unwrap();
        let known = |n: usize| knows(&here.profile, &digest(n)).unwrap();
        here.makes(4, "wireguard_backup_4.zip", 4, &[]);
        assert!(known(1) && !known(2) && known(3) && known(10));
        // Where every file is there, or nothing is known of it, the oldest goes.
        here.makes(5, "wireguard_backup_5.zip", 5, &[]);
        assert!(!known(1) && known(3) && known(10));
        assert_eq!(here.last(), good("wireguard_backup_5.zip"));
    }

    #[test]
    fn a_line_that_is_no_digest_is_passed_over() {
        let Box { profile, _dir } = a_box();
        let half = &digest(1).to_string()[..20];
        std::fs::write(path(&profile), format!("{}\n{half}", digest(0))).unwrap();
        assert!(knows(&profile, &digest(0)).unwrap());
        remember(&profile, &digest(2), None).unwrap();
        assert!(knows(&profile, &digest(2)).unwrap());
    }

    #[test]
    fn the_last_good_backup_is_the_one_made_last_whatever_its_name_and_the_clock_say() {
        let here = a_box();
        // The clock stood at 2036, then it was set right, then back by a day.
        here.makes(
            1,
            "wireguard_backup_20360101_000000.zip",
            2_082_758_400_000,
            &[],
        );
        here.makes(
            2,
            "wireguard_backup_20261127_100000.zip",
            1_795_773_600_000,
            &[],
        );
        assert_eq!(here.last(), good("wireguard_backup_20261127_100000.zip"));
        here.makes(
            3,
            "wireguard_backup_20261126_100000.zip",
            1_795_687_200_000,
            &[],
        );
        assert_eq!(here.last(), good("wireguard_backup_20261126_100000.zip"));
    }

    #[test]
    fn a_backup_that_was_renamed_copied_in_cut_short_or_made_a_link_is_not_the_last_good_one() {
        let here = a_box();
        here.makes(1, "wireguard_backup_1.zip", 1, &[]);
        here.makes(2, "wireguard_backup_2.zip", 2, &[]);
        std::fs::copy(
            here.file("wireguard_backup_1.zip"),
            here.file("wireguard_backup_9.zip"),
        )
        .unwrap();
        assert_eq!(here.last(), good("wireguard_backup_2.zip"));
        std::fs::rename(
            here.file("wireguard_backup_2.zip"),
            here.file("wireguard_backup_8.zip"),
        )
        .unwrap();
        assert_eq!(here.last(), good("wireguard_backup_1.zip"));
        std::fs::write(here.file("wireguard_backup_2.zip"), "bac").unwrap();
        assert_eq!(here.last(), good("wireguard_backup_1.zip"));
        std::fs::remove_file(here.file("wireguard_backup_2.zip")).unwrap();
        std::os::unix::fs::symlink(
            "wireguard_backup_8.zip",
            here.file("wireguard_backup_2.zip"),
        )
        .unwrap();
        assert_eq!(here.last(), good("wireguard_backup_1.zip"));
    }

    #[test]
    fn a_name_that_was_taken_twice_is_the_later_ones() {
        let here = a_box();
        here.makes(1, "wireguard_backup_1.zip", 1, &[]);
        std::fs::remove_file(here.file("wireguard_backup_1.zip")).unwrap();
        here.makes(2, "wireguard_backup_1.zip", 1, &["configs.db"]);
        let last = here.last();
        assert_eq!(last, (None, Some("wireguard_backup_1.zip".into())));
    }

    #[test]
    fn an_incomplete_backup_is_never_the_last_good_one_and_is_told_of_until_a_good_one_follows() {
        let here = a_box();
        here.makes(1, "wireguard_backup_1.zip", 1, &[]);
        here.makes(2, "wireguard_backup_2.zip", 2, &["configs.db", "rules-v4"]);
        here.makes(3, "wireguard_backup_3.zip", 3, &["configs.db"]);
        let (good, incomplete) = here.last();
        assert_eq!(good.unwrap(), "wireguard_backup_1.zip");
        assert_eq!(incomplete.unwrap(), "wireguard_backup_3.zip");
        here.makes(4, "wireguard_backup_4.zip", 4, &[]);
        assert_eq!(here.last(), super::tests::good("wireguard_backup_4.zip"));
        let note = noted(&here.profile, &digest(3)).unwrap().unwrap();
        assert_eq!(note.lacks[0].why, "database is locked\nbusy");
        assert_eq!(noted(&here.profile, &digest(9)).unwrap(), None);
    }

    #[test]
    fn backups_of_which_nothing_is_noted_are_known_to_be_made_here_and_not_said_to_be_good() {
        let here = a_box();
        assert_eq!(last(&here.profile).unwrap(), Last::default());
        std::fs::write(path(&here.profile), format!("{}\n", digest(1))).unwrap();
        std::fs::write(here.file("wireguard_backup_1.zip"), "backup 1").unwrap();
        let found = last(&here.profile).unwrap();
        assert!(found.unknown && found.good.is_none(), "{found:?}");
        here.makes(2, "wireguard_backup_0.zip", 1, &[]);
        assert!(knows(&here.profile, &digest(1)).unwrap());
        assert!(knows(&here.profile, &digest(2)).unwrap());
        assert_eq!(here.last(), good("wireguard_backup_0.zip"));
    }

    #[test]
    fn a_backup_that_is_made_in_another_folder_is_not_one_of_this_boxs_list() {
        let here = a_box();
        let other = tempfile::tempdir().unwrap();
        let note = NotedBackup {
            name: "b.zip".into(),
            size: 1,
            made_ms: 1,
            kind: None,
            lacks: Vec::new(),
        };
        let noted = |n: usize, dir: &Path| {
            remember_in(&here.profile, dir, &digest(n), note.clone()).unwrap();
            all(&here.profile).unwrap().pop().unwrap().1
        };
        assert!(noted(1, other.path()).is_none());
        let again = here
            .profile
            .state_dir
            .join("../")
            .join(here.profile.state_dir.file_name().unwrap());
        assert!(noted(2, &again.join("backups")).is_some());
    }
}
