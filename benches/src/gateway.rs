//! A gateway to measure on: a generated sample in a sandbox, its backup packed and unpacked, and how it is changed so that
//! there is something to restore.

use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures::{Result, Sample, Sandbox, Shape, Trouble, program};
use journal_format::{Direction, Entry, Record, Scan, Step, scan};
use serde_json::Value;

use crate::measure::{self, Once};

/// A gateway with its backup.
pub struct Gateway {
    pub sandbox: Sandbox,
    /// The backup that Holdfast made of it.
    pub archive: String,
    /// What is in the backup, as files.
    pub unpacked: PathBuf,
    holdfast: String,
    profile: String,
    names: Vec<String>,
}

/// What the journal of a restore says of it.
pub struct Told {
    /// From the fence's intent until it is lifted.
    pub outage_ms: u64,
    /// How long each step took.
    pub steps: Vec<(String, u64)>,
}

impl Gateway {
    /// A gateway that is up, with tunnels and its service.
    pub fn live(folder: &Path, shape: &Shape) -> Result<Gateway> {
        let sample = Sample::generate(&folder.join("gateway"), shape)?;
        let sandbox = Sandbox::start(&sample)?;
        let profile = sample.profile();
        Gateway::backed_up(folder, sandbox, &profile)
    }

    /// A gateway of files and databases alone: no tunnel, no rule, no service, so that no command's time is in the
    /// figures.
    pub fn at_rest(folder: &Path, shape: &Shape) -> Result<Gateway> {
        let sample = Sample::generate(
            &folder.join("gateway"),
            &Shape {
                active: 0,
                ..shape.clone()
            },
        )?;
        let text = std::fs::read_to_string(sample.profile())?;
        let (Some(from), Some(to)) = (
            text.find("[[gateway.service]]"),
            text.find("[gateway.firewall]"),
        ) else {
            return Err(Trouble::new("find the service in the sample's profile"));
        };
        let profile = sample.root().join("at-rest.toml");
        std::fs::write(&profile, format!("{}{}", &text[..from], &text[to..]))?;
        let sandbox = Sandbox::bare(&sample)?;
        Gateway::backed_up(folder, sandbox, &profile)
    }

    fn backed_up(folder: &Path, sandbox: Sandbox, profile: &Path) -> Result<Gateway> {
        let mut gateway = Gateway {
            names: configs(sandbox.sample())?,
            sandbox,
            archive: String::new(),
            unpacked: folder.join("unpacked"),
            holdfast: program("holdfast")?.display().to_string(),
            profile: profile.display().to_string(),
        };
        let made = gateway.holdfast(&["backup"])?.1;
        gateway.archive = made.trim_end().to_owned();
        let to = gateway.unpacked.display().to_string();
        let unzip = Command::new("unzip")
            .args(["-qq", &gateway.archive, "-d", &to])
            .status()?;
        if !unzip.success() {
            return Err(Trouble::new(format!("unzip ended with {unzip}")));
        }
        Ok(gateway)
    }

    pub fn sample(&self) -> &Sample {
        self.sandbox.sample()
    }

    /// Configs in one folder.
    pub fn clients(&self) -> usize {
        self.names.len()
    }

    /// Runs a command of Holdfast in the gateway's place, which must end with 0. Gives its standard output.
    pub fn holdfast(&self, words: &[&str]) -> Result<(Once, String)> {
        let argv = [&[self.holdfast.as_str(), "--config", &self.profile], words].concat();
        let (once, finished) = measure::run(self.sandbox.place(), &argv)?;
        Ok((once, finished.ok()?.stdout))
    }

    /// The argument list of a command of Holdfast.
    pub fn argv<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&[self.holdfast.as_str(), "--config", &self.profile], words].concat()
    }

    /// Runs a shell script in the gateway's place, with these as `$1`, `$2` and so on; it must end with 0.
    pub fn script(&self, text: &str, arguments: &[&str]) -> Result<Once> {
        let argv = [&["bash", "-euc", text, "bench"], arguments].concat();
        let (once, finished) = measure::run(self.sandbox.place(), &argv)?;
        finished.ok()?;
        Ok(once)
    }

    /// Changes both copies of the first so many configs. Gives their names. All is on disk then.
    pub fn change(&self, count: usize) -> Result<&[String]> {
        let names = &self.names[..count.min(self.names.len())];
        for name in names {
            let mut bytes = std::fs::read(self.unpacked.join("configs").join(name))?;
            bytes.extend_from_slice(b"\n# changed\n");
            for folder in [self.sample().configs_dir(), self.sample().wireguard_dir()] {
                std::fs::write(folder.join(name), &bytes)?;
            }
        }
        self.settle()?;
        Ok(names)
    }

    /// Nothing of what was done before is left to be written when the next one is measured.
    pub fn settle(&self) -> Result<()> {
        let status = Command::new("sync")
            .arg("-f")
            .arg(self.sample().root())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(Trouble::new(format!("sync ended with {status}")))
        }
    }

    /// Restores from the backup. Gives what it took and what its journal says.
    pub fn restore(&self) -> Result<(Once, Told)> {
        let (once, stdout) = self.holdfast(&["--json", "restore", &self.archive, "--yes"])?;
        Ok((once, self.told(&stdout)?))
    }

    /// What the journal says of the restore that printed this.
    pub fn told(&self, stdout: &str) -> Result<Told> {
        let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or_default())?;
        let id = last
            .get("restore")
            .and_then(Value::as_str)
            .ok_or_else(|| Trouble::new("the restore gave no verdict"))?;
        let journal = self
            .sample()
            .state_dir()
            .join("restores")
            .join(id)
            .join("journal");
        let scan = scan(&std::fs::read(journal)?);
        told(&scan).ok_or_else(|| Trouble::new("the journal has no fence that was lifted"))
    }
}

fn told(scan: &Scan) -> Option<Told> {
    let up = |wanted: &dyn Fn(&Entry) -> bool| {
        let found: Option<&Record> = scan.records.iter().find(|r| wanted(&r.entry));
        found.map(|r| r.up_ms)
    };
    let began = up(&|entry| {
        matches!(entry, Entry::Intent { r#move, .. }
            if (r#move.step, r#move.direction) == (Step::Fence, Direction::Forward))
    })?;
    let ended =
        up(&|entry| matches!(entry, Entry::Done { r#move, .. } if r#move.step == Step::LiftFence))?;
    let steps = scan.state.as_ref()?.moves.iter();
    Some(Told {
        outage_ms: ended - began,
        steps: steps
            .map(|m| (m.step.to_string(), m.took_ms.unwrap_or_default()))
            .collect(),
    })
}

fn configs(sample: &Sample) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(sample.configs_dir())? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.retain(|name| name.ends_with(".conf"));
    names.sort();
    Ok(names)
}
