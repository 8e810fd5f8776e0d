//! `holdfast status`: how the gateway stands in four lines, and the scheduled and the last backups or where the restore stands. Decides nothing: the
//! exit status says whether somebody has to do something.

use journal_format::{Detail, Digest, asked_by_clause, problem_text, utc, view_text, visible};
use serde_json::{Value, json};

use super::{Context, print_json};
use crate::error::{Fault, INCOMPLETE};
use crate::gateway::parts;
use crate::gateway::profile::Profile;
use crate::host::linux::Linux;
use crate::restore::gateway_state::lines::Audience;
use crate::restore::gateway_state::look::look;
use crate::restore::gateway_state::{Condition, StateOfGateway};
use crate::state_dir::made::{self, NotedBackup};
use crate::state_dir::{self, schedule, targets, traces};

/// Lines of a problem that a command's own words may take: the rest is with `--verbose`.
const PROBLEM_LINES: usize = 8;

/// Lines that stand at login.
const SHORT_LINES: usize = 4;

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(super) struct StatusArgs {
    /// Print only the lines that say how the gateway stands, at most four.
    #[arg(long)]
    short: bool,
}

pub(super) fn run(context: &Context, args: StatusArgs) -> Result<u8, Fault> {
    let profile = &context.profile;
    let state = look(profile, &Linux::new(profile));
    let schedule = schedule::stands(profile);
    let status = match state.exit_status() {
        0 if schedule.needs_somebody() && tells_of_backups(&state) => INCOMPLETE,
        worse_or_well => worse_or_well,
    };
    if context.json {
        let mut all = as_json(context, &state)?;
        all["exit_status"] = status.into();
        all["schedule"] = schedule.as_json();
        print_json(&all);
        return Ok(status);
    }
    let scheduled = schedule.line().filter(|_| tells_of_backups(&state));
    let scheduled = scheduled.map(|line| visible(&format!("scheduled backup: {line}")));
    if !args.short {
        say!("{}", word(&state));
    }
    if state.condition == Condition::Idle && !profile.state_dir.is_dir() {
        say!("state_dir:   {}", super::state_dir_shown(context));
    }
    say!("{}", state.text());
    if args.short {
        // Of what is worse a login says four lines already.
        let fits = state.lines(Audience::Terminal).len() < SHORT_LINES;
        scheduled
            .filter(|_| fits)
            .iter()
            .for_each(|line| say!("{line}"));
        return Ok(status);
    }
    match state.condition {
        Condition::Idle | Condition::Busy | Condition::Lacking | Condition::Left => {
            scheduled.iter().for_each(|line| say!("{line}"));
            for line in backups(profile, &made::last(profile)?) {
                say!("{}", visible(&line));
            }
        }
        Condition::Lost => {
            let problem = state.problem.as_ref().map(problem_text);
            problem.iter().for_each(|text| say!("{text}"));
        }
        Condition::Running | Condition::Interrupted | Condition::Stuck | Condition::Unreadable => {
            details(&state, context.detail == Detail::Whole)
        }
    }
    Ok(status)
}

/// Whether backups are told of: nothing about a restore is more urgent.
fn tells_of_backups(state: &StateOfGateway) -> bool {
    match state.condition {
        Condition::Idle | Condition::Busy | Condition::Lacking | Condition::Left => true,
        Condition::Running
        | Condition::Interrupted
        | Condition::Stuck
        | Condition::Lost
        | Condition::Unreadable => false,
    }
}

/// How the gateway stands, where a restore or a recovery ended so that somebody has to do something, or something lacks.
pub(super) fn after(context: &Context, status: u8, lacks: bool) -> Option<StateOfGateway> {
    let state = ([5, 7].contains(&status) || lacks)
        .then(|| look(&context.profile, &Linux::new(&context.profile)))?;
    // Where all is well the command's own words say so.
    (state.condition != Condition::Idle).then_some(state)
}

/// The first line: one word, and what it is about.
fn word(state: &StateOfGateway) -> String {
    let word = match state.condition {
        Condition::Idle => "idle",
        Condition::Busy => "busy",
        Condition::Running => "running",
        Condition::Interrupted => "interrupted",
        Condition::Stuck => "stuck",
        Condition::Lacking => "lacking",
        Condition::Left => "left",
        Condition::Lost => "lost",
        Condition::Unreadable => "unreadable",
    };
    match &state.restore {
        _ if state.condition == Condition::Busy => format!("busy: {}", visible(&state.at_work())),
        Some(id) => format!("{word}: restore {id}"),
        None => word.into(),
    }
}

