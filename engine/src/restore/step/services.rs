//! Stops the gateway's services, and starts those that ran. Both directions stop first and start once the tunnels are up and
//! their rules are in force: the gateway's monitor marks every client inactive whose interface is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use journal_format::{Control, Direction, Move, Note, Service, Step};

use super::{Env, Report, StepOps, seen};
use crate::error::{Code, Problem, cannot};
use crate::host::{GatewayCommand, Output, Permit, Query, parent};
use crate::restore::decide::{ATTEMPTS, Observed};
use crate::restore::{expected_rules, expected_tunnels, loading, old_databases, saved, served};
use crate::text::wording::start_command;

pub struct StopServices;
pub struct StartServices;

/// So long after its start a service is looked at first, ms: one that dies at once has not started. Where a plan starts services
/// behind the fence, this is the only look.
const FIRST_LOOK_MS: u64 = 400;
/// How often a service is started before its start is given up: what failed may pass. Forward that is one move; on the way back
/// what the first start undid is put right before the second.
const TRIES: u32 = 2;

fn stop(env: &Env, permit: &Permit) -> Result<Report, Problem> {
    let mut report = Report::default();
    for service in env.plan.services.iter().rev() {
        let ran = env.runs(service)?;
        // Also where it does not run: a start that a crash cut off may still be under way, and that is no running yet.
        env.stop_service(permit, service)?;
        if ran {
            report.did.push(format!("stopped {}", service.name));
        }
    }
    Ok(report)
}

/// A service that runs, and what tells one run of it from the next, where something does.
struct OneRun(Option<String>);

impl OneRun {
    fn of(env: &Env, service: &Service) -> Result<Option<OneRun>, Problem> {
        if !env.runs(service)? {
            return Ok(None);
        }
        Ok(Some(OneRun(env.run_of(service)?)))
    }

    fn is_still(&self, now: Option<&OneRun>) -> bool {
        let both = now.map(|now| self.0.as_ref().zip(now.0.as_ref()));
        both.is_some_and(|both| both.is_none_or(|(then, now)| then == now))
    }
}

/// One start of what should run: what each start said, and what is given up because it does not run.
struct StartRound<'a> {
    env: &'a Env<'a>,
    permit: &'a Permit,
    direction: Direction,
    /// There is no other start behind this one.
    is_last: bool,
    said: BTreeMap<&'a str, Output>,
    given_up: BTreeSet<&'a str>,
    report: Report,
}

impl<'a> StartRound<'a> {
    /// Starts each service that does not run.
    fn start(&mut self) -> Result<(), Problem> {
        for service in &self.env.plan.services {
            if self.env.runs(service)? {
                continue;
            }
            let start = GatewayCommand::ServiceStart(service.control.clone());
            let out = self.env.host.run(self.permit, &start, "")?;
            self.said.insert(&service.name, out);
            self.env.host.sleep(FIRST_LOOK_MS);
        }
        Ok(())
    }

