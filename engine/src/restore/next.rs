//! Which step comes next, and which done ones are asked whether their work is still there: pure, from the journal's state and
//! the plan's lists. Owns what each step undoes and claims; decides nothing about direction, which is `decide`'s.

use journal_format::{BootId, Direction, Phase, Plan, State, Step};

/// The next step in the direction that the phase goes, in this boot; none if only the commit or the clean-up is left. `lost` was
/// done, and what it did is gone.
pub fn next_step(state: &State, plan: &Plan, boot: &BootId, lost: Option<Step>) -> Option<Step> {
    let direction = match state.phase {
        Phase::Opening | Phase::Committed | Phase::Closed(_) => return None,
        Phase::Preparing | Phase::Forward => Direction::Forward,
        Phase::Back => Direction::Back,
    };
    let preparing = state.phase == Phase::Preparing;
    let is_of_phase = |s: &Step| match direction {
        Direction::Forward => s.is_preparation() == preparing,
        // What was begun back, for what was lost, is brought to its end also where that came back by itself.
        Direction::Back => {
            lost == Some(*s) || state.begun(*s, direction) || needed(state, *s, boot)
        }
    };
    let is_open = |s: &Step| {
        lost == Some(*s) || !state.is_done(*s, direction, boot) || is_overtaken(state, *s)
    };
    let list = plan.steps(direction);
    let next = list
        .iter()
        .copied()
        .find(|s| *s != Step::CleanUp && is_of_phase(s) && is_open(s))?;
    if !matches!(next, Step::TunnelsDown | Step::ResetRules | Step::TunnelsUp) {
        return Some(next);
    }
    // A tunnel goes down or comes up behind the fence only. Services are stopped first, since they mark a client inactive whose
    // tunnel is missing; but not to bring up a tunnel that is missing already.
    let open = !state.is_last_of(Step::Fence, &[Step::Fence, Step::LiftFence]);
    let run = state.is_last_of(
        Step::StartServices,
        &[Step::StopServices, Step::StartServices],
    ) && !state.is_done(next, direction, boot)
        && lost != Some(next);
    let first = |step: &Step| open && *step == Step::Fence || run && *step == Step::StopServices;
    Some(list.iter().copied().find(first).unwrap_or(next))
}

/// Whether a step that is done must be made again for what was done again since: the fence lifted, the gateway looked at.
fn is_overtaken(state: &State, step: Step) -> bool {
    const CHANGES: [Step; 6] = [
        Step::StopServices,
        Step::TunnelsDown,
        Step::ResetRules,
        Step::TunnelsUp,
        Step::LoadFirewall,
        Step::StartServices,
    ];
    let later = match step {
        Step::LiftFence => &[Step::Fence][..],
        Step::StartServices => &[Step::StopServices],
        Step::VerifyRunning => &CHANGES,
        Step::SafetyBackup
        | Step::Stage
        | Step::Fence
        | Step::StopServices
        | Step::TunnelsDown
        | Step::ResetRules
        | Step::SettleDatabases
        | Step::SwapDatabases
        | Step::SwapConfigs
        | Step::TunnelsUp
        | Step::VerifyAtRest
        | Step::LoadFirewall
        | Step::CleanUp => return false,
    };
    !state.is_last_of(step, &[&[step], later].concat())
}

/// Whether some step was begun that may take a tunnel down: the gateway's own start does, where it cannot see to a client.
pub fn may_have_taken_down(state: &State) -> bool {
    let on_tunnels = [Step::TunnelsDown, Step::TunnelsUp];
    let begun = |step: &Step| state.begun(*step, Direction::Forward);
    on_tunnels.iter().any(begun)
        || begun(&Step::StartServices)
        || state.begun(Step::StartServices, Direction::Back)
}

