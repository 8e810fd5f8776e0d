//! Peers of a simulated tunnel, as `wg setconf` and `wg addconf` set them and `wg show` prints them. The simulator's own
//! reader of configs: the engine's is under test. Knows `Key = value` with any case and space, and no comments behind it.

use std::collections::{BTreeMap, BTreeSet};

/// What is set of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    preshared_key: Option<String>,
    endpoint: Option<String>,
    allowed_ips: BTreeSet<String>,
    keepalive: Option<String>,
}

/// The peers of one tunnel, by public key.
pub type Peers = BTreeMap<String, Peer>;

/// One `[Peer]` of a config: what it lacks stays as it is, but for the networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    key: String,
    peer: Peer,
}

impl Setting {
    /// A peer with this public key and network, and nothing else.
    pub fn plain(key: &str, network: &str) -> Setting {
        Setting {
            key: key.to_owned(),
            peer: Peer {
                allowed_ips: BTreeSet::from([network.to_owned()]),
                ..Peer::default()
            },
        }
    }
}

/// A line's key in lower case, and its value.
fn pair(line: &str) -> Option<(String, String)> {
    let (key, value) = line.split_once('=')?;
    Some((key.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// The peers that a config names, in its order; or why `wg` does not take it.
pub fn settings(config: &str) -> Result<Vec<Setting>, String> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut of_peer = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            of_peer = line.eq_ignore_ascii_case("[peer]");
            if of_peer {
                settings.push(Setting {
                    key: String::new(),
                    peer: Peer::default(),
                });
            }
            continue;
        }
        let Some(last) = settings.last_mut().filter(|_| of_peer) else {
            continue;
        };
        let peer = &mut last.peer;
        match pair(line) {
            Some((key, value)) if key == "publickey" => last.key = value,
            Some((key, value)) if key == "presharedkey" => peer.preshared_key = Some(value),
            Some((key, value)) if key == "endpoint" => peer.endpoint = Some(value),
            Some((key, value)) if key == "persistentkeepalive" => peer.keepalive = Some(value),
            Some((key, value)) if key == "allowedips" => {
                let networks = value.split(',').map(|n| n.trim().to_owned());
                peer.allowed_ips.extend(networks);
            }
            None if line.is_empty() || line.starts_with('#') => {}
            Some(_) | None => return Err(format!("Line unrecognized: {line}")),
        }
    }
    if settings.iter().any(|s| s.key.is_empty()) {
        return Err("a peer is missing a public key".into());
    }
    Ok(settings)
}

/// The port that a config names.
pub fn port(config: &str) -> Option<String> {
    let of_interface = config.lines().take_while(|l| l.trim() != "[Peer]");
    of_interface
        .filter_map(pair)
        .find_map(|(key, value)| (key == "listenport").then_some(value))
}

/// Adds a peer, or sets what it has otherwise. A network is one peer's alone.
pub fn set(peers: &mut Peers, setting: &Setting) {
    let new = &setting.peer;
    for other in peers.values_mut() {
        other.allowed_ips.retain(|n| !new.allowed_ips.contains(n));
    }
    let peer = peers.entry(setting.key.clone()).or_default();
    peer.allowed_ips.clone_from(&new.allowed_ips);
    for (now, new) in [
        (&mut peer.preshared_key, &new.preshared_key),
        (&mut peer.endpoint, &new.endpoint),
        (&mut peer.keepalive, &new.keepalive),
    ] {
        if new.is_some() {
            now.clone_from(new);
        }
    }
}

/// The peers of a tunnel in `wg show all dump`.
pub fn dump(tunnel: &str, peers: &Peers) -> String {
    let given = |value: &Option<String>, none: &str| value.clone().unwrap_or_else(|| none.into());
    let mut out = String::new();
    for (key, peer) in peers {
        let networks: Vec<&str> = peer.allowed_ips.iter().map(String::as_str).collect();
        let networks = (!networks.is_empty()).then(|| networks.join(","));
        out.push_str(&format!(
            "{tunnel}\t{key}\t{}\t{}\t{}\t0\t0\t0\t{}\n",
            given(&peer.preshared_key, "(none)"),
            given(&peer.endpoint, "(none)"),
            given(&networks, "(none)"),
            given(&peer.keepalive, "off"),
        ));
    }
    out
}
