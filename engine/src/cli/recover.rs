//! `holdfast recover`, and what is said of any recovery. The work is a worker's.

use std::io::IsTerminal;

use journal_format::{
    Phase, Policy, RestoreId, Role, State, Verdict, View, left_out_lines, record_json, visible,
};

use super::watch::{Followed, Interrupts, LiveLines, watch};
use super::{Context, RecoverArgs, print_json, print_json_on, status};
use crate::error::{Code, Fault, cannot};
use crate::host::Look;
use crate::host::linux::Linux;
use crate::restore::decide;
use crate::restore::driver::BootStage;
use crate::restore::gateway_state::StateOfGateway;
use crate::restore::leaving;
use crate::restore::order::{WorkOrder, WorkReport};
use crate::restore::recover::{FoundAtRecovery, Recovered, RecoveryOrder, Tidied};
use crate::state_dir::follow::Follower;
use crate::state_dir::{self, targets, traces};
use crate::text::wording::{counted, in_a_line};

pub(super) fn run(context: &Context, args: &RecoverArgs) -> Result<u8, Fault> {
    if is_none_here(context)? {
        return say_report_of_none(context);
    }
    let policy = match (args.resume, args.roll_back) {
        (true, _) => Some(Policy::Resume),
        (_, true) => Some(Policy::RollBack),
        (false, false) => None,
    };
    let by = match args.leave_as_it_is {
        true => {
            agree_to_leave(context, args.yes)?;
            Role::Leave
        }
        false => Role::RecoverByHand,
    };
    let order = WorkOrder::Recover(RecoveryOrder {
        by,
        policy,
        stage: BootStage::Whole,
        asked_by: Some(context.asked_by()),
    });
    let interrupts = Interrupts::hold()?;
    let (follower, mut before) = found(context).unzip();
    let state = follower.as_ref().and_then(|(_, follower)| follower.state());
    let boot = Linux::new(&context.profile).boot().ok();
    let text = state.and_then(|state| {
        let kernel_kept = boot.as_ref() == Some(&state.header.boot);
        has_no_effect(policy?, state, kernel_kept)
    });
    if let Some(text) = text {
        tell!("{text}");
    }
    let name = format!("recovery-{}", std::process::id());
    let worker = interrupts.launch(context, &name, &order)?;
    let json = context.json;
    let mut live = LiveLines::new();
    let watched = watch(context, &worker, &interrupts, follower, |record, state| {
        // Not before it works: an output that nobody reads must not keep it from that.
        if let Some(before) = before.take() {
            context.watched(before);
        }
        if json {
            print_json_on(std::io::stderr().lock(), &record_json(record));
        } else {
            live.show(context, record, state);
        }
    });
    live.clear();
    let Followed { view, report } = watched?;
    if let (Some(view), Err(_)) = (&view, &report.outcome) {
        context.watched(&view.headline);
    }
    say_report(context, report, view.as_ref())
}

/// Whether there is no `state_dir`, no trace of one that is lost, and nobody at work by another profile: then none is made for the
/// question.
fn is_none_here(context: &Context) -> Result<bool, Fault> {
    let profile = &context.profile;
    Ok(!profile.state_dir.exists()
        && targets::worked_on(profile).is_none()
        && traces::find(profile, &Linux::new(profile))?.is_none())
}

fn say_report_of_none(context: &Context) -> Result<u8, Fault> {
    match context.json {
        true => print_json(&as_json(&Recovered::Idle(Vec::new()), None, 0, None)),
        false => say!(
            "nothing to do: no restore is open; state_dir is {}",
            super::state_dir_shown(context)
        ),
    }
    Ok(0)
}

