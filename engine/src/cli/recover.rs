//! `holdfast recover`.

use journal_format::{
    Policy, Role, Verdict, View, left_out_lines, record_json, record_text, visible,
};

use super::{Context, RecoverArgs, print_json, print_json_on};
use crate::error::{Code, Fault, cannot};
use crate::host::linux::Linux;
use crate::host::programs;
use crate::restore::driver::BootStage;
use crate::restore::process::{self, Signals};
use crate::restore::recover::{self, FoundAtRecovery, Recovered, RecoveryOrder, Tidied};
use crate::state_dir::lock::{Lock, LockedFor};

pub(super) fn run(context: &Context, args: &RecoverArgs) -> Result<u8, Fault> {
    let policy = match (args.resume, args.roll_back) {
        (true, _) => Some(Policy::Resume),
        (_, true) => Some(Policy::RollBack),
        (false, false) => None,
    };
    let by = match args.unattended {
        true => Role::Recover,
        false => Role::RecoverByHand,
    };
    let stage = match args.before_network {
        true => BootStage::BeforeNetwork,
        false => BootStage::Whole,
    };
    if args.second_half {
        process::end_with_parent()?;
    } else if process::must_start_anew(args.unattended) {
        return second_half(context, args);
    }
    process::own_session()?;
    if args.before_network && !context.profile.sentinel().exists() {
        return Err(Fault::Stuck(cannot(
            Code::NOT_THERE,
            format!(
                "look for an open restore: {} is not there, so state_dir is missing or not mounted",
                context.profile.sentinel().display()
            ),
            "mount it and reboot; if it is new, `holdfast boot-units --init` makes it. Until then a boot starts nothing \
             of the gateway",
        )));
    }
    let signals = Signals::hold()?;
    let _lock = Lock::take(&context.profile, LockedFor::Recovery)?;
    let host = Linux::new(&context.profile);
    let asked = || signals.asked();
    let json = context.json;
    let mut last: Option<View> = None;
    let last_seen = &mut last;
    let recovered = recover::run(
        &context.profile,
        &host,
        RecoveryOrder { by, policy, stage },
        &asked,
        |found| say_found(context, found),
        Box::new(move |record, state| {
            if json {
                print_json_on(std::io::stderr().lock(), &record_json(record));
            } else if !state.repeats(record) {
                say!("{}", record_text(record));
            }
            *last_seen = Some(View::of(state));
        }),
    )?;
    let status = exit_status(&recovered, args.for_restore);
    match json {
        true => print_json(&as_json(&recovered, last.as_ref(), status)),
        false => say_recovered(&recovered, last.as_ref()),
    }
    if let Recovered::Idle(tidied) = &recovered {
        for tidied in tidied {
            say_tidied(context, tidied);
        }
    }
    Ok(status)
}

fn say_found(context: &Context, found: &FoundAtRecovery) {
    let FoundAtRecovery { id, torn, .. } = found;
    let headline = View::of(found.state).headline;
    context.watched(format_args!(
        "restore {id} is open; before this recovery: {headline}"
    ));
    if *torn > 0 {
        context.watched(format_args!(
            "its last record was cut off: {torn} bytes are set aside"
        ));
    }
    for process in found.ended {
        let process = visible(process);
        context.watched(format_args!("ended what it left running: {process}"));
    }
}

fn exit_status(recovered: &Recovered, for_restore: bool) -> u8 {
    match recovered {
        Recovered::Idle(_) | Recovered::BeforeNetwork(_) => 0,
        Recovered::Over(_, verdict) => match verdict {
            Some(Verdict::Restored) => 0,
            Some(Verdict::RolledBack) => 4,
            Some(Verdict::NothingChanged) if !for_restore => 4,
            None if !for_restore => 0,
            Some(Verdict::NothingChanged) | None => 1,
        },
        Recovered::Settled { result, .. } => match result {
            Ok(_) => 0,
            // As before is as before, whether it changed anything on the way or not; a restore tells the two apart.
            Err(Fault::Failed(_)) if !for_restore => 4,
            Err(fault) => fault.exit_status(),
        },
    }
}

fn as_json(recovered: &Recovered, last: Option<&View>, status: u8) -> serde_json::Value {
    let standing = serde_json::json!(last.map(|v| v.standing));
    let (found, id, verdict) = match recovered {
        Recovered::Idle(_) => ("idle", None, standing),
        Recovered::Over(id, verdict) => ("over", Some(id), serde_json::json!(verdict)),
        Recovered::BeforeNetwork(id) => ("before-network", Some(id), standing),
        Recovered::Settled { id, .. } => ("settled", Some(id), standing),
    };
    serde_json::json!({
        "found": found,
        "restore": id,
        "exit_status": status,
        "verdict": verdict,
        "headline": last.map(|v| &v.headline),
        "left_out": last.map(|v| &v.left_out),
        "problem": last.and_then(|v| v.problem.as_ref()),
    })
}

fn say_recovered(recovered: &Recovered, last: Option<&View>) {
    match recovered {
        Recovered::Idle(_) => say!("nothing to do: no restore is open"),
        Recovered::Over(id, verdict) => say!(
            "restore {id} was over{}; nothing is left of it to settle",
            verdict.map_or_else(String::new, |v| format!(" ({v})"))
        ),
        Recovered::BeforeNetwork(id) => say!(
            "restore {id}: files and databases are settled; tunnels, rules and services wait for the network"
        ),
        Recovered::Settled { result, .. } => {
            if let Some(view) = last {
                for line in left_out_lines(&view.left_out) {
                    say!("{line}");
                }
                say!("{}", view.headline);
            }
            match result {
                Ok(warnings) => warnings
                    .iter()
                    .for_each(|w| tell!("warning: {}", visible(w))),
                Err(fault) => tell!("holdfast: {}", super::fault_text(fault)),
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

/// The rest in a session of its own, which the terminal's end does not reach.
#[expect(
    clippy::disallowed_methods,
    reason = "Holdfast starts itself anew, with a session of its own"
)]
fn second_half(context: &Context, args: &RecoverArgs) -> Result<u8, Fault> {
    let failed = |e: std::io::Error| {
        cannot(
            Code::UNFIT_SYSTEM,
            format!("start the recovery: {e}"),
            "run it again",
        )
    };
    let signals = Signals::hold()?;
    let program = programs::this_program().map_err(failed)?;
    let mut command = std::process::Command::new(program);
    command.arg("--config").arg(&context.config);
    for (flag, on) in [
        ("--json", context.json),
        ("recover", true),
        ("--resume", args.resume),
        ("--roll-back", args.roll_back),
        ("--unattended", args.unattended),
        ("--before-network", args.before_network),
        ("--for-restore", args.for_restore),
        ("--second-half", true),
    ] {
        if on {
            command.arg(flag);
        }
    }
    let mut child = command.spawn().map_err(failed)?;
    // A recovery that was begun is finished: a second one would begin where this one stands.
    let status = child.wait().map_err(failed)?;
    drop(signals);
    let code = status.code().and_then(|c| u8::try_from(c).ok());
    Ok(code.unwrap_or(5))
}
