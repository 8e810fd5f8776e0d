//! How long an open restore takes to be settled: it is killed right before its swaps, and recovered. Owns when it is
//! killed, and from which record to which is counted.

use std::path::Path;
use std::time::Duration;

use fixtures::{Result, Shape, Trouble};
use journal_format::{Entry, Role, Step, scan};

use crate::gateway::Gateway;
use crate::measure::{Once, Series};
use crate::options::{Options, Part};
use crate::report::Report;

const GOAL_MS: f64 = 2000.0;

/// Settles restores that change every config of a gateway at rest.
pub fn measure(
    folder: &Path,
    clients: usize,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    if !options.wants(Part::Settle) {
        return Ok(());
    }
    let folder = tempfile::tempdir_in(folder)?;
    let gateway = Gateway::at_rest(folder.path(), &Shape::of(clients))?;
    let name = format!("{clients} clients");
    let (mut whole, mut files) = (Series::default(), Series::default());
    for _ in 0..options.runs {
        gateway.change(gateway.clients())?;
        // The name of a safety backup is that of the second.
        std::thread::sleep(Duration::from_secs(1));
        let id = killed(&gateway)?;
        whole.0.push(gateway.holdfast(&["recover", "--resume"])?.0);
        files.0.push(Once {
            took: until_files(&gateway, &id)?,
            ..Once::default()
        });
    }
    report.memory("recover, all configs", &name, whole.peak_kib());
    report.alone("recover, until files are settled", &name, files, GOAL_MS);
    report.alone("recover, all configs", &name, whole, GOAL_MS);
    Ok(())
}

/// Kills a restore while it settles the databases: both swaps are left to the recovery. Gives its id.
fn killed(gateway: &Gateway) -> Result<String> {
    let argv = gateway.argv(&["--json", "restore", &gateway.archive, "--yes"]);
    let mut restore = gateway.sandbox.spawn(&argv)?;
    let settles = |said: &str| {
        said.lines()
            .any(|l| l.contains("\"intent\"") && l.contains("\"settle-databases\""))
    };
    while !settles(&restore.stdout_so_far()?) {
        if restore.has_ended()? {
            return Err(Trouble::new(format!(
                "the restore ended before it was killed: {}",
                restore.stderr_so_far()?
            )));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    restore.kill_worker()?;
    restore.wait()?;
    let open = std::fs::read_to_string(gateway.sample().state_dir().join("open"))?;
    let id = open
        .lines()
        .next()
        .and_then(|l| l.strip_prefix("# holdfast "));
    id.map(str::to_owned)
        .ok_or_else(|| Trouble::new("the barrier names no restore"))
}

/// From the start of the recovery until files and databases are in place.
fn until_files(gateway: &Gateway, id: &str) -> Result<Duration> {
    let restores = gateway.sample().state_dir().join("restores");
    let scan = scan(&std::fs::read(restores.join(id).join("journal"))?);
    let start =
        scan.records.iter().rev().find(
            |r| matches!(&r.entry, Entry::Driver(driver) if driver.role == Role::RecoverByHand),
        );
    let done = scan.records.iter().rev().find(
        |r| matches!(&r.entry, Entry::Done { r#move, .. } if r#move.step == Step::SwapConfigs),
    );
    match (start, done) {
        (Some(start), Some(done)) if done.seq > start.seq => {
            Ok(Duration::from_millis(done.up_ms - start.up_ms))
        }
        _ => Err(Trouble::new(format!(
            "the recovery of restore {id} found the configs swapped: there was nothing to settle"
        ))),
    }
}
