//! `holdfast restore`: the question, and what is shown of the restore. The work is a worker's.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use journal_format::{
    Detail, Entry, NOTHING_CHANGED, Note, Plan, RestoreId, Standing, Verdict, View, Weight,
    accepting, left_out_lines, note_lines, record_json, visible,
};

use super::watch::{Followed, Interrupts, LiveLines, watch};
use super::{Context, RestoreOptions, print_json, recover, status};
use crate::error::{Code, Fault, OrCannot, Problem, cannot};
use crate::files::open::if_there;
use crate::gateway::parts::Lack;
use crate::host::linux::Linux;
use crate::plan::planner::Choices;
use crate::plan::prepare::{self, COMMANDS, Prepared, RestoreRequest};
use crate::plan::{preview, replaced};
use crate::restore::driver::FACTS;
use crate::restore::gateway_state::StateOfGateway;
use crate::restore::order::{RestoreOrder, WorkOrder};
use crate::restore::recover::Recovered;
use crate::state_dir;
use crate::state_dir::audit::entry::{AuditResult, AuditedDeed};
use crate::state_dir::follow::Follower;
use crate::state_dir::lock::{Lock, LockedFor};
use crate::text::octets;
use crate::text::wording::quoted_path;

pub(super) fn run(context: &Context, archive: &Path, args: &RestoreOptions) -> Result<u8, Fault> {
    let choices = Choices {
        keep_going_without_firewall: args.keep_going_without_firewall,
        policy: context.profile.recovery.policy,
        keep_open_folders: args.keep_open_folders,
        without_safety_backup_of: args.without_safety_backup_of.iter().cloned().collect(),
        keep_going_without_services: args.keep_going_without_services,
        leave_down: args.leave_down.iter().cloned().collect(),
        full_stop: !args.changes_only,
    };
    let (id, approved) = match args.yes {
        true => (state_dir::new_id(&Linux::new(&context.profile))?, None),
        false => {
            if !std::io::stdin().is_terminal() {
                return Err(Fault::Usage(
                    "there is a question to answer and no terminal; add --yes to restore without it".into(),
                ));
            }
            let prepared = look(context, archive, choices.clone());
            let named = archive.display().to_string();
            let result = AuditResult::of(&prepared);
            context.audited(AuditedDeed::Plan, Some(&named), result);
            let prepared = prepared?;
            if prepared.changes_nothing() {
                say_nothing_to_do(context);
                return Ok(0);
            }
            let besides = Besides {
                commands: prepared.consent.lines(),
                unsaved: prepared.unsaved,
            };
            show(context, &prepared.id, &prepared.plan, &besides);
            if !super::agreed("Restore the gateway from this backup? Type yes: ") {
                return Err(Fault::Declined);
            }
            (prepared.id.clone(), Some(preview::approval(&prepared.plan)))
        }
    };
    let order = WorkOrder::Restore(RestoreOrder {
        id: id.clone(),
        archive: whole_path(archive)?,
        shown: shown(archive),
        choices,
        approved,
        asked_by: Some(context.asked_by()),
    });
    follow(context, id, &order, args.yes)
}

/// The safety backup of the newest restore that was completed: what came after it changed nothing that stayed.
pub(super) fn to_undo(context: &Context) -> Result<PathBuf, Fault> {
    let profile = &context.profile;
    let host = Linux::new(profile);
    state_dir::none_open(profile, &host, "undo a restore")?;
    let Some(state) = state_dir::newest_completed(profile, i64::MAX)? else {
        return Err(Fault::refused(cannot(
            Code::NO_SUCH_RESTORE,
            "undo a restore: none was completed on this gateway",
            "see `holdfast journal list`",
        )));
    };
    let id = &state.header.restore;
    if state.began_ms > jiff::Timestamp::now().as_millisecond() {
        return Err(Fault::refused(cannot(
            Code::DATE_IN_FUTURE,
            format!(
                "tell which restore is the newest: {id} began in the future, by this machine's clock"
            ),
            "set the clock right, or restore the backup that you mean (`holdfast backups`; those of restores are of the kind safety)",
        )));
    }
    state_dir::safety_backup(profile, &host, id).ok_or_else(|| {
        Fault::refused(cannot(
            Code::NO_SUCH_BACKUP,
            format!("undo restore {id}: the backup that it made of the gateway before is gone"),
            format!(
                "nothing was changed. `holdfast backups` lists the backups that are there: choose one made before that restore. \
                 `ls {}` lists the old files that it replaced, unless a prune removed them",
                quoted_path(&profile.restore_dir(id).join("originals"))
            ),
        ))
    })
}

