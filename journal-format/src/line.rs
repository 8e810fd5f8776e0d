//! One record as one line of a journal, and the hash chain that binds the lines; the audit log's lines have the same form. Owns the line's form and limits;
//! which record may follow which is the grammar's (`state`), and what a broken line means is the scan's (`scan`).

use serde::{Deserialize, Serialize};

use crate::{Record, Seq};

/// The longest line, its newline included. The plan of 10,000 clients, with every config in both places, fits.
pub const MAX_LINE_BYTES: usize = 32 << 20;

/// Bytes of a line before its JSON: the hash in hex and a space.
pub const PREFIX_BYTES: usize = 65;

/// Why a record cannot be written as a line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The line would be longer than a reader accepts.
    #[error("record {seq} takes {bytes} bytes; a line holds {MAX_LINE_BYTES}")]
    TooLong {
        /// The record's place.
        seq: Seq,
        /// The bytes that its line would take.
        bytes: usize,
    },
    /// It has no JSON form.
    #[error("record {seq} has no JSON form: {error}")]
    NoJson {
        /// The record's place.
        seq: Seq,
        /// What serde_json says.
        error: serde_json::Error,
    },
}

/// The end of a hash chain: what the next line is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    last: [u8; 32],
}

impl Chain {
    /// The chain of an empty journal.
    pub fn start() -> Chain {
        Chain { last: [0; 32] }
    }

    /// The line of one record, its newline included; the chain moves on behind it.
    pub fn encode(&mut self, record: &Record) -> Result<Vec<u8>, LineError> {
        self.seal(record.seq, record)
    }

    /// The line of what has this place, whatever it is.
    pub fn seal(&mut self, seq: Seq, what: &impl Serialize) -> Result<Vec<u8>, LineError> {
        let mut line = vec![b' '; PREFIX_BYTES];
        serde_json::to_writer(&mut line, what).map_err(|error| LineError::NoJson { seq, error })?;
        let hash = self.hash(&line[PREFIX_BYTES..]);
        line[..PREFIX_BYTES - 1].copy_from_slice(hash.to_hex().as_bytes());
        line.push(b'\n');
        if line.len() > MAX_LINE_BYTES {
            let bytes = line.len();
            return Err(LineError::TooLong { seq, bytes });
        }
        self.last = *hash.as_bytes();
        Ok(line)
    }

    /// The JSON in one line (with its newline), checked against the chain, which moves on behind it. On an error the
    /// chain stays where it was.
    pub fn open<'l>(&mut self, line: &'l [u8]) -> Result<&'l [u8], &'static str> {
        if line.len() > MAX_LINE_BYTES {
            return Err("the line is longer than a record may be");
        }
        let Some(body) = line.strip_suffix(b"\n") else {
            return Err("the line has no end");
        };
        let Some((prefix, json)) = body.split_at_checked(PREFIX_BYTES) else {
            return Err("the line is shorter than a hash");
        };
        let (hex, space) = prefix.split_at(PREFIX_BYTES - 1);
        let lower = hex.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || space != b" " {
            return Err("the line does not begin with 64 hex digits and a space");
        }
        let hash = self.hash(json);
        if hash.to_hex().as_bytes() != hex {
            return Err("its hash does not match its text and the line before it");
        }
        self.last = *hash.as_bytes();
        Ok(json)
    }

    /// The chain behind a line as the line itself says, and its JSON: nothing vouches for either. None if it has not the form of one.
    pub fn claimed(line: &[u8]) -> Option<(Chain, &[u8])> {
        let (hex, json) = line.strip_suffix(b"\n")?.split_at_checked(PREFIX_BYTES)?;
        let hash = blake3::Hash::from_hex(hex.strip_suffix(b" ")?).ok()?;
        let last = *hash.as_bytes();
        Some((Chain { last }, json))
    }

    /// Whether this is the hash, in hex, of a line with this JSON.
    pub(crate) fn matches(&self, hex: &[u8], json: &[u8]) -> bool {
        self.hash(json).to_hex().as_bytes() == hex
    }

    fn hash(&self, json: &[u8]) -> blake3::Hash {
        blake3::Hasher::new()
            .update(&self.last)
            .update(json)
            .finalize()
    }
}

/// What bytes are, held against the JSON of the record that belongs in their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// All of one.
    Whole,
    /// The beginning of one.
    Beginning,
    /// Neither.
    Foreign,
}

