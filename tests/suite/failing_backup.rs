//! A backup during which one call of the system fails: the n-th of a kind, or every one on a file from then on. It ends with 0
//! only if every part is in it; else it says what lacks, or there is none; and the next one is whole.
//!
//! With `HOLDFAST_EVERY_CRASH=1` in the environment every call of each kind fails in turn, not a spread of them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::archive::Archive;
use engine::gateway::profile::Limits;
use fixtures::{Finished, skip};

use crate::on_a_gateway::{Gateway, hold_clients, path};

/// The calls by which something is looked at, read or locked.
const CALLS: [&str; 12] = [
    "openat",
    "openat2",
    "read",
    "pread64",
    "statx",
    "newfstatat",
    "fstat",
    "getdents64",
    "readlinkat",
    "fcntl",
    "flock",
    "mmap",
];

/// What a backup holds: its entries, with their digests where they are files that nobody writes, and the parts that lack. (Rules
/// are what another program prints, which leaves out of a rule what it cannot load an extension for.)
#[derive(Debug, PartialEq)]
struct Held {
    entries: BTreeMap<String, String>,
    lacks: BTreeSet<String>,
}

fn held(file: &Path) -> Held {
    let databases = ["configs.db", "wireguard.db", "app.db"];
    let file = File::open(file).unwrap();
    let archive = Archive::open(file, "b.zip", &Limits::default(), &databases, &|_| {
        Ok(false)
    })
    .unwrap();
    let manifest = archive.metadata().holdfast.as_ref().unwrap();
    let entries = manifest.entries.iter();
    Held {
        entries: entries
            .map(|(name, facts)| match name.ends_with(".conf") {
                true => (name.clone(), facts.sha256.to_string()),
                false => (name.clone(), String::new()),
            })
            .collect(),
        lacks: manifest
            .lacks()
            .iter()
            .map(|l| l.part.to_string())
            .collect(),
    }
}

/// Makes a backup under `strace` with these options; how it ended, what it holds if there is one, and the calls.
fn backup(gateway: &Gateway, options: &[&str]) -> (Finished, Option<Held>, String) {
    let log = gateway.beside("calls");
    let output = gateway.beside("made");
    std::fs::remove_dir_all(&output).ok();
    let words = gateway.argv(&["backup", "--output", path(&output)]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let strace = ["strace", "-f", "-qq", "-s0", "-o", path(&log)];
    let argv = [&strace[..], options, &words].concat();
    let done = gateway.sandbox.run(&argv).unwrap();
    let made = std::fs::read_dir(&output).ok().and_then(|mut all| {
        let made = all.next()?.unwrap().path();
        assert!(all.next().is_none(), "nothing lies beside the backup");
        assert!(path(&made).ends_with(".zip"), "{}", made.display());
        Some(held(&made))
    });
    let log = std::fs::read_to_string(log).unwrap_or_default();
    (done, made, log)
}

/// Whatever failed: no part is missing from a backup that is called good.
fn is_honest(whole: &Held, what: &str, done: &Finished, made: Option<&Held>) {
    match (done.code(), made) {
        (0, Some(made)) => assert_eq!(made, whole, "{what}: {done}"),
        (8, Some(made)) => {
            assert!(!made.lacks.is_empty(), "{what}: {done}");
            for entry in whole
                .entries
                .keys()
                .filter(|e| !made.entries.contains_key(*e))
            {
                let lacks = |part: &str| made.lacks.contains(part);
                let named = match entry.split('/').next().unwrap() {
                    "configs" | "wireguard" => lacks("configs"),
                    "holdfast" => made.lacks.iter().any(|l| l.starts_with("kept")),
                    "ip6tables_rules.txt" => lacks("rules-v6"),
                    rules if rules.starts_with("iptables") => lacks("rules-v4"),
                    database => lacks(database),
                };
                assert!(named, "{what}: {entry} is not there: {done}");
            }
            for part in &made.lacks {
                assert!(done.stderr.contains("could not be saved"), "{part}: {done}");
            }
        }
        // 127: the program itself could not be loaded.
        (1..=3 | 127, None) => {}
        _ => panic!("{what}: {done}: {made:?}"),
    }
}

fn chosen<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    if std::env::var("HOLDFAST_EVERY_CRASH").as_deref() == Ok("1") {
        return all.to_vec();
    }
    let most = most.min(all.len());
    (0..most)
        .map(|i| all[i * all.len() / most].clone())
        .collect()
}

fn gateway() -> Option<(Gateway, Held)> {
    if skip::lacks(&["strace"]) {
        return None;
    }
    let gateway = Gateway::small()?;
    let (done, whole, _) = backup(&gateway, &["-e", "trace=none"]);
    assert_eq!(done.code(), 0, "{done}");
    let whole = whole.unwrap();
    assert_eq!(whole.lacks, BTreeSet::new());
    Some((gateway, whole))
}

