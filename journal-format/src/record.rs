//! The records of a journal. Owns what each one holds; which may follow which is the grammar's (`state`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AskedBy, BootId, Code, Digest, FileId, Info, Move, Note, Plan, Policy, RestoreId, Seq, Verdict,
};

/// One line of a journal, without its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place; the header is 0.
    pub seq: Seq,
    /// Wall clock, milliseconds since 1970 UTC. For people only: it may jump.
    pub at_ms: i64,
    /// Milliseconds since boot (`CLOCK_BOOTTIME`). Durations and deadlines go by this, within one boot.
    pub up_ms: u64,
    /// What happened.
    pub entry: Entry,
    /// What people may want to know besides: who asked.
    #[serde(
        default,
        deserialize_with = "crate::asked::understood",
        skip_serializing_if = "Option::is_none"
    )]
    pub info: Option<Info>,
}

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// The first line.
    Header(Header),
    /// The second line: the plan, whose digest the header holds. It is large, and the state shares it with this record.
    Plan(Arc<Plan>),
    /// A driver started: the restore itself, or a recovery.
    Driver(Driver),
    /// The barrier is durable: effects may begin.
    Armed {
        /// SHA-256 of the kernel facts as they were before (`before/facts.json` in the restore's folder).
        facts: Digest,
    },
    /// A move is about to act. Written and synced before it does.
    Intent {
        /// The move.
        r#move: Move,
        /// For a swap: every exchange it will make, with the objects on both sides as they are before the first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exchanges: Vec<Exchange>,
    },
    /// The move acted, and the host was seen to be as it should be.
    Done {
        /// The move.
        r#move: Move,
        /// What it did, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        did: Vec<String>,
        /// What a person should know of it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Note>,
    },
    /// The move acted or tried to, and the host is not as it should be.
    Failed {
        /// The move.
        r#move: Move,
        /// Why.
        problem: Problem,
    },
    /// From here it goes back, for good. Written twice.
    Turned {
        /// Why.
        problem: Problem,
    },
    /// From here it goes forward, for good. Written twice.
    Committed,
    /// It cannot go on without the operator; not an end: a recovery by hand may follow.
    Stuck {
        /// Why, and what to do.
        problem: Problem,
    },
    /// It is over. Written twice.
    Closed {
        /// How it ended.
        verdict: Verdict,
        /// What is left to do or to know, as leftovers that could not be cleaned up.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<Note>,
    },
}

impl Record {
    /// Who asked for what it begins, if it says so.
    pub fn asked_by(&self) -> Option<&AskedBy> {
        self.info.as_ref()?.asked_by.as_ref()
    }
}

impl Entry {
    /// The lowest version of the format that knows all that this entry says.
    pub fn format(&self) -> Format {
        match self {
            Entry::Plan(plan) => plan.format(),
            Entry::Failed { problem, .. }
            | Entry::Turned { problem }
            | Entry::Stuck { problem }
                if problem.code.is_some() || !problem.about.is_empty() =>
            {
                Format::V1_1
            }
            Entry::Closed {
                verdict: Verdict::Left,
                ..
            } => Format::V1_1,
            Entry::Driver(driver) if driver.role == Role::Leave => Format::V1_1,
            Entry::Done { warnings, .. } | Entry::Closed { warnings, .. } => {
                let formats = warnings.iter().map(Note::format);
                formats.max().unwrap_or(Format::FIRST)
            }
            Entry::Header(_)
            | Entry::Driver(_)
            | Entry::Armed { .. }
            | Entry::Intent { .. }
            | Entry::Failed { .. }
            | Entry::Turned { .. }
            | Entry::Committed
            | Entry::Stuck { .. } => Format::FIRST,
        }
    }

