//! The state of the gateway as people read it: four lines, for a terminal, a login and a page alike. Owns their wording; looks at
//! nothing.

use std::collections::BTreeSet;
use std::fmt::Write;

use journal_format::{Policy, duration, utc, visible};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Condition, FirstNames, SetInPlace, Since, StateOfGateway, Traffic, UpAndDown};
use crate::restore::decide::Heading;
use crate::text::wording::{counted, in_a_line, name, quoted_path};

/// FirstNames that a line shows of many.
const SHOWN: usize = 3;
/// An age is told in days from here on.
const DAY_MS: u64 = 86_400_000;

/// One of the lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateLine {
    /// What it is about.
    pub label: &'static str,
    /// What it says.
    pub text: String,
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Somebody on the gateway.
    Terminal,
    /// Somebody at the page, who has a button for each way in which a recovery may be started.
    Page,
}

impl std::fmt::Display for StateLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let label = format!("{}:", self.label);
        write!(f, "{label:<12} {}", visible(&self.text))
    }
}

impl StateOfGateway {
    /// The lines: what is in place, what is up, down and blocked, what stands in the way, what goes on. A line that would say nothing
    /// is left out.
    pub fn lines(&self, reader: Audience) -> Vec<StateLine> {
        let line = |label, text| StateLine { label, text };
        let mut lines = vec![line("in place", self.in_place()), line("now", self.now())];
        lines.extend(self.in_the_way().map(|(label, text)| line(label, text)));
        lines.extend(self.goes_on(reader).map(|text| line("what to do", text)));
        lines
    }

    /// The same as a terminal shows them.
    pub fn text(&self) -> String {
        let lines = self.lines(Audience::Terminal);
        let lines: Vec<String> = lines.iter().map(StateLine::to_string).collect();
        lines.join("\n")
    }

    /// The same for programs: all of it, and the lines.
    pub fn as_json(&self) -> Value {
        let mut all = json!(self);
        if let Value::Object(fields) = &mut all {
            fields.insert("lines".into(), json!(self.lines(Audience::Terminal)));
        }
        all
    }

    fn in_place(&self) -> String {
        let all_of = |set: &SetInPlace| match set {
            SetInPlace::NotReplaced => None,
            SetInPlace::Before(_) => Some("as before the restore"),
            SetInPlace::After(_) => Some("as the backup says"),
            SetInPlace::Mixed { .. } | SetInPlace::Unknown { .. } => None,
        };
        match (&self.files, &self.databases) {
            (SetInPlace::NotReplaced, SetInPlace::NotReplaced) => match self.condition {
                Condition::Idle | Condition::Busy => {
                    "files and databases are the gateway's own; no restore is open".into()
                }
                _ => "no file and no database was replaced".into(),
            },
            (SetInPlace::Unknown { why }, SetInPlace::Unknown { why: same }) if why == same => {
                format!("cannot be told: {why}")
            }
            (files, databases) if all_of(files).is_some() && all_of(files) == all_of(databases) => {
                format!(
                    "files and databases are {}",
                    all_of(files).unwrap_or_default()
                )
            }
            (SetInPlace::NotReplaced, databases) => set("databases", databases),
            (files, SetInPlace::NotReplaced) => set("files", files),
            (files, databases) => {
                format!("{}; {}", set("files", files), set("databases", databases))
            }
        }
    }

