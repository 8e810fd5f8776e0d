//! `holdfast verify`.

use std::collections::BTreeMap;
use std::path::Path;

use journal_format::{Detail, Note, moment_in, note_lines, visible};

use super::{Context, print_json};
use crate::archive::manifest::Manifest;
use crate::archive::verify::{Checked, Opened};
use crate::archive::{self, catalog};
use crate::error::{Fault, INCOMPLETE};
use crate::gateway::parts::{self, Lack};
use crate::host::linux::Linux;
use crate::host::live_database::shapes;
use crate::plan::rehearsal::{self, Tried};
use crate::text::wording::in_a_line;

pub(super) fn run(context: &Context, asked: &Path) -> Result<u8, Fault> {
    let profile = &context.profile;
    let path = &catalog::find(profile, asked).map_err(Fault::refused)?;
    let name = path
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let host = Linux::new(profile);
    let file = archive::opened(path).map_err(Fault::refused)?;
    let ((mut checked, mut opened), rehearsed) =
        crate::archive::verify::archive_beside(profile, &shapes(profile), file, &name, |rules| {
            rehearsal::rules_at_once(&host, rules)
        })?;
    let mut problems = crate::survey::preflight::check(&host, profile);
    let mut untried = Vec::new();
    for (family, tried) in rehearsed? {
        match tried {
            Tried::Loaded(_) => {}
            Tried::Refused(problem) => problems.push(problem),
            Tried::Untried(problem) => untried.push((family, problem)),
        }
    }
    // A box that lacks programs has said so.
    if problems.is_empty() {
        let found = rehearsal::tunnels(&host, profile, &mut checked, &mut opened, &|_| false)?;
        problems.extend(found);
    } else {
        problems.extend(untried.iter().map(|(_, problem)| problem.clone()));
    }
    if !problems.is_empty() {
        return Err(Fault::Refused(problems));
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    catalog::verified(profile, path, &opened.info.sha256, now_ms);
    let manifest = checked.manifest.as_ref();
    let verified = Verified {
        name,
        lacks: manifest.map(Manifest::lacks).unwrap_or_default(),
        untried: untried
            .iter()
            .map(|(family, problem)| (family.name(), in_a_line(problem)))
            .collect(),
        commands: checked.consent(|_| Vec::new()).lines(),
        checked,
        opened,
    };
    match context.json {
        true => print_json(&verified.json()),
        false => verified.say(context.detail),
    }
    Ok(verified.exit_status())
}

/// A backup that may be restored, and what is to be known of it.
struct Verified {
    name: String,
    checked: Checked,
    opened: Opened,
    lacks: Vec<Lack>,
    /// The rules that could not be tried on this box, by family, and why.
    untried: Vec<(&'static str, String)>,
    /// What runs as root because of it, and for which tunnels.
    commands: Vec<(String, String)>,
}

impl Verified {
    fn exit_status(&self) -> u8 {
        match self.lacks.is_empty() {
            true => 0,
            false => INCOMPLETE,
        }
    }

    fn json(&self) -> serde_json::Value {
        let (checked, info) = (&self.checked, &self.opened.info);
        let complete = self.lacks.is_empty();
        let databases = checked
            .databases
            .iter()
            .filter(|(_, d)| !d.users.is_empty());
        let users: BTreeMap<_, Vec<_>> = databases
            .map(|(name, d)| (name, d.users.iter().map(|u| &u.username).collect()))
            .collect();
        serde_json::json!({
            "archive": self.name,
            "verdict": if complete { "sound" } else { "incomplete" },
            "complete": complete,
            "lacks": self.lacks,
            "exit_status": self.exit_status(),
            "sha256": info.sha256,
            "bytes": info.size,
            "entries": self.opened.archive.entries().len(),
            "created_at": info.created_at,
            "made_by": info.made_by,
            "manifest": checked.manifest.is_some(),
            "clients": checked.clients.as_ref().map(Vec::len),
            "client_names": checked.clients.as_ref().map(|all| all.iter().map(|c| &c.name).collect::<Vec<_>>()),
            "users": users,
            "commands": self
                .commands
                .iter()
                .map(|(command, tunnels)| serde_json::json!({"command": command, "tunnels": tunnels}))
                .collect::<Vec<_>>(),
            "rules_not_tried": self
                .untried
                .iter()
                .map(|(family, why)| serde_json::json!({"family": family, "why": why}))
                .collect::<Vec<_>>(),
            "lost": checked.lost.iter().map(|l| &l.note).collect::<Vec<_>>(),
            "warnings": checked.warnings,
            "missing": checked.missing,
        })
    }

    fn say(&self, detail: Detail) {
        let (name, checked) = (visible(&self.name), &self.checked);
        let info = &self.opened.info;
        if !self.lacks.is_empty() {
            let incomplete = parts::incomplete(&self.lacks);
            say!("{name}: {}", visible(&incomplete));
        }
        let but = match self.untried.is_empty() {
            true => "",
            false => ", but for its firewall rules, which were not tried",
        };
        let what = match self.lacks.is_empty() {
            true => "",
            false => "what is in it is ",
        };
        say!("{name}: {what}sound{but}");
        let made = moment_in(&info.created_at);
        say!("  made {made} by {}", visible(&info.made_by));
        say!(
            "  {} entries, SHA-256 {}",
            self.opened.archive.entries().len(),
            info.sha256
        );
        let lost: Vec<Note> = checked.lost.iter().map(|l| l.note.clone()).collect();
        for line in note_lines(&lost, detail) {
            say!("  {line}");
        }
        for (command, tunnels) in &self.commands {
            say!("  runs as root for {tunnels}:");
            say!("    {command}");
        }
        for (family, why) in &self.untried {
            say!(
                "  not tried: whether its {family} firewall rules load: {}",
                visible(why)
            );
        }
        let notes = [&checked.warnings[..], &checked.missing].concat();
        for line in note_lines(&notes, detail) {
            say!("  {line}");
        }
    }
}
