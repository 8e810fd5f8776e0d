//! What a restore does not bring back of a backup: a sentence for whoever reads the plan, and the few words under which the
//! verdict names it. Pure data.

use std::fmt;

use journal_format::{Code, Note};

/// Something that does not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Under what the verdict names it; none where what it is of has a line there anyhow.
    pub what: Option<String>,
    /// What is said of it.
    pub note: Note,
}

impl Lost {
    /// Named so in the verdict, with all others of these words.
    pub fn of(what: impl Into<String>, said: String) -> Lost {
        Lost {
            what: Some(what.into()),
            ..Lost::of_a_line(said)
        }
    }

    /// With a line in the verdict anyhow.
    pub fn of_a_line(said: String) -> Lost {
        Lost {
            what: None,
            note: Note::lost(Code::NOT_PUT_BACK, said),
        }
    }

    /// Rows and tables of a database.
    pub fn rows(database: &str, said: String) -> Lost {
        Lost {
            what: Some(format!("rows of the database {database}")),
            note: Note::lost(Code::ROWS_LOST, said),
        }
    }

    /// A tunnel that was up and will not be.
    pub fn tunnel(name: &str, said: String) -> Lost {
        Lost {
            what: Some("tunnels that were up".into()),
            note: Note::down(Code::TUNNEL_STAYS_DOWN, said).about(name),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.note.text)
    }
}
