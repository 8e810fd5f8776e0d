//! Why a profile cannot be read, for whoever wrote it: the place, its line with what is wrong marked, and no word of a program's own.
//! Pure; reads no file.

use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Code, Problem, cannot};
use crate::text::wording::quoted_path;

/// A profile whose bytes cannot be had.
pub(super) fn unread(file: &Path, error: &std::io::Error) -> Problem {
    let shown = quoted_path(file);
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("run holdfast with sudo, or let its user read the file: ls -l {shown}")
        }
        ErrorKind::InvalidData => {
            format!("write the file in UTF-8; `file {shown}` shows what it is in now")
        }
        _ => "name an existing file with --config or HOLDFAST_CONFIG".into(),
    };
    let why = match error.kind() {
        ErrorKind::InvalidData => "it is not text in UTF-8".into(),
        _ => error.to_string(),
    };
    let what = format!("read the profile {}: {why}", file.display());
    cannot(Code::BAD_PROFILE, what, advice)
}

/// A profile that is not one, or has a setting that there is not.
pub(super) fn problem(file: &Path, text: &str, error: &toml::de::Error) -> Problem {
    let why = plain(error.message());
    let advice = format!(
        "change that line of {}; the README describes every key",
        file.display()
    );
    let Some(span) = error.span() else {
        let what = format!("understand the profile {}: {why}", file.display());
        return cannot(Code::BAD_PROFILE, what, advice);
    };
    let place = Place::of(text, span.start, span.end);
    let what = format!(
        "understand the profile {}, line {}, column {}: {why}",
        file.display(),
        place.line,
        place.column
    );
    Problem {
        stderr: Some(place.picture()),
        ..cannot(Code::BAD_PROFILE, what, advice)
    }
}

/// Where in a text something is.
struct Place<'t> {
    line: usize,
    column: usize,
    text: &'t str,
    /// Characters that are marked.
    width: usize,
}

impl<'t> Place<'t> {
    fn of(text: &'t str, start: usize, end: usize) -> Place<'t> {
        let before = text.get(..start).unwrap_or(text);
        let begins = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[begins..].lines().next().unwrap_or_default();
        let marked = text
            .get(start..end.min(begins + line.len()))
            .unwrap_or_default();
        Place {
            line: before.matches('\n').count() + 1,
            column: before[begins..].chars().count() + 1,
            text: line,
            width: marked.chars().count().max(1),
        }
    }

    /// The line, and below it what is wrong in it. A tab stays one, so that the mark stands below it.
    fn picture(&self) -> String {
        let indent: String = self
            .text
            .chars()
            .take(self.column - 1)
            .map(|c| if c == '\t' { c } else { ' ' })
            .collect();
        format!("{}\n{indent}{}", self.text, "^".repeat(self.width))
    }
}

/// The library's words as an admin's: a key, a list, a number.
fn plain(message: &str) -> String {
    let words = [
        ("unknown field", "unknown key"),
        ("missing field", "missing key"),
        ("duplicate field", "the same key twice:"),
        ("unknown variant", "unknown value"),
        ("invalid type: ", "the wrong kind of value: "),
        ("invalid value: ", "a value that does not fit: "),
        ("expected u16", "expected a whole number from 0 to 65535"),
        (
            "expected u64",
            "expected a whole number that is not negative",
        ),
        (
            "expected usize",
            "expected a whole number that is not negative",
        ),
        (
            "expected u32",
            "expected a whole number that is not negative",
        ),
        ("a sequence", "a list"),
        ("sequence", "list"),
        (
            "expected struct WrittenService",
            "expected a table with its settings",
        ),
        ("a boolean", "true or false"),
        ("a map", "a table"),
    ];
    let mut text = message.trim().replace('\n', "; ");
    for (theirs, ours) in words {
        text = text.replace(theirs, ours);
    }
    // `expected struct Limits`, whichever.
    if let Some((before, behind)) = text.split_once("expected struct ") {
        let rest = behind.split_once(|c: char| !c.is_alphanumeric());
        text = format!(
            "{before}expected a table of settings{}",
            rest.map_or("", |(_, rest)| rest)
        );
    }
    // The library does not say what it may be.
    if text.contains("missing key `kind`") {
        text.push_str(", which is \"clients\" or \"users\"");
    }
    text
}
