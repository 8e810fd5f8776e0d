//! Kernel facts: rules, forwarding, tunnels and running services as they are at one moment. Pure data; `survey` reads
//! them, a restore keeps them as what going back needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem, cannot};
use crate::gateway::link::LinkSettings;
use crate::gateway::parts::Part;
use crate::gateway::peers::{self, Peers};
use crate::text::iptables::{self, Family, Rules};
use crate::text::wg_config;

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
    /// Interfaces whose IPv4 forwarding differs from `ip_forward`: whoever sets that sets all interfaces.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apart_v4: BTreeMap<String, bool>,
    /// Interfaces whose IPv6 forwarding differs from `ipv6_forward`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub apart_v6: BTreeMap<String, bool>,
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
    /// is in no file.
    pub peers: BTreeMap<String, Peers>,
    /// What is set of the interfaces of the gateway's tunnels; none in what an older program kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, LinkSettings>,
    /// The gateway's services that run, or are about to, by name.
    pub services: Vec<String>,
    /// Those of them that do not run at this moment: they fail, and are started again and again.
    #[serde(default)]
    pub faltering: Vec<String>,
    /// The services of which nobody can tell whether they run, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unanswered: BTreeMap<String, String>,
}

impl Facts {
    /// The peers, all of them, of each tunnel that runs with others than those of its config, by interface. One whose config cannot
    /// be read is taken to be such a tunnel.
    pub fn beyond_configs(
        &self,
        mut config: impl FnMut(&str) -> Option<wg_config::Config>,
    ) -> BTreeMap<String, Peers> {
        let mut found = BTreeMap::new();
        if self.unread.contains_key(&Part::Peers) {
            return found;
        }
        for tunnel in &self.tunnels {
            let peers = self.peers.get(tunnel).cloned().unwrap_or_default();
            let as_config =
                config(tunnel).is_some_and(|c| peers::beyond_config(&peers, &c).is_nothing());
            if !as_config {
                found.insert(tunnel.clone(), peers);
            }
        }
        found
    }

    /// The rules of a family. Where they could not be read, or there are none since the kernel does not have that protocol,
    /// nobody may touch them: they could not be put back.
    pub fn rules(&self, family: Family) -> Option<&str> {
        family.of(&self.rules_v4, &self.rules_v6).as_deref()
    }

    /// The same, read; none where there are none.
    pub fn parsed_rules(&self, family: Family) -> Result<Rules, Problem> {
        let text = self.rules(family).unwrap_or_default();
        iptables::parse(text, "the rules of before")
    }

    /// Whether packets are forwarded.
    pub fn forwards(&self, family: Family) -> Option<bool> {
        family.of(self.ip_forward, self.ipv6_forward)
    }

    /// The interfaces whose forwarding differs from that of all.
    pub fn apart(&self, family: Family) -> &BTreeMap<String, bool> {
        family.of(&self.apart_v4, &self.apart_v6)
    }

    /// Whether the kernel does not have this protocol: there is nothing to read then. Of facts that were just read.
    pub fn lack_protocol(&self, family: Family) -> bool {
        self.forwards(family).is_none() && !self.unread.contains_key(&Part::Forwarding(family))
    }

    /// Why a part could not be read, as a problem of whoever needs it.
    pub fn why_unread(&self, part: &Part) -> Option<Problem> {
        let why = self.unread.get(part)?;
        Some(cannot(
            Code::GATEWAY_UNREADABLE,
            format!("read {} of now: {why}", part.shown()),
            "fix the reason, then try again: Holdfast could not put back what it cannot read",
        ))
    }
}
