//! A plan as an admin sees it beforehand, and what of it an approval binds. Pure; changes nothing.

use journal_format::{
    ArchiveInfo, Change, Code, Digest, FileFacts, Note, Plan, Step, Target, Tunnel, Weight, ago,
    moment_in, moment_of,
};

use crate::gateway::kernel_facts::Facts;
use crate::plan::planner::said::BothRules;
use crate::plan::side_files::beside;
use crate::text::iptables::Family;
use crate::text::wording::{counted, names};

/// What an admin approves: the plan's digest, less what differs between two restores of the same backup on the same
/// gateway: the restore's name, and what the admin accepts besides (a firewall that cannot be loaded, a safety backup that
/// lacks a part, a service or a tunnel that stays down), which is agreed to at the same time and by itself.
pub fn approval(plan: &Plan) -> Digest {
    // All fields by name, so that a new one is not forgotten; by reference, since a plan may have megabytes.
    let Plan {
        archive,
        forward,
        back,
        policy,
        keep_going_without_firewall: _,
        staging: _,
        databases,
        files,
        services,
        tunnels_down,
        tunnels_up,
        fence,
        firewall,
        peers,
        without_safety_backup_of: _,
        may_not_run: _,
        may_stay_down: _,
        stays_up,
        left_out,
        warnings,
    } = plan;
    Digest::of_json(&(
        (archive, forward, back, policy),
        (approved(databases), approved(files)),
        (
            services,
            tunnels_down,
            tunnels_up,
            stays_up,
            fence,
            firewall,
        ),
        (peers, left_out),
        warnings,
    ))
}

/// Whether a plan leads to what is there: no file and no database is a target, no tunnel goes down or comes up, and rules and
/// forwarding are as they will be.
pub fn changes_nothing(plan: &Plan, now: &Facts, rules: &[BothRules]) -> bool {
    let changes = |tunnels: &[Tunnel]| tunnels.iter().any(|t| !plan.stays_up.contains(&t.name));
    let forwards =
        |family: Family, then: Option<bool>| then.is_none() || then == now.forwards(family);
    // What does not go back would have to be named, and a service that the last restore left down is started.
    let starts = plan
        .warnings
        .iter()
        .any(|note| note.is(&Code::SERVICE_IS_DOWN) && note.weight == Weight::Known);
    plan.left_out.is_empty()
        && !starts
        && plan.databases.is_empty()
        && plan.files.is_empty()
        && !changes(&plan.tunnels_down)
        && !changes(&plan.tunnels_up)
        && rules.iter().all(|both| both.now.same_as(&both.then))
        && forwards(Family::V4, plan.firewall.ip_forward)
        && forwards(Family::V6, plan.firewall.ipv6_forward)
}

/// Targets as an admin approves them: less the names of staged files, which no two restores share.
fn approved(targets: &[Target]) -> Vec<(&String, &String, Change, &Option<FileFacts>)> {
    let mut views = Vec::with_capacity(targets.len());
    for target in targets {
        let Target {
            entry,
            path,
            staged: _,
            change,
            new,
        } = target;
        views.push((entry, path, *change, new));
    }
    views
}

/// What is told of a plan, what matters more first: its own notes, and what any restore of databases takes away.
pub fn notes(plan: &Plan) -> Vec<Note> {
    let mut notes = plan.warnings.clone();
    notes.extend(history(plan));
    notes.sort_by_key(|note| note.weight);
    notes
}

/// A gateway writes to its databases all the time: what it wrote since the backup goes with them.
fn history(plan: &Plan) -> Option<Note> {
    let replaced = plan.databases.iter().filter(|d| {
        let goes = matches!(d.change, Change::Replace | Change::Remove);
        goes && beside(d, &plan.databases).is_none()
    });
    let replaced: Vec<String> = replaced.map(|d| file_name(&d.path)).collect();
    let text = format!(
        "what the gateway wrote to {} since the backup was made ({}) will be gone: history, logs and changes of settings",
        names(&replaced),
        moment_in(&plan.archive.created_at)
    );
    (!replaced.is_empty()).then(|| Note::lost(Code::HISTORY_GONE, text).naming(replaced))
}

