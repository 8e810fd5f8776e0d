//! What goes on and how the gateway stands, for one glance. Forms alone.

use journal_format::{Policy, Problem, RestoreId, Standing};
use serde::{Deserialize, Serialize};

use crate::Backups;

/// What the first page shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The gateway's host name.
    pub host: String,
    /// The last backups.
    pub backups: Backups,
    /// What runs now.
    pub running: Option<Running>,
    /// Restores, the newest first.
    pub restores: Vec<RestoreLine>,
    /// The largest upload, MiB.
    pub upload_mib: u64,
}

/// What `/system/backup-status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What runs now.
    pub running: Option<Running>,
    /// The last backups.
    #[serde(flatten)]
    pub backups: Backups,
}

/// What runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Running {
    /// A backup is being made.
    Backup {
        /// When it began, milliseconds since 1970 UTC.
        began_ms: i64,
        /// What it does now.
        step: String,
        /// Bytes or entries done, of `total`; a measure, not a promise.
        done: u64,
        /// All of it; 0 while that is not known.
        total: u64,
    },
    /// A restore or its recovery runs, or one is open and waits.
    Restore {
        /// The restore.
        id: RestoreId,
        /// Where it stands.
        standing: Standing,
        /// Nothing works on it: it must be recovered.
        interrupted: bool,
        /// The step that it is at.
        step: Option<String>,
        /// Steps done.
        done: u64,
        /// Steps in all, in the direction that it goes.
        total: u64,
        /// How the gateway stands, where somebody has to do something.
        now: Option<GatewayLines>,
    },
    /// A restore is over, and something does not work since.
    Lacking {
        /// The restore.
        id: RestoreId,
        /// How the gateway stands.
        now: GatewayLines,
    },
    /// A restore was under way, and its journal is not here: there is no page of it.
    Lost {
        /// How the gateway stands.
        now: GatewayLines,
        /// What cannot be told, and every way on.
        problem: Problem,
    },
}

/// One restore in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreLine {
    /// The restore.
    pub id: RestoreId,
    /// When it began, milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// The backup's name.
    pub archive: String,
    /// Where it stands; none if its journal cannot be read.
    pub standing: Option<Standing>,
    /// It is restored, but for what was left out.
    pub in_part: bool,
    /// It is open, and nothing works on it: it must be recovered.
    pub interrupted: bool,
    /// When it began lies in the future: the clock was wrong then, or is wrong now.
    pub in_future: bool,
}

/// How the gateway stands, as people read it, and how it can be led on from the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLines {
    /// What is in place, what is up, down and blocked, what stands in the way, what to do: at most four.
    pub lines: Vec<GatewayLine>,
    /// The ways in which a recovery may be started, the one to take first; none where only the command line can.
    pub recoveries: Vec<Policy>,
}

/// One of the lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLine {
    /// What it is about.
    pub label: String,
    /// What it says.
    pub text: String,
}
