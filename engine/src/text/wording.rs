//! How counts and problems stand within a sentence. Knows nothing of what they are about.

use std::fmt::{self, Write};
use std::path::Path;

use journal_format::{Control, Note};

use crate::error::Problem;
use crate::text::octets;

/// `1 tunnel`, `2 tunnels`.
pub fn counted(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// Characters of a name that are shown: names come from archives, and one may have thousands.
const NAME: usize = 100;
/// Names that are shown of many.
pub const NAMES: usize = 10;

/// A name as it is shown: what steers a terminal made visible, and cut where it is long.
pub fn name(text: &str) -> String {
    Named(text).to_string()
}

/// A [`name`] that is made when it is shown: of thousands few are.
#[derive(Debug, Clone, Copy)]
pub struct Named<'n>(pub &'n str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(NAME).map(|(end, _)| end);
        let shown = octets::shown(&self.0[..end.unwrap_or(self.0.len())]);
        for c in shown.chars() {
            match c {
                // Quotes steer nothing.
                '"' | '\'' | '\\' => f.write_char(c)?,
                c => c.escape_debug().fmt(f)?,
            }
        }
        match end {
            Some(_) => write!(f, "… ({} characters)", self.0.chars().count()),
            None => Ok(()),
        }
    }
}

/// The first ten names, and how many more there are.
pub fn names<T: AsRef<str>>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<T> = all.into_iter().collect();
    let first: Vec<String> = all.iter().take(NAMES).map(|n| name(n.as_ref())).collect();
    match all.len().saturating_sub(NAMES) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// A problem on one line, for a warning: what could not be done, and the first thing that the command said about it.
pub fn in_a_line(problem: &Problem) -> String {
    let said = problem
        .stderr
        .as_deref()
        .and_then(|s| s.lines().find(|l| !l.trim().is_empty()));
    match said {
        Some(said) => format!("cannot {}: {}", problem.what, said.trim()),
        None => format!("cannot {}", problem.what),
    }
}

/// The same with its code and what to do.
pub fn of_problem(problem: &Problem) -> Note {
    Note {
        code: problem.code.clone(),
        ..Note::from(in_a_line(problem)).advising(&problem.advice)
    }
}

/// The first of these, and as the last one how many more there are.
pub fn first<T>(mut all: Vec<T>, most: usize, rest: impl FnOnce(usize) -> T) -> Vec<T> {
    let more = all.len().saturating_sub(most);
    all.truncate(most);
    all.extend((more > 0).then(|| rest(more)));
    all
}

/// Why it could not be done, without what: for a sentence that says that itself.
pub fn why(problem: &Problem) -> String {
    let why = problem.what.split_once(": ").map(|(_, why)| why);
    let said = problem.stderr.as_deref();
    let said = said.and_then(|s| s.lines().find(|l| !l.trim().is_empty()));
    match (why, said) {
        (Some(why), Some(said)) => format!("{why}: {}", said.trim()),
        (Some(why), None) => why.to_owned(),
        (None, _) => in_a_line(problem),
    }
}

/// A path in a command as a person would type it in a shell.
pub fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// The command that starts a service, as a person would type it in a shell.
pub fn start_command(control: &Control) -> String {
    match control {
        Control::Unit(unit) => format!("systemctl start {}", quoted(unit)),
        Control::Commands { start, .. } => {
            let words: Vec<String> = start.iter().map(|word| quoted(word)).collect();
            words.join(" ")
        }
    }
}

/// A word of a command as a person would type it in a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, cannot};

    #[test]
    fn a_start_command_can_be_pasted_into_a_shell() {
        let words = ["/opt/a b/run", "start"].map(str::to_owned).to_vec();
        let commands = Control::Commands {
            stop: Vec::new(),
            start: words,
            active: Vec::new(),
        };
        assert_eq!(start_command(&commands), "'/opt/a b/run' start");
        let unit = Control::Unit("gateway@a.service".into());
        assert_eq!(start_command(&unit), "systemctl start gateway@a.service");
    }

    #[test]
    fn one_is_one_and_none_and_more_are_many() {
        let shown = [0, 1, 2].map(|n| counted(n, "file"));
        assert_eq!(shown, ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn a_long_name_is_cut_and_many_names_are_counted() {
        let long = name(&"é".repeat(200_000));
        assert!(long.starts_with("éé") && long.ends_with("… (200000 characters)"));
        assert!(long.chars().count() < 150);
        let many: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
        assert_eq!(
            names(&many),
            "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more"
        );
        assert_eq!(names(&many[..2]), "n0, n1");
        assert_eq!(name("O'B\u{1b}[2J\u{202e}"), "O'B\\u{1b}[2J\\u{202e}");
    }

    #[test]
    fn a_problem_in_a_line_has_the_first_thing_that_was_said() {
        let problem = Problem {
            stderr: Some("\n  no such match\nTry --help\n".into()),
            ..cannot(Code::RULES_REFUSED, "load the rules: exit status 2", "look")
        };
        assert_eq!(
            in_a_line(&problem),
            "cannot load the rules: exit status 2: no such match"
        );
        assert_eq!(in_a_line(&cannot(Code::IO, "look", "see")), "cannot look");
    }
}
