//! What a restore leaves out of the gateway that the backup is of: parts that the backup has not, and what of it does not go
//! back. Pure; the verdict names all of it, so nothing may be left out here that the plan leaves out.

use std::collections::{BTreeMap, BTreeSet};

use journal_format::LeftOut;

use super::{Backup, forwarded};
use crate::firewall::Family;
use crate::manifest::Manifest;
use crate::parts::{Fate, Lack, Part};
use crate::profile::Profile;
use crate::survey::Survey;
use crate::wording::{counted, names};

const STAY: &str =
    "those of now stay, less the ones of replaced tunnels, plus what tunnels and services add";

/// What of a backup does not go back, as far as the backup and its rehearsal tell by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aside {
    /// Families whose rules will not be loaded, and why.
    pub rules: BTreeMap<&'static str, String>,
    /// Parts that could not be saved when it was made.
    pub lacks: Vec<Lack>,
    /// Links among the configs, by path.
    pub links: BTreeSet<String>,
    /// Clients whose row and files are of different moments.
    pub unpaired: BTreeSet<String>,
    /// What else is lost, a sentence each: rows that have no place here, tunnels that stay down.
    pub rows: Vec<String>,
}

impl Aside {
    /// As its manifest says.
    pub fn of(manifest: Option<&Manifest>) -> Aside {
        manifest.map_or_else(Aside::default, |m| Aside {
            lacks: m.lacks(),
            links: m.links.keys().cloned().collect(),
            unpaired: m.unpaired.clone(),
            ..Aside::default()
        })
    }
}

/// Why a part that is not in the backup is not in it.
fn why_not(backup: &Backup, part: &Part) -> String {
    if let Some(lack) = backup.aside.lacks.iter().find(|l| l.part == *part) {
        return format!("could not be saved when the backup was made: {}", lack.why);
    }
    match backup.parts.get(part) {
        Some(Fate::NotThere) => "there was none when the backup was made".into(),
        _ => "the backup has none".into(),
    }
}

/// All that is left out.
pub(super) fn left_out(
    profile: &Profile,
    survey: &Survey,
    backup: &Backup,
    tunnels_up: &[journal_format::Tunnel],
) -> Vec<LeftOut> {
    let one = |what: String, why: String| LeftOut { what, why };
    let aside = &backup.aside;
    let mut left_out = Vec::new();
    for database in &profile.gateway.database {
        let here = survey.databases.contains_key(&database.name);
        let part = Part::Database(database.name.clone());
        let lacks = aside.lacks.iter().any(|l| l.part == part);
        if (here || lacks) && !backup.databases.contains_key(&database.name) {
            let stays = match here {
                true => format!("; {} stays as it is", database.path.display()),
                false => String::new(),
            };
            left_out.push(one(part.shown(), why_not(backup, &part) + &stays));
        }
    }
    if !backup.speaks_of_configs() {
        let why = why_not(backup, &Part::Configs) + "; those of here stay as they are";
        left_out.push(one(Part::Configs.shown(), why));
    } else if !backup.left_out.is_empty() {
        left_out.push(one(
            format!(
                "{} ({})",
                counted(backup.left_out.len(), "config"),
                names(&backup.left_out)
            ),
            "the backup could not take them: what is here of those names stays as it is".into(),
        ));
    }
    if !backup.stays.is_empty() {
        left_out.push(one(
            format!(
                "{} ({})",
                counted(backup.stays.len(), "config"),
                names(&backup.stays)
            ),
            "they cannot be put back: what is here of those names stays as it is".into(),
        ));
    }
    for (family, path, _) in &survey.kept {
        if !backup.kept.contains_key(family) && !backup.kept_gone.contains(family) {
            let part = Part::Kept(*family);
            let why = format!(
                "{}; {} stays as it is",
                why_not(backup, &part),
                path.display()
            );
            left_out.push(one(part.shown(), why));
        }
    }
    for family in Family::BOTH {
        left_out.extend(rules(survey, backup, family));
        left_out.extend(forwarding(survey, backup, family));
    }
    let up: BTreeSet<&str> = tunnels_up.iter().map(|t| t.name.as_str()).collect();
    let down: BTreeSet<&String> = backup
        .tunnels_up
        .iter()
        .filter(|t| !up.contains(t.as_str()))
        .collect();
    if !down.is_empty() {
        left_out.push(one(
            format!("{} ({})", counted(down.len(), "tunnel"), names(&down)),
            "up in the backup, which has no config that brings them up: they stay down".into(),
        ));
    }
    if !aside.links.is_empty() {
        left_out.push(one(
            format!(
                "{} among the configs ({})",
                counted(aside.links.len(), "link"),
                names(&aside.links)
            ),
            "links are not followed: neither they nor what they lead to are touched".into(),
        ));
    }
    if !aside.unpaired.is_empty() {
        left_out.push(one(
            format!(
                "{} as of one moment ({})",
                counted(aside.unpaired.len(), "client"),
                names(&aside.unpaired)
            ),
            "they changed while the backup was made: row and files may not fit".into(),
        ));
    }
    if let Some((first, more)) = aside.rows.split_first() {
        let more = match more.len() {
            0 => String::new(),
            n => format!("; and {n} more, named in the plan"),
        };
        left_out.push(one(
            "what the plan names as lost".into(),
            format!("{first}{more}"),
        ));
    }
    left_out
}

