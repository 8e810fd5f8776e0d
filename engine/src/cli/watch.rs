//! Follows a worker: shows its records as they become durable, asks it to turn back, and says how it ended. Nothing that becomes
//! of this process or of its output reaches the worker.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use journal_format::{
    Detail, Record, RestoreId, ScannedLine, State, View, progress_lines, running_line,
};
use nix::sys::signal::Signal;

use super::Context;
use crate::error::{Code, Fault, OrCannot, Problem, bug};
use crate::restore::cut_off::{self, CutOff};
use crate::restore::driver;
use crate::restore::launch::{self, ProcessEnd, Worker};
use crate::restore::order::{WorkOrder, WorkReport};
use crate::state_dir;
use crate::state_dir::follow::{Follower, StreamLost};

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a last word may wait for whoever reads it.
const LAST_WORD: Duration = Duration::from_millis(200);

/// SIGINT and SIGTERM, from here on noted and passed on, by a thread of its own: the other may stand before a pipe that nobody
/// empties. SIGHUP ends this process, and a closed pipe is no error: the worker goes on without it.
#[derive(Default)]
pub(super) struct Interrupts(Arc<Passed>);

#[derive(Default)]
struct Passed {
    asked: AtomicBool,
    worker: Mutex<Option<Arc<Worker>>>,
    /// The restore, and its journal once there is one.
    restore: Mutex<Option<(RestoreId, PathBuf)>>,
    /// How it ended: only its output is still to be written.
    status: OnceLock<u8>,
}

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
        let mut signals = held().map_err(failed)?;
        let interrupts = Interrupts::default();
        let passed = interrupts.0.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            while let Ok(1..) = signals.read(&mut [0]) {
                passed.one();
            }
        });
        thread.map(drop).or_cannot(
            Code::UNFIT_SYSTEM,
            "start a thread",
            "check how many processes and threads run (`ps -eLf | wc -l`) and may run (`ulimit -u`); nothing was begun",
        )?;
        Ok(interrupts)
    }

    /// Whether one came.
    pub(super) fn asked(&self) -> bool {
        self.0.asked.load(Ordering::SeqCst)
    }

    /// Starts a worker, to which they are passed on from then on.
    pub(super) fn launch(
        &self,
        context: &Context,
        name: &str,
        order: &WorkOrder,
    ) -> Result<Arc<Worker>, Fault> {
        let worker = launch::launch(&context.config, name, order).map_err(|problem| {
            // A terminal's Ctrl-C reaches a worker, too, until it has left the terminal.
            match self.asked() {
                true => driver::asked("begin"),
                false => problem,
            }
        })?;
        let worker = Arc::new(worker);
        let mut slot = locked(&self.0.worker);
        *slot = Some(worker.clone());
        if self.asked() {
            worker.turn_back();
        }
        drop(slot);
        Ok(worker)
    }
}

impl Passed {
    /// The exit status, if the worker has ended: then only its output is still to be written.
    fn ended(&self, worker: Option<&Worker>) -> Option<u8> {
        if let Some(status) = self.status.get() {
            return Some(*status);
        }
        let (worker, ended) = (worker?, worker?.ended()?);
        match (worker.report(), ended) {
            (Some(report), _) => Some(report.exit_status()),
            (None, ProcessEnd::Status(status)) => Some(status),
            // What can be said of it is about to be said.
            (None, ProcessEnd::Unknown) => Some(5),
        }
    }

