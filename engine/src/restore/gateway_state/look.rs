//! Looks how the gateway stands: at the journal of the restore that is open, at objects and never at their contents, and at what
//! runs. Changes nothing. What cannot be looked at is unknown, and no error.

use std::collections::BTreeSet;
use std::path::PathBuf;

use journal_format::{
    Direction, Format, Phase, Plan, Policy, RestoreId, Service, Soundness, State, Step, Tunnel,
    Verdict, View,
};

use super::{Condition, FirstNames, SetInPlace, Since, StateOfGateway, Traffic, UpAndDown};
use crate::error::{Code, Problem, cannot};
use crate::gateway::profile::Profile;
use crate::host::programs;
use crate::host::{ExitKind, Look, Now, Output, Query};
use crate::restore::decide::forward_failed;
use crate::restore::step::safety_backup;
use crate::restore::{process, swap};
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::{self, OpenRestore, targets, traces};
use crate::text::wording::{in_a_line, quoted_path};

/// The path of a safety backup is no longer.
const PATH_BYTES: u64 = 1 << 16;

/// Looks how the gateway stands.
pub fn look(profile: &Profile, host: &dyn Look) -> StateOfGateway {
    found(profile, host).seen(profile, host)
}

/// What goes on, before it is looked at what runs: something that lacked may work by now.
pub fn condition(profile: &Profile, host: &dyn Look) -> Condition {
    found(profile, host).condition
}

fn found(profile: &Profile, host: &dyn Look) -> Found {
    match state_dir::open_restore(profile) {
        Err(problem) => Found::in_the_way(Condition::Unreadable, problem),
        Ok(Some(open)) => opened(profile, host, &open),
        Ok(None) => closed(profile, host),
    }
}

/// What the state folder says, before anything of the gateway is looked at.
struct Found {
    condition: Condition,
    restore: Option<RestoreId>,
    state: Option<State>,
    problem: Option<Problem>,
    worker: Option<(u32, String)>,
    recoveries: Vec<Policy>,
}

impl Found {
    fn nothing(condition: Condition) -> Found {
        Found {
            condition,
            restore: None,
            state: None,
            problem: None,
            worker: None,
            recoveries: Vec::new(),
        }
    }

    fn in_the_way(condition: Condition, problem: Problem) -> Found {
        Found {
            problem: Some(problem),
            ..Found::nothing(condition)
        }
    }
}

/// Of a restore that is open.
fn opened(profile: &Profile, host: &dyn Look, open: &OpenRestore) -> Found {
    let mut found = Found {
        restore: Some(open.id.clone()),
        ..Found::nothing(Condition::Unreadable)
    };
    let scan = match state_dir::read(profile, &open.id) {
        Ok(scan) => scan,
        Err(problem) => {
            found.problem = Some(problem);
            return found;
        }
    };
    let soundness = scan.soundness();
    found.state = scan.state;
    let holder = holder(profile).filter(|(_, work)| *work != LockedFor::Backup);
    let driver = found.state.as_ref().and_then(|s| s.driver.as_ref());
    let driver = driver.filter(|d| host.boot().is_ok_and(|boot| process::runs(d, &boot)));
    let worker = driver.map(|d| d.pid).or(holder.map(|(pid, _)| pid));
    let usable = match soundness {
        Soundness::Corrupt | Soundness::Newer => false,
        // Without a header nothing was staged, unless the restore marker says otherwise.
        Soundness::Empty => !open.barrier,
        Soundness::Open | Soundness::Torn | Soundness::Closed(_) => true,
    };
    let state = found.state.as_ref();
    // Whoever said that it waits, or is over, is about to end.
    let ends = state.is_some_and(|s| s.stuck.is_some() || s.verdict().is_some());
    if let Some(pid) = worker.filter(|_| !ends) {
        found.condition = Condition::Running;
        found.worker = Some((pid, "a restore".into()));
    } else if !usable {
        found.problem = Some(unusable(profile, &open.id, soundness));
    } else {
        let stuck = state.and_then(|s| s.stuck.clone());
        let lacks = state.is_some_and(|s| s.verdict().is_some() && !s.lacks().is_empty());
        found.condition = match stuck {
            Some(_) => Condition::Stuck,
            None if lacks => Condition::Lacking,
            None => Condition::Interrupted,
        };
        found.problem = stuck;
        found.recoveries = recoveries(found.state.as_ref(), open.barrier);
    }
    found
}

/// Who holds the lock and lives: it may outlive its holder in a child that ends with it.
fn holder(profile: &Profile) -> Option<(u32, LockedFor)> {
    let lives = |pid: u32| programs::process(pid).is_some_and(|p| !p.gone);
    Lock::holder(profile).filter(|(pid, _)| lives(*pid))
}

