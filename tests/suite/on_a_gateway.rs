//! A sample gateway that runs in a sandbox, and `holdfast` run on it as an admin would run it. Owns what every test of a
//! restore asks afterwards; wrecks and injures nothing itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fixtures::{Finished, Picture, Real, Running, Sample, Sandbox, Shape, program, skip};

/// A gateway that runs.
pub struct Gateway {
    // In this order: the sandbox ends before its folder goes.
    pub sandbox: Sandbox,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// The gateway that this makes below a folder, brought up; none, and a skip on record, where the machine cannot.
    pub fn start(make: impl FnOnce(&Path) -> Sample) -> Option<Gateway> {
        let gateway = Gateway::bare(make)?;
        gateway.sandbox.bring_up().unwrap();
        Some(gateway)
    }

    /// The same, not brought up.
    pub fn bare(make: impl FnOnce(&Path) -> Sample) -> Option<Gateway> {
        if skip::cannot_run_gateways() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::bare(&make(folder.path())).unwrap();
        Some(Gateway { sandbox, folder })
    }

    /// A real one.
    pub fn real(real: Real) -> Option<Gateway> {
        Gateway::start(|folder| real.unpack(folder).unwrap())
    }

    /// A small one with two tunnels, one of them with hooks, and rules that are kept over a reboot.
    pub fn small() -> Option<Gateway> {
        Gateway::start(small)
    }

