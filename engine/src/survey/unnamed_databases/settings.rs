//! What settings say: of a unit, of a file, of a command's words. Keeps nothing but paths and the names of variables.

use std::path::PathBuf;

use super::NAMES;

/// One variable, or one word of a command, and where it stands.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) place: String,
}

impl Setting {
    /// `NAME=VALUE`, as it stands in an environment.
    pub(super) fn of(text: &str, place: &str) -> Setting {
        let (name, value) = text.split_once('=').unwrap_or(("", text));
        Setting {
            // Readers of settings take blanks around the sign.
            name: name.trim().to_owned(),
            value: value.trim().trim_matches(['"', '\'']).to_owned(),
            place: place.to_owned(),
        }
    }

    /// The same on a line of a file, where a comment may follow: behind the quote that closes, or behind a blank.
    pub(super) fn on_line(line: &str, place: &str) -> Setting {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').unwrap_or(("", line));
        let value = value.trim();
        let end = match value.chars().next().filter(|c| ['"', '\''].contains(c)) {
            Some(quote) => value[1..].find(quote).map(|at| at + 2),
            None => [" #", "\t#"].iter().filter_map(|c| value.find(c)).min(),
        };
        let value = &value[..end.unwrap_or(value.len())];
        Setting::of(&format!("{name}={value}"), place)
    }

    pub(super) fn instance(&self) -> Option<PathBuf> {
        (self.name == "INSTANCE_PATH" && self.value.starts_with('/'))
            .then(|| PathBuf::from(&self.value))
    }

    pub(super) fn who(&self) -> String {
        // A word of a command may be anything.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        match self.name.chars().all(plain) && !self.name.is_empty() {
            true => format!("{} ({})", self.place, self.name),
            false => self.place.clone(),
        }
    }
}

/// The settings in a file of them.
pub(super) fn settings_in(bytes: &[u8], place: &str) -> Vec<Setting> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    lines.map(|l| Setting::on_line(l, place)).collect()
}

/// The words of a line as systemd prints them: those with blanks stand in quotes, with backslashes before what would end them.
pub(super) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => word.extend(letters.next()),
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    words.push(word);
    words.retain(|w| !w.is_empty());
    words
}

/// What is named as a database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NamedDatabase {
    /// A file of SQLite's, by a path that may be relative.
    File(String),
    /// A database of another kind, by the word for it.
    Other(String),
}

/// The database that a value names; none if it names none, or one in memory.
pub(super) fn named(name: &str, value: &str) -> Option<NamedDatabase> {
    if let Some(at) = value.find("sqlite") {
        let (scheme, path) = value[at..].split_once("://")?;
        if scheme.contains(|c: char| !c.is_ascii_alphanumeric() && c != '+') {
            return None;
        }
        let path = path.strip_prefix('/')?;
        let path = path.strip_prefix("file:").unwrap_or(path);
        let end = path.find(['?', '#', '"', '\'', ';']).unwrap_or(path.len());
        let path = path[..end].trim_end();
        return (!path.is_empty() && !path.starts_with(':'))
            .then(|| NamedDatabase::File(path.to_owned()));
    }
    let (scheme, _) = value.split_once("://").filter(|_| NAMES.contains(&name))?;
    // Of its address nothing is kept: a password may stand in it.
    let kind = scheme.split('+').next()?;
    let plain = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| NamedDatabase::Other(format!("{kind}://")))
}