    fn one(&self) {
        // Held over both: either this sees the worker, or whoever starts it sees that it was asked.
        let slot = locked(&self.worker);
        let asked = self.asked.swap(true, Ordering::SeqCst);
        let worker = slot.clone();
        drop(slot);
        if let Some(status) = self.ended(worker.as_deref()) {
            std::process::exit(i32::from(status));
        }
        match worker {
            _ if !asked => {
                if let Some(worker) = worker {
                    worker.turn_back();
                }
                say_aside(
                    "Ctrl-C: the restore finishes what it is doing, then rolls back if it still can. Ctrl-C once more ends this display alone.",
                );
            }
            // As the first process of a container it would take the worker along.
            Some(_) if std::process::id() == 1 => {}
            Some(_) => {
                let show = match &*locked(&self.restore) {
                    Some((id, journal)) if journal.exists() => {
                        format!("holdfast journal follow {id}")
                    }
                    Some(_) | None => "holdfast status".into(),
                };
                say_aside(&format!("The work goes on by itself. To see it: {show}"));
                std::thread::sleep(LAST_WORD);
                std::process::exit(130);
            }
            None => std::process::exit(130),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line that nobody waits for.
fn say_aside(text: &str) {
    let text = text.to_owned();
    // Without a thread it stays unsaid: said here it could stand in the way of the next signal.
    let begin = match std::io::stderr().is_terminal() {
        // Over the line of the step that runs.
        true => "\r\x1b[K",
        false => "",
    };
    let _ = std::thread::Builder::new().spawn(move || tell!("{begin}{text}"));
}

/// The lines of a restore as it goes on. At a terminal the step that runs stands below them until it is done.
pub(super) struct LiveLines {
    terminal: bool,
    running: bool,
}

impl LiveLines {
    pub(super) fn new() -> LiveLines {
        LiveLines {
            terminal: std::io::stdout().is_terminal(),
            running: false,
        }
    }

    /// What a record tells.
    pub(super) fn show(&mut self, context: &Context, record: &Record, state: &State) {
        self.clear();
        for line in progress_lines(record, state, context.detail) {
            say!("{line}");
        }
        let brief = self.terminal && context.detail == Detail::Brief;
        if let Some(line) = running_line(record).filter(|_| brief) {
            let mut out = std::io::stdout();
            let written = write!(out, "{line}").and_then(|()| out.flush());
            self.running = written.is_ok();
        }
    }

    /// Before anything else is printed.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.running) {
            let mut out = std::io::stdout();
            // To the beginning of the line, and clears it; a terminal that is gone has nothing to clear.
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
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
    context: &Context,
    worker: &Worker,
    interrupts: &Interrupts,
    mut follower: Option<(RestoreId, Follower)>,
    mut each: impl FnMut(&Record, &State),
) -> Result<Followed, Fault> {
    *locked(&interrupts.0.restore) = follower.as_ref().map(|(id, _)| {
        let journal = state_dir::journal(&context.profile, id);
        (id.clone(), journal)
    });
    let mut lost = None;
    let ended = loop {
        // Looked at before the journal: what an ended worker wrote is then all there.
        let ended = worker.ended();
        let mut news = false;
        if let Some((_, follower)) = &mut follower {
            let looked = follower.look(|line, state| {
                if let (ScannedLine::Record(record), Some(state)) = (line, state) {
                    each(record, state);
                }
            });
            match looked {
                Ok(new) => news = new,
                // It is not there yet, or somebody removed it.
                Err(StreamLost::Gone(_)) => {}
                Err(StreamLost::Unreadable(problem)) => lost = Some(problem),
            }
        }
        match ended {
            Some(ended) if !news => break ended,
            _ if news => {}
            _ => std::thread::sleep(LOOK),
        }
    };
    let state = follower.as_ref().and_then(|(_, f)| f.state());
    let report = worker.report();
    launch::forget(worker.name());
    let report = report.unwrap_or_else(|| {
        let ended = CutOff::Process(ended);
        cut_off::report(&context.profile, state, ended, lost.as_ref())
    });
    // Set once its file is gone: a signal from here on ends this command with it, while the last words are written.
    let _ = interrupts.0.status.set(report.exit_status());
    // What is readable of a damaged journal is older than what was done.
    let is_whole = |state: &&State| {
        let damage = follower.as_ref().and_then(|(_, f)| f.damage());
        damage.is_none() || state.stops_at.is_some()
    };
    let view = state.filter(is_whole).map(View::of);
    Ok(Followed { view, report })
}
