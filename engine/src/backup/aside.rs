//! Deflated bytes put aside in a file until their turn comes, so that memory does not grow with the gateway. Owns where they
//! are. Must not know what they are.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, OrCannot, Problem, cannot};
use crate::files::space;
use crate::files::spool::private_folder;

/// What is read at a time: things are fetched about in the order in which they came.
const WINDOW: usize = 256 << 10;
/// After so many bytes more, whether there is still room is looked at again.
const LOOKED: u64 = 64 << 20;

/// Where something lies there.
#[derive(Debug, Clone, Copy)]
pub(super) struct AsidePlace {
    pub(super) at: u64,
    pub(super) length: usize,
}

/// The file, which has no name any more.
#[derive(Debug)]
pub(super) struct Aside {
    folder: PathBuf,
    file: File,
    end: u64,
    window: Vec<u8>,
    from: u64,
}

impl Aside {
    /// On the disk of this folder, which is made if need be.
    pub(super) fn new(folder: &Path) -> Result<Aside, Problem> {
        let made = private_folder(folder).and_then(|()| tempfile::tempfile_in(folder));
        let file = made.or_cannot(
            Code::IO,
            format!("make a file in {}", folder.display()),
            "check with `df -h` whether the disk is full, and run this as root",
        )?;
        Ok(Aside {
            folder: folder.to_owned(),
            file,
            end: 0,
            window: Vec::new(),
            from: 0,
        })
    }

    /// Puts these behind all others; gives where they begin.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<u64, Problem> {
        let at = self.end;
        self.file
            .write_all_at(bytes, at)
            .map_err(|e| self.failed("write", &e))?;
        self.end += bytes.len() as u64;
        if at / LOOKED != self.end / LOOKED && space::free(&self.folder)? < space::RESERVE {
            return Err(self.failed("write", &"the disk is all but full"));
        }
        Ok(at)
    }

    /// What lies there.
    pub(super) fn get(&mut self, place: AsidePlace) -> Result<&[u8], Problem> {
        let AsidePlace { at, length } = place;
        let there = self.from..self.from + self.window.len() as u64;
        if !(there.contains(&at) && at + length as u64 <= there.end) {
            let rest = usize::try_from(self.end.saturating_sub(at)).unwrap_or(WINDOW);
            let read = rest.min(WINDOW.max(length));
            self.window.resize(read, 0);
            self.from = at;
            let filled = self.file.read_exact_at(&mut self.window, at);
            filled.map_err(|e| self.failed("read", &e))?;
        }
        let begin = usize::try_from(at - self.from).unwrap_or(usize::MAX);
        self.window
            .get(begin..begin.saturating_add(length))
            .ok_or_else(|| self.failed("read", &"it is shorter than it was"))
    }

    fn failed(&self, verb: &str, why: &dyn std::fmt::Display) -> Problem {
        let folder = self.folder.display();
        cannot(
            Code::IO,
            format!("{verb} what is packed so far, in {folder}: {why}"),
            "check the disk: `df -h` shows whether it is full, `dmesg` whether it fails; `state_dir` in the profile names another folder",
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_put_aside_is_fetched_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut aside = Aside::new(folder.path()).unwrap();
        let lengths = [0, 1, 300, WINDOW - 1, WINDOW, WINDOW + 1, 7];
        let bytes = |i: usize, length: usize| -> Vec<u8> {
            (0..length).map(|at| (at * 7 + i * 31) as u8).collect()
        };
        let places: Vec<AsidePlace> = lengths
            .iter()
            .enumerate()
            .map(|(i, length)| AsidePlace {
                at: aside.put(&bytes(i, *length)).unwrap(),
                length: *length,
            })
            .collect();
        let forth = 0..lengths.len();
        for i in forth.clone().chain(forth.rev()) {
            assert_eq!(aside.get(places[i]).unwrap(), bytes(i, lengths[i]));
        }
        assert!(folder.path().read_dir().unwrap().next().is_none());
    }
}