/// Prepares under the lock, so that no database is looked into while another restore swaps it; and gives the lock up
/// again, since a question may stay open for long.
fn say_nothing_to_do(context: &Context) {
    match context.json {
        true => print_json(
            &serde_json::json!({ "verdict": null, "standing": "nothing-to-do", "headline": super::NOTHING_TO_DO }),
        ),
        false => say!("{}", super::NOTHING_TO_DO),
    }
}

fn look(context: &Context, archive: &Path, choices: Choices) -> Result<Prepared, Fault> {
    let _lock = Lock::take(&context.profile, LockedFor::Restore)?;
    let request = RestoreRequest {
        file: crate::archive::opened(archive).map_err(Fault::refused)?,
        name: shown(archive),
        choices,
        id: None,
        approved: None,
    };
    prepare::prepare(&context.profile, &Linux::new(&context.profile), request)
}

fn shown(archive: &Path) -> String {
    let name = archive.file_name();
    name.map_or_else(String::new, |n| n.to_string_lossy().into_owned())
}

/// By the name that it has for everybody: the worker has neither the working folder nor the open files of this process.
fn whole_path(archive: &Path) -> Result<PathBuf, Fault> {
    let found = std::fs::canonicalize(archive).or_cannot(
        Code::IO,
        format_args!("open the backup {}", archive.display()),
        "name a backup that is there (`holdfast backups` lists them); nothing was changed",
    );
    found.map_err(Fault::refused)
}

/// What is told of a restore besides its plan.
#[derive(Default)]
struct Besides {
    /// Each command that runs as root because of it, and the tunnels that run it.
    commands: Vec<(String, String)>,
    /// What it replaces and the safety backup will lack, as far as that is known.
    unsaved: Vec<Lack>,
}

impl Besides {
    /// Of one that was begun: what lies in its folder beside the journal, which has neither commands nor facts.
    fn of_begun(context: &Context, id: &RestoreId, plan: &Plan) -> Result<Besides, Problem> {
        let dir = context.profile.restore_dir(id);
        let commands = dir.join("after").join(COMMANDS);
        let (what, advice) = (
            format_args!("tell all of this plan, from {}", dir.display()),
            "see the configs of the backup for what they run as root",
        );
        let commands = if_there(std::fs::read(&commands)).or_cannot(Code::IO, what, advice)?;
        let commands = commands.map(|bytes| serde_json::from_str(&octets::text(&bytes)));
        let facts = std::fs::read(dir.join(FACTS)).or_cannot(Code::IO, what, advice)?;
        let facts = serde_json::from_slice(&facts).or_cannot(Code::FACTS_CHANGED, what, advice)?;
        Ok(Besides {
            commands: commands
                .transpose()
                .or_cannot(Code::FACTS_CHANGED, what, advice)?
                .unwrap_or_default(),
            unsaved: replaced::unsaved(plan, &facts),
        })
    }
}

