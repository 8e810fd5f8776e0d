//! How a journal ends, told by its last line alone: so that many old journals cost little. Checks no chain; whoever must know
//! reads the whole journal.

use crate::line::PREFIX_BYTES;
use crate::record::{Entry, Record};
use crate::{Note, Verdict};

/// The closing of a restore that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// Which set is in place.
    pub verdict: Verdict,
    /// It says that something is left to do or to know.
    pub left_over: bool,
    /// It says that the gateway lacks something.
    pub lacks: bool,
}

/// The closing that these last bytes of a journal end with; none if they end with anything else, or with a line that is cut off
/// at either end.
pub fn closing(tail: &[u8]) -> Option<Closing> {
    let lines = tail.strip_suffix(b"\n")?;
    let start = lines
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let record: Record = serde_json::from_slice(lines[start..].get(PREFIX_BYTES..)?).ok()?;
    match record.entry {
        Entry::Closed { verdict, warnings } => Some(Closing {
            verdict,
            left_over: warnings.iter().any(|w| !w.is_lack()),
            lacks: warnings.iter().any(Note::is_lack),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::scan;

    #[test]
    fn the_last_line_alone_says_what_the_whole_journal_says() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let (mut closed, mut open) = (0, 0);
        for version in std::fs::read_dir(folder).unwrap() {
            let version = version.unwrap().path();
            if !version.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(version).unwrap() {
                let path = file.unwrap().path();
                if path.extension().is_none_or(|e| e != "journal") {
                    continue;
                }
                let bytes = std::fs::read(&path).unwrap();
                let state = scan(&bytes).state;
                let verdict = state.as_ref().and_then(|s| s.verdict());
                let end = closing(&bytes);
                if let Some(end) = end {
                    assert_eq!(verdict, Some(end.verdict), "{}", path.display());
                    closed += 1;
                    // Cut off in the middle of its last line it ends with nothing, whatever is missing.
                    assert_eq!(closing(&bytes[..bytes.len() - 1]), None);
                    assert_eq!(closing(&bytes[bytes.len() - 90..]), None);
                } else {
                    open += 1;
                }
            }
        }
        assert!(closed > 0 && open > 0, "{closed} closed, {open} open");
    }

    #[test]
    fn a_closing_that_names_something_says_that_something_is_left_over() {
        let line = |warnings: &str| {
            let json = format!(
                r#"{{"seq":7,"at_ms":1,"up_ms":1,"entry":{{"closed":{{"verdict":"restored"{warnings}}}}}}}"#
            );
            format!("{} {json}\n", "0".repeat(64)).into_bytes()
        };
        let left_over = |warnings: &str| closing(&line(warnings)).unwrap().left_over;
        assert!(!left_over(""));
        assert!(left_over(r#","warnings":["a file is left"]"#));
        let lack =
            r#","warnings":[{"code":"service-stays-down","weight":"down","name":"x","text":"x"}]"#;
        assert!(!left_over(lack));
        assert!(closing(&line(lack)).unwrap().lacks);
        assert!(!closing(&line("")).unwrap().lacks);
        assert_eq!(closing(b""), None);
        assert_eq!(closing(b"\n"), None);
    }
}
