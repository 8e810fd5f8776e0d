//! Holds the gateway's units back while they must be down, where `boot-units` has not done it: the same conditions, until the next
//! boot. Decides nothing about when.
#![expect(
    clippy::disallowed_methods,
    reason = "systemd is asked and told to read its units anew"
)]

use std::path::{Path, PathBuf};

use super::{COMMAND_LIMIT, words};
use crate::error::{Code, Problem};
use crate::files::open::errno;
use crate::files::whole;
use crate::host::programs::execute;
use crate::host::{MANAGED, held_units};

/// Apart from the file that `boot-units` writes: one of that name under `/etc` would take its place.
const FILE: &str = "50-holdfast-held.conf";

fn drop_in(unit: &str) -> Result<PathBuf, Problem> {
    let folder = format!("{}.d", held_units::name(unit)?);
    Ok(Path::new(MANAGED).join(folder).join(FILE))
}

/// From now on nobody but a driver starts this unit, as long as the barrier is up: no timer, no socket, no other unit, no admin.
pub(super) fn hold(unit: &str, barrier: &Path) -> Result<(), Problem> {
    if !Path::new(MANAGED).exists() {
        return Ok(());
    }
    let conditions = held_units::conditions(barrier)?;
    let show = [
        "systemctl",
        "show",
        "--property=DropInPaths",
        "--value",
        "--",
        unit,
    ];
    let known = execute(&words(&show), "", COMMAND_LIMIT)?;
    let mut known = known.stdout.split_whitespace();
    let holds = |path: &str| std::fs::read_to_string(path).is_ok_and(|t| t.contains(&conditions));
    if known.any(holds) {
        return Ok(());
    }
    let path = drop_in(unit)?;
    let text =
        format!("# A restore is open: its driver alone starts this unit.\n[Unit]\n{conditions}");
    path.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| whole::write(&path, text.as_bytes(), 0o644))
        .map_err(|e| errno("write", &path, e))?;
    reload()
}

/// Takes away what [`hold`] wrote for these units.
pub(super) fn release<'a>(units: impl Iterator<Item = &'a str>) -> Result<(), Problem> {
    let mut released = false;
    for unit in units {
        let path = drop_in(unit)?;
        match std::fs::remove_file(&path) {
            Ok(()) => released = true,
            Err(e) if super::is_gone(&e) => continue,
            Err(e) => return Err(errno("remove", &path, e)),
        }
        // Others may have settings of their own in it.
        let _ = path.parent().map(std::fs::remove_dir);
    }
    if released { reload() } else { Ok(()) }
}

/// Sockets and paths that start this unit work again: systemd gives one up that asks too often for a unit that is held. Not while the
/// unit runs, when a socket refuses.
pub(super) fn listen_again(unit: &str) -> Result<(), Problem> {
    let ask = |property: &str, unit: &str| {
        let property = format!("--property={property}");
        let show = ["systemctl", "show", &property, "--value", "--", unit];
        execute(&words(&show), "", COMMAND_LIMIT)
    };
    let triggers = ask("TriggeredBy", unit)?.stdout;
    for trigger in triggers.split_whitespace() {
        if ask("Result", trigger)?.stdout.trim() == "trigger-limit-hit" {
            let start = ["systemctl", "--no-ask-password", "start", "--", trigger];
            let out = execute(&words(&start), "", COMMAND_LIMIT)?;
            let advice = format!("systemctl start {trigger}");
            out.expect_ok(
                Code::SERVICE_DOES_NOT_START,
                &format!("start {trigger}"),
                &advice,
            )?;
        }
    }
    Ok(())
}

fn reload() -> Result<(), Problem> {
    let reload = words(&["systemctl", "--no-ask-password", "daemon-reload"]);
    let out = execute(&reload, "", COMMAND_LIMIT)?;
    let what = "make systemd read its units anew";
    out.expect_ok(Code::SERVICE_UNKNOWN, what, "systemctl daemon-reload")
        .map(drop)
}