    /// Those that do not run, or not on and on while they are watched.
    fn look(&mut self) -> Result<Vec<&'a Service>, Problem> {
        let env = self.env;
        let (mut run, mut down) = (Vec::new(), Vec::new());
        for service in &env.plan.services {
            match OneRun::of(env, service)? {
                Some(running) => run.push((service, running)),
                None if self.gives_up(service)? => {}
                None => down.push(service),
            }
        }
        if env.loads_before_it_starts(self.direction) {
            // They have added the rules of their clients, which are in force already.
            loading::load(env, self.permit, self.direction)?;
        }
        let is_open = env.comes_before(self.direction, Step::LiftFence, Step::StartServices);
        if !down.is_empty() || run.is_empty() || !is_open {
            return Ok(down);
        }
        let more = env.host.watched_ms().saturating_sub(FIRST_LOOK_MS);
        env.host.sleep(more);
        for (service, running) in run {
            let now = OneRun::of(env, service)?;
            if !running.is_still(now.as_ref()) && !self.gives_up(service)? {
                down.push(service);
            }
        }
        Ok(down)
    }

    /// Whether the rest goes on without a service that does not run: one that did not run before either, and one whose second start
    /// failed as well, on the way back or where the admin accepted that.
    fn gives_up(&mut self, service: &'a Service) -> Result<bool, Problem> {
        let said = self.said.get(service.name.as_str());
        let may_lack = match self.direction {
            Direction::Forward => self.is_last && self.env.plan.may_not_run.contains(&service.name),
            Direction::Back => self.env.attempt >= TRIES || self.env.over,
        };
        let note = if self.env.faltered(service, self.direction) {
            if !was_tried(self.env, service, said)? {
                return Ok(false);
            }
            let text = format!("{} does not run, as it did not before", service.name);
            let note = Note::down(Code::SERVICE_DOES_NOT_START, text).about(&service.name);
            note.advising(format!("see why in {}", log_of(service)))
        } else if may_lack {
            // Left to its manager it would be started over and over, and undo what is put right each time.
            self.env.stop_service(self.permit, service)?;
            stays_down(service, said)
        } else {
            return Ok(false);
        };
        self.given_up.insert(&service.name);
        self.report.warnings.push(note);
        Ok(true)
    }
}

fn start(env: &Env, permit: &Permit, direction: Direction) -> Result<Report, Problem> {
    expected_tunnels::keep(env)?;
    let mut running = false;
    for service in &env.plan.services {
        running |= env.runs(service)?;
    }
    if running {
        // It may be on its way out: a stop that a crash cut off may still be under way.
        env.host.sleep(FIRST_LOOK_MS);
        // Or somebody started it while it had to be down, and it works on what is not in its place any more.
        if old_databases::holders(env)?.iter().any(|h| h.is_daemon) {
            stop(env, permit)?;
        }
    }
    let mut starts = StartRound {
        env,
        permit,
        direction,
        is_last: false,
        said: BTreeMap::new(),
        given_up: BTreeSet::new(),
        report: Report::default(),
    };
    let tries = match direction {
        Direction::Forward => TRIES,
        Direction::Back => 1,
    };
    for tried in 1.. {
        starts.is_last = tried == tries;
        starts.start()?;
        let down = starts.look()?;
        let Some(service) = down.first() else { break };
        if starts.is_last {
            let said = starts.said.get(service.name.as_str());
            return Err(does_not_start(service, said, direction));
        }
    }
    let mut report = starts.report;
    let started = starts.said.into_keys();
    let started = started.filter(|name| !starts.given_up.contains(name));
    report.did = started.map(|name| format!("started {name}")).collect();
    if env.loads_before_it_starts(direction) {
        // Whatever they added while they were watched.
        loading::load(env, permit, direction)?;
    }
    Ok(report)
}

fn does_not_start(service: &Service, start: Option<&Output>, direction: Direction) -> Problem {
    let mut advice = format!(
        "see why in {}; `df -h` shows whether a disk is full",
        log_of(service)
    );
    if direction == Direction::Forward {
        advice += ", or restore without it (--keep-going-without-services)";
    }
    match start {
        Some(start) if !start.ok() => start.problem(
            Code::SERVICE_DOES_NOT_START,
            format!("start {}", service.name),
            advice,
        ),
        Some(_) | None => cannot(
            Code::SERVICE_DOES_NOT_START,
            format!("start {}: {ENDED}", service.name),
            advice,
        ),
    }
}

/// What is said of a service whose start went well.
const ENDED: &str = "it ended soon after its start";

