//! What lies behind the last good record: nothing, a record whose writing was cut off, or corruption. Where both of the last
//! are possible it says corruption.

use super::{Scanner, Stop, Tail};
use crate::line::{Piece, piece_of_json};
use crate::{MAX_LINE_BYTES, PREFIX_BYTES};

/// The unit in which a disk writes: of a record that was being written, whole sectors may be missing, as zeros.
const SECTOR_BYTES: usize = 512;

/// What every record's JSON opens with, and the space before it. Never inside a record: JSON in a text is escaped.
const RECORD_OPENING: &[u8] = b" {\"seq\":";

impl Scanner {
    pub(super) fn tail(&self, left: &[u8], stop: Option<Stop>) -> Tail {
        let tail = match (left, stop) {
            (_, Some(Stop::Newer(format))) => {
                return Tail::Newer {
                    format,
                    readable: false,
                };
            }
            ([], _) => Tail::Clean,
            (_, stop) => match self.torn(left) {
                Ok(()) => Tail::Torn { bytes: left.len() },
                Err(not_torn) => {
                    let why = match stop {
                        Some(Stop::Bad { why, .. }) => why,
                        Some(Stop::Newer(_)) | None => not_torn.into(),
                    };
                    return Tail::Corrupt {
                        offset: self.valid_len,
                        line: self.lines + 1,
                        why,
                    };
                }
            },
        };
        match self.newer {
            Some(format) => Tail::Newer {
                format,
                readable: true,
            },
            None => tail,
        }
    }

    /// Whether bytes at the end of a journal can be what a cut-off write of the next record left, or why not.
    ///
    /// Such a write leaves a beginning of the line; and where the file had grown before its blocks were written, zeros
    /// at the end, or whole sectors of zeros in between. A line never holds a zero byte, so zeros are always missing
    /// bytes.
    fn torn(&self, left: &[u8]) -> Result<(), &'static str> {
        let Some(last) = left.iter().rposition(|b| *b != 0) else {
            return Ok(());
        };
        let written = &left[..=last];
        if written.len() > MAX_LINE_BYTES {
            return Err("it is longer than a record may be");
        }
        if written[..last].contains(&b'\n') {
            return Err("it is not a record, and there is more behind it");
        }
        if written.iter().any(|b| (1..0x20).contains(b) && *b != b'\n') {
            return Err("it holds bytes that a record never has");
        }
        let whole_line = written[last] == b'\n';
        let Some(hole) = written.iter().position(|b| *b == 0) else {
            if whole_line {
                return Err("its hash does not match");
            }
            return self.beginning(written).map(|_| ());
        };
        self.holes_are_sectors(written)?;
        if self.beginning(&written[..hole])? == Piece::Whole {
            return Err("there is more behind a whole record");
        }
        let record_further_in = written
            .windows(RECORD_OPENING.len())
            .enumerate()
            .any(|(at, window)| at + 1 != PREFIX_BYTES && window == RECORD_OPENING);
        if record_further_in {
            return Err("it is not a record, and there is a record behind it");
        }
        Ok(())
    }

    /// What these bytes, which have no end of line, are of the next record's line.
    fn beginning(&self, bytes: &[u8]) -> Result<Piece, &'static str> {
        let (prefix, json) = bytes.split_at(bytes.len().min(PREFIX_BYTES));
        let (hex, space) = prefix.split_at(prefix.len().min(PREFIX_BYTES - 1));
        if !hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            || !matches!(space, b"" | b" ")
        {
            return Err("it does not begin as a record does");
        }
        match piece_of_json(json, self.next_seq()) {
            Piece::Whole if !self.chain.matches(hex, json) => {
                Err("its hash does not match its text and the line before it")
            }
            piece @ (Piece::Beginning | Piece::Whole) => Ok(piece),
            Piece::Foreign => Err("it is not the beginning of the next record"),
        }
    }

    /// Whether zeros in the middle of a record begin and end where sectors do. The first sector may hold the end of
    /// the record before, which was there already.
    fn holes_are_sectors(&self, written: &[u8]) -> Result<(), &'static str> {
        let on_boundary = |at: usize| (self.valid_len + at).is_multiple_of(SECTOR_BYTES);
        let edges = (1..written.len()).filter(|at| (written[*at] == 0) != (written[at - 1] == 0));
        if edges.into_iter().all(on_boundary) {
            Ok(())
        } else {
            Err("it has zeros that no cut-off write leaves")
        }
    }
}
