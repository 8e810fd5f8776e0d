//! `holdfast work`: the worker, which holdfast starts for itself and systemd starts at boot; and what it left behind.

use journal_format::View;

use super::{CliCommand, Context, recover};
use crate::error::{Code, Fault, cannot};
use crate::restore::driver::BootStage;
use crate::restore::order::{WorkReport, WorkerState};
use crate::restore::{launch, work};
use crate::state_dir;

/// The first stage at boot.
const BOOT_BEFORE_NETWORK: &str = "boot-before-network";
/// The second stage at boot.
const BOOT: &str = "boot";

pub(super) fn run(context: &Context, name: &str, said: bool) -> Result<u8, Fault> {
    if said {
        return say(context, name);
    }
    let order = match name {
        BOOT_BEFORE_NETWORK => work::at_boot(BootStage::BeforeNetwork),
        BOOT => work::at_boot(BootStage::Whole),
        _ => work::order()?,
    };
    work::work(&context.profile, name, order, !is_of_boot(name))
}

fn is_of_boot(name: &str) -> bool {
    [BOOT_BEFORE_NETWORK, BOOT].contains(&name)
}

/// Whether this is a worker whose first word somebody waits for.
pub(super) fn is_heard(command: &CliCommand) -> bool {
    matches!(command, CliCommand::Work { name, said: false } if !is_of_boot(name))
}

fn say(context: &Context, name: &str) -> Result<u8, Fault> {
    match launch::said(name) {
        Some(WorkerState::Ended(report)) => {
            let view = view(context, &report);
            recover::say_report(context, *report, view.as_ref())
        }
        Some(WorkerState::Runs(process)) if process.runs() => {
            say!("it runs, process {}", process.pid);
            Ok(0)
        }
        Some(WorkerState::Runs(_)) => Err(Fault::Failed(cannot(
            Code::INTERRUPTED,
            "finish: its process was ended",
            "see `holdfast status`",
        ))),
        None => Err(Fault::Failed(cannot(
            Code::NOT_THERE,
            format!("tell of {name}: nothing of that name ran since the boot"),
            "see `holdfast status`",
        ))),
    }
}

fn view(context: &Context, report: &WorkReport) -> Option<View> {
    let id = report.restore()?;
    let scan = state_dir::read(&context.profile, id).ok()?;
    scan.state.as_ref().map(View::of)
}
