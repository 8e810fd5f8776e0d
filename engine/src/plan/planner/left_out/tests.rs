#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use super::*;
use crate::gateway::kernel_facts::Facts;
use crate::plan::planner::tests::{backup, survey, wanted};

fn facts() -> Facts {
    Facts {
        rules_v4: Some(String::new()),
        rules_v6: Some(String::new()),
        ip_forward: Some(true),
        ipv6_forward: Some(true),
        ..Facts::default()
    }
}

/// A backup that has everything, of a gateway that has no database.
fn whole() -> BackupForPlan {
    let file = wanted(None, b"x");
    let mut backup = backup(&[("a.conf", file.clone())]);
    for family in Family::BOTH {
        backup.rules.insert(family, Ok(file.facts.sha256.clone()));
    }
    let manifest = backup.manifest();
    (manifest.ip_forward, manifest.ipv6_forward) = (Some(true), Some(true));
    backup
}

fn said(facts: Facts, change: impl FnOnce(&mut BackupForPlan)) -> String {
    of(|survey, backup| {
        survey.facts = facts;
        change(backup);
    })
}

fn of(change: impl FnOnce(&mut Survey, &mut BackupForPlan)) -> String {
    let mut survey = survey(BTreeMap::new());
    survey.facts = facts();
    let database = crate::plan::planner::tests::meta(8, 0o640);
    survey.databases.insert("configs.db".into(), database);
    let mut backup = whole();
    backup.add_database("configs.db", wanted(None, b"x"));
    change(&mut survey, &mut backup);
    let found = left_out(&Profile::default(), &survey, &backup, &[]);
    for note in &found {
        let named = note.name.as_deref().unwrap_or_default();
        assert!(!named.is_empty() && note.code.is_some(), "{note:?}");
    }
    let lines: Vec<&str> = found.iter().map(|note| &*note.text).collect();
    lines.join("\n")
}

fn lack(part: Part) -> (Part, PartFate) {
    let why = "database is locked".into();
    (part, PartFate::NotSaved { why })
}

#[test]
fn of_a_backup_that_has_everything_nothing_is_left_out() {
    assert_eq!(said(facts(), |_| ()), "");
}

#[test]
fn what_the_backup_has_not_and_the_gateway_has_is_left_out_with_the_reason() {
    let shown = said(facts(), |backup| {
        backup.checked.databases.clear();
        backup.checked.configs.clear();
        backup.rules.clear();
        let manifest = backup.manifest();
        (manifest.ip_forward, manifest.ipv6_forward) = (None, None);
        manifest.parts = BTreeMap::from([
            lack(Part::Database("configs.db".into())),
            lack(Part::Rules(Family::V6)),
            lack(Part::Forwarding(Family::V6)),
        ]);
    });
    insta::assert_snapshot!(shown);
}

#[test]
fn what_the_backup_has_and_does_not_go_back_is_left_out_with_the_reason() {
    let shown = said(facts(), |backup| {
        backup.rules.clear();
        let why = "those of the backup do not load here (no such set), and you chose to continue without them";
        backup.rules.insert(Family::V4, Err(why.into()));
        backup.checked.tunnels_up = vec!["wg0".into(), "wg1".into()];
        let manifest = backup.manifest();
        manifest.left_out = BTreeSet::from(["b.conf".into()]);
        manifest.links = BTreeMap::from([("configs/l.conf".into(), String::new())]);
        manifest.unpaired = BTreeSet::from(["anna".into(), "bert".into()]);
        let rows = |said: &str| Lost::rows("configs.db", format!("configs.db: {said}"));
        backup.checked.lost = vec![
            rows("3 rows of x"),
            rows("1 row of y"),
            Lost::of_a_line("of a part with a line of its own".into()),
            Lost::tunnel(
                "t",
                "the tunnel t was up and stays down: its key is none".into(),
            ),
        ];
    });
    insta::assert_snapshot!(shown);
}