#[test]
fn a_call_that_fails_once_never_makes_a_backup_with_a_part_missing_a_good_one() {
    let Some((gateway, whole)) = gateway() else {
        return;
    };
    let trace = format!("trace={}", CALLS.map(|c| format!("?{c}")).join(","));
    let (done, _, log) = backup(&gateway, &["-e", &trace]);
    assert_eq!(done.code(), 0, "{done}");
    // Calls are counted in each thread by itself.
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in log.lines() {
        let mut words = line.splitn(2, ' ');
        let (thread, call) = (words.next().unwrap(), words.next().unwrap_or_default());
        let call = call.trim_start().split('(').next().unwrap_or_default();
        *counts.entry((call, thread)).or_default() += 1;
    }
    let mut points = Vec::new();
    for call in CALLS {
        let of_call = counts.iter().filter(|((c, _), _)| *c == call);
        let most = of_call.map(|(_, n)| *n).max().unwrap_or_default();
        points.extend((1..=most).map(|n| (call, n)));
    }
    assert!(points.len() > 200, "{counts:?}");
    let (mut injected, mut codes) = (0, BTreeMap::new());
    let points = chosen(&points, 40);
    for (call, n) in &points {
        let inject = format!("inject={call}:error=EIO:when={n}");
        let (done, made, log) = backup(&gateway, &["-e", &trace, "-e", &inject]);
        injected += usize::from(log.contains("INJECTED"));
        is_honest(
            &whole,
            &format!("EIO from {call} {n}"),
            &done,
            made.as_ref(),
        );
        *codes.entry(done.code()).or_insert(0) += 1;
    }
    println!("{injected} of {}: {codes:?}", points.len());
    assert!(injected * 10 >= points.len() * 9, "{injected}");
    let (done, made, _) = backup(&gateway, &["-e", "trace=none"]);
    assert_eq!((done.code(), made), (0, Some(whole)));
}

/// The files and folders of the gateway that a backup reads.
fn read(gateway: &Gateway) -> Vec<PathBuf> {
    let sample = gateway.sample();
    let first = sample.active().unwrap().remove(0);
    let mut all: Vec<PathBuf> = sample.databases().into_iter().map(|d| d.path).collect();
    all.extend([
        sample.configs_dir(),
        sample.wireguard_dir(),
        sample.configs_dir().join(format!("{first}.conf")),
        sample.wireguard_dir().join(format!("{first}.conf")),
    ]);
    all.extend(sample.kept_rules());
    all.retain(|p| p.exists());
    all
}

#[test]
fn a_file_that_cannot_be_read_for_good_makes_the_backup_incomplete_and_the_next_one_is_whole() {
    let Some((gateway, whole)) = gateway() else {
        return;
    };
    let mut codes = BTreeMap::new();
    for file in read(&gateway) {
        for calls in ["read,pread64", "fstat,statx", "getdents64"] {
            let inject = format!("inject={calls}:error=EIO");
            let trace = format!("trace={calls}");
            let options = ["-P", path(&file), "-e", &trace, "-e", &inject];
            let (done, made, log) = backup(&gateway, &options);
            let what = format!("EIO from {calls} on {}", file.display());
            is_honest(&whole, &what, &done, made.as_ref());
            if log.contains("INJECTED") {
                *codes.entry(done.code()).or_insert(0) += 1;
            }
        }
    }
    println!("{codes:?}");
    assert!(codes.contains_key(&8), "{codes:?}");
    let (done, made, _) = backup(&gateway, &["-e", "trace=none"]);
    assert_eq!((done.code(), made), (0, Some(whole)));
}

#[test]
fn calls_that_a_signal_interrupts_are_made_again_and_the_backup_is_whole() {
    let Some((gateway, whole)) = gateway() else {
        return;
    };
    let files = read(&gateway);
    let mut options: Vec<&str> = files.iter().flat_map(|f| ["-P", path(f)]).collect();
    options.extend(["-e", "trace=read,pread64,openat,openat2"]);
    // Every second one: the same call, made again, ends well.
    options.extend([
        "-e",
        "inject=read,pread64,openat,openat2:error=EINTR:when=1+2",
    ]);
    let (done, made, log) = backup(&gateway, &options);
    assert!(log.contains("INJECTED"), "{log}");
    assert_eq!((done.code(), made), (0, Some(whole)), "{done}");
}

#[test]
fn a_lock_of_ten_seconds_is_waited_for_and_one_that_stays_makes_the_backup_incomplete() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let locked = |seconds: u64| {
        let connection = hold_clients(gateway.sample());
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(seconds));
            drop(connection);
        })
    };
    let holder = locked(10);
    gateway.holdfast(&["backup"]).ok().unwrap();
    holder.join().unwrap();

    gateway.is_impatient();
    let holder = locked(8);
    let done = gateway.holdfast(&["backup"]);
    assert_eq!(done.code(), 8, "{done}");
    assert!(done.stderr.contains("configs.db"), "{done}");
    holder.join().unwrap();
}
