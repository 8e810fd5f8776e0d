//! Starts a worker: this same program, for a restore or a recovery, apart from whoever started it. Owns the way there and what
//! workers say of themselves; what a worker does is `work`'s.
//!
//! Where systemd runs, a worker gets a scope of its own: a session alone ends with the login, the timer or the unit that it was
//! started from. What a worker says stands in a file below /run for whoever comes back to it; whoever started it hears its first
//! words over a file in memory, so that a /run that cannot be written to keeps no work from being done. A service of systemd's would leave the caller's network namespace, and end `wireguard-go` with itself. A scope
//! takes the very process that is started here, so its number and its namespaces stay.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::order::{WorkOrder, WorkReport, WorkerState};
use crate::error::{Code, Fault, OrCannot, Problem, bug, cannot};
use crate::files::{access, whole};
use crate::host::programs;

/// The command of `holdfast` that is a worker.
pub const COMMAND: &str = "work";

/// Where workers say how they stand. It is for this boot alone, and can be written to while the disk of `state_dir` cannot.
const SAID: &str = "/run/holdfast/work";
/// What a worker said is kept for whoever comes back to it.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long systemd may take to make a scope.
const SCOPE: Duration = Duration::from_secs(5);
/// How often it is looked whether a worker has its order.
const LOOK: Duration = Duration::from_millis(2);

/// A worker that this process started.
pub struct Worker {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
    /// What it said first; more than that it runs only where it could not begin.
    first: WorkerState,
}

/// How a worker's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessEnd {
    /// With this exit status.
    Status(u8),
    /// It was killed, or whoever started this process left nobody to ask.
    Unknown,
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProcessEnd::Status(status) => write!(f, "with status {status}"),
            ProcessEnd::Unknown => f.write_str("killed"),
        }
    }
}

impl ProcessEnd {
    fn of(status: std::io::Result<ExitStatus>) -> ProcessEnd {
        let code = status.ok().and_then(|status| status.code());
        let code = code.and_then(|code| u8::try_from(code).ok());
        code.map_or(ProcessEnd::Unknown, ProcessEnd::Status)
    }
}

/// Starts a worker and returns once it has its order. `name` tells it from others, in what it says and in lists of processes.
pub fn launch(config: &Path, name: &str, order: &WorkOrder) -> Result<Worker, Problem> {
    let config = std::path::absolute(config).or_cannot(
        Code::IO,
        format_args!("find the profile {}", config.display()),
        "name it by its whole path",
    )?;
    let order = serde_json::to_vec(order).map_err(|e| bug(format!("write an order: {e}")))?;
    forget(name);
    let program = programs::this_program().map_err(not_started)?;
    if Path::new("/run/systemd/system").exists() {
        let mut command = scope(name);
        command.arg(&program);
        if let Ok(worker) = begin(command, &config, name, &order, Some(SCOPE)) {
            return Ok(worker);
        }
    }
    begin(plain(&program), &config, name, &order, None).map_err(not_started)
}

#[expect(
    clippy::disallowed_methods,
    reason = "Holdfast starts itself: a worker is a process of its own"
)]
fn plain(program: &Path) -> Command {
    Command::new(program)
}

/// What ends a scope (a shutdown) does so by a kill: a restore that is cut off is settled at the next boot, while one that were
/// asked to turn back could not start services any more.
#[expect(
    clippy::disallowed_methods,
    reason = "a worker outlives the limits of what `programs` runs"
)]
fn scope(name: &str) -> Command {
    let mut command = Command::new(programs::found("systemd-run"));
    command
        .args(["--scope", "--quiet", "--collect", "--no-ask-password"])
        .arg("--slice=system.slice")
        .arg(format!("--unit=holdfast-{name}"))
        // Otherwise it is the whole command, and systemd takes none with a path that is not UTF-8.
        .arg(format!("--description=Holdfast: {name}"))
        .args(["--property=KillSignal=SIGKILL", "--"]);
    command
}

fn not_started(why: impl std::fmt::Display) -> Problem {
    cannot(
        Code::UNFIT_SYSTEM,
        format!("start the process that does the work: {why}"),
        "check that the program is still there (`command -v holdfast`) and that /proc is mounted (`findmnt /proc`), then try again; nothing was begun",
    )
}

/// An error where it did not come so far as to take its order: then nothing has begun.
fn begin(
    mut command: Command,
    config: &Path,
    name: &str,
    order: &[u8],
    within: Option<Duration>,
) -> std::io::Result<Worker> {
    let mut stdin = programs::in_memory()?;
    stdin.write_all(order)?;
    stdin.rewind()?;
    let mut first_words = programs::in_memory()?;
    command.arg("--config").arg(config).args([COMMAND, name]);
    let command = command
        .stdin(stdin)
        .stdout(first_words.try_clone()?)
        .stderr(Stdio::null());
    let began = Instant::now();
    let mut child = command.spawn()?;
    loop {
        // Looked at before what it said: what an ended process said is then all there.
        let ended = child.try_wait()?;
        if let Some(first) = heard(&mut first_words)? {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
            let (name, child) = (name.to_owned(), Mutex::new(child));
            return Ok(Worker {
                name,
                pid,
                child,
                first,
            });
        }
        if let Some(ended) = ended {
            let end = ProcessEnd::of(Ok(ended));
            return Err(std::io::Error::other(format!("it ended at once, {end}")));
        }
        if within.is_some_and(|limit| began.elapsed() > limit) {
            child.kill()?;
            child.wait()?;
            forget(name);
            return Err(std::io::Error::other("systemd makes no scope in time"));
        }
        std::thread::sleep(LOOK);
    }
}

