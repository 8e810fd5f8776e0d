//! A restore's journal as it grows, told record by record. What is told was on the disk before it is told (I4): the file
//! is synced first, and only what was there before the sync is read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use agent_protocol::Halt;
use journal_format::{
    Event, Problem, RestoreId, ScannedLine, Scanner, Seq, State, StepView, Tail, View,
};

use super::Agent;
use crate::error::{Code, cannot, cause};
use crate::gateway::profile::Profile;
use crate::host::Look;
use crate::host::linux::Linux;
use crate::restore::process;
use crate::state_dir;
use crate::state_dir::lock::{Lock, LockedFor};

/// The largest form of one restore that is sent, bytes; a message may be three times as long.
const LARGEST: usize = 300 << 10;

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
#[derive(Debug)]
pub enum StreamLost {
    /// There is no such restore.
    Gone(Problem),
    /// Its journal cannot be read, or not be made durable.
    Unreadable(Problem),
}

impl Follower {
    /// From the beginning of a restore's journal.
    pub fn new(profile: &Profile, id: &RestoreId) -> Follower {
        Follower {
            path: state_dir::journal(profile, id),
            scanner: Scanner::of(id),
            seen: None,
            damage: None,
        }
    }

    /// Hands on every record that is new and durable, with the state behind it. Says whether anything was new.
    pub fn look(
        &mut self,
        mut each: impl FnMut(Seq, &journal_format::Record, &State),
    ) -> Result<bool, StreamLost> {
        let unreadable = |e: std::io::Error| {
            StreamLost::Unreadable(cannot(
                cause(&e),
                format!("read the journal {}: {e}", self.path.display()),
                "look at it on the gateway with `holdfast journal verify`",
            ))
        };
        // By its name each time: recovery puts a mended journal in the place of a torn one.
        let mut file = File::open(&self.path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => StreamLost::Gone(cannot(
                Code::NOT_THERE,
                "find this restore: there is no journal of it",
                "the first page lists the restores of this gateway",
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
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).map_err(unreadable)?;
        file.take(meta.len() - from)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        self.seen = Some(now);
        let mut new = false;
        let fed = self.scanner.feed(&bytes, |found, state| {
            if let (ScannedLine::Record(record), Some(state)) = (found, state) {
                new = true;
                each(record.seq, &record, state);
            }
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

    /// The restore as it is now; none while its journal has no record.
    pub fn state(&self) -> Option<&State> {
        self.scanner.state()
    }
}

/// Whether nothing more will come by itself: it is over or stuck, and the process that wrote it is gone.
pub fn is_over(host: &Linux, state: &State) -> bool {
    let ended = state.verdict().is_some() || state.stuck.is_some();
    ended && !is_worked_on(host, state)
}

/// Whether the last driver that the journal names still runs.
fn is_worked_on(host: &Linux, state: &State) -> bool {
    // Without a driver its first records are just being written, or its process died at once.
    let driver = state.driver.as_ref();
    driver.is_some_and(|driver| host.boot().is_ok_and(|boot| process::runs(driver, &boot)))
}

/// Why a restore gets no further by itself, though it is not over.
pub fn halt(agent: &Agent, follower: &Follower) -> Option<Halt> {
    if let Some(problem) = &follower.damage {
        return Some(Halt::Unreadable {
            problem: problem.clone(),
        });
    }
    let state = follower.state()?;
    let ended = state.verdict().is_some() || state.stuck.is_some();
    (!ended && is_left(agent, state)).then_some(Halt::Interrupted)
}

/// Whether nothing works on a restore, and nothing is about to.
pub fn is_left(agent: &Agent, state: &State) -> bool {
    !is_worked_on(&agent.host, state) && !begins(&agent.profile)
}

/// Whether a restore or a recovery runs that may not have written yet who it is.
fn begins(profile: &Profile) -> bool {
    Lock::holder(profile).is_some_and(|(_, work)| work != LockedFor::Backup)
}

/// The restore as it is sent.
pub fn view(state: &State) -> View {
    let mut view = View::of(state);
    for keep in KEPT {
        if size(&view) <= LARGEST {
            break;
        }
        shorten(&mut view.warnings, keep);
        shorten(&mut view.leftovers, keep);
        view.steps.iter_mut().for_each(|s| shorten_step(s, keep));
    }
    view
}

/// The event as it is sent.
pub fn event(state: &State, record: &journal_format::Record) -> Event {
    let mut event = Event::of(state, record);
    for keep in KEPT {
        if size(&event) <= LARGEST {
            break;
        }
        shorten(&mut event.leftovers, keep);
        event.steps.iter_mut().for_each(|s| shorten_step(s, keep));
    }
    event
}

/// Lines kept of each list, fewer with each try.
const KEPT: [usize; 4] = [200, 50, 10, 2];

fn size(shown: &impl serde::Serialize) -> usize {
    serde_json::to_vec(shown).map_or(0, |v| v.len())
}

fn shorten_step(step: &mut StepView, keep: usize) {
    shorten(&mut step.did, keep);
    shorten(&mut step.warnings, keep);
}

fn shorten(lines: &mut Vec<String>, keep: usize) {
    const LINE: usize = 400;
    for line in lines.iter_mut() {
        if let Some((end, _)) = line.char_indices().nth(LINE) {
            line.truncate(end);
            line.push('…');
        }
    }
    if lines.len() > keep {
        let more = lines.len() - keep;
        lines.truncate(keep);
        lines.push(format!("and {more} more: see `holdfast journal show`"));
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
        assert!(follower.look(|_, _, _| ()).unwrap());
        assert_eq!(follower.damage, None);

        let mut damaged = whole.to_vec();
        damaged[fifth + 80] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let mut follower = Follower::new(&profile, &id);
        let mut told = 0;
        follower.look(|_, _, _| told += 1).unwrap();
        assert_eq!(told, 5);
        let problem = follower.damage.unwrap();
        assert!(problem.what.contains("line 6 is damaged"), "{problem}");
    }
}
