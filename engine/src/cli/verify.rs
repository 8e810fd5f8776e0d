//! `holdfast verify`.

use std::path::Path;

use journal_format::visible;

use super::{Context, print_json, restore, say};
use crate::archive::manifest::Manifest;
use crate::error::{Fault, INCOMPLETE};
use crate::gateway::parts;
use crate::host::linux::Linux;
use crate::host::live_database::shapes;
use crate::plan::rehearsal::{self, Tried};
use crate::text::iptables::Family;
use crate::text::wording::in_a_line;

pub(super) fn run(context: &Context, path: &Path) -> Result<u8, Fault> {
    let name = path
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let profile = &context.profile;
    let host = Linux::new(profile);
    let file = restore::open(path)?;
    let (mut checked, rehearsed) =
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
        problems.extend(rehearsal::tunnels(&host, profile, &mut checked)?);
    } else {
        problems.extend(untried.iter().map(|(_, problem)| problem.clone()));
    }
    if !problems.is_empty() {
        return Err(Fault::Refused(problems));
    }
    let metadata = checked.archive.metadata();
    let consent = checked.consent(|_| Vec::new());
    let untried: Vec<(&str, String)> = untried
        .iter()
        .map(|(family, problem)| (Family::name(*family), in_a_line(problem)))
        .collect();
    let lacks = metadata.holdfast.as_ref().map(Manifest::lacks);
    let lacks = lacks.unwrap_or_default();
    let status = if lacks.is_empty() { 0 } else { INCOMPLETE };
    if context.json {
        let commands: Vec<_> = consent
            .lines()
            .into_iter()
            .map(|(command, tunnels)| serde_json::json!({"command": command, "tunnels": tunnels}))
            .collect();
        print_json(&serde_json::json!({
            "archive": name,
            "verdict": if lacks.is_empty() { "sound" } else { "incomplete" },
            "complete": lacks.is_empty(),
            "lacks": lacks,
            "exit_status": status,
            "sha256": checked.sha256,
            "bytes": checked.archive.size(),
            "entries": checked.archive.entries().len(),
            "created_at": metadata.created_at,
            "made_by": metadata.made_by(),
            "manifest": metadata.holdfast.is_some(),
            "clients": checked.clients.as_ref().map(Vec::len),
            "commands": commands,
            "rules_not_tried": untried
                .iter()
                .map(|(family, why)| serde_json::json!({"family": family, "why": why}))
                .collect::<Vec<_>>(),
            "lost": checked.lost.iter().map(|l| &l.said).collect::<Vec<_>>(),
            "warnings": checked.warnings,
            "missing": checked.missing,
        }));
        return Ok(status);
    }
    if !lacks.is_empty() {
        say(&format!(
            "{}: {}",
            visible(&name),
            visible(&parts::incomplete(&lacks))
        ));
    }
    let but = match untried.is_empty() {
        true => "",
        false => ", but for its firewall rules, which were not tried",
    };
    let what = match lacks.is_empty() {
        true => "",
        false => "what is in it is ",
    };
    say(&format!("{}: {what}sound{but}", visible(&name)));
    say(&format!(
        "  made {} by {}",
        metadata.created_at,
        visible(metadata.made_by())
    ));
    say(&format!(
        "  {} entries, SHA-256 {}",
        checked.archive.entries().len(),
        checked.sha256
    ));
    for lost in &checked.lost {
        say(&format!("  lost: {}", visible(&lost.said)));
    }
    for (command, tunnels) in consent.lines() {
        say(&format!("  runs as root for {tunnels}:"));
        say(&format!("    {command}"));
    }
    for (family, why) in untried {
        say(&format!(
            "  not tried: whether its {family} firewall rules load: {}",
            visible(&why)
        ));
    }
    for warning in checked.warnings.iter().chain(&checked.missing) {
        say(&format!("  warning: {}", visible(warning)));
    }
    Ok(status)
}
