//! What a restore leaves out of the gateway that the backup is of: parts that the backup has not, and what of it does not go
//! back. Pure; the verdict names all of it, so nothing may be left out here that the plan leaves out.

use std::collections::{BTreeMap, BTreeSet};

use journal_format::LeftOut;

use super::{BackupForPlan, forwarded};
use crate::archive::lost::Lost;
use crate::archive::manifest::Manifest;
use crate::gateway::parts::{Lack, Part, PartFate};
use crate::gateway::profile::Profile;
use crate::survey::Survey;
use crate::text::iptables::Family;
use crate::text::wording::{counted, names};

const STAY: &str =
    "the present ones stay, but for those of replaced tunnels, and tunnels and services add theirs";

/// What of a backup does not go back, as far as the backup and its rehearsal tell by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaidAside {
    /// Families whose rules will not be loaded, and why.
    pub rules: BTreeMap<&'static str, String>,
    /// Parts that could not be saved when it was made.
    pub lacks: Vec<Lack>,
    /// Links among the configs, by path.
    pub links: BTreeSet<String>,
    /// Clients whose row and files are of different moments.
    pub unpaired: BTreeSet<String>,
    /// What else is lost.
    pub lost: Vec<Lost>,
}

impl LaidAside {
    /// As its manifest says.
    pub fn of(manifest: Option<&Manifest>) -> LaidAside {
        manifest.map_or_else(LaidAside::default, |m| LaidAside {
            lacks: m.lacks(),
            links: m.links.keys().cloned().collect(),
            unpaired: m.unpaired.clone(),
            ..LaidAside::default()
        })
    }

    fn lacks(&self, part: &Part) -> bool {
        self.lacks.iter().any(|l| l.part == *part)
    }

    /// Whether something is lost of which the verdict speaks in these words.
    fn loses(&self, what: &str) -> bool {
        self.lost.iter().any(|l| l.what.as_deref() == Some(what))
    }

    /// The names of links, as they lie in a folder.
    fn link_names(&self) -> BTreeSet<&str> {
        let paths = self.links.iter();
        paths.filter_map(|path| path.rsplit('/').next()).collect()
    }
}

/// Why a part that is not in the backup is not in it.
fn why_not(backup: &BackupForPlan, part: &Part) -> String {
    if let Some(lack) = backup.aside.lacks.iter().find(|l| l.part == *part) {
        return format!("could not be saved when the backup was made: {}", lack.why);
    }
    match backup.parts.get(part) {
        Some(PartFate::NotThere) => "there was none when the backup was made".into(),
        _ => "the backup has none".into(),
    }
}

/// The lines, and the parts that have one.
#[derive(Default)]
struct LeftOutLines {
    lines: Vec<LeftOut>,
    named: BTreeSet<Part>,
}

impl LeftOutLines {
    fn add(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.lines.push(LeftOut {
            what: what.into(),
            why: why.into(),
        });
    }

    fn part(&mut self, part: Part, why: String) {
        self.add(part.shown(), why);
        self.named.insert(part);
    }

    /// `3 configs (a, b, c)`, or with more words behind what is counted: `2 links left alone (a, b)`
    fn several<T: AsRef<str>>(&mut self, one: &str, more: &str, which: &BTreeSet<T>, why: &str) {
        if !which.is_empty() {
            let many = counted(which.len(), one);
            self.add(format!("{many}{more} ({})", names(which)), why);
        }
    }
}

