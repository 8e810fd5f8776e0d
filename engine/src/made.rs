//! Which archives this box made: the SHA-256 of each, in a file of root's. What is in one of them was in the gateway's own
//! files, and goes back as it is. Owns that file; knows nothing of what an archive holds.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use journal_format::Digest;

use crate::fault::{Problem, cannot};
use crate::profile::Profile;

/// So many archives are remembered, the newest.
const KEPT: usize = 10_000;

fn path(profile: &Profile) -> PathBuf {
    profile.state_dir.join("made")
}

/// Remembers an archive before it gets its name: one that is not remembered would be taken for a stranger's.
pub fn remember(profile: &Profile, archive: &Digest) -> Result<(), Problem> {
    let write = || -> io::Result<()> {
        let mut all = read(profile)?;
        all.push(archive.clone());
        let from = all.len().saturating_sub(KEPT);
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o600))
            .prefix(".made-")
            .tempfile_in(&profile.state_dir)?;
        let lines: String = all[from..].iter().map(|d| format!("{d}\n")).collect();
        file.write_all(lines.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path(profile)).map_err(|e| e.error)?;
        File::open(&profile.state_dir)?.sync_all()
    };
    write().map_err(|e| {
        cannot(
            format!(
                "note in {} that this box made the backup: {e}",
                path(profile).display()
            ),
            "see whether that disk is full or failing",
        )
    })
}

/// Whether this box made an archive, and still knows.
pub fn knows(profile: &Profile, archive: &Digest) -> Result<bool, Problem> {
    match read(profile) {
        Ok(all) => Ok(all.contains(archive)),
        // Who may not look into root's folder can still verify, as anybody could.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(e) => Err(cannot(
            format!("read {}: {e}", path(profile).display()),
            "see to the disk of the state folder",
        )),
    }
}

/// Every archive, oldest first; a line that is none is passed over.
fn read(profile: &Profile) -> io::Result<Vec<Digest>> {
    match std::fs::read(path(profile)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes)
            .lines()
            .filter_map(|line| Digest::new(line).ok())
            .collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn digest(n: usize) -> Digest {
        Digest::of_blake3(blake3::hash(&n.to_le_bytes()))
    }

    #[test]
    fn what_was_made_is_known_for_as_long_as_it_is_among_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile {
            state_dir: dir.path().to_owned(),
            ..Profile::default()
        };
        assert!(!knows(&profile, &digest(0)).unwrap());
        let lines: String = (0..KEPT).map(|n| format!("{}\n", digest(n))).collect();
        std::fs::write(path(&profile), lines).unwrap();
        assert!(knows(&profile, &digest(0)).unwrap());
        remember(&profile, &digest(KEPT)).unwrap();
        assert!(knows(&profile, &digest(KEPT)).unwrap());
        assert!(!knows(&profile, &digest(0)).unwrap());
        assert!(knows(&profile, &digest(1)).unwrap());
        let mode = path(&profile).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_line_that_is_no_digest_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile {
            state_dir: dir.path().to_owned(),
            ..Profile::default()
        };
        let half = &digest(1).to_string()[..20];
        std::fs::write(path(&profile), format!("{}\n{half}", digest(0))).unwrap();
        assert!(knows(&profile, &digest(0)).unwrap());
        remember(&profile, &digest(2)).unwrap();
        assert!(knows(&profile, &digest(2)).unwrap());
    }
}
