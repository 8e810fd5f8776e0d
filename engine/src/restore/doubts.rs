//! Whether what done steps did is still there, and why not. Looks, and changes nothing; what follows from it is `decide`'s.

use journal_format::{BootId, Control, Direction, Phase, Plan, Service, State, Step};

use crate::error::{Code, Problem, cannot};
use crate::restore::decide::{ATTEMPTS, Observed};
use crate::restore::next;
use crate::restore::step::{Env, ops};

/// The direction in which it goes.
fn direction(state: &State) -> Direction {
    match state.phase == Phase::Back {
        true => Direction::Back,
        false => Direction::Forward,
    }
}

/// The first step whose work is not there any more; none if all is. Without doubts it looks for one thing alone: services that
/// nothing holds back may be started by others while they must be down. Where a look fails, that step is the one: it is made
/// again and fails as a move, in the journal and with its ways out.
pub fn lost(env: &Env, state: &State, plan: &Plan, boot: &BootId, doubts: bool) -> Option<Step> {
    let direction = direction(state);
    let is_lost = |step: &Step| !matches!(ops(*step).observe(env, direction), Ok(Observed::After));
    let is_free = |service: &Service| matches!(service.control, Control::Commands { .. });
    let has_attempts = |step: Step| state.attempts(step, direction) < ATTEMPTS;
    // Somebody who starts it over and over does not keep the restore from its end.
    let may_be_started = plan.services.iter().any(is_free) && has_attempts(Step::StopServices);
    // Nor the way back from its own: by then such a service runs on, and what it runs on is looked at before the services start.
    // The tunnels that it brought up come up once more by the old configs.
    let is_let_be = |step: Step| {
        let by_a_service = matches!(step, Step::StopServices | Step::TunnelsDown);
        direction == Direction::Back && by_a_service && !has_attempts(step)
    };
    let mut claims = next::claims(state, plan, boot);
    claims.retain(|step| {
        (doubts || may_be_started && *step == Step::StopServices) && !is_let_be(*step)
    });
    claims.into_iter().find(is_lost)
}

/// The step that was done as often as it may be, and whose work is gone again; and why.
pub fn ran_out(
    env: &Env,
    state: &State,
    plan: &Plan,
    boot: &BootId,
) -> Option<(Step, Direction, Problem)> {
    let direction = direction(state);
    let claims = next::claims(state, plan, boot);
    let services_are_down = claims.contains(&Step::StopServices);
    let mut often = claims.into_iter();
    often.find_map(|step| {
        if state.attempts(step, direction) < ATTEMPTS {
            return None;
        }
        let problem = match ops(step).observe(env, direction) {
            Ok(Observed::After) => return None,
            Ok(Observed::Before) => unlike("it is as if nothing had been done"),
            Ok(Observed::Between(what) | Observed::Unknown(what)) => unlike(&what),
            Err(problem) => problem,
        };
        // Whoever started it has let it undo the rest.
        let by_a_service = env.stirring().ok().flatten().filter(|_| services_are_down);
        let problem = by_a_service.map_or(problem, |service| env.started_again(service));
        Some((step, direction, problem))
    })
}

/// Why a step is not done: what the host shows is not what it leads to.
pub fn unlike(what: &str) -> Problem {
    cannot(
        Code::NOT_AS_EXPECTED,
        format!("finish this step: {what}"),
        "find out what changed it: `holdfast journal show` has the steps",
    )
}