/// All that is left out.
pub(super) fn left_out(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    tunnels_up: &[journal_format::Tunnel],
) -> Vec<LeftOut> {
    let aside = &backup.aside;
    let mut lines = LeftOutLines::default();
    for database in &profile.gateway.database {
        let here = survey.databases.contains_key(&database.name);
        let part = Part::Database(database.name.clone());
        if here && !backup.databases.contains_key(&database.name) && !aside.loses(&part.shown()) {
            let stays = format!("; {} stays as it is", database.path.display());
            let why = why_not(backup, &part) + &stays;
            lines.part(part, why);
        }
    }
    configs(backup, &mut lines);
    no_files(profile, survey, backup, &mut lines);
    for (family, path, _) in &survey.kept {
        let part = Part::Kept(*family);
        let known = backup.kept.contains_key(family) || backup.kept_gone.contains(family);
        if !known && !aside.loses(&part.shown()) {
            let why = why_not(backup, &part);
            lines.part(part, format!("{why}; {} stays as it is", path.display()));
        }
    }
    for family in Family::BOTH {
        if let Some(why) = rules(survey, backup, family) {
            lines.part(Part::Rules(family), why);
        }
        if let Some(why) = forwarding(survey, backup, family) {
            lines.part(Part::Forwarding(family), why);
        }
    }
    // Whatever a backup lacks is said, also where nothing above knows of it.
    for lack in &aside.lacks {
        if !lines.named.contains(&lack.part) {
            let why = why_not(backup, &lack.part);
            lines.part(lack.part.clone(), format!("{why}; {}", lack.part.without()));
        }
    }
    let up: BTreeSet<&str> = tunnels_up.iter().map(|t| t.name.as_str()).collect();
    let belong_up = backup.tunnels_up.iter().map(String::as_str);
    let config = |tunnel: &str| profile.gateway.wireguard_dir.join(format!("{tunnel}.conf"));
    let (stay, down): (BTreeSet<&str>, BTreeSet<&str>) = belong_up
        .filter(|t| !up.contains(t))
        .partition(|t| survey.no_files.contains(&config(t)));
    lines.several(
        "tunnel",
        "",
        &stay,
        "up in the backup, and left as it is: what lies where the config belongs is no regular file (a link, a folder)",
    );
    lines.several(
        "tunnel",
        "",
        &down,
        "up in the backup, which has no config to bring it up with: down now",
    );
    lines.several(
        "link",
        " left alone",
        &aside.links,
        "there when the backup was made: neither a link nor what it leads to is saved or touched",
    );
    lines.several(
        "client",
        " as of one moment",
        &aside.unpaired,
        "changed while the backup was made: row and files may be of different moments",
    );
    lost(&aside.lost, &mut lines);
    lines.lines
}

/// Configs of which the backup does not say what they were.
fn configs(backup: &BackupForPlan, lines: &mut LeftOutLines) {
    let part = Part::Configs;
    if !backup.speaks_of_configs() {
        let why = why_not(backup, &part) + "; those of here stay as they are";
        lines.part(part, why);
        return;
    }
    if backup.aside.lacks(&part) {
        let why = format!("{}; {}", why_not(backup, &part), part.without());
        lines.add("a part of the configs", why);
        lines.named.insert(part);
    }
    let links = backup.aside.link_names();
    let names = backup.left_out.iter().map(String::as_str);
    let not_taken: BTreeSet<&str> = names.filter(|name| !links.contains(name)).collect();
    lines.several(
        "config",
        "",
        &not_taken,
        "there when the backup was made, and not in it: what is here under such a name stays as it is",
    );
    lines.several(
        "config",
        "",
        &backup.stays,
        "in the backup, and not put back: what is here under such a name stays as it is",
    );
}

/// What lies where a file belongs, and is none.
fn no_files(profile: &Profile, survey: &Survey, backup: &BackupForPlan, lines: &mut LeftOutLines) {
    let links = backup.aside.link_names();
    let (mut in_its_place, mut here_alone) = (BTreeSet::new(), BTreeSet::new());
    for path in &survey.no_files {
        let kept = |family: &Family| profile.gateway.firewall.kept_file(*family) == Some(path);
        let wanted = match Family::BOTH.into_iter().find(kept) {
            Some(family) => backup.kept.contains_key(&family),
            None => backup.wants(profile, path),
        };
        let file = path.file_name().and_then(|n| n.to_str());
        let shown = path.display().to_string();
        if wanted {
            in_its_place.insert(shown);
        } else if !file.is_some_and(|f| links.contains(f) || backup.left_out.contains(f)) {
            here_alone.insert(shown);
        }
    }
    lines.several(
        "file",
        "",
        &in_its_place,
        "in the backup, and not put back: what lies there now is no regular file (a link, a folder), and is left as it is",
    );
    lines.several(
        "place",
        " without a regular file",
        &here_alone,
        "a link, a folder or the like lies there, and the backup has nothing of that name: left as it is",
    );
}

