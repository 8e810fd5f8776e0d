//! The peers of tunnels as the kernel has them: what `wg` prints of them, and what it takes to set them again. Pure. Holds
//! preshared keys, which must be shown nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// The peers of one tunnel, by public key.
pub type Peers = BTreeMap<String, RuntimePeer>;

/// A peer as the kernel has it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimePeer {
    /// What of the peer does not change by itself.
    pub set: PeerSettings,
    /// Where it was heard last, as `address:port`.
    pub endpoint: Option<String>,
}

/// What was set of a peer. Its preshared key is a secret: it is nowhere but in the kernel facts, which are root's alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSettings {
    preshared_key: Option<String>,
    allowed_ips: BTreeSet<String>,
    keepalive: Option<u16>,
}

impl fmt::Debug for RuntimePeer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("RuntimePeer")
            .field("allowed_ips", &self.set.allowed_ips)
            .finish_non_exhaustive()
    }
}

/// The peers of these tunnels in the output of `wg show all dump`.
pub fn in_dump(dump: &str, tunnels: &[String]) -> BTreeMap<String, Peers> {
    let mut found: BTreeMap<String, Peers> = BTreeMap::new();
    let given = |word: &str| (!["(none)", "off"].contains(&word)).then(|| word.to_owned());
    for line in dump.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        // A line of five is an interface's own.
        let &[tunnel, key, secret, endpoint, allowed, _, _, _, keepalive] = words.as_slice() else {
            continue;
        };
        if !tunnels.iter().any(|t| t == tunnel) {
            continue;
        }
        let peer = RuntimePeer {
            set: PeerSettings {
                preshared_key: given(secret),
                allowed_ips: given(allowed)
                    .iter()
                    .flat_map(|a| a.split(',').map(str::to_owned))
                    .collect(),
                keepalive: keepalive.parse().ok(),
            },
            endpoint: given(endpoint),
        };
        let peers = found.entry(tunnel.to_owned()).or_default();
        peers.insert(key.to_owned(), peer);
    }
    found
}

/// In what the peers of a tunnel are not set as others are.
pub struct Unlike<'p> {
    /// To be taken away; among them those that are set otherwise, since what is added to a peer keeps what it lacks.
    pub surplus: Vec<&'p String>,
    /// To be added then.
    pub missing: Vec<(&'p String, &'p RuntimePeer)>,
}

impl Unlike<'_> {
    /// Whether they are set alike.
    pub fn is_nothing(&self) -> bool {
        self.surplus.is_empty() && self.missing.is_empty()
    }
}

/// What it takes to have these peers set as `wanted` has them. Endpoints move by themselves and do not count.
pub fn unlike<'p>(wanted: &'p Peers, has: &'p Peers) -> Unlike<'p> {
    let same = |key: &String| match (wanted.get(key), has.get(key)) {
        (Some(wanted), Some(has)) => wanted.set == has.set,
        _ => false,
    };
    Unlike {
        surplus: has.keys().filter(|key| !same(key)).collect(),
        missing: wanted.iter().filter(|(key, _)| !same(key)).collect(),
    }
}

/// These peers as `wg addconf` reads them.
pub fn addconf<'p>(peers: impl IntoIterator<Item = (&'p String, &'p RuntimePeer)>) -> String {
    let mut text = String::new();
    for (key, peer) in peers {
        let set = &peer.set;
        let allowed: Vec<&str> = set.allowed_ips.iter().map(String::as_str).collect();
        // It takes no setting without a value.
        let allowed = (!allowed.is_empty()).then(|| allowed.join(", "));
        text.push_str(&format!("[Peer]\nPublicKey = {key}\n"));
        for (name, value) in [
            ("AllowedIPs", &allowed),
            ("PersistentKeepalive", &set.keepalive.map(|k| k.to_string())),
            ("PresharedKey", &set.preshared_key),
            ("Endpoint", &peer.endpoint),
        ] {
            if let Some(value) = value {
                text.push_str(&format!("{name} = {value}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "wg0\tPRIVATE\tPUBLIC\t51820\toff\n\
        wg0\tAAA=\t(none)\t192.0.2.1:7\t10.0.0.2/32,fd00::2/128\t0\t0\t0\t25\n\
        wg0\tBBB=\tSECRET\t(none)\t(none)\t0\t0\t0\toff\n\
        other\tCCC=\t(none)\t(none)\t(none)\t0\t0\t0\toff\n";

    #[test]
    fn peers_are_read_as_the_kernel_has_them_and_written_as_wg_adds_them() {
        let peers = in_dump(DUMP, &["wg0".to_owned(), "down".to_owned()]);
        assert_eq!(peers.keys().collect::<Vec<_>>(), ["wg0"]);
        insta::assert_snapshot!(addconf(&peers["wg0"]), @r"
        [Peer]
        PublicKey = AAA=
        AllowedIPs = 10.0.0.2/32, fd00::2/128
        PersistentKeepalive = 25
        Endpoint = 192.0.2.1:7
        [Peer]
        PublicKey = BBB=
        PresharedKey = SECRET
        ");
        assert!(!format!("{peers:?}").contains("SECRET"));
    }
}