    /// The same without what this version of the format does not know: as it is written into a journal that began so.
    pub fn within(mut self, format: Format) -> Entry {
        match &mut self {
            Entry::Failed { problem, .. }
            | Entry::Turned { problem }
            | Entry::Stuck { problem }
                if format < Format::V1_1 =>
            {
                problem.code = None;
                problem.about.clear();
            }
            Entry::Done { warnings, .. } | Entry::Closed { warnings, .. } => {
                let all = std::mem::take(warnings).into_iter();
                warnings.extend(all.map(|note| note.within(format)));
            }
            Entry::Header(_)
            | Entry::Plan(_)
            | Entry::Driver(_)
            | Entry::Armed { .. }
            | Entry::Intent { .. }
            | Entry::Failed { .. }
            | Entry::Turned { .. }
            | Entry::Committed
            | Entry::Stuck { .. } => {}
        }
        self
    }
}

/// The first line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub format: Format,
    /// The restore.
    pub restore: RestoreId,
    /// The boot in which it began.
    pub boot: BootId,
    /// The program that wrote it, as `holdfast 0.1.0`.
    pub program: String,
    /// BLAKE3 of the plan's JSON ([`Plan::digest`]), which is the next record.
    pub plan: Digest,
}

/// A version of the format. A newer minor is read but not acted on; a newer major is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Format {
    pub major: u32,
    pub minor: u32,
}

impl Format {
    /// The oldest version.
    pub const FIRST: Format = Format { major: 1, minor: 0 };
    /// The version that brought codes, notes and what a plan has "since 1.1". What needs it needs no newer one.
    pub const V1_1: Format = Format { major: 1, minor: 1 };
    /// The newest version that this program writes, and that it acts on.
    pub const CURRENT: Format = Format::V1_1;
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// One start of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Why it started.
    pub role: Role,
    /// The boot it runs in.
    pub boot: BootId,
    /// Its process.
    pub pid: u32,
    /// The session that its commands stay in; recovery ends what is left of it.
    pub session: u32,
    /// When the process started, in the kernel's clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started_ticks: u64,
    /// The choice made for this start, where it differs from the plan's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// Why a driver started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The restore itself.
    Restore,
    /// A recovery that started by itself: at boot, by the agent, or handed over by a driver.
    Recover,
    /// A recovery that the operator asked for: counts begin anew.
    RecoverByHand,
    /// The operator ends the restore where it stands. Since 1.1.
    Leave,
}

/// One exchange of a swap: two names and the objects under them before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The target.
    pub path: String,
    /// The staged name.
    pub staged: String,
    /// What was under the target; none for an addition.
    pub old: Option<FileId>,
    /// What was staged; none for a removal.
    pub new: Option<FileId>,
}

/// What could not be done, why, and what to do. Holds no secret: keys are blanked before it is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Which cause it has; none in journals of 1.0, which know no code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What could not be done and why; fits behind "cannot ".
    pub what: String,
    /// The command that failed, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its standard error, bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// What the operator can do.
    pub advice: String,
    /// The objects that it is about, by name, where a program needs them. Since 1.1, as its code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<String>,
}

impl Problem {
    /// A problem without a command.
    pub fn new(code: Code, what: impl Into<String>, advice: impl Into<String>) -> Problem {
        Problem {
            code: Some(code),
            what: what.into(),
            command: None,
            stderr: None,
            advice: advice.into(),
            about: Vec::new(),
        }
    }

    /// Whether it has this cause.
    pub fn is(&self, code: &Code) -> bool {
        self.code.as_ref() == Some(code)
    }
}

impl std::fmt::Display for Problem {
    /// `cannot WHAT`, the command and its standard error if there is one, and the advice, a line each. Advice of several lines is a
    /// list of steps, set further in than anything else.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}", self.what)?;
        if let Some(command) = &self.command {
            write!(f, "\n  command: {command}")?;
        }
        if let Some(stderr) = self.stderr.as_deref().filter(|s| !s.trim().is_empty()) {
            for line in stderr.trim().lines() {
                write!(f, "\n  | {line}")?;
            }
        }
        if !self.advice.is_empty() {
            write!(f, "\n  what to do: {}", self.advice.replace('\n', "\n    "))?;
        }
        Ok(())
    }
}
