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
mod tests;
