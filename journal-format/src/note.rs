//! What people are told besides problems: of a plan, a step, an ending, a backup. Owns its forms in JSON, of which the plain one
//! is all that format 1.0 knows; must not say how a page or a terminal shows it, but for the words of a weight.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Code, Format};

/// One thing that a person is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Note {
    /// What it is about, for programs; none in what format 1.0 knows.
    pub code: Option<Code>,
    /// How much it matters.
    pub weight: Weight,
    /// The object that it is about, as a client, a file, a tunnel or a part; none where it is about several.
    pub name: Option<String>,
    /// All that it is about, by name, where it is about several: its sentence has their number and the first of them.
    pub names: Vec<String>,
    /// One sentence, which says it all.
    pub text: String,
    /// What to do, if anything.
    pub advice: Option<String>,
}

/// How much a note matters. What matters more comes first.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Something of the admin's will be gone.
    Lost,
    /// Something will not work.
    Down,
    /// Good to know.
    #[default]
    Known,
}

impl Weight {
    /// What a person reads in front of the sentence.
    pub fn words(self) -> &'static str {
        match self {
            Weight::Lost => "lost",
            Weight::Down => "does not work",
            Weight::Known => "warning",
        }
    }
}

impl Note {
    /// Something of the admin's will be gone.
    pub fn lost(code: Code, text: impl Into<String>) -> Note {
        Note::new(Weight::Lost, code, text)
    }

    /// Something will not work.
    pub fn down(code: Code, text: impl Into<String>) -> Note {
        Note::new(Weight::Down, code, text)
    }

    /// Something good to know.
    pub fn known(code: Code, text: impl Into<String>) -> Note {
        Note::new(Weight::Known, code, text)
    }

    fn new(weight: Weight, code: Code, text: impl Into<String>) -> Note {
        Note {
            code: Some(code),
            weight,
            ..Note::from(text.into())
        }
    }

    /// The same about one object.
    pub fn about(self, name: impl Into<String>) -> Note {
        Note {
            name: Some(name.into()),
            ..self
        }
    }

    /// The same about several objects, all of them by name.
    pub fn naming<N: Into<String>>(self, names: impl IntoIterator<Item = N>) -> Note {
        Note {
            names: names.into_iter().map(Into::into).collect(),
            ..self
        }
    }

    /// The same with its object in front of the sentence, which it begins.
    pub fn of(self, name: impl Into<String>) -> Note {
        let name = name.into();
        let text = format!("{name}: {}", self.text);
        Note { text, ..self }.about(name)
    }

    /// The same with what to do.
    pub fn advising(self, advice: impl Into<String>) -> Note {
        Note {
            advice: Some(advice.into()),
            ..self
        }
    }

    /// Whether it has this code.
    pub fn is(&self, code: &Code) -> bool {
        self.code.as_ref() == Some(code)
    }

    /// The lowest version of the format that knows all that it says.
    pub fn format(&self) -> Format {
        let Note {
            code,
            weight,
            name,
            names,
            text: _,
            advice,
        } = self;
        let plain = (code, weight, name, advice) == (&None, &Weight::Known, &None, &None);
        match plain && names.is_empty() {
            true => Format::FIRST,
            false => Format::V1_1,
        }
    }

    /// The same as this version of the format can say it: before 1.1 in one sentence, which has what to do in it.
    pub fn within(self, format: Format) -> Note {
        match format < Format::V1_1 {
            true => self.to_string().into(),
            false => self,
        }
    }
}

impl From<String> for Note {
    fn from(text: String) -> Note {
        Note {
            code: None,
            weight: Weight::Known,
            name: None,
            names: Vec::new(),
            text,
            advice: None,
        }
    }
}

impl From<&str> for Note {
    fn from(text: &str) -> Note {
        text.to_owned().into()
    }
}

impl fmt::Display for Note {
    /// The sentence, and what to do, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.advice {
            Some(advice) => write!(f, "; what to do: {advice}"),
            None => Ok(()),
        }
    }
}

/// A note as JSON has it: a sentence alone is a string, as everywhere in format 1.0.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Sentence(String),
    Whole {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
        weight: Weight,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
    },
}

impl From<Written> for Note {
    fn from(written: Written) -> Note {
        match written {
            Written::Sentence(text) => text.into(),
            Written::Whole {
                code,
                weight,
                name,
                names,
                text,
                advice,
            } => Note {
                code,
                weight,
                name,
                names,
                text,
                advice,
            },
        }
    }
}

impl From<Note> for Written {
    fn from(note: Note) -> Written {
        if note.format() == Format::FIRST {
            return Written::Sentence(note.text);
        }
        let Note {
            code,
            weight,
            name,
            names,
            text,
            advice,
        } = note;
        Written::Whole {
            code,
            weight,
            name,
            names,
            text,
            advice,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn both_ways(note: &Note, json: &str) {
        assert_eq!(serde_json::to_string(note).unwrap(), json);
        assert_eq!(serde_json::from_str::<Note>(json).ok().as_ref(), Some(note));
    }

    #[test]
    fn a_sentence_alone_is_a_string_and_all_else_is_kept_both_ways() {
        let plain = Note::from("the backup has no app.db");
        both_ways(&plain, r#""the backup has no app.db""#);
        let code = Code::CLIENTS_GONE;
        both_ways(
            &Note::known(code.clone(), "x"),
            r#"{"code":"clients-gone","weight":"known","text":"x"}"#,
        );
        let all = Note::lost(code, "x").about("wg0").advising("look");
        both_ways(
            &all,
            r#"{"code":"clients-gone","weight":"lost","name":"wg0","text":"x","advice":"look"}"#,
        );
        both_ways(
            &Note::from("x").naming(["a", "b"]),
            r#"{"weight":"known","names":["a","b"],"text":"x"}"#,
        );
        for more in [
            plain.clone().about("wg0"),
            plain.clone().naming(["wg0", "wg1"]),
            plain.clone().advising("look"),
            Note {
                weight: Weight::Down,
                ..plain.clone()
            },
            all,
        ] {
            assert_eq!(more.format(), Format::V1_1);
            assert_eq!(more.clone().within(Format::V1_1), more);
            assert_eq!(
                more.clone().within(Format::FIRST),
                Note::from(more.to_string())
            );
        }
        let advising = plain.clone().advising("look").within(Format::FIRST);
        assert_eq!(advising.text, "the backup has no app.db; what to do: look");
        assert_eq!(plain.format(), Format::FIRST);
    }

    #[test]
    fn a_weight_that_is_not_known_is_no_note() {
        let newer = r#"{"weight":"crushing","text":"x"}"#;
        assert!(serde_json::from_str::<Note>(newer).is_err());
    }

    #[test]
    fn losses_come_first() {
        let mut weights = [Weight::Known, Weight::Lost, Weight::Down];
        weights.sort();
        assert_eq!(weights, [Weight::Lost, Weight::Down, Weight::Known]);
    }
}
