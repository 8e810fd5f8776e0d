//! Bytes of a journal to records, state and tail. Owns the line between a torn tail, which recovery mends, and
//! corruption, which stops everything: where both are possible it says corruption. Mends nothing itself.

use serde::Deserialize;
use serde_json::Value;

use crate::{Chain, Format, Illegal, Record, RestoreId, Seq, State, Verdict};

mod tail;
#[cfg(test)]
mod tests;

/// A whole journal as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The records that are there for certain.
    pub records: Vec<Record>,
    /// Lines of a newer minor version that this program does not understand, or not wholly. Always empty in a journal
    /// that it may act on.
    pub opaque: Vec<(Seq, Value)>,
    /// What the records add up to; none if there is not even a header. Of a newer minor version, up to the first
    /// record that this program does not understand.
    pub state: Option<State>,
    /// The chain to append with; none if nothing may be appended (corrupt, or of a newer version).
    pub chain: Option<Chain>,
    /// The bytes of those records, from the beginning.
    pub valid_len: usize,
    /// What is behind them.
    pub tail: Tail,
}

/// What is behind the last good record of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// A record whose writing was cut off. It was never acknowledged; recovery keeps a copy and cuts it off.
    Torn {
        /// How many bytes of it are there.
        bytes: usize,
    },
    /// Bytes that no cut-off write explains. The operator is needed.
    Corrupt {
        /// Where the bad line begins.
        offset: usize,
        /// The bad line's number; the header is line 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A newer version of the format wrote it.
    Newer {
        /// That version.
        format: Format,
        /// Only its minor number is newer: the records can be read, but must not be acted on.
        readable: bool,
    },
}

/// What `journal verify` says of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Soundness {
    /// Sound, and the restore is over.
    Closed(Verdict),
    /// Sound, and the restore is open.
    Open,
    /// Not one byte is there: a crash came before the first record.
    Empty,
    /// Its last record was cut off.
    Torn,
    /// It is damaged.
    Corrupt,
    /// A newer version wrote it.
    Newer,
}

impl Soundness {
    /// The exit status that tells this answer apart. An empty journal is one whose first record was cut off.
    pub fn exit_status(self) -> u8 {
        match self {
            Soundness::Closed(_) => 0,
            Soundness::Open => 10,
            Soundness::Empty | Soundness::Torn => 11,
            Soundness::Corrupt => 12,
            Soundness::Newer => 13,
        }
    }
}

impl Scan {
    /// Whether it is whole, and whether the restore is over.
    pub fn soundness(&self) -> Soundness {
        match (&self.tail, &self.state) {
            (Tail::Corrupt { .. }, _) => Soundness::Corrupt,
            (Tail::Newer { .. }, _) => Soundness::Newer,
            (Tail::Torn { .. }, _) => Soundness::Torn,
            (Tail::Clean, None) => Soundness::Empty,
            (Tail::Clean, Some(state)) => {
                state.verdict().map_or(Soundness::Open, Soundness::Closed)
            }
        }
    }
}

/// One line of a journal that was understood, or at least known to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScannedLine {
    /// A record.
    Record(Record),
    /// A line of a newer minor version that this program does not understand, or not wholly.
    Opaque {
        /// Its place.
        seq: Seq,
        /// Its JSON.
        json: Value,
    },
}

/// Why a line stops a scan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The line is not a good one.
    #[error("line {line} at byte {offset}: {why}")]
    Bad {
        /// Where the line begins.
        offset: usize,
        /// Its number; the header is line 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The header names a version that this program cannot read.
    #[error("format {0} is newer than {current}, the newest that this program reads", current = Format::CURRENT)]
    Newer(Format),
}

/// Reads a journal line by line, as it grows. Keeps the state and the chain, but no record.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// The restore whose journal it must be.
    of: Option<RestoreId>,
    /// Whether the state is only to be shown.
    lean: bool,
    chain: Chain,
    state: Option<State>,
    newer: Option<Format>,
    lines: u64,
    valid_len: usize,
}

impl Default for Scanner {
    fn default() -> Self {
        Scanner::new()
    }
}

