//! The old files of the audit log: which they are, and how the oldest goes so that the chain of those that stay can still be checked.
//! Owns the file `audit/pruned`, which has the last lines of the files that went last. Decides nothing about how long one stays.

use std::io;
use std::path::{Path, PathBuf};

use journal_format::Chain;
use serde::Deserialize;

use super::{claimed, file, locked, numbers, whole_lines};
use crate::files::open::{if_there, sync};
use crate::files::whole;

/// A file that gets no further line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldAuditFile {
    /// Its place among the files.
    pub number: u64,
    /// Bytes.
    pub size: u64,
    /// When its last entry was written, milliseconds since 1970 UTC.
    pub last_ms: i64,
}

#[derive(Deserialize)]
struct Dated {
    at_ms: i64,
}

/// The files before the newest, oldest first. One whose end says nothing ends the list: what is behind it stays, too.
pub fn files(dir: &Path) -> io::Result<Vec<OldAuditFile>> {
    if !dir.try_exists()? {
        return Ok(Vec::new());
    }
    let mut numbers = numbers(dir)?;
    numbers.pop();
    let mut old = Vec::new();
    for number in numbers {
        let bytes = std::fs::read(file(dir, number))?;
        let dated = last_line(&bytes).and_then(|line| Chain::claimed(line));
        let Some(Ok(dated)) = dated.map(|(_, json)| serde_json::from_slice::<Dated>(json)) else {
            break;
        };
        old.push(OldAuditFile {
            number,
            size: bytes.len() as u64,
            last_ms: dated.at_ms,
        });
    }
    Ok(old)
}

fn last_line(bytes: &[u8]) -> Option<&[u8]> {
    let whole = &bytes[..whole_lines(bytes)];
    whole.split_inclusive(|b| *b == b'\n').next_back()
}

fn pruned(dir: &Path) -> PathBuf {
    dir.join("pruned")
}

/// Removes the oldest file. Its last line is kept first, and durably; that of the one before it stays as well, since a crash may come
/// in between.
pub fn remove(dir: &Path, oldest: u64) -> io::Result<()> {
    let _lock = locked(dir)?;
    let path = file(dir, oldest);
    let Some(bytes) = if_there(std::fs::read(&path))? else {
        return Ok(());
    };
    let last = last_line(&bytes).ok_or_else(|| io::Error::other("it has no whole line"))?;
    let before = if_there(std::fs::read(pruned(dir)))?.unwrap_or_default();
    // Whoever tries again has its own line in it already, and needs the one before that as well.
    let mut before = before.split_inclusive(|b| *b == b'\n');
    let before = before.rfind(|line| *line != last && line.ends_with(b"\n"));
    let lines = [before.unwrap_or_default(), last].concat();
    whole::write(&pruned(dir), &lines, 0o600)?;
    std::fs::remove_file(&path)?;
    sync(dir)
}

/// Where the chain stands before the line of this place, as far as the files that went say.
pub(super) fn before(dir: &Path, seq: u64) -> io::Result<Option<Chain>> {
    let bytes = if_there(std::fs::read(pruned(dir)))?.unwrap_or_default();
    let mut ends = bytes.split_inclusive(|b| *b == b'\n').filter_map(claimed);
    Ok(ends
        .find(|(_, last)| last + 1 == seq)
        .map(|(chain, _)| chain))
}
