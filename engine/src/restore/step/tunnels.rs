//! Takes tunnels down by the configs that they came up with, and brings tunnels up, several at a time.

use std::path::Path;

use journal_format::{Direction, Tunnel};

use super::{Env, Report, StepOps, seen};
use crate::error::Problem;
use crate::host::Permit;
use crate::restore::decide::{ATTEMPTS, Observed};
use crate::restore::{expected_tunnels, links, saved};

mod down;
mod each;
mod peers;
mod says;
mod time_left;
mod up;

use down::take_down;
use peers::{set_peers, with_other_peers};
use time_left::TimeLeft;
use up::bring_up;

pub struct TunnelsDown;
pub struct TunnelsUp;

/// The tunnels that should be up. After the verdict not those that were deleted since.
fn wanted<'p>(env: &Env<'p>, direction: Direction) -> Result<Vec<&'p Tunnel>, Problem> {
    let all = match direction {
        Direction::Forward => env.plan.tunnels_up.iter().collect(),
        Direction::Back => expected_tunnels::owed(env)?,
    };
    let mut wanted = Vec::new();
    for tunnel in all {
        if !is_deleted(env, tunnel)? {
            wanted.push(tunnel);
        }
    }
    Ok(wanted)
}

/// Whether a tunnel has no config any more in a restore that is over: until then the restore puts configs in place itself.
fn is_deleted(env: &Env, tunnel: &Tunnel) -> Result<bool, Problem> {
    Ok(env.over && env.host.stat(Path::new(&tunnel.config))?.is_none())
}

/// Every tunnel that goes down or comes up, once.
fn both<'e, 'p>(env: &'e Env<'p>) -> impl Iterator<Item = &'p Tunnel> + use<'e, 'p> {
    let (down, up) = (&env.plan.tunnels_down, &env.plan.tunnels_up);
    let only_up = |t: &&Tunnel| !down.iter().any(|d| d.name == t.name);
    let both = down.iter().chain(up.iter().filter(only_up));
    both.filter(|t| !env.stays_up(&t.name))
}

/// Brings up those that belong up, once the configs are back over which a start of the services wrote when it took a tunnel down.
fn bring_up_by_their_configs(
    env: &Env,
    permit: &Permit,
    direction: Direction,
) -> Result<Report, Problem> {
    match saved::put_back(env, permit, direction) {
        // What cannot be put back keeps nobody from going back: the clean-up tries it again, and says it.
        Err(_) if direction == Direction::Back && env.attempt >= ATTEMPTS => {}
        tried => tried?,
    }
    bring_up(env, permit, &mut TimeLeft::new(env.host), direction)
}

impl StepOps for TunnelsDown {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        take_down(env, permit, &mut TimeLeft::new(env.host), both(env))
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        take_down(env, permit, &mut TimeLeft::new(env.host), both(env))
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        let up = env.tunnels_up()?;
        let (left, gone): (Vec<&Tunnel>, Vec<&Tunnel>) =
            both(env).partition(|t| up.contains(&t.name));
        let mut wrong: Vec<String> = left.iter().map(|t| format!("{} is up", t.name)).collect();
        // Going back there is no choice: the tunnel whose process does not end costs no other.
        if direction == Direction::Forward {
            let names = gone.iter().map(|t| t.name.as_str());
            let lives = env.host.userspace(&names.collect())?.into_iter();
            wrong.extend(lives.map(|(name, what)| format!("{what} of {name} is still there")));
        }
        Ok(seen(wrong))
    }
}

impl StepOps for TunnelsUp {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut report = bring_up_by_their_configs(env, permit, Direction::Forward)?;
        set_peers(env, permit, Direction::Forward, &mut report)?;
        Ok(report)
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        let mut report = bring_up_by_their_configs(env, permit, Direction::Back)?;
        set_peers(env, permit, Direction::Back, &mut report)?;
        links::set_again(env, permit, &mut report)?;
        Ok(report)
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        let whose = match direction {
            Direction::Forward => "that the backup gives it",
            Direction::Back => "that it had",
        };
        let up = env.tunnels_up()?;
        let tunnels = wanted(env, direction)?;
        let is_down =
            |t: &&&Tunnel| !up.contains(&t.name) && !env.lacking.tunnels.contains(&t.name);
        let down = tunnels.iter().filter(is_down);
        let mut wrong: Vec<String> = down.map(|t| format!("{} is not up", t.name)).collect();
        let half_up = expected_tunnels::were_coming_up(env)?.into_iter();
        wrong.extend(half_up.map(|name| format!("{name} may be half up")));
        if wrong.is_empty() {
            for name in with_other_peers(env, direction, |_, _| Ok(()))? {
                wrong.push(format!("{name} does not have the peers {whose}"));
            }
        }
        Ok(seen(wrong))
    }
}
