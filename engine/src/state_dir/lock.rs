//! The one lock of Holdfast: who works on the gateway. Knows nothing of what the holder does, nor which targets are locked with it.

use std::fs::File;

use crate::error::{Code, Fault, Problem, cannot, cause};
use crate::files::open::lock_file;
use crate::gateway::profile::Profile;
pub use crate::state_dir::locked_file::LockedFor;
use crate::state_dir::locked_file::{is_taken, named, try_take};
use crate::state_dir::targets;

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
                "run it as root; `ls -ld` of `state_dir` (a key of the profile) shows whether it is there",
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
    use std::time::Duration;

    use nix::fcntl::{FcntlArg, fcntl};

    use super::*;
    use crate::state_dir::locked_file::whole_file;

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