/// Every part there is.
fn parts() -> Vec<Part> {
    let mut parts = vec![
        Part::Database("configs.db".into()),
        Part::Database("other.db".into()),
        Part::Configs,
        Part::Tunnels,
        Part::Peers,
        Part::Unnamed("/srv/users.db".into()),
    ];
    for family in Family::BOTH {
        parts.extend([
            Part::Rules(family),
            Part::Forwarding(family),
            Part::Kept(family),
        ]);
    }
    parts
}

#[test]
fn each_part_that_a_backup_lacks_has_a_line_whatever_of_it_is_here_or_in_the_backup() {
    for part in parts() {
        for facts in [facts(), Facts::default()] {
            let shown = said(facts, |backup| {
                let manifest = backup.manifest();
                (manifest.ip_forward, manifest.ipv6_forward) = (None, None);
                manifest.parts = BTreeMap::from([lack(part.clone())]);
            });
            let lines: Vec<&str> = shown.lines().collect();
            let why = "could not be saved when the backup was made: database is locked; ";
            let named = lines.iter().filter(|l| l.contains(why)).count();
            assert_eq!(named, 1, "{part}: {shown}");
        }
    }
}

#[test]
fn parts_of_which_only_the_backup_knows_and_half_of_the_configs_are_named_as_lacking() {
    let shown = said(facts(), |backup| {
        let why = "the folder /etc/wireguard is gone".into();
        backup.manifest().parts = BTreeMap::from([
            lack(Part::Tunnels),
            lack(Part::Peers),
            lack(Part::Unnamed("/srv/users.db".into())),
            (Part::Configs, PartFate::NotSaved { why }),
        ]);
    });
    insta::assert_snapshot!(shown);
}

#[test]
fn what_lies_here_where_a_file_belongs_and_is_none_is_left_out_whether_the_backup_has_that_file() {
    let shown = of(|survey, backup| {
        let profile = Profile::default();
        let gateway = &profile.gateway;
        let file = wanted(None, b"x");
        let config = backup.checked.configs.entry("a.conf".into()).or_default();
        config.second = Some(file.clone());
        backup.checked.tunnels_up = vec!["a".into(), "b".into()];
        backup.checked.kept.insert(Family::V4, file);
        let manifest = backup.manifest();
        manifest.left_out = BTreeSet::from(["known.conf".into(), "link.conf".into()]);
        manifest.links = BTreeMap::from([("/etc/wireguard/link.conf".into(), String::new())]);
        survey.no_files = BTreeSet::from([
            gateway.configs_dir.join("here.conf"),
            gateway.configs_dir.join("known.conf"),
            gateway.wireguard_dir.join("a.conf"),
            gateway.wireguard_dir.join("link.conf"),
        ]);
        let kept = gateway.firewall.kept_file(Family::V4).unwrap();
        survey.no_files.insert(kept.to_owned());
    });
    insta::assert_snapshot!(shown);
}

#[test]
fn a_database_of_the_backup_that_cannot_be_restored_is_not_said_to_be_missing_in_it() {
    let shown = said(facts(), |backup| {
        backup.checked.databases.clear();
        let what = Part::Database("configs.db".into()).shown();
        backup.checked.lost = vec![Lost::of(what, "it will not be restored: damaged".into())];
    });
    assert_eq!(
        shown,
        "the database configs.db: it will not be restored: damaged"
    );
}

#[test]
fn what_this_box_cannot_read_or_has_not_at_all_is_left_out_only_if_the_backup_has_it() {
    let mut unread = facts();
    unread.rules_v4 = None;
    let part = Part::Rules(Family::V4);
    unread.unread.insert(part, "rules in two back ends".into());
    let of_the_unread = said(unread, |backup| {
        backup.rules.remove(&Family::V4);
    });
    let mut without_v6 = facts();
    (without_v6.rules_v6, without_v6.ipv6_forward) = (None, None);
    let neither = said(without_v6.clone(), |backup| {
        backup.rules.remove(&Family::V6);
        backup.manifest().ipv6_forward = None;
    });
    assert_eq!(neither, "");
    let only_there = said(without_v6, |backup| {
        let why = "the kernel of this machine has no IPv6";
        backup.rules.insert(Family::V6, Err(why.into()));
    });
    insta::assert_snapshot!([of_the_unread, only_there].join("\n---\n"));
}
