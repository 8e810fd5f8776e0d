//! What docs/style.md retired comes back into no message: words that only this project knew, and advice that is a riddle.

use crate::laws::sources;

/// What no message says any more.
const RETIRED: [&str; 14] = [
    "mend ",
    "see whether",
    "see the reason",
    "look into it",
    "turn back",
    "turned back",
    "going back",
    "thrown away",
    "wholly",
    "this box",
    "swapped ",
    "settled ",
    "the fence",
    " at rest",
];

/// The texts in quotes of a line of code, with those that it continues on the next.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

#[test]
fn no_message_speaks_in_words_that_the_style_page_retired() {
    let mut found = Vec::new();
    for folder in ["engine/src", "webapp/src", "agent-protocol/src"] {
        for (path, code) in sources(folder) {
            // The labels of the case table are words of the journal's own documents.
            if path.ends_with("restore/decide.rs") {
                continue;
            }
            for line in code.replace("\\\n", "").lines() {
                let says = |text: &str| RETIRED.iter().any(|word| text.contains(word));
                if quoted(line).any(says) {
                    found.push(format!("{path}: {}", line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
