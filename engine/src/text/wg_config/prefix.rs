//! Addresses with the length of their network: read, compared, merged. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address with the length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The address as written, host bits and all.
    pub address: IpAddr,
    /// Bits of the network.
    pub length: u8,
}

impl Prefix {
    /// What is left of this network without those of `holes` that lie in it, or are it.
    pub fn less(self, holes: &BTreeSet<Prefix>) -> Vec<Prefix> {
        let hosts = u128::MAX
            .checked_shl(self.host_bits())
            .map_or(u128::MAX, |mask| !mask);
        let first = Prefix {
            length: 0,
            ..self.network()
        };
        let last = Prefix {
            length: u8::MAX,
            ..self.with_bits(|bits| bits | hosts)
        };
        let inside = holes.range(first..=last).filter(|hole| self.contains(hole));
        let inside: BTreeSet<Prefix> = inside.copied().collect();
        if inside.is_empty() || inside.contains(&self) {
            return if inside.is_empty() {
                vec![self]
            } else {
                Vec::new()
            };
        }
        // What has something else inside is longer than one address.
        let length = self.length + 1;
        let half = Prefix {
            length,
            ..self.network()
        };
        let both = [Some(half), half.other_half()].into_iter().flatten();
        both.flat_map(|half| half.less(&inside)).collect()
    }

    /// Reads `address` or `address/length`.
    pub fn parse(text: &str) -> Option<Prefix> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(l) if l.bytes().all(|b| b.is_ascii_digit()) => {
                l.parse().ok().filter(|l| *l <= most)?
            }
            Some(_) => return None,
        };
        Some(Prefix { address, length })
    }

    /// The network, host bits cleared.
    pub fn network(&self) -> Prefix {
        let mask = u128::MAX.checked_shl(self.host_bits()).unwrap_or(0);
        self.with_bits(|bits| bits & mask)
    }

    /// The other half of the network that has one bit less; none of every address there is.
    fn other_half(&self) -> Option<Prefix> {
        let lowest = 1_u128.checked_shl(self.host_bits())?;
        (self.length > 0).then(|| self.with_bits(|bits| bits ^ lowest))
    }

    /// Bits of the address that are not the network's.
    fn host_bits(&self) -> u32 {
        let all = if self.address.is_ipv4() { 32 } else { 128 };
        all - u32::from(self.length)
    }

    /// Another address of the same family and length, from the bits of this one.
    fn with_bits(&self, change: impl Fn(u128) -> u128) -> Prefix {
        let address = match self.address {
            // A change sets no bit beyond those of the address.
            IpAddr::V4(a) => Ipv4Addr::from_bits(change(a.to_bits().into()) as u32).into(),
            IpAddr::V6(a) => Ipv6Addr::from_bits(change(a.to_bits())).into(),
        };
        Prefix { address, ..*self }
    }

    /// Every address there is (`0.0.0.0/0`, `::/0`).
    pub fn is_everything(&self) -> bool {
        self.length == 0
    }

    /// Whether every address of the other is one of this network.
    pub fn contains(&self, other: &Prefix) -> bool {
        let shortened = Prefix {
            length: self.length,
            ..*other
        };
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length <= other.length
            && self.network() == shortened.network()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Two halves of a network as that network, as long as there are any.
pub fn merged(mut prefixes: BTreeSet<Prefix>) -> BTreeSet<Prefix> {
    for length in (1..=128).rev() {
        let halves: Vec<(Prefix, Prefix)> = prefixes
            .iter()
            .filter(|p| p.length == length)
            .filter_map(|p| Some((*p, p.other_half()?)))
            .filter(|(p, other)| p < other && prefixes.contains(other))
            .collect();
        for (one, other) in halves {
            prefixes.remove(&one);
            prefixes.remove(&other);
            let length = length - 1;
            prefixes.insert(Prefix { length, ..one }.network());
        }
    }
    prefixes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_left_of_a_network_has_every_address_but_those_of_its_holes() {
        let less = |network: &str, holes: &[&str]| -> Vec<String> {
            let prefix = |text: &&str| Prefix::parse(text).unwrap();
            let left = prefix(&network).less(&holes.iter().map(prefix).collect());
            left.iter().map(Prefix::to_string).collect()
        };
        assert_eq!(less("10.0.0.0/8", &[]), ["10.0.0.0/8"]);
        assert_eq!(less("10.0.0.0/8", &["10.0.0.0/8"]), [""; 0]);
        assert_eq!(
            less("10.0.0.0/30", &["10.0.0.1/32"]),
            ["10.0.0.0/32", "10.0.0.2/31"]
        );
        // What is around it, or beside it, leaves it whole.
        assert_eq!(
            less("10.2.0.0/16", &["10.0.0.0/8", "10.3.0.0/16", "fd00::/8"]),
            ["10.2.0.0/16"]
        );
        let left = less("10.0.0.0/8", &["10.2.7.0/24"]);
        assert_eq!(left.len(), 16);
        assert!(!left.iter().any(|p| {
            Prefix::parse(p)
                .unwrap()
                .contains(&Prefix::parse("10.2.7.9").unwrap())
        }));
        assert_eq!(less("fd00::/64", &["fd00::/128"]).len(), 64);
    }

    #[test]
    fn a_network_contains_what_is_in_it_and_of_its_own_family_alone() {
        let contains = |a: &str, b: &str| {
            let prefix = |text: &str| Prefix::parse(text).unwrap();
            prefix(a).contains(&prefix(b))
        };
        assert!(contains("10.1.0.1/24", "10.1.0.128/25"));
        assert!(contains("10.1.0.1/24", "10.1.0.7"));
        assert!(contains("0.0.0.0/0", "192.0.2.1"));
        assert!(!contains("10.1.0.0/24", "10.1.0.0/16"));
        assert!(!contains("10.1.0.0/24", "10.1.1.0/24"));
        assert!(!contains("::/0", "10.1.1.0/24"));
    }
}
