//! Brings tunnels up by the configs in place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use journal_format::{Direction, Note, Tunnel, leaving_down};

use super::super::{Env, Report};
use super::down::{GOES, POLL_MS, all_ended, goes, take_down, take_one_down};
use super::each::{ByConfig, CONFIG_BYTES, Tools, each, keep_copy};
use super::says::{unresolved_name, what_it_says};
use super::time_left::TimeLeft;
use super::{both, is_deleted, wanted};
use crate::error::{Code, Problem, cannot};
use crate::host::{GatewayCommand, Output, Permit};
use crate::restore::expected_tunnels::{not_listening, note_coming_up, were_coming_up};
use crate::text::wg_config;
use crate::text::wording::{counted, names};

/// How many host names of one config may fail to resolve before it is given up.
const NAMES: usize = 64;

/// How often a tunnel is brought up before it is given up, all in one move, and what lies between, ms: what failed may pass.
/// Attempts of the move are for what else goes wrong.
const TRIES: u32 = 2;
const AGAIN_MS: u64 = 500;

/// How often a tunnel in userspace is looked at that may have lost its port.
const LISTENS: u32 = 10;

/// What came of bringing one up.
enum Came {
    /// It is up; and what to know of it.
    Up(Option<Note>),
    /// It is not.
    Not(Failure),
}

/// Why one is not up.
struct Failure {
    problem: Problem,
    /// The same in short.
    why: String,
    /// It was ended at its limit: another try would last as long.
    hung: bool,
    /// Some of it is there and does not go.
    leaves: bool,
}

impl Failure {
    fn of(tunnel: &Tunnel, problem: Problem) -> Failure {
        let what = problem.what.as_str();
        let why = what.strip_prefix(&format!("bring {} up: ", tunnel.name));
        Failure {
            why: why.unwrap_or(what).to_owned(),
            problem,
            hung: false,
            leaves: false,
        }
    }
}

/// Brings up those that belong up. What cannot be brought up keeps none of the others down, and leaves nothing half up.
pub(super) fn bring_up(
    env: &Env,
    permit: &Permit,
    time_left: &mut TimeLeft,
    direction: Direction,
) -> Result<Report, Problem> {
    let tunnels = wanted(env, direction)?;
    let mut up = env.tunnels_up()?;
    let doubtful = is_doubtful(env, permit, direction)?;
    // After the verdict, and of tunnels that are left alone: all but those that lack, or were being brought up, carry traffic.
    let is_noted = |tunnel: &str| env.over || env.stays_up(tunnel);
    let was_noted = were_coming_up(env)?;
    let is_left = !was_noted.is_empty();
    let lacking = env.lacking.tunnels.iter().cloned();
    let mut half_up: BTreeSet<String> = was_noted.into_iter().chain(lacking).collect();
    let doubtful = tunnels
        .iter()
        .filter(|t| doubtful && (!is_noted(&t.name) || half_up.contains(&t.name)));
    if !env.again && doubtful.clone().any(|t| up.contains(&t.name)) {
        take_down(env, permit, time_left, doubtful.copied())?;
        up = env.tunnels_up()?;
    }
    let tunnels = tunnels.into_iter().filter(|t| !up.contains(&t.name));
    let mut down: Vec<ByConfig> = tunnels.map(|t| (t, t.config.clone())).collect();
    let noted = down.iter().map(|(t, _)| t.name.clone());
    let noted: BTreeSet<String> = noted.filter(|t| is_noted(t)).collect();
    // What is noted is forgotten at the end, whoever noted it: else it would say so for ever.
    let is_noted = env.over || !noted.is_empty() || is_left;
    half_up.extend(noted);
    note_coming_up_if(is_noted, env, &half_up)?;
    let tools = Tools::of(env, permit);
    let mut report = Report::default();
    report.warnings.extend(gone(env)?);
    let (mut came_up, mut failed) = (Vec::new(), Vec::new());
    for tried in 1..=TRIES {
        if tried > 1 && !down.is_empty() {
            env.host.sleep(AGAIN_MS);
        }
        let one = |by: &ByConfig, time_left: &TimeLeft| bring_one_up(tools, time_left, by.0);
        for (by, came) in each(env.host, time_left, std::mem::take(&mut down), one) {
            match came.unwrap_or_else(|problem| Came::Not(Failure::of(by.0, problem))) {
                Came::Up(note) => {
                    report.warnings.extend(note);
                    came_up.push(by.0);
                }
                Came::Not(failure) if failure.hung || tried == TRIES => {
                    failed.push((by.0, failure));
                }
                Came::Not(_) => down.push(by),
            }
        }
    }
    up = env.tunnels_up()?;
    let (came_up, gone): (Vec<&Tunnel>, Vec<&Tunnel>) =
        came_up.into_iter().partition(|t| up.contains(&t.name));
    failed.extend(gone.into_iter().map(|t| (t, Failure::of(t, not_there(t)))));
    let may_lack = |t: &&Tunnel| may_stay_down(env, direction, t);
    let (may_lack, mut stay): (Vec<&Tunnel>, Vec<&Tunnel>) =
        came_up.into_iter().partition(may_lack);
    let deaf = without_their_ports(env, direction, &may_lack)?;
    for tunnel in may_lack {
        let Some(port) = deaf.get(tunnel.name.as_str()) else {
            stay.push(tunnel);
            continue;
        };
        let leaves = !nothing_is_left(tools, time_left, tunnel, true)?;
        let failure = Failure::of(tunnel, hears_nothing(tunnel, *port));
        failed.push((tunnel, Failure { leaves, ..failure }));
    }
    report
        .did
        .push(format!("brought {} up", counted(stay.len(), "tunnel")));
    report.warnings.extend(lacks(env, direction, failed)?);
    if direction == Direction::Forward {
        report.warnings.extend(known_beforehand(env)?);
    }
    note_coming_up_if(is_noted, env, &BTreeSet::new())?;
    Ok(report)
}