fn rules(survey: &Survey, backup: &Backup, family: Family) -> Option<LeftOut> {
    if backup.rules.contains_key(family.rules_file()) {
        return None;
    }
    let part = Part::Rules(family);
    let refused = backup.aside.rules.get(family.name());
    let why = match (survey.facts.rules(family), refused) {
        (Some(_), Some(why)) => format!("{why}; {STAY}"),
        (Some(_), None) => format!("{}; {STAY}", why_not(backup, &part)),
        (None, _) if survey.facts.unread.contains_key(&part) => {
            "those of now cannot be read, and so not be put back: they stay, those of replaced tunnels among them; what tunnels \
             and services add comes on top"
                .to_owned()
        }
        // A kernel without that protocol has none to keep.
        (None, refused) => refused?.clone(),
    };
    Some(LeftOut {
        what: part.shown(),
        why,
    })
}

fn forwarding(survey: &Survey, backup: &Backup, family: Family) -> Option<LeftOut> {
    let part = Part::Forwarding(family);
    let why = match (forwarded(backup, family), survey.facts.forwards(family)) {
        (Some(_), Some(_)) | (None, None) => return None,
        (None, Some(_)) => match backup.aside.lacks.iter().any(|l| l.part == part) {
            true => why_not(backup, &part),
            false => "the backup does not say".to_owned(),
        },
        (Some(_), None) if survey.facts.lack_protocol(family) => {
            format!("the kernel of this box has no {}", family.name())
        }
        (Some(_), None) => "what it is now cannot be read, and so not be put back".to_owned(),
    };
    Some(LeftOut {
        what: part.shown(),
        why: format!("{why}; it stays as it is"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::facts::Facts;
    use crate::planner::tests::{backup, survey, wanted};

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
    fn whole() -> Backup {
        let file = wanted(None, b"x");
        let mut backup = backup(&[("a.conf", file.clone())]);
        for family in Family::BOTH {
            backup.rules.insert(family.rules_file(), file.clone());
        }
        backup.ip_forward = Some(true);
        backup.ipv6_forward = Some(true);
        backup
    }

    fn said(facts: Facts, change: impl FnOnce(&mut Backup)) -> String {
        let mut survey = survey(BTreeMap::new());
        survey.facts = facts;
        let database = crate::planner::tests::held(8, 0o640).meta;
        survey.databases.insert("configs.db".into(), database);
        let mut backup = whole();
        backup
            .databases
            .insert("configs.db".into(), wanted(None, b"x"));
        change(&mut backup);
        let found = left_out(&Profile::default(), &survey, &backup, &[]);
        let lines = found.iter().map(|l| format!("{}: {}", l.what, l.why));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn lack(part: Part) -> Lack {
        Lack {
            part,
            why: "database is locked".into(),
        }
    }

    #[test]
    fn of_a_backup_that_has_everything_nothing_is_left_out() {
        assert_eq!(said(facts(), |_| ()), "");
    }

    #[test]
    fn what_the_backup_has_not_and_the_gateway_has_is_left_out_with_the_reason() {
        let shown = said(facts(), |backup| {
            backup.databases.clear();
            backup.configs.clear();
            backup.rules.clear();
            backup.ip_forward = None;
            backup.ipv6_forward = None;
            backup.aside.lacks = vec![
                lack(Part::Database("configs.db".into())),
                lack(Part::Rules(Family::V6)),
                lack(Part::Forwarding(Family::V6)),
            ];
        });
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn what_the_backup_has_and_does_not_go_back_is_left_out_with_the_reason() {
        let shown = said(facts(), |backup| {
            backup.rules.clear();
            let why = "they cannot be loaded here, and that was accepted: no such set";
            backup.aside.rules.insert("IPv4", why.into());
            backup.tunnels_up = vec!["wg0".into(), "wg1".into()];
            backup.left_out = BTreeSet::from(["b.conf".into()]);
            backup.aside.links = BTreeSet::from(["configs/l.conf".into()]);
            backup.aside.unpaired = BTreeSet::from(["anna".into(), "bert".into()]);
            backup.aside.rows = vec!["configs.db: 3 rows of x".into(), "y".into(), "z".into()];
        });
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn what_this_box_cannot_read_or_has_not_at_all_is_left_out_only_if_the_backup_has_it() {
        let mut unread = facts();
        unread.rules_v4 = None;
        let part = Part::Rules(Family::V4);
        unread.unread.insert(part, "rules in two back ends".into());
        let of_the_unread = said(unread, |backup| {
            backup.rules.remove(Family::V4.rules_file());
        });
        let mut without_v6 = facts();
        (without_v6.rules_v6, without_v6.ipv6_forward) = (None, None);
        let neither = said(without_v6.clone(), |backup| {
            backup.rules.remove(Family::V6.rules_file());
            backup.ipv6_forward = None;
        });
        assert_eq!(neither, "");
        let only_there = said(without_v6, |backup| {
            backup.rules.remove(Family::V6.rules_file());
            let why = "the kernel of this box has no IPv6";
            backup.aside.rules.insert("IPv6", why.into());
        });
        insta::assert_snapshot!([of_the_unread, only_there].join("\n---\n"));
    }
}