/// What a rollback lacks.
fn stays_down(service: &Service, start: Option<&Output>) -> Note {
    let how = match start {
        Some(start) if !start.ok() => {
            let failed = start.problem(Code::SERVICE_STAYS_DOWN, "its start failed", "");
            let said = failed.stderr.iter().flat_map(|said| said.lines());
            let said = said.map(str::trim).find(|line| !line.is_empty());
            let said = said.map(|line| format!(": {line}"));
            failed.what + &said.unwrap_or_default()
        }
        Some(_) | None => ENDED.to_owned(),
    };
    let text = format!("{} does not run, though it ran before: {how}", service.name);
    let again = start_command(&service.control);
    let advice = format!("see why in {}, then start it: {again}", log_of(service));
    let note = Note::down(Code::SERVICE_STAYS_DOWN, text).about(&service.name);
    note.advising(advice)
}

/// Whether a service that does not run was at least started: one that its manager did not even try, or of which it says
/// nothing, is not yet as it was.
fn was_tried(env: &Env, service: &Service, start: Option<&Output>) -> Result<bool, Problem> {
    let state = Query::ServiceState(service.control.clone());
    Ok(start.is_none_or(Output::ok)
        || !["", "inactive"].contains(&env.host.ask(&state, "")?.stdout.trim()))
}

fn log_of(service: &Service) -> String {
    match &service.control {
        Control::Unit(unit) => format!("its log (journalctl -u {unit})"),
        // The profile names commands, and no log.
        Control::Commands { .. } => format!(
            "the log of {} (its `start` command says where that is)",
            service.name
        ),
    }
}

/// Whether a service that others start over and over is let be: nobody keeps the way back from its end by that. It is stopped once
/// more before the services start, where it works on what is not in its place by then.
fn is_let_be(env: &Env, direction: Direction) -> bool {
    direction == Direction::Back && env.attempt >= ATTEMPTS
}

impl StepOps for StopServices {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        // A tunnel's unit may be part of a service, and a stop command may take tunnels down.
        expected_tunnels::keep(env)?;
        let mut report = stop(env, permit)?;
        report
            .warnings
            .extend(served::keep_in_place(env, Direction::Back));
        // Before itself must be durable, or there is nothing to go back to.
        let mut filesystems: BTreeSet<u64> = BTreeSet::new();
        let dirs = env.targets().map(|t| parent(Path::new(&t.path)));
        let dirs: BTreeSet<&Path> = dirs.collect::<Result<_, _>>()?;
        for dir in dirs {
            if let Some(meta) = env.host.stat(dir)?
                && filesystems.insert(meta.dev)
            {
                env.host.sync_filesystem(permit, dir)?;
            }
        }
        Ok(report)
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        match stop(env, permit) {
            Err(p)
                if p.code == Some(Code::SERVICE_STARTED_AGAIN)
                    && is_let_be(env, Direction::Back) =>
            {
                let text = format!(
                    "Holdfast cannot {}. The rollback goes on all the same",
                    p.what
                );
                let note = Note::known(Code::SERVICE_STARTED_AGAIN, text).advising(p.advice);
                Ok(Report {
                    warnings: vec![note],
                    ..Report::default()
                })
            }
            stopped => stopped,
        }
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        match env.stirring()? {
            Some(service) if !is_let_be(env, direction) => Err(env.started_again(service)),
            None | Some(_) => Ok(Observed::After),
        }
    }
}

impl StepOps for StartServices {
    fn prepare(&self, env: &Env, r#move: Move) -> Vec<Note> {
        let mut notes = match r#move.attempt {
            // Where the stop did not do it: a crash came first, or an older program stopped them.
            1 => served::keep_in_place(env, r#move.direction),
            _ => served::not_kept(env, r#move.direction),
        };
        notes.extend(saved::keep(env, r#move.direction));
        notes
    }

    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        start(env, permit, Direction::Forward)
    }

    fn back(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        // A service that starts writes; where nothing else is put back, this is the first that needs the room.
        env.host.discard(&env.ballast())?;
        start(env, permit, Direction::Back)
    }

    fn observe(&self, env: &Env, direction: Direction) -> Result<Observed, Problem> {
        let mut wrong = env.silent(direction)?;
        if env.loads_before_it_starts(direction) {
            wrong.extend(expected_rules::differences(env, direction)?);
        }
        Ok(seen(wrong))
    }
}