/// Whether a tunnel that is up may not be so as it should.
fn is_doubtful(env: &Env, permit: &Permit, direction: Direction) -> Result<bool, Problem> {
    // An earlier attempt may have been cut off between the interface and its addresses, routes and hooks: what it left
    // looks up and is not. And forward all were taken down: one that is up was brought up by others, with whatever config. Back,
    // a service that was started again meanwhile may have done so.
    let again = permit.r#move().attempt > 1 || direction == Direction::Forward;
    Ok(again || !env.over && env.stirring()?.is_some())
}

fn note_coming_up_if(is_noted: bool, env: &Env, tunnels: &BTreeSet<String>) -> Result<(), Problem> {
    match is_noted {
        true => note_coming_up(env, tunnels),
        false => Ok(()),
    }
}

/// Tunnels that lacked and were deleted since: they lack no more.
fn gone(env: &Env) -> Result<Vec<Note>, Problem> {
    let mut gone = Vec::new();
    for tunnel in both(env).filter(|t| env.lacking.tunnels.contains(&t.name)) {
        if is_deleted(env, tunnel)? {
            let text = format!(
                "{} was deleted after the restore: its config {} is gone, so the restore lacks it no more",
                tunnel.name, tunnel.config
            );
            gone.push(Note::known(Code::TUNNEL_IS_GONE, text).about(&tunnel.name));
        }
    }
    Ok(gone)
}

/// Whether the restore may end without this tunnel.
fn may_stay_down(env: &Env, direction: Direction, tunnel: &Tunnel) -> bool {
    match direction {
        Direction::Forward => env.plan.may_stay_down.contains(&tunnel.name),
        Direction::Back => true,
    }
}

/// Which of these came up and do not listen on their ports, as far as that counts: one that may stay down keeps nobody from anything.
/// Back, one that did not listen before does not listen again. In userspace the port is lost a moment after the tunnel came up.
fn without_their_ports<'t>(
    env: &Env,
    direction: Direction,
    tunnels: &[&'t Tunnel],
) -> Result<BTreeMap<&'t str, u16>, Problem> {
    let mut deaf = BTreeMap::new();
    if direction == Direction::Back || tunnels.is_empty() {
        return Ok(deaf);
    }
    let names = tunnels.iter().map(|t| t.name.as_str()).collect();
    let looks = match env.host.userspace(&names)?.is_empty() {
        true => 1,
        false => LISTENS,
    };
    for look in 0..looks {
        if look > 0 {
            env.host.sleep(POLL_MS);
        }
        deaf.append(&mut not_listening(env, tunnels.iter().copied())?);
    }
    Ok(deaf)
}

fn hears_nothing(tunnel: &Tunnel, port: u16) -> Problem {
    let name = &tunnel.name;
    cannot(
        Code::TUNNEL_DOES_NOT_COME_UP,
        format!(
            "bring {name} up: it did not listen on its port {port}, which another program may have (ss -ulpn)"
        ),
        format!(
            "end what has its port, then run: wg-quick up {}",
            tunnel.config
        ),
    )
}

/// Those of which the plan says that they stay down although the backup has them up. One that was down before as well is no news.
fn known_beforehand(env: &Env) -> Result<Vec<Note>, Problem> {
    let up = env.tunnels_up()?;
    let mut lacks = Vec::new();
    for tunnel in &env.plan.tunnels_down {
        let stays = |note: &&Note| {
            note.is(&Code::TUNNEL_STAYS_DOWN) && note.name.as_ref() == Some(&tunnel.name)
        };
        let known = env.plan.warnings.iter().find(stays);
        let advice = format!(
            "fix its config {0}, then run: wg-quick up {0}",
            tunnel.config
        );
        let is_over = up.contains(&tunnel.name) || is_deleted(env, tunnel)?;
        let known = known.filter(|_| !is_over);
        lacks.extend(known.cloned().map(|note| note.advising(advice)));
    }
    Ok(lacks)
}

