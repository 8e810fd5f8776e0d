//! The one lock of Holdfast: who works on the gateway. Knows nothing of what the holder does, nor which targets are locked with it.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{Code, Fault, Problem, cannot, cause};
use crate::files::open::lock_file;
use crate::gateway::profile::Profile;
use crate::host::programs;
use crate::state_dir::targets;

/// How long a lock is waited for that a process has which is gone.
const LINGERS: Duration = Duration::from_secs(2);

/// What the holder of the lock does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockedFor {
    /// Makes a backup: the gateway's databases may be looked at meanwhile.
    Backup,
    /// Restores one, or asks whether it shall.
    Restore,
    /// Recovers an open restore.
    Recovery,
    /// Closes what other accounts may write.
    Secure,
    /// Something that another version of this program does.
    Other,
}

impl LockedFor {
    const KNOWN: [LockedFor; 4] = [
        LockedFor::Backup,
        LockedFor::Restore,
        LockedFor::Recovery,
        LockedFor::Secure,
    ];

    /// As it stands in the lock, and in messages.
    pub fn words(self) -> &'static str {
        match self {
            LockedFor::Backup => "a backup",
            LockedFor::Restore => "a restore",
            LockedFor::Recovery => "a recovery",
            LockedFor::Secure => "a change of modes",
            LockedFor::Other => "another holdfast",
        }
    }

    fn of(words: &str) -> LockedFor {
        let mut known = LockedFor::KNOWN.into_iter();
        known
            .find(|w| w.words() == words)
            .unwrap_or(LockedFor::Other)
    }
}

impl std::fmt::Display for LockedFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}

/// The one lock: held by a restore, a recovery or a backup for as long as it runs, and given up with the process. With it go
/// locks on what the profile names, which keep out whoever works there by another profile.
pub struct Lock {
    _file: File,
    _targets: Vec<File>,
}

impl Lock {
    /// Takes it, or says who holds it. `work` is for others to read.
    pub fn take(profile: &Profile, work: LockedFor) -> Result<Lock, Fault> {
        let path = profile.lock();
        let failed = |e: std::io::Error| {
            cannot(
                cause(&e),
                format!("take the lock {}: {e}", path.display()),
                "run it as root, and see that state_dir of the profile is there and can be written to",
            )
        };
        crate::state_dir::make(profile)?;
        let mut file = lock_file(&path).map_err(failed)?;
        match try_take(&mut file, &format!("{} {work}\n", std::process::id())) {
            Ok(true) => {}
            Ok(false) => return Err(Fault::Busy(busy(&mut file))),
            Err(e) => return Err(failed(e).into()),
        }
        let targets = targets::take(profile, work).map_err(Fault::Busy)?;
        Ok(Lock {
            _file: file,
            _targets: targets,
        })
    }

    /// Which process holds it, and what it does; none if nobody does.
    pub fn holder(profile: &Profile) -> Option<(u32, LockedFor)> {
        let mut file = File::open(profile.lock()).ok()?;
        is_taken(&file).then(|| named(&mut file))?
    }
}

/// Takes the lock on this file and writes who has it; false if somebody else has it.
pub(super) fn try_take(file: &mut File, who: &str) -> std::io::Result<bool> {
    let began = Instant::now();
    loop {
        match fcntl(&*file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) => break,
            // A child of a killed driver shares its lock until its own program begins, a moment later.
            Err(nix::Error::EAGAIN | nix::Error::EACCES)
                if began.elapsed() < LINGERS && !its_holder_lives(file) =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
    // It may have been read to its end while the lock was waited for.
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(who.as_bytes())?;
    Ok(true)
}

/// Whether somebody has the lock on this file. Asked, not tried: a look must not keep a driver from its lock.
pub(super) fn is_taken(file: &File) -> bool {
    let mut lock = whole_file();
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock));
    asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// A lock for writing on all of a file, of the open file and not of the process: another thread is another holder, and
/// closing some other descriptor of the file does not give it up.
fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// What the holder wrote; none if it has not yet.
pub(super) fn named(file: &mut File) -> Option<(u32, LockedFor)> {
    let text = written(file)?;
    let (pid, what) = text.lines().next()?.trim().split_once(' ')?;
    Some((pid.parse().ok()?, LockedFor::of(what)))
}

/// All that the holder wrote.
pub(super) fn written(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

fn its_holder_lives(file: &mut File) -> bool {
    // Without a name somebody is about to write it.
    named(file).is_none_or(|(pid, _)| programs::process(pid).is_some_and(|p| !p.gone))
}

fn busy(file: &mut File) -> Problem {
    let who = match named(file) {
        Some((pid, what)) => format!("{what} runs, process {pid}"),
        None => "another holdfast runs".to_owned(),
    };
    cannot(
        Code::BUSY,
        format!("begin: {who}"),
        "wait for its end; `holdfast status` says where it stands",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn profile(dir: &Path) -> Profile {
        Profile {
            state_dir: dir.join("state"),
            ..Profile::default()
        }
    }

    /// A lock that is held, with this in it.
    fn held(profile: &Profile, text: &str) -> File {
        crate::state_dir::make(profile).unwrap();
        std::fs::write(profile.lock(), text).unwrap();
        let file = File::options()
            .read(true)
            .write(true)
            .open(profile.lock())
            .unwrap();
        fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())).unwrap();
        file
    }

    #[test]
    fn a_lock_that_outlives_its_holder_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path());
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let lingers = held(&profile, &format!("{} a restore\n", ended.id()));
        let giver = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(lingers);
        });
        let _taken = Lock::take(&profile, LockedFor::Recovery).unwrap();
        giver.join().unwrap();
        let holder = (std::process::id(), LockedFor::Recovery);
        assert_eq!(Lock::holder(&profile), Some(holder));
    }

    #[test]
    fn a_lock_whose_holder_runs_is_told_with_what_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let profile = profile(dir.path());
        let _held = held(&profile, &format!("{} a restore\n", std::process::id()));
        let Err(Fault::Busy(problem)) = Lock::take(&profile, LockedFor::Recovery) else {
            panic!("it was taken");
        };
        assert_eq!(
            problem.what,
            format!("begin: a restore runs, process {}", std::process::id())
        );
    }
}
