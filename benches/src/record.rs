//! What a record of the journal costs beside a bare append with `fdatasync`. Both take turns, record by record, on the
//! same filesystem with lines of the same length.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::error::{Problem, cannot, cause};
use engine::gateway::profile::Profile;
use engine::host::linux::Linux;
use engine::host::{Host, Look};
use engine::restore::journal::JournalWriter;
use engine::restore::process;
use engine::restore::step;
use engine::state_dir;
use fixtures::{Result, Trouble};
use journal_format::{
    ArchiveInfo, Digest, Direction, FenceRules, Firewall, Format, Header, Move, Plan, Policy, Role,
};

use crate::measure::{Once, Series};
use crate::report::Report;

/// Journals for each run asked for: one has some 30 records that count.
const JOURNALS: usize = 4;

pub fn measure(folder: &Path, runs: usize, report: &mut Report) -> Result<()> {
    let host = Linux::new(&Profile::default());
    let (mut ours, mut theirs) = (Series::default(), Series::default());
    for run in 0..runs * JOURNALS {
        let mut bare = File::create(folder.join(format!("bare-{run}")))?;
        one_journal(
            &host,
            &folder.join(format!("journal-{run}")),
            &mut bare,
            &mut ours,
            &mut theirs,
        )
        .map_err(|problem| Trouble::new(format!("cannot {}", problem.what)))?;
    }
    report.compare(
        ("one record of the journal", ""),
        ours,
        ("append and fdatasync", theirs),
        None,
    );
    Ok(())
}

fn one_journal(
    host: &Linux,
    path: &Path,
    bare: &mut File,
    ours: &mut Series,
    theirs: &mut Series,
) -> std::result::Result<(), Problem> {
    let plan = plan();
    let boot = host.boot()?;
    let header = Header {
        format: Format::CURRENT,
        restore: state_dir::new_id(host)?,
        boot: boot.clone(),
        program: process::program(),
        plan: plan.digest(),
    };
    let driver = process::driver(Role::Restore, boot, None)?;
    let host: &dyn Host = host;
    let mut journal = JournalWriter::begin(host, path, header, plan, driver)?;
    let mut length = length_of(path)?;
    let mut also_bare = |took: Duration| -> std::result::Result<(), Problem> {
        ours.0.push(of(took));
        let now = length_of(path)?;
        let line = vec![b'x'; usize::try_from(now - length).unwrap_or_default()];
        length = now;
        let began = Instant::now();
        bare.write_all(&line)
            .and_then(|()| bare.sync_data())
            .map_err(|e| failed("append to the bare file", &e))?;
        theirs.0.push(of(began.elapsed()));
        Ok(())
    };
    for step in engine::plan::order::FORWARD {
        if journal.state().armed.is_none() && !step.is_preparation() {
            let began = Instant::now();
            journal.armed(Digest::of_bytes([7; 32]))?;
            also_bare(began.elapsed())?;
        }
        if step == journal_format::Step::CleanUp {
            break;
        }
        let r#move = Move {
            step,
            direction: Direction::Forward,
            attempt: 1,
        };
        let began = Instant::now();
        let permit = journal.intend(r#move, Vec::new())?;
        also_bare(began.elapsed())?;
        let report = step::Report::did("compared 10006 files and 20 tunnels with the plan");
        let began = Instant::now();
        journal.settle(permit, Ok(report))?;
        also_bare(began.elapsed())?;
    }
    Ok(())
}

fn length_of(path: &Path) -> std::result::Result<u64, Problem> {
    std::fs::metadata(path)
        .map(|m| m.len())
        .map_err(|e| failed("look at the journal", &e))
}

fn failed(what: &str, error: &std::io::Error) -> Problem {
    cannot(cause(error), format!("{what}: {error}"), "see to that disk")
}

fn of(took: Duration) -> Once {
    Once {
        took,
        ..Once::default()
    }
}

/// A plan that changes nothing: only the records count here.
fn plan() -> Plan {
    let (forward, back) = engine::plan::order::lists(engine::plan::order::PlannedWork::ALL);
    Plan {
        archive: ArchiveInfo {
            name: "wireguard_backup_20261122_185220.zip".into(),
            sha256: Digest::of_bytes([1; 32]),
            size: 1,
            created_at: "2026-11-22T18:52:20.618214+00:00".into(),
            host: None,
            made_by: process::program(),
        },
        forward,
        back,
        policy: Policy::Auto,
        keep_going_without_firewall: false,
        staging: Vec::new(),
        databases: Vec::new(),
        files: Vec::new(),
        services: Vec::new(),
        tunnels_down: Vec::new(),
        tunnels_up: Vec::new(),
        fence: FenceRules::default(),
        firewall: Firewall::default(),
        peers: None,
        without_safety_backup_of: Vec::new(),
        may_not_run: Vec::new(),
        may_stay_down: Vec::new(),
        stays_up: Vec::new(),
        left_out: Vec::new(),
        warnings: Vec::new(),
    }
}
