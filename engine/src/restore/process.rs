//! This process among others: a session of its own, the signals that turn a restore back. Owns no file of
//! the gateway.

use std::fs::File;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use journal_format::{BootId, Driver, Policy, Role, State};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::error::{Code, OrCannot, Problem, bug, cannot};
use crate::host::{Host, programs};

/// Leaves the session of whoever started this process, so that the end of a terminal, of a login or of the agent does not end
/// it, and recovery can end what this one leaves behind. Not for the leader of a process group: it cannot leave.
pub fn own_session() -> Result<(), Problem> {
    if nix::unistd::getsid(None) == Ok(nix::unistd::getpid()) {
        return Ok(());
    }
    nix::unistd::setsid().map(drop).or_cannot(
        Code::UNFIT_SYSTEM,
        "begin a session of its own",
        "start it from a shell or a service, not as the leader of a process group",
    )
}

/// Leaves everything of whoever started this process: the session, the working folder, and every open file. What it reads from
/// standard input it must have read.
pub fn detach() -> Result<(), Problem> {
    let failed = |e: nix::Error| {
        let what = format!("leave what started this process: {e}");
        cannot(
            Code::UNFIT_SYSTEM,
            what,
            "mount /proc and /dev: `findmnt /proc /dev` shows whether they are",
        )
    };
    own_session()?;
    nix::unistd::chdir("/").map_err(failed)?;
    let listed = std::fs::read_dir("/proc/self/fd").map_err(|e| failed(from(&e)))?;
    let open = listed
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<RawFd>().ok());
    // Listed to the end first: the listing is one of them, and closed by then.
    for descriptor in open.filter(|d| *d > 2).collect::<Vec<_>>() {
        let _ = nix::unistd::close(descriptor);
    }
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|e| failed(from(&e)))?;
    nix::unistd::dup2_stdin(&null).map_err(failed)?;
    nix::unistd::dup2_stdout(&null).map_err(failed)?;
    nix::unistd::dup2_stderr(&null).map_err(failed)
}

fn from(error: &std::io::Error) -> nix::Error {
    nix::Error::from_raw(error.raw_os_error().unwrap_or_default())
}

/// Lives on where a file would grow beyond what whoever started this process allows (`ulimit -f`): the write fails and says so.
/// Handled and not ignored: what this process starts ends by that signal as ever.
pub fn outlive_large_files() -> Result<(), Problem> {
    let heard = Arc::new(AtomicBool::new(false));
    let registered = signal_hook::flag::register(Signal::SIGXFSZ as i32, heard);
    let failed = |e: std::io::Error| bug(format!("live on where a file is too large: {e}"));
    registered.map(drop).map_err(failed)
}

/// The umask and the blocked signals of whoever started this process: a service that it starts would have them for as long as it
/// runs.
#[expect(
    clippy::disallowed_methods,
    reason = "a process that has begun this moment, before it makes anything"
)]
pub fn forget_the_callers_habits() -> Result<(), Problem> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .or_cannot(
            Code::UNFIT_SYSTEM,
            "let all signals through",
            "run it from another shell",
        )
}

/// Hears of the end of children, also where whoever started this process did not want to: ignored, the kernel would tell nobody
/// how they ended.
pub fn hear_of_children() -> Result<(), Problem> {
    let heard = Arc::new(AtomicBool::new(false));
    let registered = signal_hook::flag::register(Signal::SIGCHLD as i32, heard);
    let failed = |e: std::io::Error| bug(format!("hear of the end of children: {e}"));
    registered.map(drop).map_err(failed)
}

/// A process, so that its number alone is not taken for it. Of this boot alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot.
    pub started_ticks: u64,
}

/// This process.
pub fn this() -> Result<ProcessId, Problem> {
    let this = seen_in_proc()?;
    Ok(ProcessId {
        pid: this.pid,
        started_ticks: this.started_ticks,
    })
}

fn seen_in_proc() -> Result<programs::ProcessInfo, Problem> {
    let unseen = || {
        cannot(
            Code::UNFIT_SYSTEM,
            "find this process in /proc",
            "mount /proc",
        )
    };
    programs::process(std::process::id()).ok_or_else(unseen)
}

impl ProcessId {
    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        programs::process(self.pid)
            .is_some_and(|p| p.started_ticks == self.started_ticks && !p.gone)
    }
}

/// The signals that turn a restore back, and those that are as good as not sent.
///
/// They are handled and not blocked or ignored: a handler is gone after `exec`, so that what a restore starts, a service
/// that runs for months among it, hears every signal.
pub struct Signals {
    turn: Arc<AtomicBool>,
}

impl Signals {
    /// From here SIGINT and SIGTERM are only noted, and SIGHUP is not heard. SIGPIPE is ignored in every Rust program.
    pub fn hold() -> Result<Signals, Problem> {
        let failed = |e: std::io::Error| {
            let what = format!("hold signals back: {e}");
            bug(what)
        };
        let turn = Arc::new(AtomicBool::new(false));
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            signal_hook::flag::register(signal as i32, Arc::clone(&turn)).map_err(failed)?;
        }
        let unheard = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(Signal::SIGHUP as i32, unheard).map_err(failed)?;
        Ok(Signals { turn })
    }

    /// Whether one was sent. It stays so.
    pub fn asked(&self) -> bool {
        self.turn.load(Ordering::SeqCst)
    }
}

/// This process as a journal names a driver.
pub fn driver(role: Role, boot: BootId, policy: Option<Policy>) -> Result<Driver, Problem> {
    let this = seen_in_proc()?;
    Ok(Driver {
        role,
        boot,
        pid: this.pid,
        // In a namespace of its own the session's leader may have no number here; then the kernel says 0, and nothing
        // of it can be ended by number.
        session: this.session,
        started_ticks: this.started_ticks,
        policy,
    })
}

/// Whether a driver that a journal names still runs.
pub fn runs(driver: &Driver, boot: &BootId) -> bool {
    let (pid, started_ticks) = (driver.pid, driver.started_ticks);
    driver.boot == *boot && ProcessId { pid, started_ticks }.runs()
}

/// Ends what a driver of this boot left running that died in the middle of a move, and names it. What a move that came to its end
/// left running (a hook's helper, a service) stays. The one that did not is made again.
pub fn end_what_it_left(
    host: &dyn Host,
    state: &State,
    now: &Driver,
) -> Result<Vec<String>, Problem> {
    let dead = state.driver.as_ref();
    let dead = dead.filter(|d| d.boot == now.boot && d.session == d.pid);
    let in_doubt = state.in_doubt.and_then(|m| state.find(m.step, m.direction));
    match dead.zip(in_doubt) {
        Some((dead, m)) => host.end_session(dead.session, dead.started_ticks, m.began_up_ms),
        None => Ok(Vec::new()),
    }
}

/// This program's name in what it writes.
pub fn program() -> String {
    concat!("holdfast ", env!("CARGO_PKG_VERSION")).to_owned()
}
