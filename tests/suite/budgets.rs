//! What the work costs, in system calls, bytes and syncs: so much for each client more, and no more, whatever the machine. A
//! budget is what the work needs by itself, said beside it, and a tenth for what is read in portions of many clients.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use fixtures::{Sample, Sandbox, Shape, program, skip};

use crate::on_a_gateway::path;
use crate::traced;

/// Two gateways that differ by so many clients: what differs in cost is these clients'.
const FEW: usize = 150;
const MORE: usize = 500;

/// Kinds of calls, and the calls of each.
const KINDS: [(&str, &[&str]); 7] = [
    ("open", &["open", "openat", "openat2"]),
    ("close", &["close"]),
    ("look", &["stat", "lstat", "fstat", "newfstatat", "statx"]),
    ("read", &["read", "pread64", "readv", "preadv"]),
    ("write", &["write", "pwrite64", "writev", "pwritev"]),
    ("seek", &["lseek"]),
    ("sync", &["fsync", "fdatasync", "syncfs", "sync_file_range"]),
];

/// Calls of each kind, and bytes that were read and written.
type Cost = BTreeMap<&'static str, f64>;

struct Gateway {
    sandbox: Sandbox,
    _folder: tempfile::TempDir,
}

impl Gateway {
    fn of(clients: usize) -> Option<Gateway> {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape {
            // Rows of the histories are the databases' own cost, and no client's.
            history: 0,
            second_copy_differs: false,
            ..Shape::of(clients)
        };
        let sample = Sample::generate(folder.path(), &shape).unwrap();
        let sandbox = skip::sandbox(&sample).unwrap()?;
        Some(Gateway {
            sandbox,
            _folder: folder,
        })
    }

    /// With nothing that runs: strace would wait for what a restore starts and leaves running.
    fn at_rest(clients: usize) -> Option<Gateway> {
        if skip::cannot_run_gateways() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape {
            history: 0,
            active: 0,
            second_copy_differs: false,
            ..Shape::of(clients)
        };
        let sample = Sample::generate(folder.path(), &shape).unwrap();
        Some(Gateway {
            sandbox: Sandbox::bare(&sample).unwrap(),
            _folder: folder,
        })
    }

    /// Changes both copies of every config.
    fn change_configs(&self) {
        let sample = self.sandbox.sample();
        for folder in [sample.configs_dir(), sample.wireguard_dir()] {
            for name in sample.clients().unwrap() {
                let file = folder.join(format!("{name}.conf"));
                let changed = std::fs::read_to_string(&file).unwrap() + "# changed\n";
                std::fs::write(&file, changed).unwrap();
            }
        }
    }

    /// What the worker of a restore costs, with everything that it starts. The command only watches: what that costs goes by time.
    fn cost_of_restore(&self, archive: &str) -> Cost {
        let log = self.sandbox.sample().root().join("calls");
        let trace = trace();
        let options = ["-f", "-s0", "-o", path(&log), "-e", &trace];
        let (holdfast, profile) = (
            program("holdfast").unwrap(),
            self.sandbox.sample().profile(),
        );
        let words = ["--config", path(&profile), "restore", archive, "--yes"];
        let argv = [&[path(&holdfast)], &words[..]].concat();
        let done = traced::workers(&self.sandbox, &options, || self.sandbox.run(&argv).unwrap());
        assert_eq!(done.code(), 0, "{done}");
        let cost = counted(&std::fs::read_to_string(&log).unwrap());
        std::fs::remove_file(log).unwrap();
        cost
    }

    /// Runs Holdfast; what it cost, with everything that it starts.
    fn cost(&self, words: &[&str]) -> (Cost, String) {
        let log = self.sandbox.sample().root().join("calls");
        let trace = trace();
        let holdfast = program("holdfast").unwrap();
        let profile = self.sandbox.sample().profile();
        let argv = [
            "strace",
            "-f",
            "-qq",
            "-s0",
            "-o",
            path(&log),
            "-e",
            &trace,
            path(&holdfast),
            "--config",
            path(&profile),
        ];
        let done = self.sandbox.run(&[&argv[..], words].concat()).unwrap();
        assert_eq!(done.code(), 0, "{done}");
        let cost = counted(&std::fs::read_to_string(&log).unwrap());
        std::fs::remove_file(log).unwrap();
        (cost, done.stdout)
    }
}

/// The option of `strace` that names every call that counts.
fn trace() -> String {
    let calls: Vec<String> = KINDS
        .iter()
        .flat_map(|(_, calls)| calls.iter().map(|call| format!("?{call}")))
        .collect();
    format!("trace={}", calls.join(","))
}