fn unusable(profile: &Profile, id: &RestoreId, soundness: Soundness) -> Problem {
    let path = state_dir::journal(profile, id);
    let why = match soundness {
        Soundness::Newer => "a newer Holdfast wrote it",
        _ => "it is damaged",
    };
    let (journal, barrier) = (quoted_path(&path), quoted_path(&profile.barrier()));
    let last = format!(
        "The last way out, if no sound copy of it is to be had: `mv {journal} {journal}.unusable && rm -f {barrier}`, then \
         `holdfast recover`, which names what to run next"
    );
    let advice = match soundness {
        Soundness::Newer => {
            format!("run `holdfast recover` of the version that wrote it. {last}")
        }
        Soundness::Closed(_)
        | Soundness::Open
        | Soundness::Empty
        | Soundness::Torn
        | Soundness::Corrupt => format!(
            "`holdfast journal verify {id}` says what is wrong with it; put it back from a copy, then run `holdfast recover`. \
             {last}"
        ),
    };
    cannot(
        Code::JOURNAL_UNUSABLE,
        format!("use the journal {} of restore {id}: {why}", path.display()),
        advice,
    )
}

/// In which ways a recovery may be started: the journal leaves the choice until a step failed, it turned back or committed.
fn recoveries(state: Option<&State>, barrier: bool) -> Vec<Policy> {
    let Some(state) = state.filter(|s| s.has_effects()) else {
        return vec![Policy::Auto];
    };
    let free = match state.phase {
        Phase::Forward => !forward_failed(state),
        Phase::Opening | Phase::Preparing | Phase::Back | Phase::Committed | Phase::Closed(_) => {
            false
        }
    };
    match (barrier, free) {
        // Without the restore marker the admin has to choose, even where the choice has no effect any more.
        (false, _) => vec![Policy::RollBack, Policy::Resume],
        (true, true) => vec![Policy::Auto, Policy::RollBack, Policy::Resume],
        (true, false) => vec![Policy::Auto],
    }
}

/// Where no restore is open.
fn closed(profile: &Profile, host: &dyn Look) -> Found {
    if let Some((pid, work)) = holder(profile) {
        return Found {
            worker: Some((pid, work.to_string())),
            ..Found::nothing(Condition::Busy)
        };
    }
    if let Some(elsewhere) = targets::worked_on(profile) {
        return Found {
            worker: Some((elsewhere.pid, elsewhere.to_string())),
            ..Found::nothing(Condition::Busy)
        };
    }
    match traces::find(profile, host) {
        Err(problem) => Found::in_the_way(Condition::Unreadable, problem),
        Ok(Some(found)) => Found {
            restore: found.staging.keys().next_back().cloned(),
            ..Found::in_the_way(Condition::Lost, found.problem(profile))
        },
        Ok(None) => match lacking(profile, host) {
            Some(state) => Found {
                restore: Some(state.header.restore.clone()),
                state: Some(state),
                recoveries: vec![Policy::Auto],
                ..Found::nothing(Condition::Lacking)
            },
            None => Found::nothing(Condition::Idle),
        },
    }
}

/// The newest restore, if it ended in this boot and something was lacking then: the next boot starts what the gateway has.
fn lacking(profile: &Profile, host: &dyn Look) -> Option<State> {
    let id = state_dir::newest(profile).ok()??;
    let state = state_dir::read(profile, &id).ok()?.state?;
    let boot = host.boot().ok()?;
    let in_this_boot = state.driver.as_ref().is_some_and(|d| d.boot == boot);
    let lacks = state.verdict().is_some() && !state.lacks().is_empty();
    (in_this_boot && lacks).then_some(state)
}

