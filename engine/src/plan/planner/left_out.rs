//! What a restore leaves out of the gateway that the backup is of: parts that the backup has not, and what of it does not go
//! back. Pure; the verdict names all of it, so nothing may be left out here that the plan leaves out.

use std::collections::BTreeSet;
use std::path::Path;

use journal_format::{Code, Note};

use super::BackupForPlan;
use crate::archive::lost::Lost;
use crate::archive::manifest::Manifest;
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::profile::Profile;
use crate::survey::Survey;
use crate::text::iptables::Family;
use crate::text::wording::{counted, names};

const STAY: &str = "The current rules stay, except the rules of replaced tunnels. Tunnels and services add their own rules";

/// Why a part that is not in the backup is not in it.
fn why_not(backup: &BackupForPlan, part: &Part) -> String {
    match backup.checked.fate(part) {
        Some(PartFate::NotSaved { why }) => {
            format!("could not be saved when the backup was made: {why}")
        }
        Some(PartFate::NotThere) => "there was none when the backup was made".into(),
        _ => "the backup has none".into(),
    }
}

/// Whether a part is lost in words that are those of its own line.
fn loses(backup: &BackupForPlan, part: &Part) -> bool {
    let shown = part.shown();
    let mut lost = backup.checked.lost.iter();
    lost.any(|l| l.what.as_deref() == Some(&*shown))
}

/// The names of links, as they lie in a folder.
fn link_names(backup: &BackupForPlan) -> BTreeSet<&str> {
    let manifest = backup.checked.manifest.iter();
    let paths = manifest.flat_map(|m| m.links.keys());
    paths.filter_map(|path| path.rsplit('/').next()).collect()
}

/// Whether it has a config for this place.
fn wants(backup: &BackupForPlan, profile: &Profile, path: &Path) -> bool {
    let (folder, gateway) = (path.parent(), &profile.gateway);
    let name = path.file_name().and_then(|n| n.to_str());
    let config = name.and_then(|name| backup.checked.configs.get(name));
    config.is_some_and(|config| {
        folder == Some(&gateway.configs_dir) && config.first.is_some()
            || folder == Some(&gateway.wireguard_dir) && config.second.is_some()
    })
}

/// The lines, and the parts that have one.
#[derive(Default)]
struct LeftOutLines {
    lines: Vec<Note>,
    named: BTreeSet<Part>,
}

impl LeftOutLines {
    /// A part that the backup has not.
    fn absent(&mut self, part: Part, why: String) {
        self.part(part, Note::known(Code::NOT_IN_BACKUP, why));
    }

    fn part(&mut self, part: Part, why: Note) {
        self.lines.push(why.of(part.shown()));
        self.named.insert(part);
    }

    /// `3 configs (a, b, c)`, or with more words behind what is counted: `2 links left alone (a, b)`
    fn several<T: AsRef<str>>(&mut self, one: &str, more: &str, which: &BTreeSet<T>, why: Note) {
        if !which.is_empty() {
            let many = counted(which.len(), one);
            self.lines
                .push(why.of(format!("{many}{more} ({})", names(which))));
        }
    }
}

