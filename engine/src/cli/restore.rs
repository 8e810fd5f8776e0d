//! `holdfast restore`.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;

use journal_format::{
    Policy, View, WITHOUT_SAFETY_BACKUP_OF, accepting, left_out_lines, record_json, record_text,
    visible,
};

use super::{Context, RestoreArgs, print_json};
use crate::error::{Code, Fault, OrCannot, Problem, cannot};
use crate::host::linux::Linux;
use crate::host::programs;
use crate::plan::planner::Choices;
use crate::plan::prepare::{self, Prepared, RestoreRequest};
use crate::plan::preview;
use crate::restore::process::{self, Signals};
use crate::restore::{self, Ended};
use crate::state_dir::lock::{Lock, LockedFor};

pub(super) fn run(context: &Context, args: &RestoreArgs) -> Result<u8, Fault> {
    if args.second_half {
        process::end_with_parent()?;
    }
    if args.yes && !args.second_half && process::must_start_anew(args.unattended) {
        let prepared = look(context, args)?;
        show(context, &prepared);
        return second_half(context, args, &prepared);
    }
    if args.yes || args.second_half {
        process::own_session()?;
        let signals = Signals::hold()?;
        let _lock = Lock::take(&context.profile, LockedFor::Restore)?;
        let prepared = prepare(context, args)?;
        if !args.second_half {
            show(context, &prepared);
        }
        return drive(context, &prepared, &signals);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Fault::Usage(
            "there is a question to answer and no terminal; add --yes to restore without it".into(),
        ));
    }
    let prepared = look(context, args)?;
    show(context, &prepared);
    if !confirmed() {
        return Err(Fault::Declined);
    }
    second_half(context, args, &prepared)
}

/// Prepares under the lock, so that no database is looked into while another restore swaps it; and gives the lock up
/// again, since a question may stay open for long.
fn look(context: &Context, args: &RestoreArgs) -> Result<Prepared, Fault> {
    let _lock = Lock::take(&context.profile, LockedFor::Restore)?;
    prepare(context, args)
}

fn prepare(context: &Context, args: &RestoreArgs) -> Result<Prepared, Fault> {
    let file = open(&args.archive)?;
    let name = args.shown_name.clone().unwrap_or_else(|| {
        args.archive
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    });
    let host = Linux::new(&context.profile);
    prepare::prepare(
        &context.profile,
        &host,
        RestoreRequest {
            file,
            name,
            choices: Choices {
                keep_going_without_firewall: args.keep_going_without_firewall,
                policy: context.profile.recovery.policy,
                keep_open_folders: args.keep_open_folders,
                without_safety_backup_of: args.without_safety_backup_of.iter().cloned().collect(),
            },
            id: args.restore_id.clone(),
            approved: args.approved_plan.clone(),
        },
    )
}

pub(super) fn open(path: &Path) -> Result<File, Fault> {
    let opened = File::open(path).or_cannot(
        Code::IO,
        format_args!("open the backup {}", path.display()),
        "name an existing backup",
    );
    opened.map_err(|problem| Fault::Refused(vec![problem]))
}

fn show(context: &Context, prepared: &Prepared) {
    let line = |text: &str| context.watched(text);
    line(&format!("restore {}", prepared.id));
    let warnings = &prepared.plan.warnings;
    let (lost, known) = warnings.split_at(prepared.lost.min(warnings.len()));
    for text in lost {
        line(&format!("  lost: {}", visible(text)));
    }
    for (command, tunnels) in prepared.consent.lines() {
        line(&format!("  will run as root for {tunnels}:"));
        line(&format!("    {command}"));
    }
    for text in left_out_lines(&prepared.plan.left_out) {
        line(&format!("  {text}"));
    }
    for text in preview::preview(&prepared.plan) {
        line(&format!("  {}", visible(&text)));
    }
    for text in known {
        line(&format!("  warning: {}", visible(text)));
    }
    for lack in &prepared.unsaved {
        let part = lack.part.to_string();
        let then = match prepared.plan.without_safety_backup_of.contains(&part) {
            true => "that is accepted: what is replaced is kept in the restore's originals/ alone"
                .to_owned(),
            false => format!(
                "if that is still so, the restore ends before it changes anything, unless you add {}",
                accepting([part])
            ),
        };
        let lack = visible(&lack.to_string());
        line(&format!(
            "  the safety backup will lack a part: {lack}; {then}"
        ));
    }
}

fn confirmed() -> bool {
    let question = "Restore the gateway from this backup? Type yes: ";
    let _ = write!(std::io::stderr(), "{question}");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}

