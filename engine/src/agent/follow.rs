//! How a restore is told to the page: what is sent of it, and whether anything more will come. Reads no journal itself.

use agent_protocol::Halt;
use journal_format::{Event, Note, State, StepView, View, Weight};

use super::Agent;
use super::refusal::{short, short_note};
use crate::gateway::profile::Profile;
use crate::host::Look;
use crate::host::linux::Linux;
use crate::restore::process;
use crate::state_dir::follow::Follower;
use crate::state_dir::lock::{Lock, LockedFor};
use crate::text::wording::first;

/// The largest form of one restore that is sent, bytes; a message may be three times as long.
const LARGEST: usize = 300 << 10;

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
    if let Some(problem) = follower.damage() {
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
        shorten_notes(&mut view.warnings, keep);
        shorten_notes(&mut view.leftovers, keep);
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
        shorten_notes(&mut event.leftovers, keep);
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
    shorten_notes(&mut step.warnings, keep);
}

fn shorten(lines: &mut Vec<String>, keep: usize) {
    *lines = first(lines.iter().map(|l| short(l)).collect(), keep, and_more);
}

/// Losses that stay, however little else does.
const LOSSES: usize = 50;

fn shorten_notes(notes: &mut Vec<Note>, keep: usize) {
    notes.sort_by_key(|note| note.weight);
    let lost = notes.iter().filter(|n| n.weight == Weight::Lost).count();
    let keep = keep.max(lost.min(LOSSES));
    *notes = first(notes.iter().map(short_note).collect(), keep, and_more);
}

fn and_more<T: From<String>>(more: usize) -> T {
    format!("and {more} more: `holdfast journal show --verbose` lists all").into()
}
