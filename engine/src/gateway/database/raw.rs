//! The bytes of a database that SQLite cannot read, with those of the files beside it: to be kept and given back as they are.
//! Whoever owns them may be hostile: no link is followed, and only a plain file with one name is taken. Must not be used in a
//! process that has that database open through SQLite (closing a descriptor would drop its locks).

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::{SIDES, all_files, rights};
use crate::error::{Code, Problem, cannot, cause};
use crate::files::open::{if_there, new_private, open_without_links};
use crate::files::space::Needs;
use crate::files::spool::Room;
use crate::gateway::owner;
use crate::gateway::profile::Profile;

/// Copies of all the files, until nothing moved between the beginning and the end of one.
const ATTEMPTS: u32 = 3;

/// One file of a database.
#[derive(Debug)]
pub struct RawFile {
    /// What its name has behind the database's: nothing, `-wal`, `-shm`, `-journal`.
    pub side: &'static str,
    /// Where it was copied from.
    pub source: PathBuf,
    /// The copy, root's alone.
    pub copy: PathBuf,
    /// Facts of the very file that was copied: owner, group, mode.
    pub facts: Metadata,
    /// Bytes copied.
    pub size: u64,
}

/// Copies the bytes of a database and of what lies beside it into files of `room`, whose names begin with `prefix`: the file
/// itself, then those beside it that are there. They are of one moment, or it fails.
pub fn raw_bytes(
    profile: &Profile,
    path: &Path,
    room: &Room,
    prefix: &str,
) -> Result<Vec<RawFile>, Problem> {
    // Files of a third account are refused here as everywhere.
    rights::of(path, owner::resolve(&profile.gateway.owner))?;
    room_for(profile, path)?;
    for _ in 0..ATTEMPTS {
        let files = copy_all(path, room, prefix)?;
        let of_one_moment = all_as_copied(path, &files);
        if of_one_moment {
            return Ok(files);
        }
    }
    Err(cannot(
        Code::DATABASE_WRITTEN,
        format!(
            "copy the bytes of {}: its files are written meanwhile, and these would be of several moments",
            path.display()
        ),
        "stop what writes there, then try again",
    ))
}

/// Whoever owns the files says how long they are.
fn room_for(profile: &Profile, path: &Path) -> Result<(), Problem> {
    let mut needs = Needs::default();
    for (_, file) in names(path) {
        let size = file.symlink_metadata().map_or(0, |m| m.len());
        needs.file(&profile.spool_dir(), size)?;
    }
    let what = format!("copy the bytes of the database {}", path.display());
    needs.check_first(&what)
}