    fn now(&self) -> String {
        let (mut down, mut up, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        let mut times: Vec<&Since> = Vec::new();
        match &self.services {
            UpAndDown::Unknown { why } => {
                unknown.push(format!("which services run cannot be told: {why}"))
            }
            UpAndDown::Seen {
                up: 0, down: none, ..
            } if none.count == 0 => {}
            UpAndDown::Seen {
                up: n,
                down: gone,
                since,
            } => {
                times.extend(since);
                match gone.count {
                    0 => up.push(format!("{} {}", counted(*n, "service"), run(*n))),
                    1 => down.push(format!("the service {} is down", shown(gone))),
                    more => down.push(format!("{more} services are down ({})", shown(gone))),
                }
            }
        }
        match &self.tunnels {
            UpAndDown::Unknown { why } => {
                unknown.push(format!("which tunnels are up cannot be told: {why}"));
            }
            UpAndDown::Seen {
                up: n,
                down: gone,
                since,
            } => {
                times.extend(since);
                match gone.count {
                    0 => up.push(format!("{} {} up", counted(*n, "tunnel"), are(*n))),
                    all => {
                        let (of, is) = (counted(all + n, "tunnel"), are(all));
                        down.push(format!("{all} of {of} {is} down ({})", shown(gone)));
                    }
                }
            }
        }
        match &self.traffic {
            Traffic::Open => up.push("no forwarded traffic is blocked".into()),
            Traffic::Unknown { why } => {
                unknown.push(format!(
                    "whether forwarded traffic is blocked cannot be told: {why}"
                ));
            }
            Traffic::Blocked { since } => {
                times.extend(since);
                down.push("forwarded traffic of the tunnels is blocked".into());
            }
        }
        let mut said = and(&down);
        if let Some(since) = times
            .iter()
            .max_by_key(|s| s.age_ms)
            .filter(|_| !down.is_empty())
        {
            let _ = write!(said, ", since {}", moment(since));
        }
        let off = match self.forwarding_off.as_slice() {
            [] => String::new(),
            off => {
                let keys: Vec<&str> = off.iter().map(|p| forwarding_key(p)).collect();
                format!(
                    "the kernel forwards nothing of {} (by hand: `sysctl -w {}`)",
                    off.join(" and "),
                    keys.join(" ")
                )
            }
        };
        let said = [said, off, and(&up)].into_iter().chain(unknown);
        said.filter(|s| !s.is_empty())
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// Who works on the gateway, where it is no restore that has begun.
    pub fn at_work(&self) -> String {
        let work = self.work.as_deref().unwrap_or("another Holdfast");
        let runs = match self.pid.filter(|_| !work.contains("process")) {
            Some(pid) => format!("{work} runs, process {pid}"),
            None => work.into(),
        };
        format!("{runs}{}", self.halted())
    }

    fn halted(&self) -> &'static str {
        match self.is_halted {
            true => {
                ", and somebody has stopped it (SIGSTOP): it does nothing until it is continued"
            }
            false => "",
        }
    }

    /// What is said of a restore marker that is gone, or names another restore.
    fn marker(&self) -> String {
        let needs = match self.recoveries.contains(&Policy::RollBack) {
            true => "so a recovery needs a direction from you",
            false => "so no recovery starts by itself",
        };
        self.marker_gone.as_ref().map_or_else(String::new, |path| {
            let path = path.display();
            format!(". Somebody removed or changed its restore marker {path}, {needs}")
        })
    }

    /// What the line is called, and what it says.
    fn in_the_way(&self) -> Option<(&'static str, String)> {
        let restore = self.restore.as_ref().map(|id| format!("restore {id}"));
        let restore = restore.unwrap_or_else(|| "a restore".into());
        let at = self
            .headline
            .as_deref()
            .unwrap_or("Nothing is known of it.");
        let process =
            |pid: &Option<u32>| pid.map_or_else(String::new, |pid| format!(", process {pid}"));
        let problem = self.problem.as_ref().map(in_a_line);
        let problem = problem.unwrap_or_else(|| "nothing is known of it".into());
        Some(match self.condition {
            Condition::Idle => return None,
            Condition::Busy => ("under way", self.at_work()),
            Condition::Running => (
                "under way",
                format!(
                    "{restore} runs{}{}. {at}",
                    process(&self.pid),
                    self.halted()
                ),
            ),
            Condition::Interrupted => (
                "in the way",
                format!(
                    "{restore} was interrupted, and no process continues it. It had come to \"{}\"{}",
                    at.trim_end_matches('.'),
                    self.marker()
                ),
            ),
            Condition::Stuck => (
                "in the way",
                format!("{restore} needs an operator: {problem}{}", self.marker()),
            ),
            Condition::Lacking => {
                let lacks: Vec<&str> = self.lacks.iter().map(|n| n.text.as_str()).collect();
                (
                    "in the way",
                    format!(
                        "{restore} is over, but not all of it works: {}",
                        lacks.join("; ")
                    ),
                )
            }
            Condition::Left => {
                let differs: Vec<&str> = self.lacks.iter().map(|n| n.text.as_str()).collect();
                let said = format!(
                    "{restore} was left as it is by an operator. Still not right: {}",
                    differs.join("; ")
                );
                ("in the way", said)
            }
            Condition::Lost => {
                let gone = match self.lost_in_place {
                    true => "gone: somebody moved it away or removed it",
                    false => "not in state_dir",
                };
                let said = format!("{restore} was under way, and its journal is {gone}");
                ("in the way", said)
            }
            Condition::Unreadable => ("in the way", problem),
        })
    }

    fn goes_on(&self, reader: Audience) -> Option<String> {
        let fix = self
            .problem
            .as_ref()
            .map(|p| p.advice.as_str())
            .unwrap_or_default();
        let said = match self.condition {
            Condition::Idle => return None,
            Condition::Busy | Condition::Running if self.is_halted => {
                let pid = self.pid.map_or_else(|| "PID".into(), |pid| pid.to_string());
                format!(
                    "`kill -CONT {pid}` continues it. `kill -KILL {pid}` ends it where it stands; then see `holdfast status`"
                )
            }
            Condition::Busy => "wait for its end".into(),
            Condition::Running => {
                let id = self.restore.as_ref().map_or("ID", |id| id.as_str());
                let stop = self.pid.map_or_else(String::new, |pid| {
                    format!("; `kill {pid}` makes it roll back, where it still can")
                });
                format!("wait for its end; `holdfast journal follow {id}` shows each step{stop}")
            }
            Condition::Interrupted => self.recover(reader),
            // What was written into the journal names the command already.
            Condition::Stuck
                if fix.contains("`holdfast recover`") && reader == Audience::Terminal =>
            {
                fix.to_owned()
            }
            Condition::Stuck => {
                let fix = fix.trim_end_matches("; then run `holdfast recover`");
                format!("{fix}; then {}", self.recover(reader))
            }
            Condition::Lacking => self.mends_what_lacks(reader),
            Condition::Left => self.mends_what_was_left(),
            Condition::Lost if self.lost_in_place => {
                "put a sound copy of the journal back, then run `holdfast recover`. If there is none, `holdfast status` names the \
                 commands that lead out"
                    .into()
            }
            Condition::Lost => {
                "mount the disk of state_dir, or name the right state_dir in the profile; then run `holdfast recover`. If it is \
                 lost for good, `holdfast status` names the commands that lead out"
                    .into()
            }
            Condition::Unreadable => fix.to_owned(),
        };
        let has_way_out = match self.condition {
            Condition::Interrupted | Condition::Stuck => self.may_be_left,
            // What cannot be read says its own.
            Condition::Unreadable
            | Condition::Idle
            | Condition::Busy
            | Condition::Running
            | Condition::Lacking
            | Condition::Left
            | Condition::Lost => false,
        };
        Some(match has_way_out {
            true => format!("{said}. {}", self.way_out()),
            false => said,
        })
    }

    fn mends_what_lacks(&self, reader: Audience) -> String {
        let advice: BTreeSet<&str> = self
            .lacks
            .iter()
            .filter_map(|n| n.advice.as_deref())
            .collect();
        // More would fill the screen; `recover` does them all.
        let first: Vec<&str> = advice.into_iter().take(2).collect();
        let first = match first.is_empty() {
            true => String::new(),
            false => format!("{}; or, ", first.join("; ")),
        };
        format!(
            "{first}once the cause is gone, {}, which tries it again",
            self.recover(reader)
        )
    }

    fn mends_what_was_left(&self) -> String {
        let advice: Vec<&str> = self
            .lacks
            .iter()
            .filter_map(|n| n.advice.as_deref())
            .collect();
        let advice = match advice.is_empty() {
            true => "see `holdfast status --verbose`".to_owned(),
            false => advice.join("; "),
        };
        format!(
            "{advice}. `holdfast status` ends with 7 until all of it is right, or until a later restore is completed"
        )
    }

    /// The command, or the button, that starts a recovery, and the choice where there is one.
    fn recover(&self, reader: Audience) -> String {
        let leads = match self.heading {
            None => "",
            Some(Heading::Nowhere) => ", which closes the restore: nothing was changed",
            Some(Heading::Forward) => ", which completes the restore",
            Some(Heading::Back) => ", which rolls back",
            Some(Heading::ToTheEnd) => ", which cleans up: the gateway is as the backup says",
        };
        let command = match self.recoveries.as_slice() {
            [Policy::Auto, _, ..] => format!(
                "run `holdfast recover`{leads}; --roll-back or --resume choose the direction"
            ),
            [Policy::RollBack, ..] => {
                "run `holdfast recover --roll-back`, which puts the old files back, or `holdfast recover --resume`, which completes \
                 the restore"
                    .into()
            }
            [] | [Policy::Auto | Policy::Resume, ..] => format!("run `holdfast recover`{leads}"),
        };
        match (reader, self.recoveries.is_empty()) {
            (Audience::Page, false) => format!("use a button below, or, on the gateway, {command}"),
            (Audience::Page, true) => format!("on the gateway, {command}"),
            (Audience::Terminal, _) => command,
        }
    }

    fn way_out(&self) -> String {
        let leave =
            "`holdfast recover --leave-as-it-is` unblocks traffic and leaves the files as they are";
        let is_stuck = self.condition == Condition::Stuck;
        let again = if is_stuck { " again" } else { "" };
        match &self.safety_backup {
            Some(path) => format!(
                "If that fails{again}: 1. {leave}. 2. `holdfast restore {}` restores the safety backup, and starts the services that \
                 this restore stopped",
                quoted_path(path)
            ),
            None => format!("If that fails{again}: {leave}"),
        }
    }
}

fn set(what: &str, set: &SetInPlace) -> String {
    match set {
        SetInPlace::NotReplaced => format!("no {} was replaced", what.trim_end_matches('s')),
        SetInPlace::Before(_) => format!("{what} are as before the restore"),
        SetInPlace::After(_) => format!("{what} are as the backup says"),
        SetInPlace::Unknown { why } => format!("{what} cannot be told: {why}"),
        SetInPlace::Mixed {
            before,
            after,
            foreign,
        } => {
            let part = |names: &FirstNames, how: &str| {
                (names.count > 0).then(|| format!("{} {how} ({})", names.count, shown(names)))
            };
            let parts = [
                part(before, "as before the restore"),
                part(after, "as the backup says"),
                part(foreign, "replaced or removed by somebody else"),
            ];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            format!("{what} are mixed: {}", parts.join(", "))
        }
    }
}

fn shown(names: &FirstNames) -> String {
    let first: Vec<String> = names.first.iter().take(SHOWN).map(|n| name(n)).collect();
    match names.count.saturating_sub(first.len()) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn moment(since: &Since) -> String {
    let age = match since.age_ms {
        ms if ms >= DAY_MS => counted((ms / DAY_MS) as usize, "day"),
        ms if ms >= 3_600_000 => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
        ms => duration(ms),
    };
    format!("{} ({age})", utc(since.at_ms))
}

fn and(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn forwarding_key(protocol: &str) -> &'static str {
    match protocol {
        "IPv6" => "net.ipv6.conf.all.forwarding=1",
        _ => "net.ipv4.ip_forward=1",
    }
}

fn are(n: usize) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

fn run(n: usize) -> &'static str {
    if n == 1 { "runs" } else { "run" }
}

#[cfg(test)]
mod tests;
