//! How the gateway stands, as the page is told it. Looks again only after a while: many may watch one restore. Changes nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use agent_protocol::{GatewayLine, GatewayLines};
use journal_format::{Policy, RestoreId, Seq, View};

use super::refusal::paragraph;
use super::{Agent, locked, warned};
use crate::restore::gateway_state::lines::{Audience, StateLine};
use crate::restore::gateway_state::look::look;
use crate::restore::gateway_state::{Condition, StateOfGateway};
use crate::state_dir;
use crate::state_dir::lock::{Lock, LockedFor};

/// How long a look counts.
const COUNTS: Duration = Duration::from_secs(2);

/// The last look.
#[derive(Default)]
pub struct LastLook {
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    at: Instant,
    /// The record of which restore it came behind.
    behind: (RestoreId, Seq),
    state: StateOfGateway,
}

/// How often it is looked whether a worker has ended, and how often at most.
const PAUSE: Duration = Duration::from_millis(50);
const LOOKS: u32 = 40;

/// Waits a moment for the end of the worker of a restore that is over: it has something left to do behind the last record, and as long
/// as it works nobody can say how the gateway stands then.
pub fn wait_for_its_end(agent: &Agent) {
    for _ in 0..LOOKS {
        let holder = Lock::holder(&agent.profile);
        if holder.is_none_or(|(_, work)| work == LockedFor::Backup) {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// How the gateway stands, where somebody has to do something about this restore.
pub fn of(agent: &Agent, id: &RestoreId, seq: Seq) -> Option<GatewayLines> {
    let state = looked(agent, id, seq);
    (waits(&state) && state.restore.as_ref() == Some(id)).then(|| lines(&state))
}

fn looked(agent: &Agent, id: &RestoreId, seq: Seq) -> StateOfGateway {
    let mut seen = locked(&agent.last_look.seen);
    let behind = (id.clone(), seq);
    let fresh = seen
        .as_ref()
        .filter(|seen| seen.at.elapsed() < COUNTS && seen.behind == behind);
    match fresh {
        Some(seen) => seen.state.clone(),
        None => {
            let state = look(&agent.profile, &agent.host);
            *seen = Some(Seen {
                at: Instant::now(),
                behind,
                state: state.clone(),
            });
            state
        }
    }
}

/// Somebody has to do something about a restore.
fn waits(state: &StateOfGateway) -> bool {
    match state.condition {
        Condition::Interrupted
        | Condition::Stuck
        | Condition::Lacking
        | Condition::Left
        | Condition::Unreadable => true,
        Condition::Idle | Condition::Busy | Condition::Running | Condition::Lost => false,
    }
}

/// The same of a restore as it is shown, and of the newest that is over how the gateway stands since; none of one that goes on.
pub fn of_view(agent: &Agent, view: &View, halts: bool) -> Option<GatewayLines> {
    if !halts && !view.over {
        return None;
    }
    let state = looked(agent, &view.id, view.seq);
    let newest = || warned(state_dir::restores(&agent.profile))?.pop();
    let is_its = match state.condition {
        Condition::Idle => view.over && newest().as_ref() == Some(&view.id),
        _ => waits(&state) && state.restore.as_ref() == Some(&view.id),
    };
    is_its.then(|| lines(&state))
}

/// The state as it is sent.
pub fn lines(state: &StateOfGateway) -> GatewayLines {
    let line = |line: StateLine| GatewayLine {
        label: line.label.into(),
        text: paragraph(&line.text),
    };
    GatewayLines {
        lines: state.lines(Audience::Page).into_iter().map(line).collect(),
        recoveries: state.recoveries.clone(),
    }
}

/// What a recovery is told of a way that was chosen at the page: that of the case table is the profile's, too.
pub fn policy(chosen: Option<Policy>) -> Option<Policy> {
    chosen.filter(|policy| *policy != Policy::Auto)
}
