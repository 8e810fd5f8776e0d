//! A file that a process locks, with its number and what it does in it for others to read. Owns the lock itself; who takes which
//! file, and what it means, is `lock`'s and `targets`'.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::host::programs;

/// How long a lock is waited for that a process has which is gone.
const LINGERS: Duration = Duration::from_secs(2);

/// What the holder of the lock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockedFor {
    /// Makes a backup: the gateway's databases may be looked at meanwhile.
    Backup,
    /// Restores one, or asks whether it shall.
    Restore,
    /// Recovers an open restore.
    Recovery,
    /// Closes what other accounts may write.
    Secure,
    /// Removes old backups.
    Prune,
    /// Something that another version of this program does.
    Other,
}

impl LockedFor {
    const KNOWN: [LockedFor; 5] = [
        LockedFor::Backup,
        LockedFor::Restore,
        LockedFor::Recovery,
        LockedFor::Secure,
        LockedFor::Prune,
    ];

    /// As it stands in the lock, and in messages.
    pub fn words(self) -> &'static str {
        match self {
            LockedFor::Backup => "a backup",
            LockedFor::Restore => "a restore",
            LockedFor::Recovery => "a recovery",
            LockedFor::Secure => "a change of modes",
            LockedFor::Prune => "a removal of old backups",
            LockedFor::Other => "another holdfast",
        }
    }

    fn of(words: &str) -> LockedFor {
        let mut known = LockedFor::KNOWN.into_iter();
        known
            .find(|w| w.words() == words)
            .unwrap_or(LockedFor::Other)
    }
}

impl std::fmt::Display for LockedFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

/// Takes the lock on this file and writes who has it; false if somebody else has it.
pub(super) fn try_take(file: &mut File, who: &str) -> std::io::Result<bool> {
    let began = Instant::now();
    loop {
        match fcntl(&*file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => break,
            // A child of a killed driver shares its lock until its own program begins, a moment later.
            Err(nix::Error::EAGAIN | nix::Error::EACCES)
                if began.elapsed() < LINGERS && !its_holder_lives(file) =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    // It may have been read to its end while the lock was waited for.
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(who.as_bytes())?;
    Ok(true)
}

/// Whether somebody has the lock on this file. Asked, not tried: a look must not keep a driver from its lock.
pub(super) fn is_taken(file: &File) -> bool {
    let mut lock = whole_file();
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// A lock for writing on all of a file, of the open file and not of the process: another thread is another holder, and
/// closing some other descriptor of the file does not give it up.
pub(super) fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// What the holder wrote; none if it has not yet.
pub(super) fn named(file: &mut File) -> Option<(u32, LockedFor)> {
    let text = written(file)?;
    let (pid, what) = text.lines().next()?.trim().split_once(' ')?;
    Some((pid.parse().ok()?, LockedFor::of(what)))
}

/// All that the holder wrote.
pub(super) fn written(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

fn its_holder_lives(file: &mut File) -> bool {
    // Without a name somebody is about to write it.
    named(file).is_none_or(|(pid, _)| programs::process(pid).is_some_and(|p| !p.gone))
}
