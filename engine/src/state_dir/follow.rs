//! A restore's journal as it grows, told record by record, to the page and to the command line alike. What is told was on the disk
//! before it is told (I4): the file is synced first, and only what was there before the sync is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use journal_format::{Problem, RestoreId, ScannedLine, Scanner, State, Tail};

use crate::error::{Code, Fault, cannot, cause};
use crate::gateway::profile::Profile;
use crate::state_dir;

/// A reader of one journal.
pub struct Follower {
    path: PathBuf,
    scanner: Scanner,
    /// The file and its length when it was last read: the same again is nothing new.
    seen: Option<(u64, u64)>,
    /// Why nothing behind what was read can be.
    damage: Option<Problem>,
}

/// A reader that cannot go on.
#[derive(Debug, Clone)]
pub enum StreamLost {
    /// There is no such restore.
    Gone(Problem),
    /// Its journal cannot be read, or not be made durable.
    Unreadable(Problem),
}

impl From<StreamLost> for Fault {
    fn from(lost: StreamLost) -> Fault {
        match lost {
            StreamLost::Gone(problem) | StreamLost::Unreadable(problem) => Fault::Failed(problem),
        }
    }
}

impl Follower {
    /// From the beginning of a restore's journal.
    pub fn new(profile: &Profile, id: &RestoreId) -> Follower {
        Follower {
            path: state_dir::journal(profile, id),
            scanner: Scanner::to_show(id),
            seen: None,
            damage: None,
        }
    }

    /// Hands on every line that is new and durable, with the state behind it, if there is any. Says whether anything was new.
    pub fn look(
        &mut self,
        mut each: impl FnMut(&ScannedLine, Option<&State>),
    ) -> Result<bool, StreamLost> {
        let unreadable = |e: std::io::Error| {
            StreamLost::Unreadable(cannot(
                cause(&e),
                format!("read the journal {}: {e}", self.path.display()),
                "run `holdfast journal verify` on the gateway",
            ))
        };
        // By its name each time: recovery puts a mended journal in the place of a torn one.
        let mut file = File::open(&self.path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => StreamLost::Gone(cannot(
                Code::NOT_THERE,
                "find this restore: there is no journal of it",
                "`holdfast journal list`, or the first page, lists the restores of this gateway",
            )),
            _ => unreadable(e),
        })?;
        let meta = file.metadata().map_err(unreadable)?;
        let now = (meta.ino(), meta.len());
        let from = self.scanner.valid_len() as u64;
        if self.seen == Some(now) || meta.len() <= from {
            return Ok(false);
        }
        file.sync_data().map_err(unreadable)?;
        let new = meta.len() - from;
        let mut bytes = Vec::with_capacity(new as usize);
        file.seek(SeekFrom::Start(from)).map_err(unreadable)?;
        file.take(new).read_to_end(&mut bytes).map_err(unreadable)?;
        self.seen = Some(now);
        let mut new = false;
        let fed = self.scanner.feed(&bytes, |found, state| {
            new = true;
            each(&found, state);
        });
        if let Err(stop) = fed {
            // A torn line that recovery will mend, or damage: either way nothing behind it is told.
            tracing::warn!("the journal {}: {stop}", self.path.display());
        }
        let taken = self.scanner.valid_len() as u64 - from;
        let left = bytes.get(taken as usize..).unwrap_or_default();
        self.damage = self.judge(left);
        Ok(new)
    }

    /// Whether what is left of the journal is damage, and not a record that is being written or was cut off.
    fn judge(&self, left: &[u8]) -> Option<Problem> {
        if let Some(state) = self.state().filter(|s| s.stops_at.is_some()) {
            return Some(cannot(
                Code::JOURNAL_UNUSABLE,
                format!(
                    "tell how this restore stands: its journal is of format {}, which this program understands only up to \
                     record {}",
                    state.header.format, state.seq
                ),
                format!(
                    "let the program that wrote it tell: {}",
                    journal_format::visible(&state.header.program)
                ),
            ));
        }
        if left.is_empty() {
            return None;
        }
        let why = match self.scanner.clone().finish(left).tail {
            Tail::Clean | Tail::Torn { .. } | Tail::Newer { readable: true, .. } => return None,
            Tail::Corrupt { line, why, .. } => format!("line {line} is damaged: {why}"),
            Tail::Newer { format, .. } => {
                format!("its format {format} is newer than what this program reads")
            }
        };
        Some(cannot(
            Code::JOURNAL_UNUSABLE,
            format!("read the journal {} to its end: {why}", self.path.display()),
            "on the gateway: holdfast status, and holdfast journal verify",
        ))
    }

    /// Why nothing behind what was read can be; none while it can.
    pub fn damage(&self) -> Option<&Problem> {
        self.damage.as_ref()
    }

    /// The restore as it is now, to be shown: without lists of files. None while its journal has no record.
    pub fn state(&self) -> Option<&State> {
        self.scanner.state()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_damaged_journal_is_told_as_a_problem_and_one_that_is_being_written_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let profile = Profile {
            state_dir: folder.path().into(),
            ..Profile::default()
        };
        let id = RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap();
        let path = state_dir::journal(&profile, &id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let whole = include_bytes!("../../../journal-format/golden/1.0/rolled-back.journal");
        let ends: Vec<usize> = (0..whole.len()).filter(|i| whole[*i] == b'\n').collect();
        let (fifth, cut) = (ends[4] + 1, ends[7] - 10);
        let mut follower = Follower::new(&profile, &id);
        std::fs::write(&path, &whole[..cut]).unwrap();
        assert!(follower.look(|_, _| ()).unwrap());
        assert_eq!(follower.damage, None);

        let mut damaged = whole.to_vec();
        damaged[fifth + 80] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let mut follower = Follower::new(&profile, &id);
        let mut told = 0;
        follower.look(|_, _| told += 1).unwrap();
        assert_eq!(told, 5);
        let problem = follower.damage.unwrap();
        assert!(problem.what.contains("line 6 is damaged"), "{problem}");
    }
}
