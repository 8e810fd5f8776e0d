//! Kernel facts: rules, forwarding, tunnels and running services as they are at one moment. Pure data; `survey` reads
//! them, a restore keeps them as what going back needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the kernel and the service manager hold and no file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// `iptables-save`, without counters; none if it could not be read.
    pub rules_v4: Option<String>,
    /// `ip6tables-save`, without counters; none if it could not be read.
    pub rules_v6: Option<String>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<bool>,
    /// Every WireGuard interface that is up, the gateway's or not.
    pub interfaces: Vec<String>,
    /// The gateway's tunnels that are up: those whose name is a client's.
    pub tunnels: Vec<String>,
    /// Last known endpoint of each peer of the gateway's tunnels: interface, public key, `address:port`.
    pub endpoints: BTreeMap<String, BTreeMap<String, String>>,
    /// The gateway's services that run, by name.
    pub services: Vec<String>,
}
