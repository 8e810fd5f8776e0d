//! What one part of a backup says of another: what is missing in it, clients without configs, tunnels that belong up and
//! their peers. Reads nothing; each part was checked by itself before.

use std::collections::{BTreeMap, BTreeSet};

use journal_format::Note;

use super::{Checked, NO_MANIFEST, configs};
use crate::archive::lost::Lost;
use crate::error::Code;
use crate::gateway::database::Origin;
use crate::gateway::parts::{Part, PartFate};
use crate::gateway::peers::{self, Peers};
use crate::gateway::profile::Profile;
use crate::text::iptables::Family;
use crate::text::wg_config;
use crate::text::wording::{Named, counted, name, names};

/// Characters that are shown of what a backup says itself.
const SAID_MOST: usize = 4096;

/// What one part says of another.
pub(super) fn across_parts(profile: &Profile, checked: &mut Checked) {
    // Before what is said of single configs, of which there may be thousands.
    let mut first = Vec::new();
    said_when_made(checked, &mut first);
    checked.missing = missing(profile, checked);
    lacks(checked, &mut first);
    clients(checked);
    configs::leads_away(&checked.configs, &mut first);
    checked.warnings.splice(0..0, first);
    belong_up(checked);
    same_ports(checked);
    fit_peers(checked);
}

fn said_when_made(checked: &mut Checked, first: &mut Vec<Note>) {
    match &checked.manifest {
        Some(manifest) => checked.warnings.extend(
            manifest
                .warnings
                .iter()
                // Of any length: none is a reason not to take a backup.
                .map(|w| w.chars().take(SAID_MOST).collect::<String>())
                .map(|w| format!("when the backup was made: {}", journal_format::visible(&w)))
                .map(|said| Note::known(Code::SAID_WHEN_MADE, said)),
        ),
        // It could have been cut out as well.
        None => first.push(Note::known(Code::NO_MANIFEST, NO_MANIFEST)),
    }
}

/// Parts that the profile names and the backup has not.
fn missing(profile: &Profile, checked: &Checked) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut missing = |part: Part, what: &str, stays: &str| {
        let text = match checked.fate(&part) {
            // Said among what is lost.
            Some(PartFate::NotSaved { .. }) => return,
            Some(PartFate::NotThere) => {
                format!("there was no {what} when the backup was made: {stays}")
            }
            Some(PartFate::Saved | PartFate::SavedRaw { .. }) | None => {
                format!("the backup has no {what}: {stays}")
            }
        };
        notes.push(Note::known(Code::NOT_IN_BACKUP, text).about(part.to_string()));
    };
    for known in &profile.gateway.database {
        let part = Part::Database(known.name.clone());
        let raw = matches!(checked.fate(&part), Some(PartFate::SavedRaw { .. }));
        let there = checked.databases.contains_key(&known.name);
        if known.path.exists() && !there && !raw {
            missing(part, &known.name, "that database stays as it is");
        }
    }
    for family in Family::BOTH {
        if checked.rules.of(family).is_none() {
            let what = format!("rules for {}", family.name());
            missing(Part::Rules(family), &what, "they stay as they are");
        }
    }
    notes
}

/// What could not be saved, or not whole, when the backup was made.
fn lacks(checked: &mut Checked, first: &mut Vec<Note>) {
    let Some(manifest) = &checked.manifest else {
        return;
    };
    let lacks = manifest.lacks().into_iter();
    // Read as if it had not been asked for, never as if it had not been there.
    checked.lost.splice(
        0..0,
        lacks.map(|lack| Lost::of_a_line(format!("{lack}; {}", lack.part.without()))),
    );
    checked.lost.extend(manifest.links.iter().map(|(path, target)| {
        Lost::of_a_line(format!(
            "{} was a link to {} and is not in the backup: what is here under that name stays as it is",
            name(path),
            name(target)
        ))
    }));
    if !manifest.unpaired.is_empty() {
        let count = manifest.unpaired.len();
        let text = format!(
            "of {} the row and the files are not of one moment, since they changed while the backup was made: {}",
            counted(count, "client"),
            names(&manifest.unpaired)
        );
        first.push(Note::known(Code::NOT_OF_ONE_MOMENT, text));
    }
}