impl Scanner {
    /// A scanner at the beginning of a journal.
    pub fn new() -> Scanner {
        Scanner {
            of: None,
            lean: false,
            chain: Chain::start(),
            state: None,
            newer: None,
            lines: 0,
            valid_len: 0,
        }
    }

    /// The same, of this restore's journal: whatever names another one is not it, however sound.
    pub fn of(restore: &RestoreId) -> Scanner {
        Scanner {
            of: Some(restore.clone()),
            ..Scanner::new()
        }
    }

    /// The same where the state is only shown: it lacks the plan's files and databases and the exchanges. The records have them.
    pub fn to_show(restore: &RestoreId) -> Scanner {
        Scanner {
            lean: true,
            ..Scanner::of(restore)
        }
    }

    /// Takes every whole line in `bytes`, which begin where the last call stopped, and hands each one on with the
    /// state behind it. Returns how many bytes were taken; the rest is a line that is not yet whole.
    ///
    /// A line that stops the scan is not taken; nothing behind it may be fed.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(ScannedLine, Option<&State>),
    ) -> Result<usize, Stop> {
        let mut taken = 0;
        while let Some(end) = bytes[taken..].iter().position(|b| *b == b'\n') {
            let found = self.line(&bytes[taken..=taken + end])?;
            taken += end + 1;
            each(found, self.state.as_ref());
        }
        Ok(taken)
    }

    /// Takes one whole line, its newline included.
    pub fn line(&mut self, line: &[u8]) -> Result<ScannedLine, Stop> {
        let mut chain = self.chain.clone();
        let read = chain
            .open(line)
            .map_err(|why| Flaw::Bad(why.into()))
            .and_then(|json| self.take(json));
        match read {
            Ok(found) => {
                self.chain = chain;
                self.lines += 1;
                self.valid_len += line.len();
                Ok(found)
            }
            Err(Flaw::Bad(why)) => Err(Stop::Bad {
                offset: self.valid_len,
                line: self.lines + 1,
                why,
            }),
            Err(Flaw::Newer(format)) => Err(Stop::Newer(format)),
        }
    }

    /// What the records so far add up to; none before the header.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// The bytes taken so far.
    pub fn valid_len(&self) -> usize {
        self.valid_len
    }

    /// Takes the rest of the file, from where the scanner stands, and judges its tail. Unlike [`scan`] it keeps no
    /// records.
    pub fn finish(mut self, rest: &[u8]) -> Scan {
        let before = self.valid_len;
        let stop = self.feed(rest, |_, _| {}).err();
        let tail = self.tail(&rest[self.valid_len - before..], stop);
        let appendable = matches!(tail, Tail::Clean | Tail::Torn { .. });
        Scan {
            records: Vec::new(),
            opaque: Vec::new(),
            state: self.state,
            chain: appendable.then_some(self.chain),
            valid_len: self.valid_len,
            tail,
        }
    }

    fn next_seq(&self) -> Seq {
        Seq(self.lines)
    }

    fn take(&mut self, json: &[u8]) -> Result<ScannedLine, Flaw> {
        if self.lines == 0 {
            self.take_header(json)
        } else if self.newer.is_some() {
            self.take_newer(json)
        } else {
            let record = whole(json)?;
            match &mut self.state {
                Some(state) => state.apply(&record).map_err(|e| Flaw::Bad(e.to_string()))?,
                None => return Err(Flaw::Bad("there is no header before it".into())),
            }
            Ok(ScannedLine::Record(record))
        }
    }

    fn take_header(&mut self, json: &[u8]) -> Result<ScannedLine, Flaw> {
        let PeekHeader { format, restore } = parse::<Peek>(json)?.entry.header;
        if format.major > Format::CURRENT.major {
            return Err(Flaw::Newer(format));
        }
        if format.major < Format::CURRENT.major {
            return Err(Flaw::Bad(format!("there is no format {format}")));
        }
        if let Some(of) = self.of.as_ref().filter(|of| of.as_str() != restore) {
            return Err(Flaw::Bad(format!(
                "it is the journal of restore {restore:?}, and that of {of} should be here"
            )));
        }
        if format > Format::CURRENT {
            self.newer = Some(format);
            return self.take_newer(json);
        }
        let record = whole(json)?;
        self.state = Some(self.begin(&record).map_err(|e| Flaw::Bad(e.to_string()))?);
        Ok(ScannedLine::Record(record))
    }

    fn begin(&self, record: &Record) -> Result<State, Illegal> {
        let mut state = State::begin(record)?;
        if self.lean {
            state.make_lean();
        }
        Ok(state)
    }

    /// A line of a newer minor version: the chain vouches for it. The state is folded while every word is known.
    fn take_newer(&mut self, json: &[u8]) -> Result<ScannedLine, Flaw> {
        let seq = self.next_seq();
        let understood = whole(json).ok().filter(|record| record.seq == seq);
        let Some(record) = understood else {
            let value: Value = parse(json)?;
            if value.get("seq").and_then(Value::as_u64) != Some(seq.0) {
                return Err(Flaw::Bad(format!("record {seq} was expected")));
            }
            if let Some(state) = &mut self.state {
                state.stop(seq);
            }
            return Ok(ScannedLine::Opaque { seq, json: value });
        };
        match &mut self.state {
            Some(state) => {
                if state.apply(&record).is_err() {
                    state.stop(seq);
                }
            }
            None => self.state = self.begin(&record).ok(),
        }
        Ok(ScannedLine::Record(record))
    }
}

