//! How the gateway stands, as the page is told it. Looks again only after a while: many may watch one restore. Changes nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use agent_protocol::{GatewayLine, GatewayLines};
use journal_format::{Policy, RestoreId, Seq, Verdict, View};

use super::refusal::paragraph;
use super::{Agent, locked};
use crate::restore::gateway_state::lines::{Audience, StateLine};
use crate::restore::gateway_state::look::look;
use crate::restore::gateway_state::{Condition, StateOfGateway};

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

/// How the gateway stands, where somebody has to do something about this restore.
pub fn of(agent: &Agent, id: &RestoreId, seq: Seq) -> Option<GatewayLines> {
    let mut seen = locked(&agent.last_look.seen);
    let behind = (id.clone(), seq);
    let fresh = seen
        .as_ref()
        .filter(|seen| seen.at.elapsed() < COUNTS && seen.behind == behind);
    let state = match fresh {
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
    };
    drop(seen);
    let waits = match state.condition {
        Condition::Interrupted
        | Condition::Stuck
        | Condition::Lacking
        | Condition::Left
        | Condition::Unreadable => true,
        Condition::Idle | Condition::Busy | Condition::Running | Condition::Lost => false,
    };
    (waits && state.restore.as_ref() == Some(id)).then(|| lines(&state))
}

/// The same of a restore as it is shown; none of one that goes on, or that ended well.
pub fn of_view(agent: &Agent, view: &View, halts: bool) -> Option<GatewayLines> {
    let waits = halts
        || view.over
            && (matches!(view.verdict, None | Some(Verdict::Left)) || !view.lacks.is_empty());
    waits.then(|| of(agent, &view.id, view.seq)).flatten()
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