/// What else is lost, a line for all that the verdict names in the same words.
fn lost(lost: &[Lost], lines: &mut LeftOutLines) {
    let mut seen = BTreeSet::new();
    for what in lost.iter().filter_map(|l| l.what.as_deref()) {
        if !seen.insert(what) {
            continue;
        }
        let mut said = lost.iter().filter(|l| l.what.as_deref() == Some(what));
        let first = said.next().map_or("", |l| &l.said);
        let why = match said.count() {
            0 => first.to_owned(),
            more => format!("{first}; and {more} more like it, named in the plan"),
        };
        lines.add(what, why);
    }
}

fn rules(survey: &Survey, backup: &BackupForPlan, family: Family) -> Option<String> {
    if backup.rules.contains_key(family.rules_file()) {
        return None;
    }
    let part = Part::Rules(family);
    let refused = backup.aside.rules.get(family.name());
    Some(match (survey.facts.rules(family), refused) {
        (Some(_), Some(why)) => format!("{why}; {STAY}"),
        (Some(_), None) => format!("{}; {STAY}", why_not(backup, &part)),
        (None, _) if survey.facts.unread.contains_key(&part) => {
            "the present ones cannot be read, and so could not be put back: all of them stay, and tunnels and services add theirs"
                .to_owned()
        }
        // A kernel without that protocol has none to keep.
        (None, refused) => refused?.clone(),
    })
}

fn forwarding(survey: &Survey, backup: &BackupForPlan, family: Family) -> Option<String> {
    let part = Part::Forwarding(family);
    let why = match (forwarded(backup, family), survey.facts.forwards(family)) {
        (Some(_), Some(_)) | (None, None) => return None,
        (None, Some(_)) => match backup.aside.lacks(&part) {
            true => why_not(backup, &part),
            false => "the backup does not say".to_owned(),
        },
        (Some(_), None) if survey.facts.lack_protocol(family) => {
            format!("the kernel of this box has no {}", family.name())
        }
        (Some(_), None) => "it cannot be read here, and so could not be put back".to_owned(),
    };
    Some(format!("{why}; it stays as it is"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
            backup.rules.insert(family.rules_file(), file.clone());
        }
        backup.ip_forward = Some(true);
        backup.ipv6_forward = Some(true);
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
        let database = crate::plan::planner::tests::held(8, 0o640).meta;
        survey.databases.insert("configs.db".into(), database);
        let mut backup = whole();
        backup
            .databases
            .insert("configs.db".into(), wanted(None, b"x"));
        change(&mut survey, &mut backup);
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
            let rows = |said: &str| Lost::rows("configs.db", format!("configs.db: {said}"));
            backup.aside.lost = vec![
                rows("3 rows of x"),
                rows("1 row of y"),
                Lost::of_a_line("of a part with a line of its own".into()),
                Lost::tunnel("the tunnel t was up and stays down: its key is none".into()),
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
                    (backup.ip_forward, backup.ipv6_forward) = (None, None);
                    backup.aside.lacks = vec![lack(part.clone())];
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
            backup.aside.lacks = vec![
                lack(Part::Tunnels),
                lack(Part::Peers),
                lack(Part::Unnamed("/srv/users.db".into())),
                Lack {
                    part: Part::Configs,
                    why: "the folder /etc/wireguard is gone".into(),
                },
            ];
        });
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn what_lies_here_where_a_file_belongs_and_is_none_is_left_out_whether_the_backup_has_that_file()
     {
        let shown = of(|survey, backup| {
            let profile = Profile::default();
            let gateway = &profile.gateway;
            let file = wanted(None, b"x");
            backup.wireguard.insert("a.conf".into(), file.clone());
            backup.tunnels_up = vec!["a".into(), "b".into()];
            backup.kept.insert(Family::V4, file);
            backup.left_out = BTreeSet::from(["known.conf".into(), "link.conf".into()]);
            backup.aside.links = BTreeSet::from(["/etc/wireguard/link.conf".into()]);
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
            backup.databases.clear();
            let what = Part::Database("configs.db".into()).shown();
            backup.aside.lost = vec![Lost::of(what, "it will not be restored: damaged".into())];
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