enum Flaw {
    Bad(String),
    Newer(Format),
}

/// As much of a header as every version of the format has.
#[derive(Deserialize)]
struct Peek {
    entry: PeekEntry,
}
#[derive(Deserialize)]
struct PeekEntry {
    header: PeekHeader,
}
#[derive(Deserialize)]
struct PeekHeader {
    format: Format,
    #[serde(default)]
    restore: String,
}

/// The record in this JSON, if it says no more than the record holds: what is not understood may mean anything.
fn whole(json: &[u8]) -> Result<Record, Flaw> {
    let record: Record = parse(json)?;
    // As this program writes it; a plan has megabytes, and needs no copy then.
    let mut left = Unread(json);
    let same = serde_json::to_writer(&mut left, &record).is_ok() && left.0.is_empty();
    if same || says_no_more(json, &record)? {
        Ok(record)
    } else {
        Err(Flaw::Bad(
            "its hash is right, but it says what its version of the format does not know".into(),
        ))
    }
}

/// The same however it is spelled, less what may be passed over.
fn says_no_more(json: &[u8], record: &Record) -> Result<bool, Flaw> {
    let less = |mut read: Value| {
        if let Some(fields) = read.as_object_mut()
            && fields.get(FOR_PEOPLE).is_some_and(Value::is_object)
        {
            fields.remove(FOR_PEOPLE);
        }
        read
    };
    let read = less(parse(json)?);
    Ok(serde_json::to_value(record).is_ok_and(|held| less(held) == read))
}

/// An object beside a record's `entry` that every reader may pass over.
const FOR_PEOPLE: &str = "info";

/// Takes what is written as long as it is what was to come.
struct Unread<'j>(&'j [u8]);

impl std::io::Write for Unread<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.strip_prefix(bytes) {
            Some(left) => self.0 = left,
            None => return Err(std::io::ErrorKind::InvalidData.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn parse<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Result<T, Flaw> {
    serde_json::from_slice(json)
        .map_err(|e| Flaw::Bad(format!("its hash is right, but it is no record: {e}")))
}

/// Reads a whole journal: its records, their state, and what is behind them.
pub fn scan(bytes: &[u8]) -> Scan {
    scan_with(Scanner::new(), bytes)
}

/// Reads the whole journal of this restore: one that names another is corrupt here.
pub fn scan_of(restore: &RestoreId, bytes: &[u8]) -> Scan {
    scan_with(Scanner::of(restore), bytes)
}

fn scan_with(mut scanner: Scanner, bytes: &[u8]) -> Scan {
    let mut records = Vec::new();
    let mut opaque = Vec::new();
    // The line that stops it is judged with all that follows it, below.
    let _ = scanner.feed(bytes, |found, _| match found {
        ScannedLine::Record(record) => records.push(record),
        ScannedLine::Opaque { seq, json } => opaque.push((seq, json)),
    });
    let valid_len = scanner.valid_len;
    Scan {
        records,
        opaque,
        ..scanner.finish(&bytes[valid_len..])
    }
}
