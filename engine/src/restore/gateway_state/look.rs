//! Looks how the gateway stands: at the journal of the restore that is open, at objects and never at their contents, and at what
//! runs. Changes nothing. What cannot be looked at is unknown, and no error.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use journal_format::{
    Direction, Note, Phase, Plan, Policy, RestoreId, Soundness, State, Step, Verdict, View,
};

use super::running::{Times, forwarding_off, services_running, traffic, tunnels_running};
use super::{Condition, FirstNames, SetInPlace, StateOfGateway, UpAndDown};
use crate::error::{Code, Problem};
use crate::gateway::profile::Profile;
use crate::host::Look;
use crate::host::programs;
use crate::restore::decide::{self, Heading, Observed, Swaps};
use crate::restore::{before, leaving, process, swap, unusable};
use crate::state_dir::lock::{Lock, LockedFor};
use crate::state_dir::{self, OpenRestore, targets, traces};
use crate::text::wording::{in_a_line, start_command};

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
    heading: Option<Heading>,
    marker_gone: Option<PathBuf>,
    lost_in_place: bool,
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
            heading: None,
            marker_gone: None,
            lost_in_place: false,
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
    if !state_dir::journal(profile, &open.id).exists() {
        found.problem = Some(unusable::gone(profile, &open.id));
        return found;
    }
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
        found.problem = Some(unusable::problem(profile, &open.id, soundness));
    } else {
        let stuck = state.and_then(|s| s.stuck.clone());
        let lacks = state.is_some_and(|s| s.verdict().is_some() && !s.lacks().is_empty());
        // What no recovery can do without is looked at here: else it would be advised to people, and would fail.
        let boot = host.boot().ok();
        let needs = |s: &&State| s.has_effects() || Some(&s.header.boot) != boot.as_ref();
        let facts = state.filter(|s| s.verdict().is_none()).filter(needs);
        let dir = profile.restore_dir(&open.id);
        let facts = facts.and_then(|s| before::facts(host, &dir, s).err());
        let problem = facts.or(stuck);
        found.condition = match problem {
            Some(_) => Condition::Stuck,
            None if lacks => Condition::Lacking,
            None => Condition::Interrupted,
        };
        found.problem = problem;
        let kernel_kept = state.is_none_or(|s| Some(&s.header.boot) == boot.as_ref());
        found.recoveries = recoveries(state, open.barrier, kernel_kept);
        found.heading = state.and_then(|s| heading(host, s));
        // Behind the commit nothing needs it any more.
        let is_through = |s: &State| s.phase == Phase::Committed || s.verdict().is_some();
        let needs_it = state.is_some_and(|s| s.has_effects() && !is_through(s));
        found.marker_gone = (needs_it && !open.barrier).then(|| profile.barrier());
    }
    found
}

/// Who holds the lock and lives: it may outlive its holder in a child that ends with it.
fn holder(profile: &Profile) -> Option<(u32, LockedFor)> {
    let lives = |pid: u32| programs::process(pid).is_some_and(|p| !p.gone);
    Lock::holder(profile).filter(|(pid, _)| lives(*pid))
}

/// In which ways a recovery may be started: the journal leaves the choice until a step failed, it turned back or committed.
fn recoveries(state: Option<&State>, barrier: bool, kernel_kept: bool) -> Vec<Policy> {
    let Some(state) = state.filter(|s| s.has_effects() || !kernel_kept) else {
        return vec![Policy::Auto];
    };
    let free = decide::leaves_the_choice(state, kernel_kept);
    match (barrier || !state.has_effects(), free) {
        (_, false) => vec![Policy::Auto],
        // Without the restore marker the admin has to choose.
        (false, true) => vec![Policy::RollBack, Policy::Resume],
        (true, true) => vec![Policy::Auto, Policy::RollBack, Policy::Resume],
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
            lost_in_place: !found.here.is_empty(),
            ..Found::in_the_way(Condition::Lost, found.problem(profile))
        },
        Ok(None) => match newest(profile, host) {
            Some((condition, state)) => Found {
                restore: Some(state.header.restore.clone()),
                recoveries: match condition == Condition::Lacking {
                    true => vec![Policy::Auto],
                    false => Vec::new(),
                },
                state: Some(state),
                ..Found::nothing(condition)
            },
            None => Found::nothing(Condition::Idle),
        },
    }
}

/// The newest restore, if somebody may have to do something about it: it was left as it is, or it ended in this boot and something was
/// lacking then. The next boot starts what the gateway has.
fn newest(profile: &Profile, host: &dyn Look) -> Option<(Condition, State)> {
    let newest = state_dir::newest(profile).ok().flatten();
    let newest = newest.and_then(|id| state_dir::read(profile, &id).ok()?.state);
    let lacks = |state: &State| {
        let lacks = state.lacks();
        // The next boot starts what the gateway has, but for clients that are inactive.
        let for_good = lacks.iter().any(|l| l.is(&Code::STATUS_STAYS_CHANGED));
        state.verdict().is_some_and(|v| v != Verdict::Left)
            && (for_good
                || state.is_reopened()
                || is_of_this_boot(state, host) && !lacks.is_empty())
    };
    if let Some(state) = newest.filter(lacks) {
        return Some((Condition::Lacking, state));
    }
    let left = state_dir::newest_left(profile).ok().flatten();
    left.map(|state| (Condition::Left, state))
}

