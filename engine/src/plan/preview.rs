//! A plan as an admin sees it beforehand, and what of it an approval binds. Pure; changes nothing.

use journal_format::{Change, Digest, FileFacts, Plan, Target, Tunnel};

use crate::plan::side_files::beside;
use crate::text::wording::counted;

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
        left_out,
        warnings,
    } = plan;
    Digest::of_json(&(
        (archive, forward, back, policy),
        (approved(databases), approved(files)),
        (services, tunnels_down, tunnels_up, fence, firewall),
        (peers, left_out),
        warnings,
    ))
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

/// What a restore would do, for a person: a line each. The warnings are the plan's own.
pub fn preview(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "restores {}, made {} by {}{}",
        plan.archive.name,
        plan.archive.created_at,
        plan.archive.made_by,
        plan.archive
            .host
            .as_ref()
            .map(|h| format!(" on {h}"))
            .unwrap_or_default(),
    )];
    for database in &plan.databases {
        if beside(database, &plan.databases).is_some() {
            lines.push(format!("puts {} beside it", database.path));
            continue;
        }
        let verb = match database.change {
            Change::Add => "adds",
            Change::Replace | Change::Remove => "overwrites",
        };
        lines.push(format!("{verb} the database {}", database.path));
    }
    let count = |change| plan.files.iter().filter(|f| f.change == change).count();
    let (replaced, added, removed) = (
        count(Change::Replace),
        count(Change::Add),
        count(Change::Remove),
    );
    lines.push(format!(
        "overwrites {}, adds {added}, removes {removed}; what was there is kept",
        counted(replaced, "file")
    ));
    let names = |tunnels: &[Tunnel]| {
        let shown: Vec<&str> = tunnels.iter().take(8).map(|t| t.name.as_str()).collect();
        format!(
            "{}{}{}",
            if tunnels.is_empty() { "" } else { ": " },
            shown.join(", "),
            if tunnels.len() > 8 { ", ..." } else { "" }
        )
    };
    lines.push(format!(
        "takes {} down{}",
        counted(plan.tunnels_down.len(), "tunnel"),
        names(&plan.tunnels_down)
    ));
    lines.push(format!(
        "brings {} up{}",
        counted(plan.tunnels_up.len(), "tunnel"),
        names(&plan.tunnels_up)
    ));
    for service in &plan.services {
        lines.push(format!("stops {} and starts it again", service.name));
    }
    for (family, rules) in [("IPv4", &plan.firewall.v4), ("IPv6", &plan.firewall.v6)] {
        if rules.is_some() {
            lines.push(format!(
                "replaces all {family} firewall rules by the backup's"
            ));
        }
    }
    lines
}