/// The steps that are done in this boot and whose work should still be there, in the order of the list: what a step claims of
/// the gateway holds until a later step on the same thing begins. Never swaps, the settling, or the preparation: these are not
/// done again. On a way back that left the tunnels alone, a start of the services may have taken one down all the same.
pub fn claims(state: &State, plan: &Plan, boot: &BootId) -> Vec<Step> {
    let direction = match state.phase {
        Phase::Forward => Direction::Forward,
        Phase::Back => Direction::Back,
        Phase::Opening | Phase::Preparing | Phase::Committed | Phase::Closed(_) => {
            return Vec::new();
        }
    };
    let holds = |step: &Step| {
        let until = match step {
            Step::Fence => Some(Step::LiftFence),
            Step::StopServices => Some(Step::StartServices),
            Step::TunnelsDown | Step::ResetRules => Some(Step::TunnelsUp),
            Step::TunnelsUp | Step::LoadFirewall | Step::StartServices => None,
            Step::SafetyBackup
            | Step::Stage
            | Step::SettleDatabases
            | Step::SwapDatabases
            | Step::SwapConfigs
            | Step::VerifyAtRest
            | Step::VerifyRunning
            | Step::LiftFence
            | Step::CleanUp => return false,
        };
        let is_over = until.is_some_and(|until| state.is_last_of(until, &[*step, until]));
        let by_a_start = *step == Step::TunnelsUp
            && direction == Direction::Back
            && !needed(state, *step, boot)
            && state.begun(Step::StartServices, direction);
        (state.is_done(*step, direction, boot) || by_a_start) && !is_over
    };
    plan.steps(direction)
        .iter()
        .copied()
        .filter(holds)
        .collect()
}

/// Whether a step belongs to the first stage of a boot, before the network: up to the files and databases. What comes
/// after needs the network, and services of the box that start later.
pub fn before_network(step: Step) -> bool {
    match step {
        Step::SafetyBackup
        | Step::Stage
        | Step::Fence
        | Step::StopServices
        | Step::TunnelsDown
        | Step::ResetRules
        | Step::SettleDatabases
        | Step::SwapDatabases
        | Step::SwapConfigs
        | Step::CleanUp => true,
        Step::TunnelsUp
        | Step::VerifyAtRest
        | Step::StartServices
        | Step::LoadFirewall
        | Step::VerifyRunning
        | Step::LiftFence => false,
    }
}

/// Whether a step back has anything to do: whether some step forward that changes what it puts back was begun. What was never
/// begun needs no undoing, so that a restore that fails early costs no outage. After a reboot the kernel's part is gone, and
/// everything is rebuilt.
fn needed(state: &State, step: Step, boot: &BootId) -> bool {
    let begun = |step| state.begun(step, Direction::Forward);
    if state.header.boot != *boot {
        return true;
    }
    let any = |steps: &[Step]| steps.iter().any(|step| begun(*step));
    match step {
        Step::VerifyRunning | Step::LiftFence | Step::CleanUp => true,
        // One that could not be closed need not be: lifting it is enough where no tunnel was touched.
        Step::Fence => any(&[Step::TunnelsDown, Step::TunnelsUp]),
        // Services must not run while anything that they use is put back. Where nothing is, one that did not stop goes on.
        Step::StopServices => any(&[
            Step::SettleDatabases,
            Step::SwapDatabases,
            Step::SwapConfigs,
            Step::TunnelsDown,
            Step::TunnelsUp,
            Step::StartServices,
        ]),
        Step::StartServices => any(&[Step::StopServices, Step::StartServices]),
        Step::TunnelsDown | Step::TunnelsUp => any(&[Step::TunnelsDown, Step::TunnelsUp]),
        Step::SwapConfigs | Step::SwapDatabases | Step::SettleDatabases => begun(step),
        // Hooks of tunnels and the start of services change rules as well.
        Step::LoadFirewall => {
            begun(Step::LoadFirewall)
                || begun(Step::ResetRules)
                || needed(state, Step::TunnelsUp, boot)
                || needed(state, Step::StartServices, boot)
        }
        Step::SafetyBackup | Step::Stage | Step::ResetRules | Step::VerifyAtRest => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_are_cut_in_two_at_the_network() {
        for list in [
            &crate::plan::order::FORWARD[..],
            &crate::plan::order::BACK[..],
        ] {
            let mut list = list.iter().filter(|s| **s != Step::CleanUp);
            let swaps = [
                Step::SwapConfigs,
                Step::SwapDatabases,
                Step::SettleDatabases,
            ];
            assert!(
                list.clone()
                    .filter(|s| swaps.contains(s))
                    .all(|s| before_network(*s))
            );
            assert!(list.by_ref().any(|s| !before_network(*s)));
            assert!(list.all(|s| !before_network(*s)));
        }
    }
}