/// Says what would be left, and asks.
fn agree_to_leave(context: &Context, agreed: bool) -> Result<(), Fault> {
    let refused =
        |what: &str, advice: &str| Fault::Refused(vec![cannot(Code::BAD_REQUEST, what, advice)]);
    let nothing = "leave the gateway as it is: no restore is open";
    let Some(open) = state_dir::open_restore(&context.profile)? else {
        return Err(refused(nothing, "see `holdfast status`"));
    };
    let host = Linux::new(&context.profile);
    let left = leaving::preview(&context.profile, &host, &open.id).map_err(Fault::Stuck)?;
    if agreed {
        return Ok(());
    }
    tell!(
        "Restore {} will end where it stands. Holdfast unblocks the traffic of its tunnels, keeps every old file in {}, and changes nothing else.",
        open.id,
        visible(&context.profile.restore_dir(&open.id).display().to_string())
    );
    for note in &left {
        tell!("  {}", visible(&note.to_string()));
    }
    if !std::io::stdin().is_terminal() {
        return Err(refused(
            "leave the gateway as it is: there is a question to answer and no terminal",
            "add --yes to leave it without a question",
        ));
    }
    match super::agreed("Leave the gateway like this? Type yes: ") {
        true => Ok(()),
        false => Err(Fault::Declined),
    }
}

/// What is said of a direction that was chosen where the journal leaves no choice any more.
fn has_no_effect(chosen: Policy, state: &State, kernel_kept: bool) -> Option<String> {
    let option = match chosen {
        Policy::Auto => return None,
        Policy::Resume => "--resume",
        Policy::RollBack => "--roll-back",
    };
    if decide::leaves_the_choice(state, kernel_kept) {
        return None;
    }
    let why = match state.phase {
        Phase::Opening | Phase::Preparing => "nothing was changed, and it is closed",
        Phase::Forward if state.has_effects() => "a step failed, so it rolls back",
        Phase::Forward => "nothing was changed so far",
        Phase::Back if chosen == Policy::RollBack => return None,
        Phase::Back => "it rolls back already",
        Phase::Committed => "the gateway is as the backup says, and only the cleanup is left",
        Phase::Closed(_) => "it is over",
    };
    Some(format!(
        "{option} has no effect on restore {}: {why}",
        state.header.restore
    ))
}

/// The restore that is open, with what its journal has already told, and that for a person. What is wrong with it the worker says.
fn found(context: &Context) -> Option<((RestoreId, Follower), String)> {
    let open = state_dir::open_restore(&context.profile).ok()??;
    let mut follower = Follower::new(&context.profile, &open.id);
    let _ = follower.look(|_, _| ());
    let headline = match (follower.state(), follower.damage()) {
        // What is readable of it is older than what was done.
        (_, Some(damage)) => format!("how far it came is not known: {}", in_a_line(damage)),
        (Some(state), None) => View::of(state).headline,
        (None, None) => "its journal has no record that can be read".into(),
    };
    let before = format!(
        "restore {} is open; before this recovery: {headline}",
        open.id
    );
    Some(((open.id, follower), before))
}

/// What a recovery left behind, and its exit status.
pub(super) fn say_report(
    context: &Context,
    report: WorkReport,
    view: Option<&View>,
) -> Result<u8, Fault> {
    let status = report.exit_status();
    if let Some(found) = &report.found {
        say_found(context, found);
    }
    say_aside(&report);
    let after = status::after(context, status, lacks(&report, view));
    let recovered = match report.outcome {
        Ok(recovered) => recovered,
        Err(fault) => {
            super::say_fault(context.json, &fault, after.as_ref());
            return Ok(status);
        }
    };
    match context.json {
        true => print_json(&as_json(&recovered, view, status, after.as_ref())),
        false => {
            say_recovered(context, &recovered, view, after.as_ref());
            after.iter().for_each(|state| tell!("{}", state.text()));
        }
    }
    if let Recovered::Idle(tidied) = &recovered {
        for tidied in tidied {
            say_tidied(context, tidied);
        }
    }
    Ok(status)
}

/// Whether something does not work although the restore is over.
fn lacks(report: &WorkReport, view: Option<&View>) -> bool {
    match &report.outcome {
        Ok(Recovered::TriedAgain { lacks, .. }) => !lacks.is_empty(),
        // A restore that was left as it is may differ still.
        Ok(Recovered::Idle(_)) => true,
        _ if view.is_some_and(|view| view.verdict == Some(Verdict::Left)) => true,
        Ok(_) | Err(_) => view.is_some_and(|view| !view.lacks.is_empty()),
    }
}

