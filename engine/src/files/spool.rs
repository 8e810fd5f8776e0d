//! Private room for files that live only while something is being done: one folder a user under the spool, root only,
//! gone when its owner is. Must not touch anything else in the spool.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Code, OrCannot, Problem, cannot};
use crate::files::access;

const PREFIX: &str = "work-";

/// One folder, removed with everything in it when dropped. Its lock tells the living from what a crash left.
#[derive(Debug)]
pub struct Room {
    dir: tempfile::TempDir,
    _lock: File,
}

impl Room {
    /// Makes a room under `spool`, which is made if need be, after rooms of dead processes are removed.
    pub fn new(spool: &Path) -> Result<Room, Problem> {
        Room::made_in(spool).or_cannot(
            Code::IO,
            format!("make a private folder in {}", spool.display()),
            "check with `df -h` whether the disk is full, and run this as root",
        )
    }

    fn made_in(spool: &Path) -> io::Result<Room> {
        private_folder(spool)?;
        // Held while a room is made and locked, and while others are swept: no room is seen without its lock.
        let making = File::open(spool)?;
        // A signal that was handled meanwhile says nothing of the lock.
        while let Err(e) = making.lock() {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(e);
            }
        }
        sweep(spool);
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(spool)?;
        let lock = File::open(dir.path())?;
        lock.try_lock()?;
        Ok(Room { dir, _lock: lock })
    }

    /// A folder in it for another account's own, which that account can reach and others cannot. It goes with the room.
    #[expect(
        clippy::disallowed_methods,
        reason = "the folder is Holdfast's own, and was found to be no link"
    )]
    pub fn lend(&self, uid: u32, gid: u32) -> Result<PathBuf, Problem> {
        if let Some(spool) = self.dir.path().parent() {
            way_is_open(spool, uid)?;
        }
        let lent = self.file("lent");
        let make = || -> io::Result<()> {
            DirBuilder::new().mode(0o700).create(&lent)?;
            std::os::unix::fs::chown(&lent, Some(uid), Some(gid))?;
            // The room, the spool and the state folder: to be walked through, not to be listed.
            for folder in lent.ancestors().skip(1).take(3) {
                let mode = folder.metadata()?.permissions().mode() & 0o7777;
                if mode & 0o011 != 0o011 {
                    std::fs::set_permissions(folder, Permissions::from_mode(mode | 0o011))?;
                }
            }
            Ok(())
        };
        make().or_cannot(
            Code::IO,
            format!("lend the folder {} to user {uid}", lent.display()),
            "check with `df -h` whether the disk is full, and run this as root",
        )?;
        Ok(lent)
    }

    /// Where a file of this name goes.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Whether a user can go to the state folder, in which the spool is: what is below it is opened for whom a folder is lent to.
pub fn way_is_open(spool: &Path, uid: u32) -> Result<(), Problem> {
    let state_dir = spool.parent().unwrap_or(spool);
    let real = state_dir.canonicalize();
    let state_dir = real.as_deref().unwrap_or(state_dir);
    // What cannot be looked at is met when it is used.
    let closed = access::closed_on_the_way(state_dir, uid).unwrap_or_default();
    closed.map_or(Ok(()), |folder| {
        Err(cannot(
            Code::DATABASE_OUT_OF_REACH,
            format!(
                "copy the databases: they are copied as user {uid}, who cannot go through {}, on the way to {}",
                folder.shown(),
                state_dir.display()
            ),
            format!(
                "move the state folder to where others can go (/var/lib/holdfast), and name it as state_dir in the profile; or open \
                 the way: chmod o+x {}",
                folder.path.display()
            ),
        ))
    })
}

/// Makes a folder and what is missing above it, for root only.
pub fn private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Removes rooms whose owner is dead. What cannot be removed is told of and tried again next time.
fn sweep(spool: &Path) {
    let Ok(entries) = spool.read_dir() else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let folder = entry.file_type().is_ok_and(|t| t.is_dir());
        // The handle holds the lock until the room is gone.
        if ours
            && folder
            && let Ok(room) = File::open(entry.path())
            && room.try_lock().is_ok()
            && let Err(e) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(
                "cannot remove {}, which an interrupted run left: {e}",
                entry.path().display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_room_is_private_and_goes_with_its_owner() {
        let spool = tempfile::tempdir().unwrap();
        let room = Room::new(&spool.path().join("spool")).unwrap();
        std::fs::write(room.file("x"), b"secret").unwrap();
        let folder = room.file("x").parent().unwrap().to_owned();
        assert_eq!(
            folder.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
        drop(room);
        assert!(!folder.exists());
    }

    #[test]
    fn who_copies_the_databases_and_cannot_go_to_the_state_folder_is_named_with_the_folder_in_the_way()
     {
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().canonicalize().unwrap();
        let spool = closed.join("state/spool");
        std::fs::create_dir_all(&spool).unwrap();
        std::fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let Problem { what, .. } = way_is_open(&spool, 54321).unwrap_err();
        let closed = closed.display();
        assert_eq!(
            what,
            format!(
                "copy the databases: they are copied as user 54321, who cannot go through {closed} (mode 0700), on the way to \
                 {closed}/state"
            )
        );
    }

    #[test]
    fn rooms_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let spool = tempfile::tempdir().unwrap();
        std::fs::create_dir(spool.path().join("work-dead")).unwrap();
        std::fs::write(spool.path().join("work-dead/x"), b"x").unwrap();
        std::fs::write(spool.path().join("upload"), b"x").unwrap();
        let first = Room::new(spool.path()).unwrap();
        let second = Room::new(spool.path()).unwrap();
        assert!(!spool.path().join("work-dead").exists());
        assert!(spool.path().join("upload").exists());
        assert!(first.file("").exists() && second.file("").exists());
    }

    #[test]
    fn rooms_that_are_made_at_the_same_time_do_not_sweep_each_other() {
        let spool = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let room = Room::new(spool.path()).unwrap();
                        std::fs::write(room.file("x"), b"x").unwrap();
                    }
                });
            }
        });
        assert_eq!(spool.path().read_dir().unwrap().count(), 0);
    }
}
