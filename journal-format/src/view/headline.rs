//! Where a restore stands, as one sentence. Owns the words; formats nothing else.

use super::{NOTHING_CHANGED, Standing, leftovers};
use crate::left_out::named;
use crate::render::visible;
use crate::{Direction, State};

/// Where it stands, and for a restore that is through what it left out and what does not work.
pub(super) fn headline(state: &State, standing: Standing) -> String {
    let at = |direction: Direction| {
        let m = state.running().filter(|m| m.direction == direction)?;
        let list = state.plan.as_ref()?.steps(direction);
        let place = list.iter().position(|s| *s == m.step)? + 1;
        Some(format!(
            "step {place} of {}, {}",
            list.len(),
            m.step.title(direction)
        ))
    };
    let (forward, back) = (at(Direction::Forward), at(Direction::Back));
    let with = |text: &str, at: Option<String>| match at {
        Some(at) => format!("{text}: {at}."),
        None => format!("{text}."),
    };
    let left_out = visible(&named(&state.left_out()));
    let lacks = visible(&named(&state.lacks()));
    let leftovers = leftovers(state);
    match standing {
        Standing::Starting => "Starting.".into(),
        Standing::Preparing => with("Preparing, nothing has changed yet", forward),
        Standing::Forward => with("Restoring", forward),
        Standing::Back => with("Rolling back to how the gateway was", back),
        Standing::Finishing if left_out.is_empty() => {
            "The gateway is as the backup says. Cleaning up.".into()
        }
        Standing::Finishing => format!("The backup is restored, but for {left_out}. Cleaning up."),
        Standing::Stuck => "Stuck: Holdfast cannot finish this restore by itself, and an operator must fix the cause.".into(),
        Standing::Restored if !lacks.is_empty() && left_out.is_empty() => format!(
            "Restored, but for what does not work: the gateway is as the backup says, and this does not run or is down: {lacks}."
        ),
        Standing::Restored if !lacks.is_empty() => format!(
            "Restored in part: the gateway is as the backup says, but for {left_out}. This does not run or is down: {lacks}."
        ),
        Standing::Restored if left_out.is_empty() && leftovers.is_empty() => {
            "Restored: the gateway is as the backup says.".into()
        }
        Standing::Restored if left_out.is_empty() => {
            "Restored, with warnings: the gateway is as the backup says, but read what is left."
                .into()
        }
        Standing::Restored if leftovers.is_empty() => {
            format!("Restored in part: the gateway is as the backup says, but for {left_out}.")
        }
        Standing::Restored => format!(
            "Restored in part, with warnings: the gateway is as the backup says, but for {left_out}. Read what is left."
        ),
        Standing::RolledBack => {
            let others = visible(&named(&state.not_as_before()));
            let but = match others.is_empty() {
                true => String::new(),
                false => format!(", but for what the warnings say of {others}"),
            };
            match (lacks.is_empty(), but.is_empty()) {
                (true, _) => format!("Rolled back: the gateway is as it was before{but}."),
                (false, true) => format!(
                    "Rolled back: the gateway is as it was before, but what ran then does not run now: {lacks}."
                ),
                (false, false) => format!(
                    "Rolled back: the gateway is as it was before{but}. What ran then does not run now: {lacks}."
                ),
            }
        }
        Standing::Left => {
            "Left as it is: the operator ended the restore where it stood. Read what differs."
                .into()
        }
        Standing::NothingChanged => NOTHING_CHANGED.into(),
        Standing::Unknown => format!(
            "How it stands is not known: its journal is of format {}, and this program understands it only up to record {}. \
             The program that wrote it can tell: {}.",
            state.header.format,
            state.seq,
            visible(&state.header.program)
        ),
    }
}
