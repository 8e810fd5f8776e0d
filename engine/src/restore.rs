//! One restore from its plan to its verdict: the folder, the journal and the drive. Owns what lies in a restore's folder
//! before its journal begins; plans nothing.

pub mod again;
pub mod aside;
mod audited;
pub mod before;
mod copied;
pub mod cut_off;
pub mod decide;
mod doubts;
pub mod driver;
pub mod expected_peers;
pub mod expected_rules;
mod expected_tunnels;
pub mod gateway_state;
pub mod journal;
mod keeping;
pub mod launch;
pub mod leaving;
mod links;
mod loading;
pub mod next;
mod old_databases;
mod old_files;
pub mod order;
pub mod process;
pub mod recover;
mod saved;
mod served;
mod source;
pub mod step;
pub mod swap;
mod unusable;
pub mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use journal_format::{
    AskedBy, Fate, Format, Header, Note, Plan, Problem, RestoreId, Role, State, Verdict,
};

use crate::error::{Code, Fault, OrCannot, cannot};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::profile::Profile;
use crate::plan::prepare::Prepared;
use crate::restore::driver::{BootStage, Drive, Ending, FACTS};
use crate::restore::journal::{DriverStart, JournalWriter};
use crate::restore::source::Unpacked;
use crate::state_dir;
use crate::text::octets;
use step::{Machine, Source};

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The gateway is as the backup says.
    Restored {
        /// What a person should know.
        warnings: Vec<Note>,
    },
    /// Its journal could not be written any more: a fresh recovery must take over.
    HandOver(Problem),
}

/// Begins the restore and runs it to its end. The caller holds the lock.
pub fn run(
    profile: &Profile,
    host: &dyn Machine,
    prepared: Prepared,
    asked_by: Option<AskedBy>,
    asked: &dyn Fn() -> bool,
) -> Result<Ended, Fault> {
    state_dir::none_open(profile, host, "restore")?;
    let driver = process::driver(Role::Restore, host.boot()?, None)?;
    let start = DriverStart { driver, asked_by };
    let source = Unpacked::of(profile, &prepared.plan.archive.name, prepared.contents);
    let begin = Begin {
        id: &prepared.id,
        plan: &prepared.plan,
        facts: &prepared.facts,
        rules: &prepared.after,
        source: &source,
        start,
        format: Format::CURRENT,
    };
    carry_out(profile, host, begin, asked)
}

/// All that a restore begins with.
pub struct Begin<'a> {
    /// Its name.
    pub id: &'a RestoreId,
    /// What it will do.
    pub plan: &'a Arc<Plan>,
    /// Kernel facts as they are.
    pub facts: &'a Facts,
    /// What lies in `after/`, by the name of its file: the rules as the rehearsal printed them, and peers.
    pub rules: &'a BTreeMap<&'static str, String>,
    /// The contents of new files.
    pub source: &'a dyn Source,
    /// Who drives it, and who asked for it.
    pub start: DriverStart,
    /// The version of its journal: the newest, but where an older program is simulated.
    pub format: Format,
}

/// Keeps what going back needs, begins the journal, and drives. Sees everything through the host.
pub fn carry_out<'a>(
    profile: &Profile,
    host: &'a dyn Machine,
    begin: Begin<'a>,
    asked: &'a dyn Fn() -> bool,
) -> Result<Ended, Fault> {
    let dir = profile.restore_dir(begin.id);
    let journal_path = state_dir::journal(profile, begin.id);
    if host.stat(&journal_path)?.is_some() {
        return Err(Fault::Refused(vec![cannot(
            Code::BAD_REQUEST,
            format!("begin restore {}: it was begun before", begin.id),
            "see `holdfast journal show`",
        )]));
    }
    for sub in ["before", "after", "originals"] {
        host.keep_dir(&dir.join(sub))?;
    }
    let facts = serde_json::to_vec_pretty(begin.facts).or_cannot(
        Code::INTERNAL,
        "write the kernel facts",
        "report this fault in holdfast",
    )?;
    host.keep(&dir.join(FACTS), &facts)?;
    for (name, text) in begin.rules {
        host.keep(&dir.join("after").join(name), &octets::bytes(text))?;
    }
    let header = Header {
        format: begin.format,
        restore: begin.id.clone(),
        boot: begin.start.driver.boot.clone(),
        program: process::program(),
        plan: begin.plan.digest(),
    };
    let begun = JournalWriter::begin(host, &journal_path, header, begin.plan.clone(), begin.start);
    let mut journal = match begun {
        Ok(journal) => journal,
        // Its name may be there although that is not known to last: then the restore is open, and must be closed.
        Err(problem) if host.stat(&journal_path)?.is_some() => {
            return Ok(Ended::HandOver(problem));
        }
        Err(problem) => return Err(problem.into()),
    };
    let barrier = profile.barrier();
    let drive = Drive {
        host,
        dir: &dir,
        barrier: &barrier,
        facts: begin.facts,
        source: Some(begin.source),
        asked,
        stage: BootStage::Whole,
    };
    let ending = match drive.run(&mut journal) {
        Ok(ending) => ending,
        Err(problem) => return Ok(Ended::HandOver(problem)),
    };
    conclude(ending, journal.state()).map(|warnings| Ended::Restored { warnings })
}

/// The ending as the exit status tells it: the warnings of a gateway that is restored, or the fault.
pub fn conclude(ending: Ending, state: &State) -> Result<Vec<Note>, Fault> {
    match ending {
        Ending::Closed(Verdict::Restored) => {
            let warnings = state.moves.iter().flat_map(|m| &m.warnings);
            // What lacks stands in the closing as well.
            let closing = state.closing_warnings.iter().filter(|w| !w.is_lack());
            Ok(warnings.chain(closing).cloned().collect())
        }
        Ending::Closed(Verdict::Left) => Ok(state.closing_warnings.clone()),
        Ending::Closed(Verdict::RolledBack) => {
            let unknown = || {
                cannot(
                    Code::INTERRUPTED,
                    "finish the restore",
                    "see `holdfast journal show`",
                )
            };
            Err(Fault::RolledBack(
                state.turned.clone().unwrap_or_else(unknown),
            ))
        }
        Ending::Closed(Verdict::NothingChanged) => {
            let mut moves = state.moves.iter().rev();
            let failed = moves.find(|m| m.fate == Fate::Failed);
            let failed = failed.and_then(|m| m.problem.clone());
            Err(Fault::Failed(failed.unwrap_or_else(|| {
                cannot(
                    Code::INTERRUPTED,
                    "finish the restore: it was ended before it changed anything",
                    "restore again",
                )
            })))
        }
        Ending::Stuck(problem) => Err(Fault::Stuck(problem)),
        Ending::BeforeNetwork => Ok(Vec::new()),
    }
}