    /// A folder outside the gateway.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn sample(&self) -> &Sample {
        self.sandbox.sample()
    }

    /// `holdfast` with these words.
    pub fn argv(&self, words: &[&str]) -> Vec<String> {
        let holdfast = program("holdfast").unwrap();
        let profile = self.sample().profile();
        [path(&holdfast), "--config", path(&profile)]
            .iter()
            .chain(words)
            .map(|w| (*w).to_owned())
            .collect()
    }

    /// Runs it to its end.
    pub fn holdfast(&self, words: &[&str]) -> Finished {
        let argv = self.argv(words);
        self.sandbox
            .run(&argv.iter().map(String::as_str).collect::<Vec<_>>())
            .unwrap()
    }

    /// Starts it.
    pub fn begin(&self, words: &[&str]) -> Running {
        let argv = self.argv(words);
        self.sandbox
            .spawn(&argv.iter().map(String::as_str).collect::<Vec<_>>())
            .unwrap()
    }

    /// Runs a program inside that must end well.
    pub fn run(&self, argv: &[&str]) -> String {
        self.sandbox.run(argv).unwrap().ok().unwrap().stdout
    }

    /// Makes a backup.
    pub fn backup(&self) -> PathBuf {
        let made = self.holdfast(&["backup"]).ok().unwrap();
        PathBuf::from(made.stdout.trim())
    }

    /// Restores from it, to a good end.
    pub fn restore(&self, backup: &Path) -> Finished {
        let done = self.holdfast(&["restore", path(backup), "--yes"]);
        done.ok().unwrap()
    }

    /// The same: all that it says.
    pub fn told_by_restore(&self, backup: &Path) -> String {
        let done = self.restore(backup);
        done.stdout + &done.stderr
    }

    /// From now on it waits a second for a database that is busy.
    pub fn is_impatient(&self) {
        impatient(self.sample());
    }

    /// Every backup in `state_dir`, the oldest first.
    pub fn backups(&self) -> Vec<PathBuf> {
        listed(&self.sample().state_dir().join("backups"))
    }

    pub fn picture(&self) -> Picture {
        Picture::take(&self.sandbox).unwrap()
    }

    /// Every restore, the oldest first.
    pub fn restores(&self) -> Vec<PathBuf> {
        let mut restores = listed(&self.sample().state_dir().join("restores"));
        // Of two that began within a second, the names do not tell.
        restores.sort_by_cached_key(|folder| {
            let journal = folder.join("journal").metadata();
            journal.and_then(|meta| meta.modified()).ok()
        });
        restores
    }

    /// The last restore's folder.
    pub fn last_restore(&self) -> PathBuf {
        self.restores().pop().expect("no restore has begun")
    }

    /// Its journal is whole and closed, and nothing is open.
    pub fn is_settled(&self) {
        let journal = self.last_restore().join("journal");
        let verified = self.holdfast(&["journal", "verify", path(&journal)]);
        assert_eq!(verified.code(), 0, "{verified}");
        assert!(
            !self.sample().state_dir().join("open").exists(),
            "the barrier is up"
        );
        // 7: it is over, and something is down since.
        let status = self.holdfast(&["status"]);
        assert!([0, 7].contains(&status.code()), "{status}");
    }

    /// Everything is as this picture has it: nothing of Holdfast's lies about either, since a picture shows it.
    pub fn is(&self, picture: &Picture) {
        assert_eq!(picture.diff(&self.picture()), Vec::<String>::new());
    }

    /// Waits until the barrier of a running restore is up. False if the restore ended before.
    pub fn barrier_is_up(&self, restore: &mut Running) -> bool {
        self.await_while(restore, || self.sample().state_dir().join("open").exists())
    }

    /// Waits for something while a restore runs. False if the restore ended before.
    pub fn await_while(&self, restore: &mut Running, mut there: impl FnMut() -> bool) -> bool {
        loop {
            if there() {
                return true;
            }
            if restore.has_ended().unwrap() {
                return there();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The records of the last restore, as `journal show --json` gives them.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let journal = self.last_restore().join("journal");
        let shown = self
            .holdfast(&["--json", "journal", "show", path(&journal)])
            .ok()
            .unwrap();
        json(&shown.stdout)["records"].as_array().unwrap().clone()
    }

    /// What people read of this gateway, with everything blanked that differs from one run to another.
    pub fn plain(&self, text: &str) -> String {
        let root = self.sample().root().display().to_string();
        let text = text.replace(&root, "GATEWAY");
        let helper = program("sample-gateway-service").unwrap();
        let text = text.replace(path(helper.parent().unwrap()), "BIN");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let text = text.replace(&format!(" on {}", host.trim()), " on HOST");
        let version = concat!("holdfast ", env!("CARGO_PKG_VERSION"));
        let text = text.replace(version, "holdfast VERSION");
        blank(&text)
    }
}

/// A small gateway with two tunnels, one of them with hooks.
pub fn small(folder: &Path) -> Sample {
    let shape = Shape {
        active: 2,
        hooks: true,
        ..Shape::of(6)
    };
    Sample::generate(&folder.join("gateway"), &shape).unwrap()
}

/// This gateway waits a second for a database that is busy.
pub fn impatient(sample: &Sample) {
    let profile = sample.profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    let changed = text.replacen("[gateway]\n", "[gateway]\nbusy_seconds = 1\n", 1);
    assert_ne!(text, changed, "the profile has no such table");
    std::fs::write(&profile, changed).unwrap();
}

/// Nobody else reads or writes the clients until this goes.
pub fn hold_clients(sample: &Sample) -> rusqlite::Connection {
    let database = rusqlite::Connection::open(sample.client_database()).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    database
}

/// One JSON document.
pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The codes of the problems that a command with `--json` ends with.
pub fn codes(ended: &Finished) -> Vec<String> {
    let last = ended.stdout.lines().last().unwrap_or_default();
    let problems = json(last)["problems"].as_array().cloned();
    let problems = problems.unwrap_or_else(|| panic!("{ended}")).into_iter();
    let code = |p: serde_json::Value| p["code"].as_str().unwrap_or_default().to_owned();
    problems.map(code).collect()
}

/// Without what a program said, which is not the same in each of its versions.
pub fn without_what_programs_said(text: &str) -> String {
    let own = |line: &&str| !line.starts_with("  | ");
    let lines: Vec<&str> = text.lines().filter(own).collect();
    lines.join("\n") + "\n"
}

/// A program of this name that runs before the real one, in the gateway's own mounts.
pub fn stand_in(gateway: &Gateway, name: &str, text: &str) {
    gateway.run(&["mount", "-t", "tmpfs", "stand-in", "/usr/local/sbin"]);
    let file = gateway.sandbox.inside(&format!("/usr/local/sbin/{name}"));
    std::fs::write(&file, text).unwrap();
    gateway.run(&["chmod", "755", &format!("/usr/local/sbin/{name}")]);
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in listed(folder) {
        if entry.is_dir() {
            found.extend(files_below(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}

/// Replaces every run of characters that looks like a name, time, size or number of one run by a word for it.
fn blank(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words: Vec<String> = line.split(' ').map(blank_word).collect();
        for at in 0..words.len() {
            let next = words
                .get(at + 1)
                .map(|w| w.trim_end_matches(',').to_owned());
            let next = next.as_deref();
            let is_number =
                |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let digits = words[at].trim_end_matches([')', ',']).to_owned();
            let age = words[at]
                .strip_prefix('(')
                .filter(|w| is_number(w))
                .is_some();
            if age && next.is_some_and(|n| n.starts_with("ms)") || n.starts_with("s)")) {
                (words[at], words[at + 1]) = ("(SOME".into(), "TIME)".into());
            }
            let names = at > 0 && matches!(words[at - 1].as_str(), "process" | "(pid");
            if is_number(&digits) && matches!(next, Some("ms" | "s" | "min")) {
                // On a busy machine what took milliseconds takes seconds.
                (words[at], words[at + 1]) = ("SOME".into(), "TIME".into());
            } else if is_number(&digits) && (names || next == Some("bytes")) {
                words[at] = words[at].replace(&digits, "N");
            }
        }
        out.push_str(&words.join(" "));
        out.push('\n');
    }
    out
}

fn blank_word(word: &str) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(c) = rest.chars().next() {
        let (token, kind) = token(rest);
        if token == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.push_str(kind);
            rest = &rest[token..];
        }
    }
    out
}

/// The length of what begins here and differs from run to run, and the word for it; 0 if nothing does.
fn token(text: &str) -> (usize, &'static str) {
    let shapes: [(&str, &str); 7] = [
        ("dddddddd_dddddd.zip", "TIME.zip"),
        ("ddddddddTddddddZ-xxxxxxxx", "ID"),
        ("dddd-dd-ddTdd:dd:dd.ddddddddd+dd:dd", "TIME"),
        ("dddd-dd-ddTdd:dd:dd.dddddd+dd:dd", "TIME"),
        ("dddd-dd-ddTdd:dd:dd.ddddddZ", "TIME"),
        ("dddd-dd-ddTdd:dd:ddZ", "TIME"),
        ("dd:dd:dd", "TIME"),
    ];
    for (shape, word) in shapes {
        let fits = text.len() >= shape.len()
            && shape.chars().zip(text.chars()).all(|(s, t)| match s {
                'd' => t.is_ascii_digit(),
                'x' => t.is_ascii_hexdigit(),
                s => s == t,
            });
        if fits {
            return (shape.len(), word);
        }
    }
    let hex = text.chars().take_while(char::is_ascii_hexdigit).count();
    if hex >= 64 {
        return (hex, "DIGEST");
    }
    (0, "")
}