impl Found {
    /// The same, and how the gateway is seen to be.
    fn seen(self, profile: &Profile, host: &dyn Look) -> StateOfGateway {
        let state = self.state.as_ref();
        let plan = state.and_then(|s| s.plan.as_deref());
        let set = |step| match (self.condition, state) {
            (Condition::Idle | Condition::Busy, _) => SetInPlace::NotReplaced,
            (Condition::Lost, _) => unknown("the restore's journal is not here"),
            // What is readable of a damaged journal is older than what was done.
            (Condition::Unreadable, _) => unknown("the restore's journal cannot be used"),
            (_, None) => SetInPlace::NotReplaced,
            (_, Some(state)) => in_place(host, state, step),
        };
        let (files, databases) = (set(Step::SwapConfigs), set(Step::SwapDatabases));
        let times = Times {
            state,
            now: host.now(),
            host,
        };
        let of_profile = || {
            profile
                .gateway
                .service
                .iter()
                .map(|s| s.service())
                .collect()
        };
        let services = plan.map_or_else(of_profile, |p| p.services.clone());
        let services = services_running(host, &services, &times);
        let expected = match state.map(State::direction) {
            None => &[][..],
            Some(_) if matches!(files, SetInPlace::After(_)) => up_afterwards(plan),
            Some(Direction::Back) => plan.map_or(&[][..], |p| &p.tunnels_down),
            Some(Direction::Forward) if state.and_then(State::verdict).is_some() => {
                up_afterwards(plan)
            }
            Some(Direction::Forward) => plan.map_or(&[][..], |p| &p.tunnels_down),
        };
        let tunnels = tunnels_running(host, expected, &times);
        let told = state.filter(|_| self.condition != Condition::Unreadable);
        let view = told.map(|s| Box::new(View::of(s)));
        let mut seen = StateOfGateway {
            condition: self.condition,
            headline: view.as_ref().map(|v| v.headline.clone()),
            lacks: state.map_or_else(Vec::new, State::lacks),
            safety_backup: self
                .restore
                .as_ref()
                .and_then(|id| made_before(profile, host, id)),
            restore: self.restore,
            files,
            databases,
            services,
            tunnels,
            traffic: traffic(host, &times),
            problem: self.problem,
            pid: self.worker.as_ref().map(|(pid, _)| *pid),
            work: self.worker.map(|(_, work)| work),
            may_be_left: !self.recoveries.is_empty()
                && state.is_some_and(|s| {
                    let is_sealed = s.phase == Phase::Committed;
                    s.has_effects() && !is_sealed && s.header.format >= Format::V1_1
                }),
            recoveries: self.recoveries,
            view,
        };
        seen.forget_what_works_again();
        seen
    }
}

impl StateOfGateway {
    /// What lacked and works by now lacks no more.
    fn forget_what_works_again(&mut self) {
        if self.condition != Condition::Lacking {
            return;
        }
        let is_down = |seen: &UpAndDown, name: &str| match seen {
            // More names may be down than are kept.
            UpAndDown::Seen { down, .. } => {
                down.count > down.first.len() || down.first.iter().any(|d| d == name)
            }
            UpAndDown::Unknown { .. } => true,
        };
        self.lacks.retain(|note| {
            let name = note.name.as_deref().unwrap_or_default();
            match note.is(&Code::SERVICE_STAYS_DOWN) {
                true => is_down(&self.services, name),
                false => is_down(&self.tunnels, name),
            }
        });
        if self.lacks.is_empty() {
            self.condition = Condition::Idle;
            self.restore = None;
            self.headline = None;
            self.view = None;
            self.recoveries.clear();
            self.may_be_left = false;
            self.safety_backup = None;
        }
    }
}

fn unknown(why: impl Into<String>) -> SetInPlace {
    SetInPlace::Unknown { why: why.into() }
}

fn up_afterwards(plan: Option<&Plan>) -> &[Tunnel] {
    plan.map_or(&[][..], |p| &p.tunnels_up)
}

/// Which set is in place of what a swap replaces.
fn in_place(host: &dyn Look, state: &State, step: Step) -> SetInPlace {
    let targets = state.plan.as_ref().and_then(|p| p.targets(step));
    let planned: Vec<&str> = targets
        .into_iter()
        .flatten()
        .map(|t| t.path.as_str())
        .collect();
    if planned.is_empty() {
        return SetInPlace::NotReplaced;
    }
    let noted = state.exchanges(step);
    match (state.phase, noted) {
        (Phase::Committed | Phase::Closed(Verdict::Restored), _) => {
            SetInPlace::After(FirstNames::of_files(&planned))
        }
        (Phase::Closed(Verdict::RolledBack | Verdict::NothingChanged), _) | (_, None) => {
            SetInPlace::Before(FirstNames::of_files(&planned))
        }
        (
            Phase::Opening
            | Phase::Preparing
            | Phase::Forward
            | Phase::Back
            | Phase::Closed(Verdict::Left),
            Some(noted),
        ) => match swap::in_place(host, noted) {
            Err(problem) => unknown(in_a_line(&problem)),
            Ok(swap::InPlace { old, new, foreign }) => match (&old[..], &new[..], &foreign[..]) {
                (_, [], []) => SetInPlace::Before(FirstNames::of_files(&old)),
                ([], _, []) => SetInPlace::After(FirstNames::of_files(&new)),
                _ => SetInPlace::Mixed {
                    before: FirstNames::of_files(&old),
                    after: FirstNames::of_files(&new),
                    foreign: FirstNames::of_files(&foreign),
                },
            },
        },
    }
}

