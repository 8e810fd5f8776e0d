//! Which backups a person pinned: by their SHA-256, so that a pin goes with the file whatever its name. Owns the file `state_dir/pinned`;
//! decides nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use journal_format::Digest;

use crate::error::{Code, OrCannot, Problem};
use crate::files::open::if_there;
use crate::files::whole;
use crate::gateway::profile::Profile;

fn path(profile: &Profile) -> PathBuf {
    profile.state_dir.join("pinned")
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

/// Pins a backup, or takes the pin away; whether that changed anything.
pub fn set(profile: &Profile, backup: &Digest, pinned: bool) -> Result<bool, Problem> {
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
            "see whether that disk is full or failing",
        )?;
    }
    Ok(changed)
}