fn file_name(path: &str) -> String {
    let name = path.rsplit('/').next();
    name.unwrap_or(path).to_owned()
}

/// What a restore would do, for a person: a line each, at most a dozen. The notes are [`notes`].
pub fn preview(plan: &Plan, now_ms: i64) -> Vec<String> {
    let ArchiveInfo {
        name,
        created_at,
        made_by,
        host,
        ..
    } = &plan.archive;
    let age =
        moment_of(created_at).map_or_else(String::new, |made| format!(" ({})", ago(made, now_ms)));
    let host = host
        .as_ref()
        .map_or_else(String::new, |h| format!(" on {h}"));
    let mut lines = vec![format!(
        "restores {name}, made {}{age} by {made_by}{host}",
        moment_in(created_at)
    )];
    let (sides, databases): (Vec<&Target>, Vec<&Target>) = plan
        .databases
        .iter()
        .partition(|d| beside(d, &plan.databases).is_some());
    let (added, replaced): (Vec<&Target>, Vec<&Target>) =
        databases.into_iter().partition(|d| d.change == Change::Add);
    for (found, verb, what) in [
        (&replaced, "replaces", "database"),
        (&added, "adds", "database"),
        (&sides, "puts beside them", "file"),
    ] {
        if !found.is_empty() {
            let paths = names(found.iter().map(|t| &t.path));
            lines.push(format!("{verb} {}: {paths}", counted(found.len(), what)));
        }
    }
    let of = |change| plan.files.iter().filter(move |f| f.change == change);
    let (replaced, added) = (of(Change::Replace).count(), of(Change::Add).count());
    let removed: Vec<&String> = of(Change::Remove).map(|f| &f.path).collect();
    let which = match removed.is_empty() {
        true => String::new(),
        false => format!(": {}", names(&removed)),
    };
    lines.push(match plan.files.is_empty() {
        true => "changes no config and no file of rules: they are as in the backup".to_owned(),
        false => format!(
            "replaces {} of configs and rules, adds {added}, removes {}{which}",
            counted(replaced, "file"),
            removed.len()
        ),
    });
    lines.extend(tunnel_lines(plan));
    if !plan.services.is_empty() && plan.forward.contains(&Step::StopServices) {
        let services = names(plan.services.iter().map(|s| &s.name));
        lines.push(format!("stops and starts again: {services}"));
    }
    let families = [("IPv4", &plan.firewall.v4), ("IPv6", &plan.firewall.v6)];
    let loaded: Vec<&str> = families
        .iter()
        .filter(|(_, rules)| rules.is_some())
        .map(|(family, _)| *family)
        .collect();
    if !loaded.is_empty() {
        let loaded = loaded.join(" and ");
        lines.push(format!(
            "replaces all {loaded} firewall rules by the backup's"
        ));
    }
    lines
}

/// What becomes of the tunnels.
fn tunnel_lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let moves = |tunnels: &[Tunnel]| -> Vec<Tunnel> {
        let moves = tunnels.iter().filter(|t| !plan.stays_up.contains(&t.name));
        moves.cloned().collect()
    };
    let tunnels = |tunnels: &[Tunnel]| match tunnels.is_empty() {
        true => String::new(),
        false => format!(": {}", names(tunnels.iter().map(|t| &t.name))),
    };
    let count = |tunnels: &[Tunnel]| counted(tunnels.len(), "tunnel");
    let (down, up) = (moves(&plan.tunnels_down), moves(&plan.tunnels_up));
    lines.push(format!("takes {} down{}", count(&down), tunnels(&down)));
    lines.push(format!("brings {} up{}", count(&up), tunnels(&up)));
    if !plan.stays_up.is_empty() {
        let n = counted(plan.stays_up.len(), "tunnel");
        lines.push(format!("leaves {n} as they are: up, and as in the backup"));
    }
    lines
}