/// Since when something is so, as the journal tells.
struct Times<'a> {
    state: Option<&'a State>,
    now: Now,
    host: &'a dyn Look,
}

impl Times<'_> {
    /// Since a step did what another one has not undone.
    fn since(&self, step: Step, undone_by: Step) -> Option<Since> {
        let moves = &self.state?.moves;
        let undone = moves.iter().filter(|m| m.step == undone_by).map(|m| m.seq);
        let undone = undone.max();
        let begun = moves
            .iter()
            .filter(|m| m.step == step && undone.is_none_or(|undone| undone < m.seq));
        // Of a restore that is over, what is down did not come up.
        let not_undone = || {
            let over = self.state.and_then(State::verdict).is_some();
            moves
                .iter()
                .filter(|m| m.step == undone_by && over)
                .max_by_key(|m| m.seq)
        };
        let begun = begun.min_by_key(|m| m.seq).or_else(not_undone)?;
        let boot = self.host.boot().ok()?;
        // Whatever it did, a boot that came behind it began with the gateway down.
        Some(match begun.boot.as_ref() == Some(&boot) {
            true => Since {
                at_ms: begun.began_ms,
                age_ms: self.now.up_ms.saturating_sub(begun.began_up_ms),
            },
            false => Since {
                at_ms: self.now.at_ms.saturating_sub_unsigned(self.now.up_ms),
                age_ms: self.now.up_ms,
            },
        })
    }
}

fn services_running(host: &dyn Look, services: &[Service], times: &Times) -> UpAndDown {
    let (mut up, mut down) = (0, Vec::new());
    for service in services {
        let asked = host.ask(&Query::ServiceActive(service.control.clone()), "");
        match asked.as_ref().map(|out| out.end) {
            Ok(ExitKind::Exit(0)) => up += 1,
            // What a shell says of a program that it cannot run, or not find.
            Ok(ExitKind::Exit(126 | 127) | ExitKind::Signal(_) | ExitKind::TimedOut) | Err(_) => {
                return UpAndDown::Unknown {
                    why: format!("{}: {}", service.name, why(asked)),
                };
            }
            Ok(ExitKind::Exit(_)) => down.push(&service.name),
        }
    }
    seen(up, &down, times, Step::StopServices, Step::StartServices)
}

fn tunnels_running(host: &dyn Look, expected: &[Tunnel], times: &Times) -> UpAndDown {
    let asked = host.ask(&Query::Tunnels, "");
    let Ok(out) = asked
        .as_ref()
        .map_err(|_| ())
        .and_then(|out| match out.ok() {
            true => Ok(&out.stdout),
            false => Err(()),
        })
    else {
        return UpAndDown::Unknown { why: why(asked) };
    };
    let up: BTreeSet<&str> = out.split_whitespace().collect();
    let down = expected.iter().map(|t| &t.name);
    let down: Vec<&String> = down.filter(|name| !up.contains(name.as_str())).collect();
    seen(up.len(), &down, times, Step::TunnelsDown, Step::TunnelsUp)
}

fn seen(up: usize, down: &[&String], times: &Times, by: Step, undone_by: Step) -> UpAndDown {
    UpAndDown::Seen {
        up,
        down: FirstNames::of(down),
        since: times.since(by, undone_by).filter(|_| !down.is_empty()),
    }
}

fn traffic(host: &dyn Look, times: &Times) -> Traffic {
    let asked = host.ask(&Query::Fence, "");
    match asked.as_ref().map(|out| out.end) {
        Ok(ExitKind::Exit(0)) => Traffic::Blocked {
            since: times.since(Step::Fence, Step::LiftFence),
        },
        Ok(ExitKind::Exit(1)) => Traffic::Open,
        Ok(_) | Err(_) => Traffic::Unknown { why: why(asked) },
    }
}

/// Why something could not be asked.
fn why(asked: Result<Output, Problem>) -> String {
    in_a_line(&match asked {
        Ok(out) => out.problem(Code::QUERY_FAILED, "ask", ""),
        Err(problem) => problem,
    })
}

/// The safety backup that a restore made, if it is still there.
fn made_before(profile: &Profile, host: &dyn Look, id: &RestoreId) -> Option<PathBuf> {
    let noted = profile.restore_dir(id).join(safety_backup::MADE);
    let path = host.read(&noted, PATH_BYTES).ok()?;
    let path = PathBuf::from(String::from_utf8(path).ok()?);
    host.stat(&path).ok()?.map(|_| path)
}