/// All that is left out.
pub(super) fn left_out(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    tunnels_up: &[journal_format::Tunnel],
) -> Vec<Note> {
    let checked = &backup.checked;
    let mut lines = LeftOutLines::default();
    for database in &profile.gateway.database {
        let here = survey.databases.contains_key(&database.name);
        let part = Part::Database(database.name.clone());
        if here && !checked.databases.contains_key(&database.name) && !loses(backup, &part) {
            let stays = format!("; {} stays as it is", database.path.display());
            let why = why_not(backup, &part) + &stays;
            lines.absent(part, why);
        }
    }
    configs(backup, &mut lines);
    no_files(profile, survey, backup, &mut lines);
    for (family, path, _) in &survey.kept {
        let part = Part::Kept(*family);
        let known = checked.kept.contains_key(family) || checked.kept_gone(*family);
        if !known && !loses(backup, &part) {
            let why = why_not(backup, &part);
            lines.absent(part, format!("{why}; {} stays as it is", path.display()));
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
    let manifest = checked.manifest.as_ref();
    for lack in manifest.map(Manifest::lacks).unwrap_or_default() {
        if !lines.named.contains(&lack.part) {
            let why = why_not(backup, &lack.part);
            let why = format!("{why}; {}", lack.part.without());
            lines.absent(lack.part, why);
        }
    }
    tunnels(profile, survey, backup, tunnels_up, &mut lines);
    let links: BTreeSet<&String> = manifest.iter().flat_map(|m| m.links.keys()).collect();
    let were = match links.len() {
        1 => "it was a link",
        _ => "they were links",
    };
    let why = format!(
        "{were} when the backup was made. Holdfast saves and changes neither links nor their targets"
    );
    let why = Note::known(Code::NOT_IN_BACKUP, why);
    lines.several("link", " left alone", &links, why);
    lines.several(
        "client",
        " that changed while the backup was made",
        &manifest.iter().flat_map(|m| &m.unpaired).collect(),
        Note::known(
            Code::NOT_OF_ONE_MOMENT,
            "the row and the config file may not match",
        ),
    );
    lost(&checked.lost, &mut lines);
    lines.lines
}

/// Tunnels that belong up and will not be as the backup has them.
fn tunnels(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    tunnels_up: &[journal_format::Tunnel],
    lines: &mut LeftOutLines,
) {
    let up: BTreeSet<&str> = tunnels_up.iter().map(|t| t.name.as_str()).collect();
    let belong_up = backup.checked.tunnels_up.iter().map(String::as_str);
    let config = |tunnel: &str| profile.gateway.wireguard_dir.join(format!("{tunnel}.conf"));
    let (stay, down): (BTreeSet<&str>, BTreeSet<&str>) = belong_up
        .filter(|t| !up.contains(t))
        .partition(|t| survey.no_files.contains(&config(t)));
    lines.several(
        "tunnel",
        "",
        &stay,
        Note::known(
            Code::WRONG_KIND,
            "up in the backup, and left as it is: what lies where the config belongs is no regular file (a link, a folder)",
        ),
    );
    let down_now = match down.len() {
        1 => "up in the backup, which has no config to bring it up with: it is down and stays down",
        _ => {
            "up in the backup, which has no configs to bring them up with: they are down and stay down"
        }
    };
    let why = Note::down(Code::TUNNEL_STAYS_DOWN, down_now);
    lines.several("tunnel", "", &down, why);
}

/// Configs of which the backup does not say what they were.
fn configs(backup: &BackupForPlan, lines: &mut LeftOutLines) {
    let part = Part::Configs;
    if !backup.speaks_of_configs() {
        let why = why_not(backup, &part) + "; those of here stay as they are";
        lines.absent(part, why);
        return;
    }
    if backup.checked.lacks(&part) {
        let why = format!("{}; {}", why_not(backup, &part), part.without());
        let note = Note::known(Code::NOT_IN_BACKUP, why);
        lines.lines.push(note.of("a part of the configs"));
        lines.named.insert(part);
    }
    let links = link_names(backup);
    let not_taken = backup.could_not_take().into_iter().flatten();
    let not_taken = not_taken.filter(|name| !links.contains(name.as_str()));
    lines.several(
        "config",
        "",
        &not_taken.collect(),
        Note::known(
            Code::NOT_IN_BACKUP,
            "there when the backup was made, but the backup lacks it: a current file of that name stays",
        ),
    );
    lines.several(
        "config",
        "",
        &backup.checked.stays,
        Note::known(
            Code::NOT_PUT_BACK,
            "in the backup, and not put back: a current file of that name stays",
        ),
    );
}

/// What lies where a file belongs, and is none.
fn no_files(profile: &Profile, survey: &Survey, backup: &BackupForPlan, lines: &mut LeftOutLines) {
    let links = link_names(backup);
    let not_taken = |file: &str| backup.could_not_take().is_some_and(|c| c.contains(file));
    let (mut in_its_place, mut here_alone) = (BTreeSet::new(), BTreeSet::new());
    for path in &survey.no_files {
        let kept = |family: &Family| profile.gateway.firewall.kept_file(*family) == Some(path);
        let wanted = match Family::BOTH.into_iter().find(kept) {
            Some(family) => backup.checked.kept.contains_key(&family),
            None => wants(backup, profile, path),
        };
        let file = path.file_name().and_then(|n| n.to_str());
        let shown = path.display().to_string();
        if wanted {
            in_its_place.insert(shown);
        } else if !file.is_some_and(|f| links.contains(f) || not_taken(f)) {
            here_alone.insert(shown);
        }
    }
    lines.several(
        "file",
        "",
        &in_its_place,
        Note::known(
            Code::WRONG_KIND,
            "in the backup, and not put back: what lies there now is no regular file (a link, a folder), and is left as it is. To restore it, move the link or folder away and restore again",
        ),
    );
    lines.several(
        "place",
        " without a regular file",
        &here_alone,
        Note::known(
            Code::WRONG_KIND,
            "a link, a folder or the like lies there, and the backup has nothing of that name: left as it is",
        ),
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
        let Some(mut note) = said.next().map(|l| l.note.clone()) else {
            continue;
        };
        // In the plan it stands alone, and names its database itself.
        if let Some((name, rest)) = note.text.split_once(": ")
            && what.split(' ').next_back() == Some(name)
        {
            note.text = rest.to_owned();
        }
        let more = said.count();
        if more > 0 {
            note.text += &format!("; the plan names {more} more");
        }
        lines.lines.push(note.of(what));
    }
}

fn rules(survey: &Survey, backup: &BackupForPlan, family: Family) -> Option<Note> {
    let refused = match backup.rules.get(&family) {
        Some(Ok(_)) => return None,
        Some(Err(why)) => Some(why),
        None => None,
    };
    let part = Part::Rules(family);
    let not_loaded = |why: String| Note::down(Code::RULES_NOT_LOADED, why);
    Some(match (survey.facts.rules(family), refused) {
        (Some(_), Some(why)) => not_loaded(format!("{why}. {STAY}")),
        (Some(_), None) => {
            let why = format!("{}. {STAY}", why_not(backup, &part));
            Note::known(Code::NOT_IN_BACKUP, why)
        }
        (None, _) if survey.facts.unread.contains_key(&part) => Note::down(
            Code::GATEWAY_UNREADABLE,
            "the present ones cannot be read, and so could not be put back: all of them stay, and tunnels and services add theirs",
        ),
        // A kernel without that protocol has none to keep.
        (None, refused) => not_loaded(refused?.clone()),
    })
}

fn forwarding(survey: &Survey, backup: &BackupForPlan, family: Family) -> Option<Note> {
    let part = Part::Forwarding(family);
    let says = backup.checked.forwards(family);
    let (code, why) = match (says, survey.facts.forwards(family)) {
        (Some(_), Some(_)) | (None, None) => return None,
        (None, Some(_)) => {
            let why = match backup.checked.lacks(&part) {
                true => why_not(backup, &part),
                false => "the backup does not say".to_owned(),
            };
            (Code::NOT_IN_BACKUP, why)
        }
        (Some(_), None) if survey.facts.lack_protocol(family) => {
            let why = format!("the kernel of this machine has no {}", family.name());
            (Code::UNFIT_SYSTEM, why)
        }
        (Some(_), None) => {
            let why = "it cannot be read here, and so could not be put back".to_owned();
            (Code::GATEWAY_UNREADABLE, why)
        }
    };
    Some(Note::known(code, format!("{why}; it stays as it is")))
}

#[cfg(test)]
mod tests;
