//! The peers of tunnels as the kernel has them: what `wg` prints of them, and what it takes to set them again. Pure. Holds
//! preshared keys, which must be shown nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::text::mark::Mark;
use crate::text::wg_config::{self, Config, Prefix, is_key};
use crate::text::wording::counted;

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
    let tunnels: BTreeSet<&str> = tunnels.iter().map(String::as_str).collect();
    let given = |word: &str| (!["(none)", "off"].contains(&word)).then(|| word.to_owned());
    for line in dump.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        // A line of five is an interface's own.
        let &[tunnel, key, secret, endpoint, allowed, _, _, _, keepalive] = words.as_slice() else {
            continue;
        };
        if !tunnels.contains(tunnel) {
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
pub struct PeerDiff<'p> {
    /// To be taken away; among them those that are set otherwise, since what is added to a peer keeps what it lacks.
    pub surplus: Vec<&'p String>,
    /// To be added then.
    pub missing: Vec<(&'p String, &'p RuntimePeer)>,
}

impl PeerDiff<'_> {
    /// Whether they are set alike.
    pub fn is_nothing(&self) -> bool {
        self.surplus.is_empty() && self.missing.is_empty()
    }
}

/// What it takes to have these peers set as `wanted` has them. Endpoints move by themselves and do not count.
pub fn unlike<'p>(wanted: &'p Peers, has: &'p Peers) -> PeerDiff<'p> {
    let same = |key: &String| match (wanted.get(key), has.get(key)) {
        (Some(wanted), Some(has)) => wanted.set == has.set,
        _ => false,
    };
    PeerDiff {
        surplus: has.keys().filter(|key| !same(key)).collect(),
        missing: wanted.iter().filter(|(key, _)| !same(key)).collect(),
    }
}

/// In what the peers of a running tunnel are not those that its config gives it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beyond {
    /// Peers that run and that the config does not have.
    pub more: usize,
    /// Peers of the config that do not run.
    pub fewer: usize,
    /// Peers that run with other networks, another preshared key or another keepalive.
    pub otherwise: usize,
}

impl Beyond {
    /// Whether there is nothing that is in no file.
    pub fn is_nothing(&self) -> bool {
        *self == Beyond::default()
    }
}

impl fmt::Display for Beyond {
    /// What is said of the tunnel: `has 1 peer that is in no config file and lacks 2 peers of its config`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is = if self.more == 1 { "is" } else { "are" };
        let said = [
            (self.more, "has", format!("that {is} in no config file")),
            (self.fewer, "lacks", "of its config".into()),
            (
                self.otherwise,
                "has",
                "set otherwise than in its config".into(),
            ),
        ];
        let said = said.into_iter().filter(|(n, ..)| *n > 0);
        let said = said.map(|(n, verb, how)| format!("{verb} {} {how}", counted(n, "peer")));
        f.write_str(&said.collect::<Vec<_>>().join(" and "))
    }
}

/// What of a peer a config and the kernel can be compared by.
#[derive(Default, PartialEq, Eq)]
struct Comparable {
    preshared_key: Option<Mark>,
    allowed_ips: BTreeSet<Prefix>,
    keepalive: Option<u16>,
}

/// Compares the peers of a running tunnel with those that it would come up with by this config.
pub fn beyond_config(kernel: &Peers, config: &Config) -> Beyond {
    let mut of_config: BTreeMap<&str, Comparable> = BTreeMap::new();
    for peer in config.peers.iter().filter(|p| !p.public_key.is_empty()) {
        let networks: BTreeSet<Prefix> = peer.allowed_ips.iter().map(Prefix::network).collect();
        // A network is one peer's alone: the last one's.
        for other in of_config.values_mut() {
            other.allowed_ips.retain(|n| !networks.contains(n));
        }
        let set = of_config.entry(&peer.public_key).or_default();
        set.allowed_ips = networks;
        set.preshared_key = peer.preshared_key.or(set.preshared_key);
        set.keepalive = peer.keepalive.or(set.keepalive);
    }
    let mut beyond = Beyond::default();
    for (key, RuntimePeer { set, .. }) in kernel {
        let networks = set.allowed_ips.iter().filter_map(|a| Prefix::parse(a));
        let runs = Comparable {
            preshared_key: set.preshared_key.as_deref().and_then(wg_config::preshared),
            allowed_ips: networks.map(|p| p.network()).collect(),
            keepalive: set.keepalive.filter(|k| *k != 0),
        };
        match of_config.remove(key.as_str()) {
            None => beyond.more += 1,
            Some(set) if set != runs => beyond.otherwise += 1,
            Some(_) => {}
        }
    }
    beyond.fewer = of_config.len();
    beyond
}