/// The rest in a session of its own, which the terminal's end does not reach; Ctrl-C is passed on.
#[expect(
    clippy::disallowed_methods,
    reason = "Holdfast starts itself anew, with a session of its own"
)]
fn second_half(context: &Context, args: &RestoreArgs, prepared: &Prepared) -> Result<u8, Fault> {
    let failed = |e: std::io::Error| {
        let what = format!("start the restore: {e}");
        cannot(
            Code::MISSING_PROGRAM,
            what,
            "see that the holdfast program is where it was",
        )
    };
    let signals = Signals::hold()?;
    let program = programs::this_program().map_err(failed)?;
    let mut command = std::process::Command::new(program);
    command.arg("--config").arg(&context.config);
    if context.json {
        command.arg("--json");
    }
    command
        .arg("restore")
        .arg(&args.archive)
        .args(["--yes", "--second-half"]);
    command.args(["--restore-id", prepared.id.as_str()]);
    let approved = preview::approval(&prepared.plan).to_string();
    command.args(["--approved-plan", &approved]);
    if args.keep_going_without_firewall {
        command.arg("--keep-going-without-firewall");
    }
    if args.keep_open_folders {
        command.arg("--keep-open-folders");
    }
    for part in &args.without_safety_backup_of {
        command.arg(format!("{WITHOUT_SAFETY_BACKUP_OF}={part}"));
    }
    let child = command.stdin(std::process::Stdio::null()).spawn();
    let mut child = child.map_err(failed)?;
    let mut passed_on = false;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            let code = status.code().and_then(|c| u8::try_from(c).ok());
            return Ok(code.unwrap_or(1));
        }
        if signals.asked() && !passed_on {
            tell!("turning back ...");
            let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
            // It may have ended in between.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            passed_on = true;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn drive(context: &Context, prepared: &Prepared, signals: &Signals) -> Result<u8, Fault> {
    let host = Linux::new(&context.profile);
    let mut closed = Vec::new();
    if let Err(problem) = prepared.close_what_is_open(|one| closed.push(one)) {
        tell_of_closed(&closed);
        return Err(problem.into());
    }
    let asked = || signals.asked();
    let json = context.json;
    let mut last: Option<View> = None;
    let last_seen = &mut last;
    let ended = restore::run(
        &context.profile,
        &host,
        prepared,
        &asked,
        Box::new(move |record, state| {
            if json {
                print_json(&record_json(record));
            } else if !state.repeats(record) {
                say!("{}", record_text(record));
            }
            *last_seen = Some(View::of(state));
        }),
    );
    match ended {
        Ok(Ended::HandOver(problem)) => {
            tell!("holdfast: {}", journal_format::problem_text(&problem));
            tell_of_closed(&closed);
            tell!("handing over to `holdfast recover`");
            Err(hand_over(context).into())
        }
        Ok(Ended::Restored { warnings }) => {
            verdict(json, last.as_ref(), 0, &closed);
            for warning in warnings {
                tell!("warning: {}", visible(&warning));
            }
            Ok(0)
        }
        Err(fault) => {
            if last.is_some() {
                verdict(json, last.as_ref(), fault.exit_status(), &closed);
                tell!("holdfast: {}", super::fault_text(&fault));
                return Ok(fault.exit_status());
            }
            tell_of_closed(&closed);
            Err(fault)
        }
    }
}

/// Of a restore that has no verdict of its own.
fn tell_of_closed(closed: &[String]) {
    for one in closed {
        tell!("{}", closed_line(one));
    }
}

fn closed_line(one: &str) -> String {
    let one = visible(one);
    format!("closed to accounts that are not the gateway's: {one}")
}

/// The last line: the verdict. Before it what was closed before the restore began, which stays so, and what was left out.
fn verdict(json: bool, view: Option<&View>, status: u8, closed: &[String]) {
    let Some(view) = view else { return };
    if json {
        print_json(&serde_json::json!({
            "restore": view.id,
            "verdict": view.standing,
            "headline": view.headline,
            "exit_status": status,
            "problem": view.problem,
            "left_out": view.left_out,
            "unsaved": view.unsaved,
            "closed": closed,
        }));
    } else {
        for one in closed {
            say!("{}", closed_line(one));
        }
        for line in left_out_lines(&view.left_out) {
            say!("{line}");
        }
        say!("{}", view.headline);
    }
}

/// Becomes a fresh recovery, whose status is this process's then. Comes back only if that cannot be started.
#[expect(
    clippy::disallowed_methods,
    reason = "Holdfast becomes the recovery of its own restore"
)]
fn hand_over(context: &Context) -> Problem {
    let failed = |e: &std::io::Error| {
        cannot(
            Code::UNFIT_SYSTEM,
            format!("hand over to a recovery: {e}"),
            "run `holdfast recover`; the restore is still open",
        )
    };
    match programs::this_program() {
        Ok(program) => {
            let mut command = std::process::Command::new(program);
            command.arg("--config").arg(&context.config);
            if context.json {
                command.arg("--json");
            }
            command.args(["recover", "--unattended", "--for-restore"]);
            if context.profile.recovery.policy == Policy::Auto {
                // A disk that failed once is not one to go forward on.
                command.arg("--roll-back");
            }
            failed(&command.exec())
        }
        Err(e) => failed(&e),
    }
}
