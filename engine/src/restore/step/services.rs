//! Stops the gateway's services, and starts those that ran. Both directions stop first and start once the tunnels are up and
//! their rules are in force: the gateway's monitor marks every client inactive whose interface is missing.

use std::collections::BTreeSet;
use std::path::Path;

use journal_format::{Control, Direction, Note, Service};

use super::{Env, Report, StepOps, seen};
use crate::error::{Code, Problem};
use crate::host::{GatewayCommand, Output, Permit, Query, parent, stirs};
use crate::restore::decide::Observed;
use crate::restore::{expected_rules, expected_tunnels, loading};

pub struct StopServices;
pub struct StartServices;

/// How long a service is watched after its start, ms: one that dies at once has not started.
const WATCHED_MS: u64 = 400;
/// How often a service is started before its start is given up: what failed may pass. Forward that is one move; on the way back
/// what the first start undid is put right before the second.
const TRIES: u32 = 2;

fn stop(env: &Env, permit: &Permit) -> Result<Report, Problem> {
    let mut report = Report::default();
    for service in env.plan.services.iter().rev() {
        let ran = env.runs(service)?;
        // Also where it does not run: a start that a crash cut off may still be under way, and that is no running yet.
        stop_one(env, permit, service)?;
        if ran {
            report.did.push(format!("stopped {}", service.name));
        }
    }
    Ok(report)
}

fn stop_one(env: &Env, permit: &Permit, service: &Service) -> Result<(), Problem> {
    let stop = GatewayCommand::ServiceStop(service.control.clone());
    let out = env.host.run(permit, &stop, "")?;
    if stirs(env.host, &service.control)? {
        return Err(out.problem(
            Code::SERVICE_DOES_NOT_STOP,
            format!("stop {}: it still runs", service.name),
            format!("stop {} by hand, and see why it does not end", service.name),
        ));
    }
    Ok(())
}

/// Starts it until it runs, so many times at most; what the last start said, and whether it runs.
fn start_one(
    env: &Env,
    permit: &Permit,
    service: &Service,
    tries: u32,
) -> Result<(Output, bool), Problem> {
    let start = GatewayCommand::ServiceStart(service.control.clone());
    let mut tried = 0;
    loop {
        let out = env.host.run(permit, &start, "")?;
        env.host.sleep(WATCHED_MS);
        let running = env.runs(service)?;
        tried += 1;
        if running || tried >= tries {
            return Ok((out, running));
        }
    }
}

fn start(env: &Env, permit: &Permit, direction: Direction) -> Result<Report, Problem> {
    let mut report = Report::default();
    expected_tunnels::keep(env)?;
    // One that runs may be on its way out: a stop that a crash cut off may still be under way.
    let mut running = false;
    for service in &env.plan.services {
        running |= env.runs(service)?;
    }
    if running {
        env.host.sleep(WATCHED_MS);
    }
    for service in &env.plan.services {
        if env.runs(service)? {
            continue;
        }
        let faltered = env.faltered(service, direction);
        let tries = match direction {
            Direction::Forward => TRIES,
            Direction::Back => 1,
        };
        let (out, running) = start_one(env, permit, service, tries)?;
        if !running && faltered && was_tried(env, service, &out)? {
            let text = format!("{} does not run, as it did not before", service.name);
            let note = Note::down(Code::SERVICE_DOES_NOT_START, text).about(&service.name);
            let note = note.advising(format!("see why in {}", log_of(service)));
            report.warnings.push(note);
            continue;
        }
        if !running && direction == Direction::Back && env.attempt >= TRIES && !faltered {
            // Left to its manager it would be started over and over, and undo what is put right each time.
            stop_one(env, permit, service)?;
            report.warnings.push(stays_down(service, &out));
            continue;
        }
        if !running {
            return Err(out.problem(
                Code::SERVICE_DOES_NOT_START,
                how_it_failed(service, &out),
                format!("see why in {}", log_of(service)),
            ));
        }
        report.did.push(format!("started {}", service.name));
    }
    if env.loads_before_it_starts(direction) {
        // They have added the rules of their clients, which are in force already.
        loading::load(env, permit, direction)?;
    }
    Ok(report)
}

fn how_it_failed(service: &Service, start: &Output) -> String {
    match start.ok() {
        true => format!("start {}: it ended right after its start", service.name),
        false => format!("start {}", service.name),
    }
}

/// What a rollback lacks.
fn stays_down(service: &Service, start: &Output) -> Note {
    let how = match start.ok() {
        true => "it ended right after its start",
        false => "its start failed",
    };
    let text = format!("{} does not run, though it ran before: {how}", service.name);
    let again = match &service.control {
        Control::Unit(unit) => format!("systemctl start {unit}"),
        Control::Commands { start, .. } => start.join(" "),
    };
    let advice = format!("see why in {}, then start it: {again}", log_of(service));
    let note = Note::down(Code::SERVICE_STAYS_DOWN, text).about(&service.name);
    note.advising(advice)
}

/// Whether a service that does not run was at least started: one that its manager did not even try, or of which it says
/// nothing, is not yet as it was.
fn was_tried(env: &Env, service: &Service, start: &Output) -> Result<bool, Problem> {
    let state = Query::ServiceState(service.control.clone());
    Ok(start.ok() || !["", "inactive"].contains(&env.host.ask(&state, "")?.stdout.trim()))
}

fn log_of(service: &Service) -> String {
    match &service.control {
        Control::Unit(unit) => format!("its log (journalctl -u {unit})"),
        Control::Commands { .. } => "its own log".to_owned(),
    }
}

impl StepOps for StopServices {
    fn forward(&self, env: &Env, permit: &Permit) -> Result<Report, Problem> {
        // A tunnel's unit may be part of a service, and a stop command may take tunnels down.
        expected_tunnels::keep(env)?;
        let report = stop(env, permit)?;
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
        stop(env, permit)
    }

    fn observe(&self, env: &Env, _: Direction) -> Result<Observed, Problem> {
        let mut wrong = Vec::new();
        for service in &env.plan.services {
            if stirs(env.host, &service.control)? {
                wrong.push(format!("{} runs", service.name));
            }
        }
        Ok(seen(wrong))
    }
}

impl StepOps for StartServices {
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
