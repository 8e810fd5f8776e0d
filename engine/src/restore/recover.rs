//! Settles a restore that a crash or a power cut left open: finds it, mends a torn tail, ends what is left of the dead
//! driver, and hands to the drive. Decides no direction: that is `decide`'s.

use std::path::Path;

use journal_format::{
    AskedBy, Note, Phase, Policy, RestoreId, Role, Scan, Soundness, State, Verdict,
};

use serde::{Deserialize, Serialize};

use crate::error::{Code, Fault, Problem, cannot};
use crate::gateway::profile::Profile;
use crate::host::fence_is_closed;
use crate::restore;
use crate::restore::again;
use crate::restore::before::facts;
use crate::restore::decide::{self, STARTS};
use crate::restore::driver::{BootStage, Drive, Ending};
use crate::restore::journal::{DriverStart, JOURNAL_BYTES, JournalWriter};
use crate::restore::leaving;
use crate::restore::process;
use crate::restore::step::{BALLAST, Machine};
use crate::restore::unusable;
use crate::state_dir::{self, OpenRestore, traces};

/// What a recovery found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recovered {
    /// No restore is open.
    Idle(Vec<Tidied>),
    /// It was over already; only the barrier was left. Without a verdict it had not even begun.
    Over(RestoreId, Option<Verdict>),
    /// Its files and databases are settled; the rest waits for the network.
    BeforeNetwork(RestoreId),
    /// It was over and lacked something, which was tried again.
    TriedAgain {
        /// The restore.
        id: RestoreId,
        /// How it ended.
        verdict: Verdict,
        /// What it lacks still.
        lacks: Vec<Note>,
        /// What it lacks no more, for it was deleted since.
        gone: Vec<Note>,
    },
    /// The gateway is as the backup says in all that a restore compares: none was begun.
    NothingToDo(RestoreId),
    /// It is settled.
    Settled {
        /// The restore.
        id: RestoreId,
        /// How it ended.
        result: Result<Vec<Note>, Fault>,
    },
}

/// A restore that was over, but for its clean-up, which was tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidied {
    /// The restore.
    pub id: RestoreId,
    /// Whether nothing is left over now; if there is, it is tried again at the next start.
    pub result: Result<(), Problem>,
}

/// Who recovers, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryOrder {
    /// Why it was started.
    pub by: Role,
    /// The choice made for it.
    pub policy: Option<Policy>,
    /// How far it goes.
    pub stage: BootStage,
    /// Who asked for it; older programs do not say.
    #[serde(default)]
    pub asked_by: Option<AskedBy>,
}

/// What was found before anything was done, for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundAtRecovery {
    /// The restore.
    pub id: RestoreId,
    /// Bytes of a torn tail that were cut off.
    pub torn: usize,
    /// Processes of the dead driver that were ended.
    pub ended: Vec<String>,
}

/// Recovers. The caller holds the lock, so no driver runs.
pub fn run<'a>(
    profile: &Profile,
    host: &'a dyn Machine,
    order: RecoveryOrder,
    asked: &'a dyn Fn() -> bool,
    mut found: impl FnMut(FoundAtRecovery),
) -> Result<Recovered, Fault> {
    let open = state_dir::open_restore(profile).map_err(Fault::Stuck)?;
    let driver = || -> Result<DriverStart, Problem> {
        let driver = process::driver(order.by, host.boot()?, order.policy)?;
        let asked_by = order.asked_by.clone();
        Ok(DriverStart { driver, asked_by })
    };
    match open {
        Some(open) => {
            let by = (driver().map_err(Fault::Stuck)?, order.stage);
            settle(profile, host, open, by, asked, found)
        }
        // What was left over is not worth a delay of the boot.
        None if order.stage == BootStage::BeforeNetwork => {
            traces::none(profile, host).map_err(Fault::Stuck)?;
            Ok(Recovered::Idle(Vec::new()))
        }
        None => {
            if let Some(newest) = state_dir::newest(profile)? {
                let driver = driver().map_err(Fault::Stuck)?;
                let tried = again::run(profile, host, &newest, driver).map_err(Fault::Stuck)?;
                if let Some(tried) = tried {
                    if !tried.ended.is_empty() {
                        found(FoundAtRecovery {
                            id: newest.clone(),
                            torn: 0,
                            ended: tried.ended,
                        });
                    }
                    return Ok(Recovered::TriedAgain {
                        id: newest,
                        verdict: tried.verdict,
                        lacks: tried.lacks,
                        gone: tried.gone,
                    });
                }
            }
            let left_over = state_dir::left_over(profile)?;
            let tidied = left_over.into_iter().map(|id| Tidied {
                result: driver().and_then(|driver| tidy(profile, host, &id, driver)),
                id,
            });
            let tidied = tidied.collect();
            // Behind that: a clean-up that had failed may lift a fence.
            traces::none(profile, host).map_err(Fault::Stuck)?;
            Ok(Recovered::Idle(tidied))
        }
    }
}

