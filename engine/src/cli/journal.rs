//! `holdfast journal`: shows, verifies and follows what restores wrote. Changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use journal_format::{
    RestoreId, Scan, ScannedLine, Seq, State, Tail, View, opaque_text, progress_lines, record_json,
    record_text, view_text,
};

use super::{Context, print_json};
use crate::error::{Fault, Problem};
use crate::host::Look;
use crate::host::linux::Linux;
use crate::restore::gateway_state::look::look;
use crate::restore::process;
use crate::state_dir;
use crate::state_dir::follow::Follower;
use crate::state_dir::lock::Lock;

const POLL: Duration = Duration::from_millis(100);
/// What a list says of a restore that left a folder and no journal.
const NO_JOURNAL: &str = "no journal: it ended before it began, or somebody moved it away";
/// How often it is looked whether the worker of a restore that is over has ended.
const LOOKS: u32 = 50;

pub(super) fn list(context: &Context) -> Result<u8, Fault> {
    let mut rows = Vec::new();
    for id in state_dir::restores(&context.profile)? {
        let view = match state_dir::read(&context.profile, &id) {
            Ok(scan) => {
                let view = scan.state.as_ref().map(View::of);
                (listed_words(context, &scan, view.as_ref()), view)
            }
            Err(_) if !state_dir::journal(&context.profile, &id).exists() => {
                (NO_JOURNAL.into(), None)
            }
            Err(problem) => (problem.what, None),
        };
        rows.push((id, view));
    }
    if context.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(id, (words, view))| {
                serde_json::json!({ "restore": id, "journal": words, "began": view.as_ref().map(|v| &v.began),
                    "standing": view.as_ref().map(|v| v.standing), "left_out": view.as_ref().map(|v| &v.left_out), "archive": view.as_ref().map(|v| &v.archive) })
            })
            .collect();
        print_json(&serde_json::json!({ "restores": rows }));
    } else if rows.is_empty() {
        say!(
            "no restore has been made on this gateway; state_dir is {}",
            super::state_dir_shown(context)
        );
    } else {
        for (id, (words, view)) in rows {
            let archive = view.map_or_else(String::new, |v| journal_format::visible(&v.archive));
            say!("{id}  {words:34}  {archive}");
        }
    }
    Ok(0)
}

/// How a restore stands, for a list; how its journal stands only where that is not sound, or for a program.
fn listed_words(context: &Context, scan: &Scan, view: Option<&View>) -> String {
    match (&scan.tail, view) {
        (Tail::Clean, Some(view)) if !context.json => {
            let part = match view.left_out.is_empty() {
                true => "",
                false => " in part",
            };
            let open = match view.over {
                true => "",
                false => ", not over: `holdfast status`",
            };
            format!("{}{part}{open}", view.standing.words())
        }
        _ => soundness_words(scan),
    }
}

/// A restore's id or its beginning, or a file.
fn find(context: &Context, name: &Path) -> Result<(PathBuf, Scan), Problem> {
    match name.to_str().filter(|text| !text.contains('/')) {
        Some(text) if std::fs::symlink_metadata(name).is_err() => {
            let id = state_dir::restore_named(&context.profile, text)?;
            let scan = state_dir::read(&context.profile, &id)?;
            Ok((state_dir::journal(&context.profile, &id), scan))
        }
        Some(_) | None => Ok((name.to_owned(), state_dir::read_file(name)?)),
    }
}

pub(super) fn show(context: &Context, name: &Path) -> Result<u8, Fault> {
    let (path, scan) = find(context, name)?;
    if context.json {
        print_json(&serde_json::json!({
            "journal": path.display().to_string(),
            "soundness": soundness_words(&scan),
            "view": scan.state.as_ref().map(View::of),
            "records": scan.records.iter().map(record_json).collect::<Vec<_>>(),
            "not_understood": scan.opaque.iter().map(|(_, json)| json).collect::<Vec<_>>(),
        }));
        return Ok(0);
    }
    if let Some(state) = &scan.state {
        if let Tail::Corrupt { line, .. } = scan.tail {
            say!(
                "The journal is damaged at line {line}. What follows is how the restore stood before that line; what was done behind it is not known."
            );
        }
        say!("{}", view_text(&View::of(state), context.detail));
    }
    say!();
    let records = scan
        .records
        .iter()
        .map(|r| (r.seq, record_text(r, context.detail)));
    let opaque = scan.opaque.iter();
    let opaque = opaque.map(|(seq, json)| (*seq, opaque_text(*seq, json)));
    let mut texts: Vec<(Seq, String)> = records.chain(opaque).collect();
    texts.sort();
    for (_, text) in texts {
        say!("{text}");
    }
    say!();
    say!("journal: {}", soundness_words(&scan));
    Ok(0)
}

