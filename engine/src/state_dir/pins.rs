//! Which backups a person pinned: by their SHA-256, so that a pin goes with the file whatever its name. Owns the file `state_dir/pinned`;
//! decides nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use journal_format::Digest;

use crate::error::{Code, OrCannot, Problem};
use crate::files::open::{if_there, lock_file};
use crate::files::whole;
use crate::gateway::profile::Profile;

/// The file in the state folder.
pub const PINNED: &str = "pinned";

fn path(profile: &Profile) -> PathBuf {
    profile.state_dir.join(PINNED)
}

/// All of them. An error where they cannot be read: then it is not known of any backup that it is not pinned.
pub fn all(profile: &Profile) -> Result<BTreeSet<Digest>, Problem> {
    let path = path(profile);
    let bytes = if_there(std::fs::read(&path)).or_cannot(
        Code::IO,
        format!("read which backups are pinned, in {}", path.display()),
        "see to the disk of the state folder",
    )?;
    let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let digest = |line: &str| {
        Digest::new(line).or_cannot(
            Code::IO,
            format!(
                "read which backups are pinned: a line of {} is no SHA-256",
                path.display()
            ),
            "take that line out, or remove the file and pin the backups again",
        )
    };
    text.lines().map(digest).collect()
}

/// Keeps the pins as they are until it is dropped: whoever pins a backup meanwhile waits.
#[derive(Debug)]
pub struct PinsHeld {
    _lock: File,
}

/// Waits for whoever pins, or prunes.
pub fn hold(profile: &Profile) -> Result<PinsHeld, Problem> {
    let path = path(profile).with_extension("lock");
    let hold = || -> io::Result<File> {
        let file = lock_file(&path)?;
        // A signal that was handled meanwhile says nothing of the lock.
        while let Err(e) = file.lock() {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        Ok(file)
    };
    let held = hold().or_cannot(
        Code::IO,
        format!("take the lock {}", path.display()),
        "run it as root, and see to the disk of the state folder",
    )?;
    Ok(PinsHeld { _lock: held })
}

/// Pins a backup, or takes the pin away; whether that changed anything.
pub fn set(profile: &Profile, backup: &Digest, pinned: bool) -> Result<bool, Problem> {
    let _held = hold(profile)?;
    let mut all = all(profile)?;
    let changed = match pinned {
        true => all.insert(backup.clone()),
        false => all.remove(backup),
    };
    if changed {
        let text: String = all.iter().map(|digest| format!("{digest}\n")).collect();
        let path = path(profile);
        whole::write(&path, text.as_bytes(), 0o600).or_cannot(
            Code::IO,
            format!("note in {} which backups are pinned", path.display()),
            "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails",
        )?;
    }
    Ok(changed)
}