/// More of the restore that is open.
fn details(state: &StateOfGateway, verbose: bool) {
    match &state.view {
        Some(view) if verbose => say!("\n{}", view_text(view, Detail::Whole)),
        Some(view) => {
            let archive = match view.archive.is_empty() {
                true => String::new(),
                false => format!(" from {}", visible(&view.archive)),
            };
            say!(
                "restore{archive} began {}{}, last news {}",
                view.began,
                asked_by_clause(view),
                view.last
            );
            let problem = view.problem.as_ref().map(problem_text).unwrap_or_default();
            let mut lines: Vec<&str> = problem.lines().collect();
            if state.condition == Condition::Stuck {
                // What it is and what to do stands in the lines above.
                let more = lines.into_iter().skip(1);
                lines = more
                    .take_while(|l| !l.starts_with("  what to do: "))
                    .collect();
            }
            lines
                .iter()
                .take(PROBLEM_LINES)
                .for_each(|line| say!("{line}"));
            say!("each step: `holdfast status --verbose`");
        }
        None => {}
    }
}

fn as_json(context: &Context, state: &StateOfGateway) -> Result<Value, Fault> {
    let profile = &context.profile;
    let mut all = match state.condition {
        Condition::Idle | Condition::Lacking | Condition::Left => idle(context)?,
        Condition::Busy => match targets::worked_on(profile).filter(|_| state.restore.is_none()) {
            Some(elsewhere) if elsewhere.state_dir != profile.state_dir.display().to_string() => {
                json!({ "state_dir": elsewhere.state_dir })
            }
            Some(_) | None => idle(context)?,
        },
        Condition::Lost => {
            let found = traces::find(profile, &Linux::new(profile))?;
            let staging = found.as_ref().map(|found| &found.staging);
            json!({
                "restores": staging.map(|s| s.keys().collect::<Vec<_>>()),
                "folders": staging.map(|s| s.values().flatten().collect::<Vec<_>>()),
                "fence": found.as_ref().map(|found| found.fence),
                "problem": state.problem,
            })
        }
        Condition::Running | Condition::Interrupted | Condition::Stuck | Condition::Unreadable => {
            open(context, state)
        }
    };
    if let Value::Object(all) = &mut all {
        let status = match state.condition {
            Condition::Idle => "idle",
            Condition::Lacking => "lacking",
            Condition::Left => "left",
            Condition::Busy => "busy",
            Condition::Running => "running",
            Condition::Lost => "lost",
            Condition::Interrupted | Condition::Stuck | Condition::Unreadable => "open",
        };
        all.insert("status".into(), status.into());
        all.insert("pid".into(), json!(state.pid));
        all.insert("what".into(), json!(state.work));
        all.insert("state".into(), state.as_json());
    }
    Ok(all)
}

fn open(context: &Context, state: &StateOfGateway) -> Value {
    let Some(id) = &state.restore else {
        return json!({ "problem": state.problem });
    };
    let profile = &context.profile;
    json!({
        "restore": id,
        "barrier": profile.barrier().exists(),
        "journal": state_dir::journal(profile, id),
        "view": state.view,
    })
}

fn idle(context: &Context) -> Result<Value, Fault> {
    let last = made::last(&context.profile)?;
    let told = |found: &Option<(Digest, NotedBackup)>| {
        let (sha256, note) = found.as_ref()?;
        Some(json!({
            "path": context.profile.backups_dir().join(&note.name),
            "bytes": note.size,
            "sha256": sha256,
            "made": utc(note.made_ms),
            "in_future": note.lies_in_the_future(),
            "complete": note.is_complete(),
            "lacks": note.lacks,
        }))
    };
    Ok(json!({
        "last_backup": told(&last.good),
        "incomplete_backup": told(&last.incomplete),
        "unknown_backups": last.unknown,
    }))
}

/// The last backups, a line each.
fn backups(profile: &Profile, last: &made::Last) -> Vec<String> {
    let made = |note: &NotedBackup| {
        let future = match note.lies_in_the_future() {
            true => " (in the future: the clock was wrong then, or is wrong now)",
            false => "",
        };
        let path = profile.backups_dir().join(&note.name);
        format!("{}, made {}{future}", path.display(), utc(note.made_ms))
    };
    let mut lines = vec![match &last.good {
        Some((_, note)) => format!("last good backup: {}", made(note)),
        None if last.unknown => format!(
            "last good backup: unknown; those in {} were made by an older version or brought here, and may lack parts \
             (`holdfast backup` makes a new one)",
            profile.backups_dir().display()
        ),
        None => "last good backup: none yet".into(),
    }];
    lines.extend(last.incomplete.as_ref().map(|(_, note)| {
        format!(
            "after it: {}, {}",
            made(note),
            parts::incomplete(&note.lacks)
        )
    }));
    lines
}
