//! How counts and problems stand within a sentence. Knows nothing of what they are about.

use crate::fault::Problem;

/// `1 tunnel`, `2 tunnels`.
pub fn counted(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::cannot;

    #[test]
    fn one_is_one_and_none_and_more_are_many() {
        let shown = [0, 1, 2].map(|n| counted(n, "file"));
        assert_eq!(shown, ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn a_problem_in_a_line_has_the_first_thing_that_was_said() {
        let problem = Problem {
            stderr: Some("\n  no such match\nTry --help\n".into()),
            ..cannot("load the rules: exit status 2", "look")
        };
        assert_eq!(
            in_a_line(&problem),
            "cannot load the rules: exit status 2: no such match"
        );
        assert_eq!(in_a_line(&cannot("look", "see")), "cannot look");
    }
}
