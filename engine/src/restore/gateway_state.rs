//! How the gateway stands now: which set of files and databases is in place, what is up, down and blocked since when, what stands in
//! the way, and what leads on. The one model behind everything that is said of it. Owns its forms; looks at nothing itself.

mod left;
pub mod lines;
pub mod look;
mod running;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use journal_format::{Note, Policy, Problem, RestoreId, View};
use serde::Serialize;

use crate::restore::decide::Heading;

/// How the gateway stands now, and what leads on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateOfGateway {
    /// What goes on, in one word.
    pub condition: Condition,
    /// The restore that it is about.
    pub restore: Option<RestoreId>,
    /// The files: configs and persistent rules.
    pub files: SetInPlace,
    /// The databases.
    pub databases: SetInPlace,
    /// The services of the gateway.
    pub services: UpAndDown,
    /// The tunnels.
    pub tunnels: UpAndDown,
    /// Forwarded traffic of the tunnels.
    pub traffic: Traffic,
    /// Settings of the kernel that are off: without them it forwards nothing, by the protocol's name.
    pub forwarding_off: Vec<&'static str>,
    /// Where the restore is, as a sentence.
    pub headline: Option<String>,
    /// The restore as its journal tells it.
    #[serde(skip)]
    pub view: Option<Box<View>>,
    /// The one thing that stands in the way.
    pub problem: Option<Problem>,
    /// What does not work although everything else is one set's, and still does not.
    pub lacks: Vec<Note>,
    /// The process that works.
    pub pid: Option<u32>,
    /// Somebody has stopped that process, and it does nothing until it is continued.
    pub is_halted: bool,
    /// What it does, where it is no restore.
    pub work: Option<String>,
    /// The ways in which a recovery may be started: the first is the one to take.
    pub recoveries: Vec<Policy>,
    /// Where a recovery leads for which nobody chooses.
    pub heading: Option<Heading>,
    /// The restore marker, where somebody removed it from a restore that is open.
    pub marker_gone: Option<PathBuf>,
    /// Of a restore that is lost: its folder is here, only without its journal.
    pub lost_in_place: bool,
    /// An operator may end it where it stands: the last way out.
    pub may_be_left: bool,
    /// The safety backup of the restore, if it is there.
    pub safety_backup: Option<PathBuf>,
    /// The commands that start the gateway's services.
    pub starts: Vec<String>,
}

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// No restore is open, and nothing is known to lack.
    Idle,
    /// Something else than a restore works on the gateway, or a restore that has not begun.
    Busy,
    /// A restore or its recovery runs.
    Running,
    /// A restore is open, and nothing works on it.
    Interrupted,
    /// A restore waits for the operator.
    Stuck,
    /// A restore is over, and something does not work since.
    Lacking,
    /// The operator ended a restore where it stood, and it still differs from both sets, or something is still down.
    Left,
    /// A restore was under way, and its journal is not here.
    Lost,
    /// A restore is open, and its journal cannot be used.
    Unreadable,
}

/// Which of two sets is in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetInPlace {
    /// None of these is replaced.
    NotReplaced,
    /// All of them as before.
    Before(FirstNames),
    /// All of them as the backup says.
    After(FirstNames),
    /// Some so, some so, and what is neither: another object lies there.
    Mixed {
        /// As before.
        before: FirstNames,
        /// As the backup says.
        after: FirstNames,
        /// As neither.
        foreign: FirstNames,
    },
    /// It cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// How many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FirstNames {
    /// How many.
    pub count: usize,
    /// The first names.
    pub first: Vec<String>,
}

/// What is up and what is down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpAndDown {
    /// It was looked at.
    Seen {
        /// How many are up.
        up: usize,
        /// What should be up, and is down.
        down: FirstNames,
        /// Since when it is down, as far as that is known.
        since: Option<Since>,
    },
    /// It cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Whether forwarded traffic of the tunnels is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// It is not blocked.
    Open,
    /// It is blocked.
    Blocked {
        /// Since when, as far as that is known.
        since: Option<Since>,
    },
    /// It cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

/// A moment, and how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Since {
    /// Wall clock, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Milliseconds ago.
    pub age_ms: u64,
}

/// FirstNames that are kept of many.
const FIRST: usize = 10;

impl FirstNames {
    /// Of all of these.
    pub fn of<T: AsRef<str>>(all: &[T]) -> FirstNames {
        let first = all.iter().take(FIRST).map(|n| n.as_ref().to_owned());
        FirstNames {
            count: all.len(),
            first: first.collect(),
        }
    }

    /// The names of these files, without their folders; but whole paths where `all`, of which they are a part, have two of one name.
    pub fn of_files(paths: &[&str], all: &[&str]) -> FirstNames {
        let name = |path: &&str| {
            let name = Path::new(path).file_name();
            name.map_or_else(|| (*path).to_owned(), |n| n.to_string_lossy().into_owned())
        };
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        for name in all.iter().map(name) {
            if !seen.insert(name.clone()) {
                twice.insert(name);
            }
        }
        let shown = |path: &&str| match name(path) {
            name if twice.contains(&name) => (*path).to_owned(),
            name => name,
        };
        let first = paths.iter().take(FIRST).map(shown).collect();
        FirstNames {
            count: paths.len(),
            first,
        }
    }
}

impl StateOfGateway {
    /// The exit status of whoever tells it: whether somebody has to do something.
    pub fn exit_status(&self) -> u8 {
        match self.condition {
            Condition::Idle | Condition::Busy | Condition::Running => 0,
            Condition::Lacking | Condition::Left => 7,
            Condition::Interrupted | Condition::Stuck | Condition::Lost | Condition::Unreadable => {
                5
            }
        }
    }
}