/// What its worker warned of.
pub(super) fn say_aside(report: &WorkReport) {
    for line in &report.aside {
        tell!("{}", visible(line));
    }
}

fn say_found(context: &Context, FoundAtRecovery { torn, ended, .. }: &FoundAtRecovery) {
    if *torn > 0 {
        context.watched(format_args!(
            "its last record was cut off: {torn} bytes are set aside"
        ));
    }
    for process in ended {
        let process = visible(process);
        context.watched(format_args!("ended what it left running: {process}"));
    }
}

fn as_json(
    recovered: &Recovered,
    last: Option<&View>,
    status: u8,
    after: Option<&StateOfGateway>,
) -> serde_json::Value {
    let standing = serde_json::json!(last.map(|v| v.standing));
    let (found, id, verdict) = match recovered {
        Recovered::Idle(_) => ("idle", None, standing),
        Recovered::NothingToDo(id) => ("nothing-to-do", Some(id), standing),
        Recovered::Over(id, verdict) => ("over", Some(id), serde_json::json!(verdict)),
        Recovered::BeforeNetwork(id) => ("before-network", Some(id), standing),
        Recovered::TriedAgain { id, .. } => ("tried-again", Some(id), standing),
        Recovered::Settled { id, .. } => ("settled", Some(id), standing),
    };
    serde_json::json!({
        "found": found,
        "restore": id,
        "exit_status": status,
        "verdict": verdict,
        "headline": last.map(|v| &v.headline),
        "left_out": last.map(|v| &v.left_out),
        "lacks": last.map(|v| &v.lacks),
        "problem": last.and_then(|v| v.problem.as_ref()),
        "state": after.map(StateOfGateway::as_json),
    })
}

fn say_recovered(
    context: &Context,
    recovered: &Recovered,
    last: Option<&View>,
    after: Option<&StateOfGateway>,
) {
    match recovered {
        Recovered::Idle(_) => say!(
            "nothing to do: no restore is open; state_dir is {}",
            super::state_dir_shown(context)
        ),
        Recovered::NothingToDo(_) => say!("{}", super::NOTHING_TO_DO),
        Recovered::Over(id, verdict) => say!(
            "restore {id} was over{}; nothing is left to recover",
            verdict.map_or_else(String::new, |v| format!(" ({v})"))
        ),
        Recovered::BeforeNetwork(id) => say!(
            "restore {id}: files and databases are recovered; tunnels, rules and services wait for the network"
        ),
        Recovered::TriedAgain {
            id, lacks, gone, ..
        } => {
            match lacks.len() {
                0 if !gone.is_empty() => say!("restore {id}: it lacks nothing any more"),
                0 => say!("restore {id}: what it lacked works now"),
                n => say!(
                    "restore {id}: {} still does not work",
                    counted(n, "service or tunnel")
                ),
            }
            if let Some(view) = last {
                say!("{}", view.headline);
            }
            context.tell_notes(&[&lacks[..], gone].concat());
        }
        Recovered::Settled { result, .. } => {
            if let Some(view) = last {
                for line in left_out_lines(&view.left_out, context.detail) {
                    say!("{line}");
                }
                say!("{}", view.headline);
            }
            match result {
                Ok(notes) => {
                    let followed = !context.json && last.is_some();
                    context.tell_notes(&super::still_told(notes, followed));
                }
                Err(fault @ Fault::RolledBack(_)) => tell!("{}", super::fault_text(fault, after)),
                Err(fault) => tell!("holdfast: {}", super::fault_text(fault, after)),
            }
        }
    }
}

fn say_tidied(context: &Context, Tidied { id, result }: &Tidied) {
    match result {
        Ok(()) => context.watched(format_args!(
            "restore {id}: what was left over is cleaned up"
        )),
        Err(problem) => tell!(
            "warning: restore {id} is over, but not cleaned up: {}",
            journal_format::problem_text(problem)
        ),
    }
}
