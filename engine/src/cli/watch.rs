//! Follows a worker: shows its records as they become durable, asks it to turn back, and says how it ended. Nothing that becomes
//! of this process or of its output reaches the worker.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use journal_format::{Record, RestoreId, ScannedLine, State, Verdict, View};
use nix::sys::signal::Signal;

use crate::error::{Code, Fault, OrCannot, Problem, bug, cannot};
use crate::restore::launch::{self, Worker};
use crate::restore::order::WorkReport;
use crate::state_dir::follow::Follower;

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a last word may wait for whoever reads it.
const LAST_WORD: Duration = Duration::from_millis(200);

/// SIGINT and SIGTERM, from here on noted and not obeyed. SIGHUP ends this process, and a closed pipe is no error: the worker goes
/// on without it.
pub(super) struct Interrupts(UnixStream);

impl Interrupts {
    pub(super) fn hold() -> Result<Interrupts, Problem> {
        let held = || -> std::io::Result<UnixStream> {
            let (read, write) = UnixStream::pair()?;
            for signal in [Signal::SIGINT, Signal::SIGTERM] {
                signal_hook::low_level::pipe::register(signal as i32, write.try_clone()?)?;
            }
            Ok(read)
        };
        let failed = |e: std::io::Error| bug(format!("hold signals back: {e}"));
        Ok(Interrupts(held().map_err(failed)?))
    }

    /// In a thread of its own: the other may stand before a pipe that nobody empties.
    fn pass_on(mut self, worker: Arc<Worker>, id: Option<RestoreId>) -> Result<(), Problem> {
        let pass_on = move || {
            let mut first = true;
            while let Ok(1..) = self.0.read(&mut [0]) {
                if worker.ended().is_some() {
                    // Only its output is still to be written.
                    let report = worker.report();
                    std::process::exit(report.map_or(5, |r| i32::from(r.exit_status())));
                }
                if std::mem::take(&mut first) {
                    worker.turn_back();
                    say_aside(
                        "rolling back, if the restore is not past that; Ctrl-C once more ends the watching alone"
                            .into(),
                    );
                } else if std::process::id() != 1 {
                    // As the first process of a container it would take the worker along.
                    let show = match &id {
                        Some(id) => format!("holdfast journal follow {id}"),
                        None => "holdfast status".into(),
                    };
                    say_aside(format!("it goes on by itself; to see it: {show}"));
                    std::thread::sleep(LAST_WORD);
                    std::process::exit(130);
                }
            }
        };
        let thread = std::thread::Builder::new().spawn(pass_on);
        thread.map(drop).or_cannot(
            Code::UNFIT_SYSTEM,
            "start a thread",
            "see how many processes and threads run on this box; the restore goes on",
        )
    }
}

/// A line that nobody waits for.
fn say_aside(text: String) {
    std::thread::spawn(move || tell!("{text}"));
}

/// What was seen of a worker.
pub(super) struct Followed {
    /// The restore as its journal has it; none if that never began.
    pub view: Option<View>,
    /// What the worker left behind.
    pub report: WorkReport,
}

/// Follows to the end. `each` is told of every record that is new, with the state behind it.
pub(super) fn watch(
    worker: Worker,
    interrupts: Interrupts,
    mut follower: Option<(RestoreId, Follower)>,
    mut each: impl FnMut(&Record, &State),
) -> Result<Followed, Fault> {
    let worker = Arc::new(worker);
    let id = follower.as_ref().map(|(id, _)| id.clone());
    interrupts.pass_on(worker.clone(), id.clone())?;
    let ended = loop {
        // Looked at before the journal: what an ended worker wrote is then all there.
        let ended = worker.ended();
        let mut news = false;
        if let Some((_, follower)) = &mut follower {
            // What cannot be read yet, or any more, is told by the worker's end.
            news = follower
                .look(|line, state| {
                    if let (ScannedLine::Record(record), Some(state)) = (line, state) {
                        each(record, state);
                    }
                })
                .unwrap_or(false);
        }
        match ended {
            Some(ended) if !news => break ended,
            _ if news => {}
            _ => std::thread::sleep(LOOK),
        }
    };
    let state = follower.as_ref().and_then(|(_, f)| f.state());
    let view = state.map(View::of);
    let report = match worker.report() {
        Some(report) => report,
        None => left_without_a_word(state, id.as_ref(), &format!("its process ended: {ended}"))?,
    };
    launch::forget(worker.name());
    Ok(Followed { view, report })
}

/// What can be said of a worker that was killed.
fn left_without_a_word(
    state: Option<&State>,
    id: Option<&RestoreId>,
    why: &str,
) -> Result<WorkReport, Fault> {
    let (Some(state), Some(id)) = (state, id) else {
        return Err(Fault::Failed(cannot(
            Code::INTERRUPTED,
            format!("finish: {why}, before anything began; nothing was changed"),
            "try again",
        )));
    };
    let left = || {
        cannot(
            Code::RESTORE_OPEN,
            format!("finish restore {id}: {why}; nothing works on it"),
            "run `holdfast recover`",
        )
    };
    let turned = || state.turned.clone().unwrap_or_else(left);
    Ok(WorkReport::of(Err(match state.verdict() {
        Some(Verdict::Restored) => {
            let result = Ok(Vec::new());
            let id = id.clone();
            return Ok(WorkReport::of(Ok(
                crate::restore::recover::Recovered::Settled { id, result },
            )));
        }
        Some(Verdict::RolledBack) => Fault::RolledBack(turned()),
        Some(Verdict::NothingChanged) => Fault::Failed(left()),
        None => Fault::Stuck(left()),
    })))
}