/// What a worker said to whoever started it: one line.
fn heard(first_words: &mut File) -> std::io::Result<Option<WorkerState>> {
    let mut text = String::new();
    first_words.rewind()?;
    first_words.read_to_string(&mut text)?;
    let whole = text.strip_suffix('\n');
    Ok(whole.and_then(|line| serde_json::from_str(line).ok()))
}

impl Worker {
    /// The name that it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How its process ended; none while it runs.
    pub fn ended(&self) -> Option<ProcessEnd> {
        let asked = self.child().try_wait().transpose();
        asked.map(ProcessEnd::of)
    }

    /// Waits for its end.
    pub fn wait(&self) -> ProcessEnd {
        // Not taken off the list of processes before others are kept out: until then its number is nobody else's.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while let Err(nix::Error::EINTR) = waitid(Id::Pid(self.pid), look) {}
        ProcessEnd::of(self.child().wait())
    }

    /// Asks it to turn back, if it still can.
    pub fn turn_back(&self) {
        let mut child = self.child();
        if matches!(child.try_wait(), Ok(None)) {
            // It may have ended in between, and is then still on the list of processes.
            let _ = kill(self.pid, Signal::SIGTERM);
        }
    }

    /// What it left behind at its end; none if it was killed.
    pub fn report(&self) -> Option<WorkReport> {
        match &self.first {
            WorkerState::Ended(report) => Some((**report).clone()),
            WorkerState::Runs(_) => report(&self.name),
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the worker of this name said last; none if it was never there, or long ago.
pub fn said(name: &str) -> Option<WorkerState> {
    serde_json::from_slice(&std::fs::read(place(name)).ok()?).ok()
}

/// What the worker of this name left behind at its end.
pub fn report(name: &str) -> Option<WorkReport> {
    match said(name)? {
        WorkerState::Ended(report) => Some(*report),
        WorkerState::Runs(_) => None,
    }
}

/// Takes away what the worker of this name said.
pub fn forget(name: &str) {
    // If it stays it is swept in a day.
    let _ = std::fs::remove_file(place(name));
}

/// Of a worker: says how it stands.
pub(super) fn say(name: &str, said: &WorkerState) -> Result<(), Problem> {
    make()?;
    let bytes = serde_json::to_vec(said);
    let bytes = bytes.map_err(|e| bug(format!("say how a worker stands: {e}")))?;
    let written = whole::write(&place(name), &bytes, 0o600);
    written.or_cannot(
        Code::IO,
        format_args!("write {}", place(name).display()),
        "mount /run writable: `findmnt /run` shows how it is mounted",
    )
}

fn place(name: &str) -> PathBuf {
    Path::new(SAID).join(name)
}

/// Of a worker: its first word, to whoever started it.
pub(super) fn say_first(said: &WorkerState) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush())
}

/// Of a worker that does not begin: says why to whoever started it.
pub fn say_not_begun(fault: &Fault) {
    let report = WorkReport::of(Err(fault.clone()));
    // Whoever started it goes by its exit status then.
    let _ = say_first(&WorkerState::Ended(Box::new(report)));
}

/// Makes the folder, and removes from it what is old.
fn make() -> Result<(), Problem> {
    let folder = Path::new(SAID);
    let made = |folder: &Path, mode| match DirBuilder::new().mode(mode).create(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e),
        Ok(()) | Err(_) => Ok(()),
    };
    let parent = folder.parent().unwrap_or(Path::new("/run"));
    made(parent, 0o755)
        .and_then(|()| made(folder, 0o700))
        .or_cannot(
            Code::IO,
            format_args!("make the folder {SAID}"),
            "mount /run writable: `findmnt /run` shows how it is mounted",
        )?;
    if !access::is_private(folder) {
        return Err(cannot(
            Code::OPEN_TO_OTHERS,
            format!("trust {SAID}: it is not root's alone, or no folder"),
            format!("look at what is in it, then: rm -r {SAID}"),
        ));
    }
    let entries = std::fs::read_dir(folder).or_cannot(
        Code::IO,
        format_args!("list the folder {SAID}"),
        "mount /run: `findmnt /run` shows whether it is",
    )?;
    for entry in entries.flatten() {
        if entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(is_old)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn is_old(at: SystemTime) -> bool {
    at.elapsed().is_ok_and(|age| age > KEPT)
}
