//! Reads the audit log from its first line to its last, and says of each whether the chain vouches for it. Changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use journal_format::Chain;
use serde_json::Value;

use super::entry::AuditLine;
use super::{LINE, claimed, file, locked, numbers, old, whole_lines};

/// What stands in the log, in order.
#[derive(Debug)]
pub enum InAuditLog<'l> {
    /// A line that the chain vouches for.
    Entry(Box<AuditLine>),
    /// The same, of which this version does not understand all.
    Opaque(Value),
    /// Something is not as it was written.
    Flaw(&'l AuditFlaw),
    /// A line that was never whole, at the end of a file: a power cut leaves that. The next entry takes its place.
    Torn(&'l AuditFlaw),
}

/// Where something is wrong, and what.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditFlaw {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: u64,
    /// What is wrong.
    pub why: String,
}

/// What was read altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditCount {
    /// Files.
    pub files: usize,
    /// Lines that the chain vouches for.
    pub entries: usize,
    /// Places where something is wrong.
    pub flaws: usize,
}

/// Hands on all that stands in the log, oldest first. None is there: nothing is handed on.
pub fn read(dir: &Path, mut each: impl FnMut(InAuditLog<'_>)) -> io::Result<AuditCount> {
    if !dir.try_exists()? {
        return Ok(AuditCount::default());
    }
    // So that no line is read half written. Whoever cannot have it reads all the same.
    let _lock = locked(dir).ok();
    let mut reader = AuditReader {
        chain: Chain::start(),
        seq: 0,
        count: AuditCount::default(),
        each: &mut each,
    };
    let numbers = numbers(dir)?;
    let mut expected = reader.goes_on_behind_old_ones(dir, &numbers)?;
    for number in numbers {
        let path = file(dir, number);
        if number != expected {
            let missing = file(dir, expected);
            reader.flaw(
                &missing,
                1,
                format!("it is missing: {} follows", path.display()),
            );
        }
        reader.file(&path, &std::fs::read(&path)?);
        expected = number + 1;
    }
    Ok(reader.count)
}

struct AuditReader<'e> {
    chain: Chain,
    seq: u64,
    count: AuditCount,
    each: &'e mut dyn FnMut(InAuditLog<'_>),
}

impl AuditReader<'_> {
    /// The number of the first file that should be there. Where a prune removed older ones, the chain goes on behind them.
    fn goes_on_behind_old_ones(&mut self, dir: &Path, numbers: &[u64]) -> io::Result<u64> {
        let Some(first) = numbers.first().filter(|first| **first > 1) else {
            return Ok(1);
        };
        let bytes = std::fs::read(file(dir, *first))?;
        let line = bytes.split_inclusive(|b| *b == b'\n').next();
        let Some((_, seq)) = line.and_then(claimed) else {
            return Ok(1);
        };
        Ok(match old::before(dir, seq)? {
            Some(chain) => {
                (self.chain, self.seq) = (chain, seq);
                *first
            }
            None => 1,
        })
    }

    fn file(&mut self, path: &Path, bytes: &[u8]) {
        self.count.files += 1;
        let whole = whole_lines(bytes);
        let mut number = 0;
        for line in bytes[..whole].split_inclusive(|b| *b == b'\n') {
            number += 1;
            if let Err(why) = self.line(line) {
                self.flaw(path, number, why);
                // What is behind it is held against what it says itself, so that one change is told once.
                if let Some((chain, seq)) = claimed(line) {
                    self.chain = chain;
                    self.seq = seq.saturating_add(1);
                }
            }
        }
        match (bytes.len() - whole) as u64 {
            0 => {}
            beyond @ 1..=LINE => {
                let why = format!(
                    "the line is incomplete ({beyond} bytes), as a power cut leaves it; the next entry takes its place"
                );
                (self.each)(InAuditLog::Torn(&flaw(path, number + 1, why)));
            }
            beyond => {
                let why = format!("its last {beyond} bytes are no entry");
                self.flaw(path, number + 1, why);
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let mut chain = self.chain.clone();
        let json = chain.open(line)?;
        let bad = |e: serde_json::Error| format!("its hash is right, but it is no entry: {e}");
        let value: Value = serde_json::from_slice(json).map_err(bad)?;
        let seq = value.get("seq").and_then(Value::as_u64);
        if seq != Some(self.seq) {
            return Err(format!("entry {} was expected", self.seq));
        }
        self.chain = chain;
        self.seq += 1;
        self.count.entries += 1;
        (self.each)(match serde_json::from_slice(json) {
            Ok(entry) => InAuditLog::Entry(Box::new(entry)),
            Err(_) => InAuditLog::Opaque(value),
        });
        Ok(())
    }

    fn flaw(&mut self, file: &Path, line: u64, why: String) {
        self.count.flaws += 1;
        (self.each)(InAuditLog::Flaw(&flaw(file, line, why)));
    }
}

fn flaw(file: &Path, line: u64, why: String) -> AuditFlaw {
    AuditFlaw {
        file: file.into(),
        line,
        why,
    }
}