fn is_of_this_boot(state: &State, host: &dyn Look) -> bool {
    let boot = host.boot().ok();
    let driver = state.driver.as_ref();
    driver.is_some_and(|d| boot.as_ref() == Some(&d.boot))
}

/// Where a recovery leads. A swap that was not noted was not made: of thousands of files none is hashed here.
fn heading(host: &dyn Look, state: &State) -> Option<Heading> {
    let mut all = true;
    for step in [Step::SwapDatabases, Step::SwapConfigs] {
        let targets = state.plan.as_ref().and_then(|p| p.targets(step));
        all &= match state.exchanges(step) {
            Some(noted) => swap::seen(host, noted).ok()? == Observed::After,
            None => targets.is_none_or(<[_]>::is_empty),
        };
    }
    let swaps = match all {
        true => Swaps::AllInPlace,
        false => Swaps::NotAll,
    };
    decide::heading(state, swaps, state.header.boot == host.boot().ok()?)
}

impl Found {
    /// The tunnels that should be up; those that lack, too, which the plan need not name. Of a restore that is over not those that
    /// were deleted since.
    fn expected(&self, host: &dyn Look, files: &SetInPlace) -> BTreeSet<String> {
        let Some((state, plan)) = self
            .state
            .as_ref()
            .zip(self.state.as_ref().and_then(|s| s.plan.as_ref()))
        else {
            return BTreeSet::new();
        };
        let is_over = state.verdict().is_some() && self.condition != Condition::Left;
        let planned = match state.direction() {
            _ if matches!(files, SetInPlace::After(_)) => &plan.tunnels_up,
            Direction::Forward if is_over => &plan.tunnels_up,
            Direction::Back | Direction::Forward => &plan.tunnels_down,
        };
        let lacks = state.lacks().into_iter();
        let lacking = lacks.filter(|note| note.is(&Code::TUNNEL_STAYS_DOWN));
        let names = planned.iter().map(|t| t.name.clone());
        let names = names.chain(lacking.filter_map(|note| note.name));
        names
            .filter(|n| !is_over || !is_deleted(host, plan, n))
            .collect()
    }

    /// The same, and how the gateway is seen to be.
    fn seen(self, profile: &Profile, host: &dyn Look) -> StateOfGateway {
        let state = self.state.as_ref();
        let plan = state.and_then(|s| s.plan.as_deref());
        let set = |step| match (self.condition, state) {
            (Condition::Idle | Condition::Busy, _) => SetInPlace::NotReplaced,
            (Condition::Lost, _) => unknown("the restore's journal is not here"),
            // What is readable of a damaged journal is older than what was done.
            (Condition::Unreadable, _) => unknown("the restore's journal or marker cannot be used"),
            (_, None) => SetInPlace::NotReplaced,
            (_, Some(state)) => in_place(host, state, step),
        };
        let (files, databases) = (set(Step::SwapConfigs), set(Step::SwapDatabases));
        let times = Times {
            state,
            now: host.now(),
            host,
        };
        let all = profile.gateway.service.iter();
        let of_profile = || all.map(|s| s.service()).collect();
        let of_gateway = plan.map_or_else(of_profile, |p| p.services.clone());
        let services = services_running(host, &of_gateway, &times);
        let expected = self.expected(host, &files);
        let tunnels = tunnels_running(host, &expected, &times);
        let told = state.filter(|_| self.condition != Condition::Unreadable);
        let view = told.map(|s| Box::new(View::of(s)));
        let off = state.map_or_else(Vec::new, |s| unforwarded(profile, host, s));
        let pid = self.worker.as_ref().map(|(pid, _)| *pid);
        let is_halted = pid.and_then(programs::process).is_some_and(|p| p.halted);
        let mut seen = StateOfGateway {
            condition: self.condition,
            headline: view.as_ref().map(|v| v.headline.clone()),
            lacks: state.map_or_else(Vec::new, State::lacks),
            safety_backup: self
                .restore
                .as_ref()
                .and_then(|id| state_dir::safety_backup(profile, host, id)),
            restore: self.restore,
            files,
            databases,
            services,
            tunnels,
            traffic: traffic(host, &times),
            forwarding_off: off,
            is_halted,
            heading: self.heading,
            marker_gone: self.marker_gone,
            lost_in_place: self.lost_in_place,
            problem: self.problem,
            pid,
            work: self.worker.map(|(_, work)| work),
            starts: of_gateway
                .iter()
                .map(|s| start_command(&s.control))
                .collect(),
            may_be_left: !self.recoveries.is_empty() && state.is_some_and(may_be_left),
            recoveries: self.recoveries,
            view,
        };
        match self.condition {
            Condition::Left => {
                if let Some(state) = state {
                    seen.say_what_is_left(state, &of_gateway, is_of_this_boot(state, host));
                }
            }
            Condition::Lacking => {
                if let Some(state) = state {
                    seen.say_what_lacks(host, state);
                }
            }
            Condition::Idle
            | Condition::Busy
            | Condition::Running
            | Condition::Interrupted
            | Condition::Stuck
            | Condition::Lost
            | Condition::Unreadable => {}
        }
        seen
    }
}