/// Tries the clean-up of a restore that is over again. The caller holds the lock.
pub fn tidy(
    profile: &Profile,
    host: &dyn Machine,
    id: &RestoreId,
    start: DriverStart,
) -> Result<(), Problem> {
    let by_hand = start.driver.role == Role::RecoverByHand;
    let path = state_dir::journal(profile, id);
    let bytes = host.read(&path, JOURNAL_BYTES)?;
    let scan = journal_format::scan_of(id, &bytes);
    let tried = scan.state.as_ref();
    if let Some(state) = tried.filter(|s| s.starts >= STARTS && !by_hand) {
        let why = state.closing_warnings.first().map(|note| &*note.text);
        return Err(cannot(
            Code::CLEAN_UP_FAILS,
            format!(
                "clean up after restore {id}: Holdfast started {STARTS} times on it, and the clean-up still fails ({})",
                why.unwrap_or_default()
            ),
            "fix the reason, then run `holdfast recover`",
        ));
    }
    match scan.soundness() {
        Soundness::Closed(_) | Soundness::Open | Soundness::Torn => {}
        Soundness::Empty | Soundness::Corrupt | Soundness::Newer => {
            return Err(cannot(
                Code::JOURNAL_UNUSABLE,
                format!("clean up after restore {id}: its journal cannot be acted on"),
                format!("`holdfast journal verify {id}` says what is wrong with it"),
            ));
        }
    }
    let dir = profile.restore_dir(id);
    let mut journal = JournalWriter::reopen(host, &path, &bytes, scan, start)?;
    let facts = facts(host, &dir, journal.state())?;
    Drive {
        host,
        dir: &dir,
        barrier: &profile.barrier(),
        facts: &facts,
        source: None,
        asked: &|| false,
        stage: BootStage::Whole,
    }
    .tidy(&mut journal)
}

/// Settles this open restore, as this driver and this far. Sees everything through the host.
pub fn settle<'a>(
    profile: &Profile,
    host: &'a dyn Machine,
    open: OpenRestore,
    (start, stage): (impl Into<DriverStart>, BootStage),
    asked: &'a dyn Fn() -> bool,
    found: impl FnMut(FoundAtRecovery),
) -> Result<Recovered, Fault> {
    // Whatever keeps a recovery from its end leaves the gateway half way.
    settle_or_stick(profile, host, open, (start.into(), stage), asked, found).map_err(Fault::Stuck)
}

fn settle_or_stick<'a>(
    profile: &Profile,
    host: &'a dyn Machine,
    open: OpenRestore,
    (start, stage): (DriverStart, BootStage),
    asked: &'a dyn Fn() -> bool,
    mut found: impl FnMut(FoundAtRecovery),
) -> Result<Recovered, Problem> {
    let driver = &start.driver;
    let left = what_is_left(profile, host, &open, &start)?;
    let OpenRestore {
        id,
        barrier: barrier_is_up,
    } = open;
    let JournalLeft { bytes, scan, state } = match left {
        WhatIsLeft::Nothing(verdict) => return Ok(Recovered::Over(id, verdict)),
        WhatIsLeft::Stuck(problem) => {
            let result = Err(Fault::Stuck(problem));
            return Ok(Recovered::Settled { id, result });
        }
        WhatIsLeft::Journal(journal) => *journal,
    };
    let ended = process::end_what_it_left(host, &state, driver)?;
    found(FoundAtRecovery {
        id: id.clone(),
        torn: bytes.len() - scan.valid_len,
        ended,
    });
    let dir = profile.restore_dir(&id);
    let found = facts(host, &dir, &state);
    // Where they put nothing back they stand in no way: neither of the last exit, nor where nothing was changed.
    let is_untouched = !state.has_effects() && state.header.boot == driver.boot;
    let facts = match driver.role == Role::Leave || is_untouched {
        true => found.unwrap_or_default(),
        false => found?,
    };
    if driver.role == Role::Leave {
        leaving::may_be_left(&id, &state)?;
    }
    let path = state_dir::journal(profile, &id);
    let mut journal = reopened(host, &path, &bytes, scan, start)?;
    let barrier = profile.barrier();
    if journal.state().plan.is_none() {
        // Without a plan nothing was staged.
        journal.close(Verdict::NothingChanged, Vec::new())?;
        host.discard(&barrier)?;
        return Ok(Recovered::Over(id, Some(Verdict::NothingChanged)));
    }
    let drive = Drive {
        host,
        dir: &dir,
        barrier: &barrier,
        facts: &facts,
        source: None,
        asked,
        stage,
    };
    let is_committed = journal.state().phase == Phase::Committed;
    if journal.state().has_effects() && !barrier_is_up && !is_committed {
        // The operator chose to go on without it; until the verdict it is there again.
        drive.raise(journal.state())?;
    }
    let ending = match journal.state().driver.as_ref().map(|d| d.role) {
        Some(Role::Leave) => drive.leave(&mut journal)?,
        Some(Role::Restore | Role::Recover | Role::RecoverByHand) | None => {
            drive.run(&mut journal)?
        }
    };
    if ending == Ending::BeforeNetwork {
        return Ok(Recovered::BeforeNetwork(id));
    }
    let result = restore::conclude(ending, journal.state());
    Ok(Recovered::Settled { id, result })
}