/// Whether these peers, which come from a backup, are what `wg` prints of peers, and nothing else: they are written into a
/// config of its own.
pub fn are_plain(peers: &Peers) -> bool {
    // One that is link-local names its interface, as in `[fe80::1%eth0]:51820`.
    let endpoint = |e: &String| match e.split_once('%') {
        None => e.parse::<SocketAddr>().is_ok(),
        Some((address, rest)) => rest.split_once(']').is_some_and(|(interface, port)| {
            interface.bytes().all(|b| b.is_ascii_graphic())
                && format!("{address}]{port}").parse::<SocketAddr>().is_ok()
        }),
    };
    // A network is one peer's alone, and stands without the bits that it does not have.
    let mut networks = BTreeSet::new();
    let mut network = |a: &String| {
        let prefix = Prefix::parse(a);
        prefix.is_some_and(|p| p == p.network() && networks.insert(p))
    };
    let secret = |key: &str| is_key(key) && wg_config::preshared(key).is_some();
    peers.iter().all(|(key, peer)| {
        is_key(key)
            && peer.set.preshared_key.as_deref().is_none_or(secret)
            && peer.set.keepalive != Some(0)
            && peer.set.allowed_ips.iter().all(&mut network)
            && peer.endpoint.as_ref().is_none_or(endpoint)
    })
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DUMP: &str = "wg0\tPRIVATE\tPUBLIC\t51820\toff\n\
        wg0\tAAA=\t(none)\t192.0.2.1:7\t10.0.0.2/32,fd00::2/128\t0\t0\t0\t25\n\
        wg0\tBBB=\tSECRET\t(none)\t(none)\t0\t0\t0\toff\n\
        other\tCCC=\t(none)\t(none)\t(none)\t0\t0\t0\toff\n";

    fn config(peers: &str) -> Config {
        let text = format!("[Interface]\nAddress = 10.0.0.1/24\n{peers}");
        wg_config::parse("wg0.conf", text.as_bytes()).unwrap()
    }

    const KEYS: [&str; 3] = [
        "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=",
        "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
        "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=",
    ];

    fn runs(peers: &[(&str, &str, &str, &str)]) -> Peers {
        let lines = peers.iter().map(|(key, psk, allowed, keepalive)| {
            format!("wg0\t{key}\t{psk}\t192.0.2.7:51820\t{allowed}\t0\t0\t0\t{keepalive}\n")
        });
        in_dump(&lines.collect::<String>(), &["wg0".to_owned()])
            .remove("wg0")
            .unwrap_or_default()
    }

    #[test]
    fn what_runs_as_its_config_says_is_not_beyond_it_however_the_config_spells_it() {
        let [a, b, psk] = KEYS;
        let config = config(&format!(
            "[Peer]\nPublicKey = {a}\nAllowedIPs = 10.0.0.2, 10.1.2.3/24\nAllowedIPs = FD00:0::1/64\nPersistentKeepalive = off\n\
             PresharedKey = {psk}\n[Peer]\npublickey = {b}\nPersistentKeepalive = 25\nEndpoint = 192.0.2.9:1\nAllowedIPs = 10.9.0.0/16\n\
             [Peer]\nPublicKey = {b}\nAllowedIPs = 10.1.2.0/24\n"
        ));
        let kernel = runs(&[
            (a, psk, "10.0.0.2/32,fd00::/64", "off"),
            (b, "(none)", "10.1.2.0/24", "25"),
        ]);
        assert_eq!(beyond_config(&kernel, &config), Beyond::default());
    }

    #[test]
    fn peers_that_are_in_no_file_and_those_that_only_the_file_has_are_counted_each() {
        let [a, b, psk] = KEYS;
        let peer = |key: &str, rest: &str| format!("[Peer]\nPublicKey = {key}\n{rest}\n");
        let one = config(&peer(a, "AllowedIPs = 10.0.0.2/32"));
        let plain = (a, "(none)", "10.0.0.2/32", "off");
        let said =
            |kernel: &[(&str, &str, &str, &str)]| beyond_config(&runs(kernel), &one).to_string();
        assert_eq!(said(&[plain]), "");
        assert_eq!(
            said(&[plain, (b, "(none)", "(none)", "off")]),
            "has 1 peer that is in no config file"
        );
        assert_eq!(said(&[]), "lacks 1 peer of its config");
        for otherwise in [
            (a, psk, "10.0.0.2/32", "off"),
            (a, "(none)", "10.0.0.2/32", "7"),
            (a, "(none)", "10.0.0.3/32", "off"),
        ] {
            assert_eq!(
                said(&[otherwise]),
                "has 1 peer set otherwise than in its config"
            );
        }
        assert_eq!(
            said(&[
                (b, "(none)", "(none)", "off"),
                (psk, "(none)", "(none)", "off")
            ]),
            "has 2 peers that are in no config file and lacks 1 peer of its config"
        );
    }

    #[test]
    fn only_what_wg_prints_of_peers_is_plain() {
        let peer = |set: PeerSettings, endpoint: Option<&str>| RuntimePeer {
            set,
            endpoint: endpoint.map(str::to_owned),
        };
        let plain =
            |key: &str, peer: RuntimePeer| are_plain(&Peers::from([(key.to_owned(), peer)]));
        let set = |allowed: &str, psk: Option<&str>| PeerSettings {
            preshared_key: psk.map(str::to_owned),
            allowed_ips: BTreeSet::from([allowed.to_owned()]),
            keepalive: Some(25),
        };
        let good = || set("10.0.0.0/8", Some(KEYS[2]));
        assert!(plain(KEYS[0], peer(good(), Some("[fd00::1]:51820"))));
        assert!(!plain("A\n[Interface]\nPrivateKey = ", peer(good(), None)));
        assert!(plain(KEYS[0], peer(good(), Some("[fe80::1%eth0]:51820"))));
        assert!(!plain(KEYS[0], peer(good(), Some("[fe80::1%a\nb]:51820"))));
        assert!(!plain(KEYS[0], peer(good(), Some("name.example:1"))));
        assert!(!plain(
            KEYS[0],
            peer(good(), Some("192.0.2.1:1\nAllowedIPs = ::/0"))
        ));
        assert!(!plain(
            KEYS[0],
            peer(set("10.0.0.0/8\n[Interface]", None), None)
        ));
        assert!(!plain(KEYS[0], peer(set("10.0.0.0/8", Some("x")), None)));
        // The kernel would print these otherwise, and the tunnel would never be as it should.
        let zeros = format!("{}=", "A".repeat(43));
        assert!(!plain(KEYS[0], peer(set("10.0.0.0/8", Some(&zeros)), None)));
        assert!(!plain(KEYS[0], peer(set("10.0.0.1/8", None), None)));
        let mut silent = set("10.0.0.0/8", None);
        silent.keepalive = Some(0);
        assert!(!plain(KEYS[0], peer(silent, None)));
        let both = [KEYS[0], KEYS[1]].map(|key| (key.to_owned(), peer(good(), None)));
        assert!(!are_plain(&Peers::from(both)));
    }

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
