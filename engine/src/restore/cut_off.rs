//! What is said of work that ended without saying how: its process was killed, or a fault of its own ended it. Goes by the journal
//! and by what is open; settles nothing.

use journal_format::{RestoreId, State, Verdict};

use super::launch::ProcessEnd;
use super::order::WorkReport;
use super::recover::Recovered;
use crate::error::{Code, Fault, Problem, cannot};
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::state_dir::{self, traces};

/// What ended the work.
#[derive(Debug, Clone, Copy)]
pub enum CutOff<'a> {
    /// Its process ended so.
    Process(ProcessEnd),
    /// A fault in Holdfast: where, and what it says.
    Fault(&'a str),
}

impl CutOff<'_> {
    fn why(self) -> String {
        match self {
            CutOff::Process(ProcessEnd::Status(status)) => format!(
                "its process ended with status {status}, and its last word could not be written below /run"
            ),
            CutOff::Process(ProcessEnd::Unknown) => "its process was killed".into(),
            CutOff::Fault(at) => format!("a fault in holdfast ended it ({at})"),
        }
    }

    fn problem(self, code: Code, what: String, advice: &str) -> Problem {
        match self {
            CutOff::Process(_) => cannot(code, what, advice),
            CutOff::Fault(_) => {
                let report = "report this fault with the output of `holdfast journal show`";
                cannot(Code::INTERNAL, what, format!("{advice}; {report}"))
            }
        }
    }
}

/// How the gateway stands after it. `state`: of the restore, as far as its journal could be read; `unread`: why no further.
pub fn report(
    profile: &Profile,
    state: Option<&State>,
    cut_off: CutOff,
    unread: Option<&Problem>,
) -> WorkReport {
    let restore = state.map(|s| s.header.restore.clone());
    if let (Some(id), Some(Verdict::Restored)) = (restore, state.and_then(State::verdict)) {
        let result = Ok(Vec::new());
        return WorkReport::of(Ok(Recovered::Settled { id, result }));
    }
    let why = cut_off.why();
    let open = state_dir::open_restore(profile).and_then(|open| {
        if open.is_none() {
            // Its state_dir may have gone from under it.
            traces::none(profile, &Linux::new(profile))?;
        }
        Ok(open)
    });
    let problem = match &open {
        Ok(None) => cut_off.problem(
            Code::INTERRUPTED,
            format!(
                "finish: {why}; no restore is open, and no file of the gateway was changed but for access that was closed"
            ),
            "see `holdfast status`, then try again",
        ),
        Ok(Some(open)) => {
            let unread = unread.map_or_else(String::new, |p| {
                format!(", and its journal could not be followed ({})", p.what)
            });
            cut_off.problem(
                Code::RESTORE_OPEN,
                format!(
                    "finish restore {}: {why}{unread}; no process continues it",
                    open.id
                ),
                "run `holdfast recover`",
            )
        }
        Err(problem) => problem.clone(),
    };
    let stuck = state.and_then(|s| s.stuck.clone());
    let turned = state.and_then(|s| s.turned.clone());
    WorkReport::of(Err(match (state.and_then(State::verdict), open, cut_off) {
        (Some(Verdict::RolledBack), ..) => Fault::RolledBack(turned.unwrap_or(problem)),
        (_, Ok(None), CutOff::Process(ProcessEnd::Status(status))) => match status {
            0 => return WorkReport::of(Ok(Recovered::Idle(Vec::new()))),
            3 => Fault::Refused(vec![problem]),
            4 => Fault::RolledBack(problem),
            5 => Fault::Stuck(problem),
            6 => Fault::Busy(problem),
            _ => Fault::Failed(problem),
        },
        (_, Ok(None), CutOff::Process(ProcessEnd::Unknown) | CutOff::Fault(_)) => {
            Fault::Failed(problem)
        }
        (_, Ok(Some(_)) | Err(_), _) => Fault::Stuck(stuck.unwrap_or(problem)),
    }))
}

/// What a fault in Holdfast left behind, by what can be read now. `of`: the restore that it worked on, if only one can be meant.
pub(super) fn by_fault(profile: &Profile, of: Option<&RestoreId>, at: &str) -> WorkReport {
    let of = of.cloned().or_else(|| {
        let open = state_dir::open_restore(profile).ok()?;
        open.map(|open| open.id)
    });
    let scan = of.and_then(|id| state_dir::read(profile, &id).ok());
    let state = scan.and_then(|scan| scan.state);
    report(profile, state.as_ref(), CutOff::Fault(at), None)
}
