//! What a restore replaces that its safety backup could not bring back. Knows the plan and the facts, and asks nobody.

use std::collections::BTreeSet;
use std::path::Path;

use journal_format::{Change, Plan, Target};

use crate::archive::{self, manifest};
use crate::gateway::kernel_facts::Facts;
use crate::gateway::parts::{Lack, Part};
use crate::text::iptables::Family;

/// What a restore replaces and its safety backup will lack, as far as kernel facts tell beforehand.
pub fn unsaved(plan: &Plan, facts: &Facts) -> Vec<Lack> {
    let unread = facts.unread.iter().map(|(part, why)| Lack {
        part: part.clone(),
        why: why.clone(),
    });
    unread
        .filter(|lack| replaces(plan, &lack.part, &BTreeSet::new()))
        .collect()
}

/// Whether the restore takes away something that a safety backup which lacks this part could not bring back. Of configs
/// it lacks the `unread` ones, all of them if none is named.
pub fn replaces(plan: &Plan, part: &Part, unread: &BTreeSet<String>) -> bool {
    let gone = |t: &&Target| t.change != Change::Add;
    let name = |path: &str| {
        let name = Path::new(path).file_name();
        name.map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let mut files = plan.files.iter().filter(gone);
    let is_kept = |t: &Target| Family::BOTH.map(archive::kept).contains(&t.entry.as_str());
    match part {
        // A raw one and its side files have entries that end so.
        Part::Database(entry) => {
            let mut databases = plan.databases.iter().filter(gone);
            databases.any(|t| {
                let last = t.entry.rsplit('/').next().unwrap_or_default();
                let raw = manifest::unescaped(last);
                last == entry || raw.is_some_and(|raw| raw == entry.as_bytes())
            })
        }
        Part::Configs => {
            files.any(|t| !is_kept(t) && (unread.is_empty() || unread.contains(&name(&t.path))))
        }
        // By its entry: what a link leads to may have any name.
        Part::Kept(family) => files.any(|t| t.entry == archive::kept(*family)),
        Part::Rules(Family::V4) => plan.firewall.v4.is_some(),
        Part::Rules(Family::V6) => plan.firewall.v6.is_some(),
        Part::Forwarding(Family::V4) => plan.firewall.ip_forward.is_some(),
        Part::Forwarding(Family::V6) => plan.firewall.ipv6_forward.is_some(),
        Part::Tunnels | Part::Peers => !plan.tunnels_down.is_empty(),
        // A restore touches what the profile names.
        Part::Unnamed(_) | Part::OtherDatabases => false,
    }
}
