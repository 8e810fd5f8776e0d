//! `holdfast status`: idle, or the restore that is open, where it stands, its process. Always ends with 0: it tells.

use journal_format::{Soundness, View, view_text};

use super::{Context, print_json, say};
use crate::fault::Fault;
use crate::process::Lock;
use crate::state_dir;

pub(super) fn run(context: &Context) -> Result<u8, Fault> {
    let holder = Lock::holder(&context.profile);
    let open = state_dir::open_restore(&context.profile)?;
    let Some(open) = open else {
        match (&holder, context.json) {
            (Some((pid, what)), false) => say(&format!("busy: {what} runs, process {pid}")),
            (None, false) => say("idle"),
            (holder, true) => print_json(&serde_json::json!({
                "status": if holder.is_some() { "busy" } else { "idle" },
                "pid": holder.as_ref().map(|(pid, _)| pid),
                "what": holder.as_ref().map(|(_, what)| what),
            })),
        }
        return Ok(0);
    };
    let path = state_dir::journal(&context.profile, &open.id);
    let scan = state_dir::read(&context.profile, &open.id)?;
    let view = scan.state.as_ref().map(View::of);
    if context.json {
        print_json(&serde_json::json!({
            "status": if holder.is_some() { "running" } else { "open" },
            "restore": open.id,
            "barrier": open.barrier,
            "pid": holder.as_ref().map(|(pid, _)| pid),
            "journal": path,
            "view": view,
        }));
        return Ok(0);
    }
    match &holder {
        Some((pid, what)) => say(&format!("{what} runs, process {pid}")),
        None if scan.soundness() == Soundness::Newer => say(&format!(
            "a newer Holdfast began restore {}, and nothing works on it: run `holdfast recover` of that version",
            open.id
        )),
        None => say(&format!(
            "restore {} is open and nothing works on it: run `holdfast recover`",
            open.id
        )),
    }
    match view {
        Some(view) => say(&view_text(&view)),
        None if scan.soundness() == Soundness::Newer => say(&format!(
            "this program does not understand its journal {}",
            path.display()
        )),
        None => say(&format!("its journal {} says nothing yet", path.display())),
    }
    Ok(0)
}