fn counted(log: &str) -> Cost {
    let mut cost = Cost::new();
    for line in log.lines() {
        // The pid first; a call that another thread's came between is told of twice, and counts when it ended.
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim();
        if line.ends_with("<unfinished ...>") {
            continue;
        }
        let name = line.trim_start_matches("<... ");
        let name = name.split([' ', '(']).next().unwrap_or_default();
        let Some((kind, _)) = KINDS.iter().find(|(_, calls)| calls.contains(&name)) else {
            continue;
        };
        *cost.entry(kind).or_default() += 1.0;
        let result = line.rsplit_once(" = ").map_or("", |(_, result)| result);
        let bytes: f64 = result.split(' ').next().unwrap().parse().unwrap_or(0.0);
        match *kind {
            "read" => *cost.entry("bytes read").or_default() += bytes.max(0.0),
            "write" => *cost.entry("bytes written").or_default() += bytes.max(0.0),
            _ => {}
        }
    }
    cost
}

/// What each client more costs may not be over the budget.
fn within(what: &str, [few, more]: [&Cost; 2], budget: &[(&'static str, f64)]) {
    let clients = (MORE - FEW) as f64;
    let of = |cost: &Cost, kind: &str| cost.get(kind).copied().unwrap_or(0.0);
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for (kind, most) in budget {
        let each = (of(more, kind) - of(few, kind)) / clients;
        all.push(format!("{kind} {each:.2} of {most}"));
        if each > *most {
            wrong.push(format!("{kind}: {each:.2}, and the budget is {most}"));
        }
    }
    println!("{what}, for each client: {}", all.join(", "));
    assert!(wrong.is_empty(), "{what}, for each client: {wrong:?}");
}

#[test]
fn what_a_client_more_costs_stays_within_the_budgets() {
    if skip::lacks(&["strace"]) {
        return;
    }
    let (Some(few), Some(more)) = (Gateway::of(FEW), Gateway::of(MORE)) else {
        return;
    };
    let both = |words: &[&str]| [few.cost(words), more.cost(words)];

    let backups = both(&["backup"]);
    let [(few_cost, few_made), (more_cost, more_made)] = &backups;
    // Two files: each opened, looked at, read and closed once, and its stamp looked at once or twice more for the one moment: the
    // files of this gateway are new. Those of tunnels that are up are read again then, to be compared with the kernel's peers.
    let budget = [
        ("open", 2.8),
        ("close", 2.8),
        ("look", 6.5),
        ("read", 3.2),
        ("seek", 0.05),
        ("sync", 0.0),
        ("write", 0.6),
        ("bytes read", 9_000.0),
        ("bytes written", 2_100.0),
    ];
    within("backup", [few_cost, more_cost], &budget);
    let syncs = |cost: &Cost| cost.get("sync").copied().unwrap_or(0.0);
    assert_eq!(syncs(few_cost), syncs(more_cost), "syncs of a backup");

    let verified = [
        few.cost(&["verify", few_made.trim()]).0,
        more.cost(&["verify", more_made.trim()]).0,
    ];
    // No file of its own: entries come in batches, and databases in portions.
    let budget = [
        ("open", 0.0),
        ("close", 0.1),
        ("look", 0.1),
        ("read", 0.25),
        ("seek", 0.0),
        ("sync", 0.0),
        ("write", 0.5),
        ("bytes read", 2_900.0),
        ("bytes written", 900.0),
    ];
    within("verify", [&verified[0], &verified[1]], &budget);

    let surveyed = both(&["survey"]);
    // Two files, each read once; and looked at by itself for who may write to it. The rows are read again for the one moment.
    let budget = [
        ("open", 4.1),
        ("close", 4.2),
        ("look", 4.8),
        ("read", 2.4),
        ("seek", 0.0),
        ("sync", 0.0),
        ("write", 0.35),
        ("bytes read", 1_600.0),
        ("bytes written", 200.0),
    ];
    within("survey", [&surveyed[0].0, &surveyed[1].0], &budget);
}

#[test]
fn what_a_config_more_that_a_restore_changes_costs_stays_within_the_budget() {
    if skip::lacks(&["strace"]) {
        return;
    }
    let (Some(few), Some(more)) = (Gateway::at_rest(FEW), Gateway::at_rest(MORE)) else {
        return;
    };
    let restored = [&few, &more].map(|gateway| {
        let made = gateway.cost(&["backup"]).1;
        gateway.change_configs();
        // What a restore closes itself it closes right before its safety backup. That then looks at rows and files once more if
        // no tick of the clock lies between: on one machine it does, on another not.
        gateway.cost(&["secure"]);
        gateway.cost_of_restore(made.trim())
    });
    // Two files, each of them saved before, compared, staged beside its target, exchanged, read once more, and set aside. What each
    // old one was is kept for the way back, of databases too.
    let budget = [
        ("open", 60.5),
        ("close", 54.5),
        ("look", 50.5),
        ("read", 13.5),
        ("seek", 0.0),
        ("sync", 0.0),
        ("write", 2.6),
        ("bytes read", 18_000.0),
        ("bytes written", 6_100.0),
    ];
    within("restore", [&restored[0], &restored[1]], &budget);
}