/// Whether a tunnel of this plan has no config any more.
fn is_deleted(host: &dyn Look, plan: &Plan, name: &str) -> bool {
    let all = plan.tunnels_down.iter().chain(&plan.tunnels_up);
    let mut configs = all.filter(|t| t.name == name).map(|t| Path::new(&t.config));
    let mut is_there = configs.clone().map(|path| host.stat(path) != Ok(None));
    configs.next().is_some() && !is_there.any(|there| there)
}

impl StateOfGateway {
    /// What lacked and is there no more, or works by now, lacks no more.
    fn say_what_lacks(&mut self, host: &dyn Look, state: &State) {
        if let Some(plan) = &state.plan {
            let name = |note: &Note| note.name.clone().unwrap_or_default();
            let is_gone =
                |n: &Note| n.is(&Code::TUNNEL_STAYS_DOWN) && is_deleted(host, plan, &name(n));
            self.lacks.retain(|note| !is_gone(note));
        }
        if state.is_reopened() && self.lacks.is_empty() {
            let text = "a recovery that tried again what the restore lacked was cut off: tunnels that its start of the services took down, \
                        rules and the clients' status may not be right";
            let note = Note::down(Code::RECOVERY_CUT_OFF, text);
            self.lacks.push(note.advising("`holdfast recover`"));
            return;
        }
        match state.in_doubt {
            None => self.forget_what_works_again(),
            Some(_) => self.say_that_it_was_cut_off(),
        }
    }

    /// A recovery died while it tried again what lacks: what is up may be so by half.
    fn say_that_it_was_cut_off(&mut self) {
        for note in &mut self.lacks {
            note.text.push_str(
                "; a recovery that tried it again was cut off, and may have done half of it",
            );
        }
        self.is_idle_without_lacks();
    }

    /// What lacked and works by now lacks no more.
    fn forget_what_works_again(&mut self) {
        let is_down = |seen: &UpAndDown, name: &str| match seen {
            // More names may be down than are kept.
            UpAndDown::Seen { down, .. } => {
                down.count > down.first.len() || down.first.iter().any(|d| d == name)
            }
            UpAndDown::Unknown { .. } => true,
        };
        self.lacks.retain(|note| {
            let name = note.name.as_deref().unwrap_or_default();
            match () {
                () if note.is(&Code::SERVICE_STAYS_DOWN) => is_down(&self.services, name),
                () if note.is(&Code::TUNNEL_STAYS_DOWN) => is_down(&self.tunnels, name),
                // Nobody looks into a database here.
                () => true,
            }
        });
        self.is_idle_without_lacks();
    }

    /// Where nothing of it is left to say.
    pub(super) fn is_idle_without_lacks(&mut self) {
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

/// An operator may end it where it stands.
fn may_be_left(state: &State) -> bool {
    leaving::may_be_left(&state.header.restore, state).is_ok()
}

/// The protocols that the kernel does not forward although it should.
fn unforwarded(profile: &Profile, host: &dyn Look, state: &State) -> Vec<&'static str> {
    let dir = profile.restore_dir(&state.header.restore);
    let before = || before::facts(host, &dir, state).unwrap_or_default();
    let plan = state.plan.as_ref();
    plan.map_or_else(Vec::new, |plan| forwarding_off(host, plan, before))
}

fn unknown(why: impl Into<String>) -> SetInPlace {
    SetInPlace::Unknown { why: why.into() }
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
            SetInPlace::After(FirstNames::of_files(&planned, &planned))
        }
        (Phase::Closed(Verdict::RolledBack | Verdict::NothingChanged), _) | (_, None) => {
            SetInPlace::Before(FirstNames::of_files(&planned, &planned))
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
                (_, [], []) => SetInPlace::Before(FirstNames::of_files(&old, &planned)),
                ([], _, []) => SetInPlace::After(FirstNames::of_files(&new, &planned)),
                _ => SetInPlace::Mixed {
                    before: FirstNames::of_files(&old, &planned),
                    after: FirstNames::of_files(&new, &planned),
                    foreign: FirstNames::of_files(&foreign, &planned),
                },
            },
        },
    }
}