fn copy_all(path: &Path, room: &Room, prefix: &str) -> Result<Vec<RawFile>, Problem> {
    let mut files = Vec::new();
    for (side, source) in names(path) {
        let copy = room.file(&format!("{prefix}{side}"));
        let failed = |e: io::Error| {
            cannot(
                cause(&e),
                format!("copy the bytes of {}: {e}", source.display()),
                "check the disks: `dmesg` shows whether one fails, `df -h` whether that of `state_dir` is full",
            )
        };
        if_there(std::fs::remove_file(&copy)).map_err(failed)?;
        match copy_bytes(&source, &copy) {
            Ok((facts, size)) => files.push(RawFile {
                side,
                source,
                copy,
                facts,
                size,
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !side.is_empty() => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(files)
}

fn names(path: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    SIDES.into_iter().zip(all_files(path))
}

fn copy_bytes(source: &Path, copy: &Path) -> io::Result<(Metadata, u64)> {
    let mut from = open_plain(source)?;
    let facts = from.metadata()?;
    let mut to = new_private(copy)?;
    // What grows while it is read is not taken.
    let size = io::copy(&mut (&mut from).take(facts.len()), &mut to)?;
    Ok((facts, size))
}

fn open_plain(path: &Path) -> io::Result<File> {
    let file = open_without_links(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.nlink() != 1 {
        return Err(io::Error::other("it is no plain file with one name"));
    }
    Ok(file)
}

/// The same files lie there, and nobody wrote them.
fn all_as_copied(path: &Path, files: &[RawFile]) -> bool {
    let stamp = |m: &Metadata| {
        (
            (m.dev(), m.ino(), m.len()),
            (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()),
        )
    };
    names(path).all(|(side, source)| {
        let copied = files.iter().find(|f| f.side == side);
        match (copied, source.symlink_metadata()) {
            (Some(copied), Ok(now)) => {
                copied.size == now.len() && stamp(&copied.facts) == stamp(&now)
            }
            (None, Err(e)) => e.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::gateway::database::side_files;

    fn gateway() -> (tempfile::TempDir, Profile, PathBuf, Room) {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = Profile {
            state_dir: dir.path().join("state"),
            ..Profile::default()
        };
        profile.gateway.owner = "root:root".into();
        let place = dir.path().join("place");
        std::fs::create_dir(&place).unwrap();
        let path = place.join("x.db");
        std::fs::write(&path, b"no database \xff\x00").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let room = Room::new(&profile.spool_dir()).unwrap();
        (dir, profile, path, room)
    }

    #[test]
    fn bytes_and_side_files_are_taken_as_they_are() {
        let (_dir, profile, path, room) = gateway();
        let [wal, _, journal] = side_files(&path);
        std::fs::write(&wal, b"log").unwrap();
        std::fs::write(&journal, b"").unwrap();
        let raw = raw_bytes(&profile, &path, &room, "raw").unwrap();
        let taken: Vec<_> = raw
            .iter()
            .map(|f| (f.side, std::fs::read(&f.copy).unwrap(), f.size))
            .collect();
        assert_eq!(
            taken,
            [
                ("", b"no database \xff\x00".to_vec(), 14),
                ("-wal", b"log".to_vec(), 3),
                ("-journal", Vec::new(), 0)
            ]
        );
        assert_eq!(raw[0].facts.mode() & 0o777, 0o640);
        for file in &raw {
            assert_eq!(file.copy.metadata().unwrap().mode() & 0o777, 0o600);
        }
        raw_bytes(&profile, &path, &room, "raw").unwrap();
    }

    #[test]
    fn what_has_no_room_is_not_begun() {
        let (_dir, profile, path, room) = gateway();
        let file = File::options().write(true).open(&path).unwrap();
        // Long, and nothing of it on the disk.
        file.set_len(1 << 42).unwrap();
        let problem = raw_bytes(&profile, &path, &room, "raw").unwrap_err();
        assert!(problem.is(&Code::NO_SPACE), "{problem}");
        assert!(!room.file("raw").exists());
    }

    #[test]
    fn a_link_a_second_name_and_a_pipe_are_not_taken() {
        let (dir, profile, path, room) = gateway();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, b"secret").unwrap();
        let [wal, ..] = side_files(&path);
        for plant in [
            (|from, to| symlink(from, to).unwrap()) as fn(&Path, &Path),
            |from, to| std::fs::hard_link(from, to).unwrap(),
            |_, to| nix::unistd::mkfifo(to, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        ] {
            plant(&secret, &wal);
            assert!(raw_bytes(&profile, &path, &room, "raw").is_err());
            assert!(copy_bytes(&wal, &room.file("planted")).is_err());
            assert!(!room.file("planted").exists());
            std::fs::remove_file(&wal).unwrap();
        }
    }

    #[test]
    fn what_is_written_after_it_was_copied_is_noticed() {
        let (_dir, _, path, room) = gateway();
        let [wal, ..] = side_files(&path);
        let copied = copy_all(&path, &room, "raw").unwrap();
        assert!(all_as_copied(&path, &copied));
        std::fs::write(&wal, b"log").unwrap();
        assert!(!all_as_copied(&path, &copied), "a file has come");
        let copied = copy_all(&path, &room, "raw").unwrap();
        assert!(all_as_copied(&path, &copied));
        std::fs::write(&wal, b"longer").unwrap();
        assert!(!all_as_copied(&path, &copied), "a file is another");
        let copied = copy_all(&path, &room, "raw").unwrap();
        std::fs::remove_file(&wal).unwrap();
        assert!(!all_as_copied(&path, &copied), "a file has gone");
    }
}