pub(super) fn verify(context: &Context, name: &Path) -> Result<u8, Fault> {
    let (path, scan) = find(context, name)?;
    let soundness = scan.soundness();
    if context.json {
        print_json(&serde_json::json!({
            "journal": path.display().to_string(),
            "soundness": soundness_words(&scan),
            "exit_status": soundness.exit_status(),
            "records": scan.records.len(),
            "valid_bytes": scan.valid_len,
        }));
    } else {
        say!(
            "{}: {}, {} records",
            path.display(),
            soundness_words(&scan),
            scan.records.len()
        );
    }
    Ok(soundness.exit_status())
}

fn soundness_words(scan: &Scan) -> String {
    match (&scan.tail, &scan.state) {
        (Tail::Torn { bytes }, _) => format!("torn tail of {bytes} bytes: recovery cuts it off"),
        (Tail::Corrupt { offset, line, why }, _) => {
            format!("corrupt at line {line}, byte {offset}: {why}")
        }
        (Tail::Newer { format, .. }, _) => format!("format {format} is newer than this program"),
        (Tail::Clean, None) => "empty: a crash came before the first record".into(),
        (Tail::Clean, Some(state)) => match state.verdict() {
            Some(verdict) if state.left_out().is_empty() => format!("sound, closed: {verdict}"),
            Some(verdict) => format!("sound, closed: {verdict} in part"),
            None if state.stuck.is_some() => "sound, open: stuck".into(),
            None => "sound, open".into(),
        },
    }
}

/// Prints every record as it is written, until the restore is over, or stuck, or nobody writes it any more.
pub(super) fn follow(context: &Context, id: &RestoreId) -> Result<u8, Fault> {
    let mut follower = Follower::new(&context.profile, id);
    let mut idle = false;
    loop {
        let news = follower.look(|line, state| match line {
            ScannedLine::Record(record) if context.json => print_json(&record_json(record)),
            ScannedLine::Record(record) => match state {
                Some(state) => {
                    let lines = progress_lines(record, state, context.detail);
                    lines.iter().for_each(|line| say!("{line}"));
                }
                None => say!("{}", record_text(record, context.detail)),
            },
            ScannedLine::Opaque { seq, json } => say!("{}", opaque_text(*seq, json)),
        })?;
        if let Some(state) = follower.state()
            && (state.verdict().is_some() || state.stuck.is_some())
        {
            say_standing(context, state);
            return Ok(0);
        }
        // Looked at once more after the writer was seen to be gone, so that its last record is not missed.
        let running = Lock::holder(&context.profile).is_some();
        if !running && idle && !news {
            if let Some(state) = follower.state().filter(|s| s.stops_at.is_some()) {
                say_standing(context, state);
                return Ok(0);
            }
            if let Some(problem) = follower.damage() {
                return Err(problem.clone().into());
            }
            if context.json {
                print_json(&serde_json::json!({ "verdict": null, "standing": "open" }));
            }
            tell!("nothing works on this restore");
            tell!(
                "{}",
                look(&context.profile, &Linux::new(&context.profile)).text()
            );
            return Ok(0);
        }
        idle = !running;
        std::thread::sleep(POLL);
    }
}

/// Says how it ended, and how the gateway stands then: not before its worker has ended, which has something left to do behind the last
/// record.
fn say_standing(context: &Context, state: &State) {
    let host = Linux::new(&context.profile);
    let works = || {
        let driver = state.driver.as_ref().zip(host.boot().ok());
        driver.is_some_and(|(driver, boot)| process::runs(driver, &boot))
    };
    // A worker that was stopped would be waited for for ever: then the lines say that.
    for _ in 0..LOOKS {
        if !works() {
            break;
        }
        std::thread::sleep(POLL);
    }
    let now = look(&context.profile, &host);
    let view = View::of(state);
    if context.json {
        print_json(&serde_json::json!({
            "verdict": view.verdict,
            "standing": view.standing,
            "headline": view.headline,
            "left_out": view.left_out,
            "state": now.as_json(),
        }));
    } else {
        say!("{}", view.headline);
        say!("{}", now.text());
    }
}
