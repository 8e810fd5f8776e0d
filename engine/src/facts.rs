//! Kernel facts: rules, forwarding, tunnels and running services as they are at one moment. Pure data; `survey` reads
//! them, a restore keeps them as what going back needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::parts::Part;
use crate::peers::Peers;

/// What the kernel and the service manager hold and no file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `iptables-save`, without counters; none if it could not be read.
    pub rules_v4: Option<String>,
    /// `ip6tables-save`, without counters; none if it could not be read.
    pub rules_v6: Option<String>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`; none where this kernel has no IPv6, or if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_forward: Option<bool>,
    /// The parts that are there and could not be read, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<Part, String>,
    /// State of kinds that Holdfast does not save, a sentence each: tables of nft, sets, a firewall of another program's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beyond: Vec<String>,
    /// Every WireGuard interface that is up, the gateway's or not.
    pub interfaces: Vec<String>,
    /// The gateway's tunnels that are up: those whose name is a client's.
    pub tunnels: Vec<String>,
    /// The peers of the gateway's tunnels, by interface and public key: what was added or taken away while a tunnel ran
    /// is in no file (T7).
    pub peers: BTreeMap<String, Peers>,
    /// The gateway's services that run, or are about to, by name.
    pub services: Vec<String>,
    /// Those of them that do not run at this moment: they fail, and are started again and again.
    #[serde(default)]
    pub faltering: Vec<String>,
}