/// Whether these bytes are the JSON of the record with this place, or a beginning of it.
pub(crate) fn piece_of_json(bytes: &[u8], seq: Seq) -> Piece {
    let opening = format!("{{\"seq\":{seq},");
    let common = opening.len().min(bytes.len());
    if bytes[..common] != opening.as_bytes()[..common] {
        return Piece::Foreign;
    }
    // serde_json calls a number that ends behind its sign wrong, not unfinished.
    let bytes = match bytes {
        [before @ .., b':' | b',' | b'[', b'-'] => &bytes[..before.len() + 1],
        _ => bytes,
    };
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    match serde::de::IgnoredAny::deserialize(&mut parser) {
        Ok(_) if parser.end().is_ok() => Piece::Whole,
        Ok(_) => Piece::Foreign,
        Err(error) if error.is_eof() => Piece::Beginning,
        Err(_) => Piece::Foreign,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::Entry;

    fn record(seq: u64) -> Record {
        Record {
            seq: Seq(seq),
            at_ms: 1,
            up_ms: 2,
            entry: Entry::Committed,
            info: None,
        }
    }

    #[test]
    fn a_line_is_its_hash_a_space_json_and_a_newline() {
        let mut chain = Chain::start();
        let line = chain.encode(&record(0)).unwrap();
        let json = br#"{"seq":0,"at_ms":1,"up_ms":2,"entry":"committed"}"#;
        let mut bound = vec![0; 32];
        bound.extend_from_slice(json);
        let expected = format!(
            "{} {}\n",
            blake3::hash(&bound).to_hex(),
            String::from_utf8_lossy(json)
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn the_same_record_has_another_hash_behind_another_line() {
        let mut chain = Chain::start();
        let first = chain.encode(&record(1)).unwrap();
        let second = chain.encode(&record(1)).unwrap();
        assert_eq!(first[64..], second[64..]);
        assert_ne!(first[..64], second[..64]);
        let mut reader = Chain::start();
        reader.open(&first).unwrap();
        reader.open(&second).unwrap();
        assert_eq!(reader, chain);
        assert!(
            Chain::start().open(&second).is_err(),
            "a line without the one before it"
        );
    }

    #[test]
    fn text_with_newlines_and_nul_stays_on_one_line_without_nul() {
        let stderr = Some("a\nb\0c\u{2028}".to_owned());
        let problem = crate::Problem {
            stderr,
            ..crate::sample::problem("")
        };
        let record = Record {
            seq: Seq(3),
            at_ms: 0,
            up_ms: 0,
            entry: Entry::Stuck { problem },
            info: None,
        };
        let mut chain = Chain::start();
        let line = chain.encode(&record).unwrap();
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        assert!(!line.contains(&0));
        let json = Chain::start().open(&line).unwrap().to_vec();
        assert_eq!(serde_json::from_slice::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn a_line_over_the_limit_is_refused_in_both_directions_and_leaves_the_chain_alone() {
        let what = "x".repeat(MAX_LINE_BYTES);
        let problem = crate::sample::problem(&what);
        let record = Record {
            seq: Seq(3),
            at_ms: 0,
            up_ms: 0,
            entry: Entry::Stuck { problem },
            info: None,
        };
        let mut chain = Chain::start();
        assert!(matches!(
            chain.encode(&record),
            Err(LineError::TooLong { .. })
        ));
        assert!(chain.open(&vec![b'a'; MAX_LINE_BYTES + 1]).is_err());
        assert_eq!(chain, Chain::start());
    }

    #[test]
    fn the_plan_and_the_exchanges_of_ten_thousand_clients_fit() {
        let mut plan = crate::sample::plan();
        let path = format!(
            "/opt/wireguard-gateway/instance/configs/{}.conf",
            "c".repeat(40)
        );
        let (mut file, object) = (
            plan.files[0].clone(),
            crate::FileId {
                ino: u64::MAX,
                born_ns: i64::MAX,
            },
        );
        file.staged = format!("{path}/.holdfast-20261122T185220Z-0a1b2c3d");
        file.path = path;
        plan.files = vec![file; 20_000];
        let exchange = crate::Exchange {
            path: plan.files[0].path.clone(),
            staged: plan.files[0].staged.clone(),
            old: Some(object),
            new: Some(object),
        };
        let r#move = crate::Move {
            step: crate::Step::SwapConfigs,
            direction: crate::Direction::Forward,
            attempt: 1,
        };
        for entry in [
            Entry::Plan(plan.into()),
            Entry::Intent {
                r#move,
                exchanges: vec![exchange; 20_000],
            },
        ] {
            let line = Chain::start()
                .encode(&Record {
                    seq: Seq(1),
                    at_ms: 0,
                    up_ms: 0,
                    entry,
                    info: None,
                })
                .unwrap();
            assert!(line.len() < MAX_LINE_BYTES / 2, "{}", line.len());
        }
    }

    #[test]
    fn every_beginning_of_a_records_json_is_known_and_nothing_else_is() {
        let json = br#"{"seq":12,"at_ms":-5,"entry":{"stuck":{"what":"\u0000\\ \u00e9 \"x\""}}}"#;
        for end in 0..json.len() {
            let piece = piece_of_json(&json[..end], Seq(12));
            assert_eq!(
                piece,
                Piece::Beginning,
                "{:?}",
                String::from_utf8_lossy(&json[..end])
            );
        }
        assert_eq!(piece_of_json(json, Seq(12)), Piece::Whole);
        assert_eq!(piece_of_json(json, Seq(1)), Piece::Foreign);
        for foreign in [
            r#"{"seq":12,"at_ms":-5}x"#,
            r#"{"seq":12,"at_ms":-5}-"#,
            r#"{"seq":12,"at_ms":-5,,"#,
            "[",
        ] {
            assert_eq!(
                piece_of_json(foreign.as_bytes(), Seq(12)),
                Piece::Foreign,
                "{foreign}"
            );
        }
    }
}
