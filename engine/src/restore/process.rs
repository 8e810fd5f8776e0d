//! This process among others: a session of its own, the signals that turn a restore back. Owns no file of
//! the gateway.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use journal_format::{BootId, Driver, Policy, Role};
use nix::sys::signal::Signal;

use crate::error::{Code, OrCannot, Problem, bug, cannot};
use crate::host::programs;

/// Leaves the session of whoever started this process, so that the end of a terminal or of the agent does not end it,
/// and recovery can end what this one leaves behind. Not where [`must_start_anew`] says so.
pub fn own_session() -> Result<(), Problem> {
    if leads_its_session() {
        return Ok(());
    }
    nix::unistd::setsid().map(drop).or_cannot(
        Code::UNFIT_SYSTEM,
        "begin a session of its own",
        "start it from a shell or a service, not as the leader of a process group",
    )
}

/// Whether this process must start itself anew to have a session of its own, and stay behind itself: one that leads its
/// group cannot leave its session, and one that leaves a terminal's does not hear its Ctrl-C any more, whether a shell
/// started it as a job or a script or `sudo` did. What no operator started is not to hear it: an agent may run at one.
pub fn must_start_anew(unattended: bool) -> bool {
    let leads_its_group = nix::unistd::getpgrp() == nix::unistd::getpid();
    !leads_its_session() && (leads_its_group || !unattended && has_a_terminal())
}

fn leads_its_session() -> bool {
    nix::unistd::getsid(None) == Ok(nix::unistd::getpid())
}

fn has_a_terminal() -> bool {
    // It opens for a process whose session has a terminal, and for no other: tty(4).
    File::open("/dev/tty").is_ok()
}

/// Ends this process with the one that started it. For the second half of an interactive restore or recovery: to the
/// outside both are one, and a kill of the first is a kill of it.
pub fn end_with_parent() -> Result<(), Problem> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).or_cannot(
        Code::UNFIT_SYSTEM,
        "be ended with the process that started it",
        "run it without a terminal",
    )
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
    let unseen = || {
        cannot(
            Code::UNFIT_SYSTEM,
            "find this process in /proc",
            "mount /proc",
        )
    };
    let this = programs::process(std::process::id()).ok_or_else(unseen)?;
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
    driver.boot == *boot
        && programs::process(driver.pid)
            .is_some_and(|p| p.started_ticks == driver.started_ticks && !p.gone)
}

/// This program's name in what it writes.
pub fn program() -> String {
    concat!("holdfast ", env!("CARGO_PKG_VERSION")).to_owned()
}
