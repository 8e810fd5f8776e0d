//! What somebody set by hand of a simulated tunnel's interface, as `ip` sets and prints it. It goes with the interface.

use std::collections::BTreeSet;

use engine::gateway::link::LinkChange;

const MTU: u32 = 1420;

/// What is set of one interface besides what its config makes of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SetByHand {
    addresses: BTreeSet<String>,
    routes: BTreeSet<String>,
    mtu: Option<u32>,
}

impl SetByHand {
    /// Of each something.
    pub fn some_of(tunnel: &str) -> SetByHand {
        SetByHand {
            addresses: BTreeSet::from(["10.199.0.1/24".to_owned()]),
            routes: BTreeSet::from([format!("10.209.0.0/24 dev {tunnel} table 100")]),
            mtu: Some(1300),
        }
    }

    /// Sets something. No port is set by hand here.
    pub fn set(&mut self, change: &LinkChange) {
        match change {
            LinkChange::AddAddress(address) => {
                self.addresses.insert(address.clone());
            }
            LinkChange::RemoveAddress(address) => {
                self.addresses.remove(address);
            }
            LinkChange::Mtu(mtu) => self.mtu = Some(*mtu).filter(|mtu| *mtu != MTU),
            LinkChange::Port(_) => {}
            LinkChange::AddRoute(route) => {
                self.routes.insert(route.clone());
            }
        }
    }

    /// Its line of `ip -o link`.
    pub fn link(&self, name: &str) -> String {
        let mtu = self.mtu.unwrap_or(MTU);
        format!("9: {name}: <POINTOPOINT,NOARP,UP> mtu {mtu}\n")
    }

    /// Its lines of `ip -o address`.
    pub fn addresses(&self, name: &str, config: &str) -> String {
        let own = config.lines().filter_map(|l| l.strip_prefix("Address = "));
        let all = own.chain(self.addresses.iter().map(String::as_str));
        all.map(|a| format!("9: {name}    inet {a} scope global {name}\n"))
            .collect()
    }

    /// Its lines of `ip -o route`.
    pub fn routes(&self) -> String {
        let lines = self
            .routes
            .iter()
            .map(|route| format!("{route} scope link\n"));
        lines.collect()
    }

    /// Whether this is all of that, or a part.
    pub fn is_part_of(&self, other: &SetByHand) -> bool {
        self.addresses.is_subset(&other.addresses)
            && self.routes.is_subset(&other.routes)
            && self.mtu.is_none_or(|mtu| other.mtu == Some(mtu))
    }
}
