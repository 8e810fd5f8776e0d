//! The audit log: who did what, when and with which result, in `state_dir/audit`. Owns its files, the chain that binds their lines,
//! and the lock under which the agent, the command line and workers append. What an entry says is `entry`'s; whether the files are
//! sound is `check`'s.
//!
//! It must stop nothing: what cannot be appended is warned of. It makes no folder above its own, so that a `state_dir` that is not
//! mounted stays as it is.

pub mod check;
pub mod entry;
pub mod old;

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use journal_format::{Chain, Seq};
use nix::libc;
use serde::Deserialize;

use crate::files::access;
use crate::files::open::{if_there, lock_file, sync};
use crate::gateway::profile::Profile;
use entry::{AuditLine, Audited};

/// A file that is as long as this gets no further line: the next file goes on.
const TURNS: u64 = 8 << 20;
/// A line is no longer, and the end of a file is looked for in twice that.
const LINE: u64 = 32 << 10;
/// How long the lock is waited for: whoever has it was stopped, or its disk hangs.
const WAITS: Duration = Duration::from_secs(2);
const LOCK: &str = "lock";
const ENDING: &str = ".log";

/// Its folder.
pub fn dir(profile: &Profile) -> PathBuf {
    profile.state_dir.join("audit")
}

/// Makes the folder, if there is none. Nothing is kept from its work by a disk on which that fails.
pub(super) fn make(profile: &Profile) {
    let dir = dir(profile);
    match DirBuilder::new().mode(0o700).create(&dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            tracing::warn!(
                "cannot make the folder of the audit log {}: {e}",
                dir.display()
            );
        }
        Ok(()) | Err(_) => {}
    }
}

/// Appends an entry, or warns that it cannot be appended: nothing waits for it.
pub fn note(profile: &Profile, audited: Audited) {
    let dir = dir(profile);
    match append(&dir, &audited, now_ms(), TURNS) {
        // `state_dir` is not made, or not mounted: whoever needs it says so.
        Err(e) if e.kind() == io::ErrorKind::NotFound && !dir.exists() => {}
        Err(e) => tracing::warn!(
            "the audit log {} lacks an entry ({audited}): {e}",
            dir.display()
        ),
        Ok(()) => {}
    }
}

fn now_ms() -> i64 {
    let since = UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Appends one entry and syncs it, into the next file if the newest has this length.
fn append(dir: &Path, audited: &Audited, at_ms: i64, turns: u64) -> io::Result<()> {
    let _lock = locked(dir)?;
    let mut end = LogEnd::find(dir)?;
    let seq = end.seq;
    let line = AuditLine {
        seq,
        at_ms,
        audited: audited.clone(),
    };
    let line = end.chain.seal(Seq(seq), &line).map_err(io::Error::other)?;
    // What is longer than a line can be is no line that was cut off: it stays, for `check` to find.
    let goes_on = |newest: &NewestFile| newest.whole < turns && newest.beyond <= LINE;
    let newest = end.newest.filter(goes_on);
    let (number, whole) = match &newest {
        Some(newest) => (newest.number, newest.whole),
        None => (end.next, 0),
    };
    let path = file(dir, number);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)?;
    let beyond = newest.map_or(0, |newest| newest.beyond);
    if beyond > 0 {
        tracing::warn!(
            "cut {beyond} bytes off {}: an incomplete last line, as a power cut leaves it",
            path.display()
        );
        file.set_len(whole)?;
    }
    file.seek(SeekFrom::Start(whole))?;
    file.write_all(&line).inspect_err(|_| {
        // Half a line would be cut off by the next append; if this fails, too, it still is.
        let _ = file.set_len(whole);
    })?;
    file.sync_all()?;
    match whole {
        0 => sync(dir),
        _ => Ok(()),
    }
}

/// The one lock of all who append. It is waited for, but not for ever.
fn locked(dir: &Path) -> io::Result<File> {
    if !access::is_private(dir) {
        return Err(match if_there(dir.symlink_metadata())? {
            Some(_) => io::Error::other("it is not root's alone, or no folder"),
            None => io::ErrorKind::NotFound.into(),
        });
    }
    let file = lock_file(&dir.join(LOCK))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::WouldBlock) if began.elapsed() < WAITS => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process holds its lock"));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

/// One of its files.
pub fn file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}{ENDING}"))
}

/// The numbers of the files, oldest first.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(ENDING));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where the next line goes.
struct LogEnd {
    /// The newest file.
    newest: Option<NewestFile>,
    /// The number of a further one.
    next: u64,
    chain: Chain,
    seq: u64,
}

struct NewestFile {
    number: u64,
    /// Its length without a line that was cut off.
    whole: u64,
    /// The length of that.
    beyond: u64,
}

impl LogEnd {
    /// By the ends of the files alone. A line that somebody changed is gone on behind as it says itself: to find that is `check`'s.
    fn find(dir: &Path) -> io::Result<LogEnd> {
        let numbers = numbers(dir)?;
        let mut end = LogEnd {
            newest: None,
            next: numbers.last().map_or(1, |newest| newest + 1),
            chain: Chain::start(),
            seq: 0,
        };
        for number in numbers.into_iter().rev() {
            let (begins, tail) = tail(&file(dir, number))?;
            let whole = whole_lines(&tail);
            end.newest.get_or_insert(NewestFile {
                number,
                whole: begins + whole as u64,
                beyond: (tail.len() - whole) as u64,
            });
            let last = |bytes: &[u8]| {
                let lines = bytes.split_inclusive(|b| *b == b'\n');
                lines.rev().find_map(claimed)
            };
            // Only where somebody wrote over the end of the file is there none.
            let mut found = last(&tail[..whole]);
            if found.is_none() && begins > 0 {
                found = last(&std::fs::read(file(dir, number))?);
            }
            if let Some((chain, seq)) = found {
                end.chain = chain;
                end.seq = seq + 1;
                break;
            }
        }
        Ok(end)
    }
}

/// As much of every line as the chain needs.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

fn claimed(line: &[u8]) -> Option<(Chain, u64)> {
    let (chain, json) = Chain::claimed(line)?;
    let numbered: Numbered = serde_json::from_slice(json).ok()?;
    Some((chain, numbered.seq))
}

/// The end of a file, and where in the file that begins.
fn tail(path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let begins = file.metadata()?.len().saturating_sub(2 * LINE);
    file.seek(SeekFrom::Start(begins))?;
    let mut tail = Vec::new();
    file.take(4 * LINE).read_to_end(&mut tail)?;
    Ok((begins, tail))
}

/// How many of these bytes are lines that were written to their end. A power cut leaves of the last one a part, or zeros where
/// sectors are missing; no line has a zero.
fn whole_lines(bytes: &[u8]) -> usize {
    let mut whole = 0;
    let mut end = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        end += line.len();
        if line.ends_with(b"\n") && !line.contains(&0) {
            whole = end;
        }
    }
    whole
}

#[cfg(test)]
mod tests;
