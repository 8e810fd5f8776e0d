//! Which tunnels go down and come up, and what is fenced off meanwhile. Pure.

use std::collections::BTreeSet;
use std::path::Path;

use journal_format::{FenceRules, Note, Target, Tunnel};

use super::{BackupForPlan, Choices};
use crate::error::{Code, Problem, cannot};
use crate::gateway::database::Client;
use crate::gateway::profile::Profile;
use crate::survey::Survey;
use crate::text::wg_config::{Prefix, interface_name, merged};
use crate::text::wording::name as shown;

/// Every tunnel that is up, and those that nothing would tell how to take down.
pub(super) fn tunnels_down(profile: &Profile, survey: &Survey) -> (Vec<Tunnel>, Vec<Problem>) {
    let (mut tunnels, mut problems) = (Vec::new(), Vec::new());
    for name in &survey.facts.tunnels {
        let file = format!("{name}.conf");
        match (survey.wireguard.contains_key(&file), survey.configs.contains_key(&file)) {
            (true, _) => tunnels.push(tunnel(&profile.gateway.wireguard_dir, name)),
            (false, true) => tunnels.push(tunnel(&profile.gateway.configs_dir, name)),
            (false, false) => problems.push(cannot(
                Code::NOT_THERE,
                format!("take {name} down: it is up, but its config {file} is in neither folder"),
                "put the config back, or take the tunnel down by hand (ip link delete), then restore again",
            )),
        }
    }
    (tunnels, problems)
}

fn tunnel(dir: &Path, name: &str) -> Tunnel {
    Tunnel {
        name: name.to_owned(),
        config: dir.join(format!("{name}.conf")).display().to_string(),
    }
}

pub(super) fn tunnels_up(
    profile: &Profile,
    survey: &Survey,
    backup: &BackupForPlan,
    warnings: &mut Vec<Note>,
) -> (Vec<Tunnel>, Vec<Problem>) {
    let (mut tunnels, mut problems) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    let down = |name: &str, why: &str| {
        let text = format!("{} stays down: {why}", shown(name));
        Note::down(Code::TUNNEL_STAYS_DOWN, text).about(shown(name))
    };
    let belong_up = backup.checked.tunnels_up.iter();
    for name in belong_up.filter(|n| seen.insert(n.as_str())) {
        if let Err(why) = interface_name(name) {
            warnings.push(down(name, &why.to_string()));
            continue;
        }
        let file = format!("{name}.conf");
        if survey
            .no_files
            .contains(&profile.gateway.wireguard_dir.join(&file))
        {
            let text = format!("{name} stays as it is: its config here is not a regular file");
            warnings.push(Note::known(Code::TUNNEL_LEFT_ALONE, text).about(name));
            continue;
        }
        let stays = survey.wireguard.contains_key(&file) && backup.leaves(profile, survey, &file);
        if backup.checked.second(&file).is_none() && !stays {
            warnings.push(down(name, "the backup has no config for it"));
            continue;
        }
        if survey.links.contains(name) && !survey.facts.tunnels.contains(name) {
            problems.push(cannot(
                Code::NAME_TAKEN,
                format!("bring {name} up: this machine has another interface of that name"),
                "rename that interface, or remove the client from the backup's gateway and back it up again",
            ));
            continue;
        }
        tunnels.push(tunnel(&profile.gateway.wireguard_dir, name));
    }
    // What stays as it is goes down with the others, and comes up again as it was.
    let stay = survey.facts.tunnels.iter().filter(|name| {
        let file = format!("{name}.conf");
        survey.wireguard.contains_key(&file) && backup.leaves_up(profile, survey, &file)
    });
    for name in stay.filter(|n| seen.insert(n.as_str())) {
        tunnels.push(tunnel(&profile.gateway.wireguard_dir, name));
    }
    tunnels.sort();
    (tunnels, problems)
}

/// The tunnels that run as their configs say, and whose configs and peers are as the backup has them: nothing of them changes.
pub(super) fn stays_up(
    survey: &Survey,
    backup: &BackupForPlan,
    (down, up): (&[Tunnel], &[Tunnel]),
    files: &[Target],
    choices: &Choices,
) -> Vec<String> {
    if choices.full_stop {
        return Vec::new();
    }
    let changed: BTreeSet<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let stays = |tunnel: &&Tunnel| {
        survey.as_configured.contains(&tunnel.name)
            && up.contains(tunnel)
            && !changed.contains(tunnel.config.as_str())
            && !backup.checked.peers.contains_key(&tunnel.name)
    };
    down.iter().filter(stays).map(|t| t.name.clone()).collect()
}

/// The widest networks that are a site's own. What is wider is a way out (a default route, also one in two halves): a
/// fence around it would cut the box off, and its tunnel is fenced by name.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;

/// The tunnels that go down or come up, and their networks less those of tunnels that stay up: of two networks the longer prefix wins,
/// and of equal ones that of the tunnel that stays. Never everything, or the fence would cut the admin off.
pub(super) fn fence<'c>(
    (down, up, stays_up): (&[Tunnel], &[Tunnel], &[String]),
    networks: impl Iterator<Item = (&'c str, &'c [Prefix])>,
    clients: impl Iterator<Item = &'c Client>,
) -> FenceRules {
    let all: BTreeSet<&str> = down.iter().chain(up).map(|t| t.name.as_str()).collect();
    let stays = |name: &str| stays_up.iter().any(|s| s == name);
    let (mut found, mut spared) = (BTreeSet::new(), BTreeSet::new());
    let mut of = |name: &str, network: Prefix| {
        match stays(name) {
            true => spared.insert(network),
            false => found.insert(network),
        };
    };
    for (name, prefixes) in networks.filter(|(name, _)| all.contains(name)) {
        prefixes.iter().for_each(|p| of(name, p.network()));
    }
    for client in clients.filter(|c| all.contains(c.name.as_str())) {
        let subnets = client
            .subnet
            .split(',')
            .filter_map(|s| Prefix::parse(s.trim()));
        subnets.for_each(|p| of(&client.name, p.network()));
    }
    let is_own = |p: &Prefix| {
        let widest = if p.address.is_ipv4() {
            WIDEST_V4
        } else {
            WIDEST_V6
        };
        p.length >= widest
    };
    // What is too wide is none, whatever is spared of it.
    let own = merged(found).into_iter().filter(is_own);
    let own: BTreeSet<Prefix> = own.flat_map(|p| p.less(&spared)).collect();
    FenceRules {
        interfaces: all
            .iter()
            .filter(|n| !stays(n))
            .map(|n| (*n).to_owned())
            .collect(),
        networks: merged(own)
            .iter()
            .map(|p| format!("{}/{}", p.address, p.length))
            .collect(),
    }
}