/// Clients of one name, and those without a config.
fn clients(checked: &mut Checked) {
    let mut odd = |text: String| {
        checked.warnings.push(Note::known(Code::CLIENT_ODD, text));
    };
    let mut named: BTreeSet<&str> = BTreeSet::new();
    let mut without_config = Vec::new();
    for client in checked.clients.iter().flatten() {
        let shown = Named(&client.name);
        if !named.insert(&client.name) {
            odd(format!("two clients of the backup are named {shown}"));
        }
        let file = format!("{}.conf", client.name);
        if !checked.configs.contains_key(&file) {
            without_config.push(&client.name);
        }
    }
    match without_config.as_slice() {
        [] => {}
        [one] => odd(format!(
            "the client {} of the backup has no config in it",
            name(one)
        )),
        many => odd(format!(
            "{} of the backup have no config in it: {}",
            counted(many.len(), "client"),
            names(many)
        )),
    }
}

/// The tunnels that were up and can be here.
fn belong_up(checked: &mut Checked) {
    let known = checked.manifest.as_ref();
    let known = known.filter(|_| !checked.lacks(&Part::Tunnels));
    let clients = checked.clients.iter().flatten();
    let wanted: BTreeSet<&str> = match known {
        Some(m) => m.tunnels_up.iter().map(String::as_str).collect(),
        None => clients
            .filter(|c| c.status == "active")
            .map(|c| c.name.as_str())
            .collect(),
    };
    for tunnel in wanted {
        let config = checked.configs.get(&format!("{tunnel}.conf"));
        // Without any config in the backup those of now stay, and the planner sees to it.
        if checked.configs.is_empty()
            || config.is_some_and(|c| c.can_be_a_tunnel && c.second.is_some())
        {
            checked.tunnels_up.push(tunnel.to_owned());
        } else {
            let shown = name(tunnel);
            let said =
                format!("the tunnel {shown} was up and cannot be here: it has no usable config");
            let lost = Lost::tunnel(&shown, said);
            match known {
                Some(_) => checked.lost.push(lost),
                None => checked.warnings.push(lost.note),
            }
        }
    }
}

/// Configs that cannot be up at the same time, although not more than one of them belongs up: the others may come up later.
fn same_ports(checked: &mut Checked) {
    let up: BTreeSet<&str> = checked.tunnels_up.iter().map(String::as_str).collect();
    let mut ports: BTreeMap<u16, Vec<&String>> = BTreeMap::new();
    for (file, config) in &checked.configs {
        if let Some(port) = config.listen_port.filter(|p| *p != 0) {
            ports.entry(port).or_default().push(file);
        }
    }
    for (port, files) in ports.iter().filter(|(_, files)| files.len() > 1) {
        let belongs_up = |file: &&&String| {
            let stem = file.strip_suffix(".conf");
            stem.is_some_and(|s| up.contains(s))
        };
        // Two of those are refused.
        if files.iter().filter(belongs_up).count() < 2 {
            let text = format!("{} listen on the same port, {port}", names(files));
            checked.warnings.push(Note::known(Code::TUNNEL_UNFIT, text));
        }
    }
}

/// Why these peers are not taken. As many as ran on this box can run on it again.
fn unfit(peers: &Peers, origin: Origin) -> Option<String> {
    if !peers::are_plain(peers) {
        return Some("they are not what wg prints of peers".into());
    }
    let too_many = origin == Origin::Elsewhere && peers.len() > wg_config::PEERS;
    too_many.then(|| {
        format!(
            "they are {}, and of a backup from elsewhere {} are taken at most",
            peers.len(),
            wg_config::PEERS
        )
    })
}

/// Keeps the peers of tunnels that belong up, if they are peers and nothing else.
fn fit_peers(checked: &mut Checked) {
    let origin = checked.origin;
    let up: BTreeSet<&String> = checked.tunnels_up.iter().collect();
    let (warnings, lost) = (&mut checked.warnings, &mut checked.lost);
    checked.peers.retain(|tunnel, peers| {
        if !up.contains(tunnel) {
            return false;
        }
        let unfit = unfit(peers, origin);
        if let Some(why) = &unfit {
            let said = format!(
                "the peers that {} had besides those of its config are not taken: {why}",
                name(tunnel)
            );
            lost.push(Lost::of(Part::Peers.shown(), said));
        }
        unfit.is_none()
    });
    for (tunnel, peers) in &checked.peers {
        let text = format!(
            "{} gets {} once it is up, as it had when the backup was made: its config has others",
            name(tunnel),
            counted(peers.len(), "peer")
        );
        warnings.push(Note::known(Code::PEERS_BEYOND_CONFIG, text).about(tunnel));
    }
}