/// Those that may stay down, as the verdict names them; where one may not, why the move fails.
fn lacks(
    env: &Env,
    direction: Direction,
    failed: Vec<(&Tunnel, Failure)>,
) -> Result<Vec<Note>, Problem> {
    let may_lack = |(tunnel, failure): &(&Tunnel, Failure)| {
        may_stay_down(env, direction, tunnel) && !failure.leaves
    };
    let (lacks, mut not): (Vec<_>, Vec<_>) = failed.into_iter().partition(may_lack);
    if !not.is_empty() {
        let (tunnel, first) = not.remove(0);
        let others: Vec<&str> = not.iter().map(|(t, _)| t.name.as_str()).collect();
        let (mut what, mut advice) = (first.problem.what, first.problem.advice);
        if !others.is_empty() {
            what = format!("{what}; nor {}", names(&others));
        }
        if direction == Direction::Forward {
            let all = std::iter::once(tunnel.name.as_str()).chain(others);
            advice = format!("{advice}; to restore without: {}", leaving_down(all));
        }
        return Err(Problem {
            what,
            advice,
            ..first.problem
        });
    }
    let note = |(tunnel, failure): (&Tunnel, Failure)| {
        let was = match direction {
            Direction::Forward => "",
            Direction::Back => ", though it was up before",
        };
        let text = format!("{} is down{was}: {}", tunnel.name, failure.why);
        let advice = format!(
            "fix the reason, then bring the tunnel up: wg-quick up {}",
            tunnel.config
        );
        Note::down(Code::TUNNEL_STAYS_DOWN, text)
            .about(&tunnel.name)
            .advising(advice)
    };
    Ok(lacks.into_iter().map(note).collect())
}

fn not_there(tunnel: &Tunnel) -> Problem {
    cannot(
        Code::TUNNEL_DOES_NOT_COME_UP,
        format!("bring {} up: it went right after it came", tunnel.name),
        format!("to try it alone: wg-quick up {}", tunnel.config),
    )
}

/// A peer whose host name does not resolve now gets its last known address, or none: the resolver may be behind the very
/// tunnel.
fn bring_one_up(tools: Tools, time_left: &TimeLeft, tunnel: &Tunnel) -> Result<Came, Problem> {
    let Tools { host, permit, .. } = tools;
    let mut unresolved: Vec<String> = Vec::new();
    let mut config = tunnel.config.clone();
    loop {
        let up = |within| GatewayCommand::TunnelUp(config.clone(), within);
        let out = time_left.run(host, permit, up)?;
        if out.ok() {
            break;
        }
        let bytes = host.read(Path::new(&tunnel.config), CONFIG_BYTES)?;
        match unresolved_name(&out) {
            Some(name) if unresolved.len() < NAMES && !unresolved.contains(&name) => {
                unresolved.push(name);
                let known = tools.facts.peers.get(&tunnel.name);
                let bytes = wg_config::with_endpoints(&bytes, |key, endpoint| {
                    if unresolved.iter().any(|u| u == endpoint) {
                        known.and_then(|k| k.get(key)?.endpoint.clone())
                    } else {
                        Some(endpoint.to_owned())
                    }
                });
                config = keep_copy(host, tools.dir, tunnel, &bytes)?;
            }
            _ => {
                let failure = failure(time_left, tunnel, &bytes, &out);
                let leaves = !nothing_is_left(tools, time_left, tunnel, failure.hung)?;
                return Ok(Came::Not(Failure { leaves, ..failure }));
            }
        }
    }
    Ok(Came::Up((!unresolved.is_empty()).then(|| {
        let text = format!(
            "{}: these endpoints do not resolve now: {}; their peers have their last known address or none until the \
             tunnel is brought up again",
            tunnel.name,
            unresolved.join(", ")
        );
        Note::down(Code::UNRESOLVED, text).about(&tunnel.name)
    })))
}

fn failure(time_left: &TimeLeft, tunnel: &Tunnel, config: &[u8], out: &Output) -> Failure {
    let ended = time_left.ended(tunnel, config, out);
    let problem = out.problem(
        Code::TUNNEL_DOES_NOT_COME_UP,
        format!("bring {} up", tunnel.name),
        format!(
            "fix the reason that it gives, or the config; to try it alone: wg-quick up {}",
            tunnel.config
        ),
    );
    let said = what_it_says(&out.stderr);
    Failure {
        why: ended
            .clone()
            .or(said)
            .unwrap_or_else(|| problem.what.clone()),
        hung: ended.is_some(),
        leaves: false,
        problem: match ended {
            Some(ended) => Problem {
                what: format!("bring {} up: {ended}", tunnel.name),
                ..problem
            },
            None => problem,
        },
    }
}

/// Whether a failed start leaves nothing, or what it left was taken down. What was ended could not clean up behind itself.
fn nothing_is_left(
    tools: Tools,
    time_left: &TimeLeft,
    tunnel: &Tunnel,
    hung: bool,
) -> Result<bool, Problem> {
    let (host, name) = (tools.host, &tunnel.name);
    let is_gone = goes(host, name, if hung { 1 } else { GOES })?;
    if !is_gone {
        // Why this fails counts less than why the tunnel did not come up.
        let down = take_one_down(tools, time_left, &(tunnel, tunnel.config.clone()));
        if down.is_err() || !goes(host, name, GOES)? {
            return Ok(false);
        }
    }
    all_ended(host, &BTreeSet::from([name.as_str()]))?;
    Ok(true)
}
