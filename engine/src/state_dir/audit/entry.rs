//! What an entry of the audit log says, and its words. Must not know where entries are kept.

use std::borrow::Borrow;

use journal_format::{AskedBy, Code, utc, visible};
use serde::{Deserialize, Serialize};

use crate::error::{Fault, Problem};

/// The longest subject that is kept, characters.
const SUBJECT: usize = 300;

/// One line of the log, without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its place; the first line of the first file is 0.
    pub seq: u64,
    /// When, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// What it says.
    #[serde(flatten)]
    pub audited: Audited,
}

/// Who did what, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audited {
    /// Who.
    pub who: AskedBy,
    /// What.
    pub what: AuditedDeed,
    /// What it was done to or with: a path, a restore's id; none where there is no one thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What came of it.
    pub result: AuditResult,
    /// How a restore or a recovery ended that did not complete; older programs do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<AuditEnd>,
    /// How often, since the last entry of this kind; none where it was once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditedDeed {
    /// A user signs in on the page.
    SignIn,
    /// A user signs out.
    SignOut,
    /// Somebody asks for a page without being an admin's session.
    Access,
    /// A backup is made.
    Backup,
    /// A backup is downloaded.
    Download,
    /// A backup is looked at, to plan a restore from it.
    Plan,
    /// An uploaded backup is thrown away.
    Discard,
    /// An admin confirms a restore on the page.
    RestoreAsked,
    /// A restore begins.
    RestoreBegins,
    /// A restore ended.
    Restore,
    /// An admin asks for a recovery on the page.
    RecoveryAsked,
    /// A recovery ended.
    Recovery,
    /// Access of other accounts is removed.
    Secure,
    /// An old backup, what a past restore kept, or an old file of this log is removed.
    Prune,
    /// A backup is pinned: no prune removes it.
    Pin,
    /// A pin is taken away.
    Unpin,
}

impl AuditedDeed {
    /// Every one of them.
    pub const ALL: [AuditedDeed; 16] = [
        AuditedDeed::SignIn,
        AuditedDeed::SignOut,
        AuditedDeed::Access,
        AuditedDeed::Backup,
        AuditedDeed::Download,
        AuditedDeed::Plan,
        AuditedDeed::Discard,
        AuditedDeed::RestoreAsked,
        AuditedDeed::RestoreBegins,
        AuditedDeed::Restore,
        AuditedDeed::RecoveryAsked,
        AuditedDeed::Recovery,
        AuditedDeed::Secure,
        AuditedDeed::Prune,
        AuditedDeed::Pin,
        AuditedDeed::Unpin,
    ];

    /// As it stands in the log, and in what is printed of it.
    pub fn word(self) -> &'static str {
        match self {
            AuditedDeed::SignIn => "sign-in",
            AuditedDeed::SignOut => "sign-out",
            AuditedDeed::Access => "access",
            AuditedDeed::Backup => "backup",
            AuditedDeed::Download => "download",
            AuditedDeed::Plan => "plan",
            AuditedDeed::Discard => "discard",
            AuditedDeed::RestoreAsked => "restore-asked",
            AuditedDeed::RestoreBegins => "restore-begins",
            AuditedDeed::Restore => "restore",
            AuditedDeed::RecoveryAsked => "recovery-asked",
            AuditedDeed::Recovery => "recovery",
            AuditedDeed::Secure => "secure",
            AuditedDeed::Prune => "prune",
            AuditedDeed::Pin => "pin",
            AuditedDeed::Unpin => "unpin",
        }
    }
}

/// How a restore or a recovery ended that did not complete: its code alone does not say what became of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditEnd {
    /// The gateway is as before.
    RolledBack,
    /// An operator must finish it.
    Stuck,
    /// It ended before it changed anything.
    NothingChanged,
}

impl AuditEnd {
    /// What a fault says of it.
    pub fn of(fault: &Fault) -> AuditEnd {
        match fault {
            Fault::RolledBack(_) => AuditEnd::RolledBack,
            Fault::Stuck(_) => AuditEnd::Stuck,
            Fault::Failed(_)
            | Fault::Declined
            | Fault::Usage(_)
            | Fault::Refused(_)
            | Fault::Busy(_) => AuditEnd::NothingChanged,
        }
    }

    /// As it stands in what is printed of the log.
    fn word(self) -> &'static str {
        match self {
            AuditEnd::RolledBack => "rolled-back",
            AuditEnd::Stuck => "stuck",
            AuditEnd::NothingChanged => "nothing-changed",
        }
    }
}

/// What came of it: `done`, or the code of what stood in the way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AuditResult {
    /// It was done.
    Done,
    /// It was not, for this cause.
    Not(Code),
}

/// Where a program gave no code: in journals of an older version.
const NO_CODE: Code = Code::IO;
const DONE: &str = "done";

impl From<AuditResult> for String {
    fn from(result: AuditResult) -> String {
        match result {
            AuditResult::Done => DONE.into(),
            AuditResult::Not(code) => code.to_string(),
        }
    }
}

impl From<String> for AuditResult {
    fn from(text: String) -> AuditResult {
        match text.as_str() {
            DONE => AuditResult::Done,
            _ => AuditResult::Not(Code::new(text).unwrap_or(NO_CODE)),
        }
    }
}

impl AuditResult {
    /// What came of work that ended so.
    pub fn of<T, F: Borrow<Fault>>(outcome: &Result<T, F>) -> AuditResult {
        match outcome {
            Ok(_) => AuditResult::Done,
            Err(fault) => match fault.borrow() {
                Fault::Declined | Fault::Usage(_) => AuditResult::Not(Code::BAD_REQUEST),
                fault => AuditResult::by(fault.problems()),
            },
        }
    }

    /// It was not done, for the first of these reasons.
    pub fn by(problems: &[Problem]) -> AuditResult {
        let code = problems.iter().find_map(|problem| problem.code.clone());
        AuditResult::Not(code.unwrap_or(NO_CODE))
    }
}

impl Audited {
    /// Somebody did something, once.
    pub fn new(
        who: AskedBy,
        what: AuditedDeed,
        subject: Option<&str>,
        result: AuditResult,
    ) -> Audited {
        Audited {
            who,
            what,
            subject: subject.map(|subject| subject.chars().take(SUBJECT).collect()),
            result,
            ended: None,
            times: None,
        }
    }
}

impl std::fmt::Display for Audited {
    /// In one line, ready for a terminal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut result = String::from(self.result.clone());
        if let Some(ended) = self.ended {
            result = format!("{} ({result})", ended.word());
        }
        write!(f, "{:<14}  {result:<22}  {}", self.what.word(), self.who)?;
        if let Some(subject) = &self.subject {
            write!(f, ": {}", visible(subject))?;
        }
        match self.times {
            Some(times) => write!(f, " ({times} times)"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Display for AuditLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}  {}", utc(self.at_ms), self.audited)
    }
}