/// A plan, what matters more first: the same whether it is asked about or was begun.
fn show(context: &Context, id: &RestoreId, plan: &Plan, besides: &Besides) {
    let line = |text: &str| context.watched(text);
    let notes = |which: &dyn Fn(Weight) -> bool| {
        let mut notes = preview::notes(plan);
        notes.retain(|note| which(note.weight));
        for text in note_lines(&notes, context.detail) {
            line(&format!("  {text}"));
        }
    };
    line(&format!("restore {id}"));
    notes(&|weight| weight < Weight::Known);
    for (command, tunnels) in &besides.commands {
        line(&format!("  will run as root for {tunnels}:"));
        line(&format!("    {command}"));
    }
    for text in left_out_lines(&plan.left_out, context.detail) {
        line(&format!("  {text}"));
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    for text in preview::preview(plan, now_ms) {
        line(&format!("  {}", visible(&text)));
    }
    notes(&|weight| weight == Weight::Known);
    for lack in &besides.unsaved {
        let part = lack.part.to_string();
        let then = match plan.without_safety_backup_of.contains(&part) {
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

/// Has it done, and shows it. Where nobody was shown the plan before, it is shown once the journal has it.
fn follow(context: &Context, id: RestoreId, order: &WorkOrder, unseen: bool) -> Result<u8, Fault> {
    let interrupts = Interrupts::hold()?;
    let follower = Follower::new(&context.profile, &id);
    let worker = interrupts.launch(context, &format!("restore-{id}"), order)?;
    let json = context.json;
    let mut live = LiveLines::new();
    let follower = Some((id, follower));
    let watched = watch(context, &worker, &interrupts, follower, |record, state| {
        if let (Entry::Plan(plan), true) = (&record.entry, unseen) {
            let id = &state.header.restore;
            let besides = Besides::of_begun(context, id, plan).unwrap_or_else(|problem| {
                tell!("holdfast: {}", journal_format::problem_text(&problem));
                Besides::default()
            });
            show(context, id, plan, &besides);
        }
        if json {
            print_json(&record_json(record));
        } else if context.detail == Detail::Whole || !is_shown_as_plan(&record.entry) {
            live.show(context, record, state);
        }
    });
    live.clear();
    conclude(context, watched?)
}

/// Whether whoever watches was shown it as the plan, which says more.
fn is_shown_as_plan(entry: &Entry) -> bool {
    matches!(entry, Entry::Header(_) | Entry::Plan(_))
}

fn conclude(context: &Context, watched: Followed) -> Result<u8, Fault> {
    let Followed { view, report } = watched;
    let status = report.exit_status();
    let closed = &report.closed;
    recover::say_aside(&report);
    let after = status::after(
        context,
        status,
        view.as_ref().is_some_and(|view| !view.lacks.is_empty()),
    );
    let view = view.map(LastWord::of);
    let view = view.or_else(|| LastWord::by_report(&report.outcome));
    if let Some(problem) = &report.handed_over {
        tell!("holdfast: {}", journal_format::problem_text(problem));
        tell!("a recovery took over");
    }
    let ending = Unjournaled {
        status,
        closed,
        handed_over: report.handed_over.as_ref(),
        after: after.as_ref(),
    };
    match report.outcome {
        Ok(Recovered::Settled { result, .. }) => {
            verdict(context, view.as_ref(), &ending, result.as_ref().err());
            match result {
                Ok(notes) => {
                    let followed = !context.json && view.is_some();
                    context.tell_notes(&super::still_told(&notes, followed));
                }
                Err(fault @ Fault::RolledBack(_)) => {
                    tell!("{}", super::fault_text(&fault, after.as_ref()))
                }
                Err(fault) => tell!("holdfast: {}", super::fault_text(&fault, after.as_ref())),
            }
        }
        Ok(Recovered::NothingToDo(_)) => say_nothing_to_do(context),
        Ok(
            Recovered::Idle(_)
            | Recovered::Over(..)
            | Recovered::BeforeNetwork(_)
            | Recovered::TriedAgain { .. },
        ) => {
            verdict(context, view.as_ref(), &ending, None);
        }
        Err(fault) if view.is_some() => {
            verdict(context, view.as_ref(), &ending, Some(&fault));
            tell!("holdfast: {}", super::fault_text(&fault, after.as_ref()));
        }
        Err(fault) => {
            closed_lines(closed, context.detail)
                .iter()
                .for_each(|line| tell!("{line}"));
            super::say_fault(context.json, &fault, after.as_ref());
            return Ok(status);
        }
    }
    after.iter().for_each(|state| tell!("{}", state.text()));
    Ok(status)
}

/// What of an ending no journal tells.
struct Unjournaled<'a> {
    status: u8,
    closed: &'a [String],
    handed_over: Option<&'a Problem>,
    after: Option<&'a StateOfGateway>,
}

/// What was closed before the restore began, of many the first.
fn closed_lines(closed: &[String], detail: Detail) -> Vec<String> {
    const FIRST: usize = 4;
    let line = |one: &String| {
        let one = visible(one);
        format!("Removed other accounts' access: {one}")
    };
    let told = match detail {
        Detail::Brief if closed.len() > FIRST => FIRST - 1,
        Detail::Brief | Detail::Whole => closed.len(),
    };
    let mut lines: Vec<String> = closed[..told].iter().map(line).collect();
    if let (Some(last), more @ 1..) = (lines.last_mut(), closed.len() - told) {
        last.push_str(&format!("; and {more} more (--verbose lists all)"));
    }
    lines
}

/// What is last said of a restore.
#[derive(Debug)]
struct LastWord {
    id: RestoreId,
    standing: Standing,
    headline: String,
    problem: Option<Problem>,
    left_out: Vec<Note>,
    lacks: Vec<Note>,
    unsaved: Vec<String>,
}

impl LastWord {
    fn of(view: View) -> LastWord {
        LastWord {
            id: view.id,
            standing: view.standing,
            headline: view.headline,
            problem: view.problem,
            left_out: view.left_out,
            lacks: view.lacks,
            unsaved: view.unsaved,
        }
    }

    /// Without a journal that can be read: a restore that could not even write its first record has none, once it is recovered.
    fn by_report(outcome: &Result<Recovered, Fault>) -> Option<LastWord> {
        let (id, standing) = match outcome.as_ref().ok()? {
            Recovered::Idle(_) | Recovered::BeforeNetwork(_) | Recovered::NothingToDo(_) => {
                return None;
            }
            Recovered::Over(id, verdict) => (
                id,
                Standing::after(verdict.unwrap_or(Verdict::NothingChanged)),
            ),
            Recovered::TriedAgain { id, verdict, .. } => (id, Standing::after(*verdict)),
            Recovered::Settled { id, result } => (
                id,
                match result {
                    Ok(_) => Standing::Restored,
                    Err(Fault::RolledBack(_)) => Standing::RolledBack,
                    Err(Fault::Stuck(_)) => Standing::Stuck,
                    Err(
                        Fault::Failed(_)
                        | Fault::Declined
                        | Fault::Usage(_)
                        | Fault::Refused(_)
                        | Fault::Busy(_),
                    ) => Standing::NothingChanged,
                },
            ),
        };
        Some(LastWord {
            id: id.clone(),
            standing,
            headline: match standing {
                Standing::NothingChanged => NOTHING_CHANGED.into(),
                other => format!(
                    "{}, as far as is known: its journal cannot be read.",
                    other.words()
                ),
            },
            problem: None,
            left_out: Vec::new(),
            lacks: Vec::new(),
            unsaved: Vec::new(),
        })
    }
}

/// The last line: the verdict. Before it what was closed before the restore began, which stays so, and what was left out.
fn verdict(
    context: &Context,
    view: Option<&LastWord>,
    ending: &Unjournaled<'_>,
    fault: Option<&Fault>,
) {
    let Some(view) = view else { return };
    let closed = ending.closed;
    let of_fault = fault.and_then(|fault| fault.problems().first());
    if context.json {
        print_json(&serde_json::json!({
            "restore": view.id,
            "verdict": view.standing,
            "headline": view.headline,
            "exit_status": ending.status,
            "problem": of_fault.or(view.problem.as_ref()),
            "handed_over": ending.handed_over,
            "left_out": view.left_out,
            "lacks": view.lacks,
            "state": ending.after.map(StateOfGateway::as_json),
            "unsaved": view.unsaved,
            "closed": closed,
        }));
    } else {
        for line in closed_lines(closed, context.detail) {
            say!("{line}");
        }
        for line in left_out_lines(&view.left_out, context.detail) {
            say!("{line}");
        }
        say!("{}", view.headline);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_restore_that_left_no_journal_behind_ends_with_a_verdict_as_any_other() {
        let id = RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap();
        let turned = Fault::RolledBack(crate::error::bug("go on"));
        let settled = |result| Recovered::Settled {
            id: id.clone(),
            result,
        };
        for (outcome, standing) in [
            (Recovered::Over(id.clone(), None), Standing::NothingChanged),
            (
                Recovered::Over(id.clone(), Some(Verdict::RolledBack)),
                Standing::RolledBack,
            ),
            (settled(Ok(Vec::new())), Standing::Restored),
            (settled(Err(turned)), Standing::RolledBack),
        ] {
            let last = LastWord::by_report(&Ok(outcome)).unwrap();
            assert_eq!((&last.id, last.standing), (&id, standing));
            assert!(!last.headline.is_empty());
        }
        let idle = LastWord::by_report(&Ok(Recovered::Idle(Vec::new())));
        assert!(idle.is_none(), "{idle:?}");
    }
}