/// Its journal to go on with. On a disk that is full the room is given up that the restore reserved for this.
fn reopened<'h>(
    host: &'h dyn Machine,
    path: &Path,
    bytes: &[u8],
    scan: Scan,
    start: DriverStart,
) -> Result<JournalWriter<'h>, Problem> {
    match JournalWriter::reopen(host, path, bytes, scan.clone(), start.clone()) {
        Err(problem) if problem.is(&Code::NO_SPACE) => {
            host.discard(&path.with_file_name(BALLAST))?;
            JournalWriter::reopen(host, path, bytes, scan, start)
        }
        reopened => reopened,
    }
}

/// What of an open restore there is to settle.
enum WhatIsLeft {
    /// It was over, or had not even begun.
    Nothing(Option<Verdict>),
    /// It waits for the operator.
    Stuck(Problem),
    /// A journal to go on with.
    Journal(Box<JournalLeft>),
}

struct JournalLeft {
    bytes: Vec<u8>,
    scan: Scan,
    state: State,
}

/// Where nothing can be acted on, why.
fn what_is_left(
    profile: &Profile,
    host: &dyn Machine,
    open: &OpenRestore,
    start: &DriverStart,
) -> Result<WhatIsLeft, Problem> {
    let driver = &start.driver;
    let OpenRestore { id, barrier } = open;
    let leaves = driver.role == Role::Leave;
    let by_hand = driver.role == Role::RecoverByHand || leaves;
    let path = state_dir::journal(profile, id);
    if host.stat(&path)?.is_none() {
        return Err(unusable::gone(profile, id));
    }
    let bytes = host.read(&path, JOURNAL_BYTES)?;
    let scan = journal_format::scan_of(id, &bytes);
    match scan.soundness() {
        Soundness::Closed(verdict) => {
            // Who died right after writing that had not synced it: without the barrier it must not be lost any more.
            host.keep(&path, &bytes)?;
            lift_fence(profile, host, id, start)?;
            host.discard(&profile.barrier())?;
            return Ok(WhatIsLeft::Nothing(Some(verdict)));
        }
        Soundness::Open | Soundness::Torn | Soundness::Empty => {}
        Soundness::Corrupt | Soundness::Newer => {
            return Err(unusable::problem(profile, id, scan.soundness()));
        }
    }
    let Some(state) = scan.state.clone() else {
        // Not even a header: the crash came before anything else, and nothing was staged.
        if *barrier {
            return Err(unusable::problem(profile, id, Soundness::Empty));
        }
        host.discard(&path)?;
        return Ok(WhatIsLeft::Nothing(None));
    };
    // Behind the commit there is one way, and it changes nothing that the gateway uses.
    if state.has_effects() && !barrier && state.phase != Phase::Committed {
        let chooses = decide::leaves_the_choice(&state, state.header.boot == driver.boot);
        if !by_hand || chooses && !leaves && driver.policy.is_none() {
            return Err(without_barrier(profile, id, chooses));
        }
    }
    Ok(match &state.stuck {
        Some(problem) if !by_hand => WhatIsLeft::Stuck(problem.clone()),
        _ => WhatIsLeft::Journal(Box::new(JournalLeft { bytes, scan, state })),
    })
}

/// Without its barrier a boot may have started the gateway meanwhile: no recovery goes on by itself.
fn without_barrier(profile: &Profile, id: &RestoreId, chooses: bool) -> Problem {
    let then = match chooses {
        true => "choose: `holdfast recover --resume` or `holdfast recover --roll-back`",
        false => "run `holdfast recover`: it can only roll back",
    };
    let path = profile.barrier();
    let (is, did) = match path.exists() {
        true => ("names another restore or none", "changed"),
        false => ("is gone", "removed"),
    };
    cannot(
        Code::BARRIER_UNUSABLE,
        format!("recover restore {id}: it changed the gateway, and its restore marker {is}"),
        format!(
            "someone {did} {}; look at `holdfast journal show {id}`, then {then}",
            path.display()
        ),
    )
}

/// Of a restore that is over: a boot that came in between closed the fence by the barrier.
fn lift_fence(
    profile: &Profile,
    host: &dyn Machine,
    id: &RestoreId,
    start: &DriverStart,
) -> Result<(), Problem> {
    if !fence_is_closed(host)? {
        return Ok(());
    }
    let tidied = tidy(profile, host, id, start.clone());
    // What else is left over is tried again at the next start, and holds nothing back.
    if !fence_is_closed(host)? {
        return Ok(());
    }
    Err(tidied.err().unwrap_or_else(|| {
        cannot(
            Code::FENCE_REFUSED,
            "unblock the traffic of a restore that is over",
            "see what closes it; `nft delete table inet holdfast` lifts it, then run `holdfast recover`",
        )
    }))
}
