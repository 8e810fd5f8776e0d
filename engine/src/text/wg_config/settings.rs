//! Each setting of a config: what `wg-quick` and `wg` make of its value, one arm a setting. Runs nothing, and believes no key.

use std::net::IpAddr;

use super::values::{address, endpoint_host, is_host_name, items, no_patterns, not, plain};
use super::{
    Config, HOOKS, PEER_KEYS, Prefix, QUICK_KEYS, Section, Sections, WG_KEYS, is, is_key,
    preshared, without_blanks,
};
use crate::text::mark::Mark;

/// A key in the wrong place must not be shown as if it were the name of a setting.
pub(super) fn unknown(line: usize, key: &[u8]) -> String {
    let plain = key.len() <= 32 && key.iter().all(u8::is_ascii_alphabetic);
    match std::str::from_utf8(key) {
        Ok(key) if plain => format!("line {line}: nothing knows the setting {key} here"),
        _ => format!("line {line}: nothing knows this setting here"),
    }
}

/// Takes a setting of `wg-quick`'s own into the model; false if it is none that could work.
pub(super) fn for_quick(
    config: &mut Config,
    key: &[u8],
    value: &[u8],
    line: usize,
) -> Result<bool, &'static str> {
    let Some(known) = QUICK_KEYS.into_iter().find(|k| is(key, k)) else {
        return Ok(false);
    };
    if HOOKS.contains(&known) {
        return Ok(true);
    }
    let interface = &mut config.interface;
    // A value that is none is not shown: it may be a key that stands in the wrong place.
    let none = |value: &str, what: &str| format!("line {line}: {known} {}", not(value, what));
    let Ok(value) = std::str::from_utf8(value) else {
        return Err("its value is not UTF-8");
    };
    match known {
        "Address" => {
            no_patterns(value)?;
            for item in items(value) {
                match address(item) {
                    Some(prefix) if interface.addresses.contains(&prefix) => {
                        let why = format!("line {line}: it has the address {prefix} twice");
                        config.unfit.push(why);
                    }
                    Some(prefix) => interface.addresses.push(prefix),
                    None => config.unfit.push(none(item, "an address")),
                }
            }
        }
        "DNS" => {
            no_patterns(value)?;
            for item in items(value) {
                if item.parse::<IpAddr>().is_err() && !is_host_name(item) {
                    let why = none(item, "an address or the name of a domain");
                    config.warnings.push(why);
                }
                interface.dns.push(item.to_owned());
            }
        }
        // As if it were not there.
        "MTU" | "Table" if value.is_empty() => {}
        "MTU" => match plain(value)?.parse() {
            Ok(mtu @ 68..=65_535) => interface.mtu = Some(mtu),
            Ok(_) | Err(_) => config.unfit.push(none(value, "a number from 68 to 65535")),
        },
        "Table" => interface.table = Some(plain(value)?.to_owned()),
        "SaveConfig" if value.eq_ignore_ascii_case("true") => interface.save_config = true,
        "SaveConfig" if value.eq_ignore_ascii_case("false") => interface.save_config = false,
        "SaveConfig" => return Err("SaveConfig is neither true nor false"),
        _ => {}
    }
    Ok(true)
}

/// Takes a line that `wg` is given into the model; false if it does not know it.
/// Long: a table, one arm a setting.
pub(super) fn for_wg(
    config: &mut Config,
    sections: &Sections,
    meant: &[u8],
    line: usize,
) -> Result<bool, &'static str> {
    let cleaned = without_blanks(meant);
    let Some(equals) = cleaned.iter().position(|b| *b == b'=') else {
        return Ok(false);
    };
    let (key, value) = (&cleaned[..equals], &cleaned[equals + 1..]);
    let known: &[&str] = match sections.wg {
        Section::None => &[],
        Section::Interface => &WG_KEYS,
        Section::Peer => &PEER_KEYS,
    };
    let Some(known) = known.iter().find(|k| is(key, k)) else {
        return Ok(false);
    };
    let Ok(value) = std::str::from_utf8(value) else {
        return Err("its value is not UTF-8");
    };
    let Config {
        interface,
        peers,
        warnings,
        unfit,
        slow: _,
    } = config;
    let none = |value: &str, what: &str| format!("line {line}: {known} {}", not(value, what));
    match (*known, peers.last_mut()) {
        ("PrivateKey", _) => {
            interface.key = is_key(value).then(|| Mark::of(value)).flatten();
            if !is_key(value) {
                unfit.push(format!("line {line}: PrivateKey is no key"));
            }
        }
        ("PresharedKey", _) if !is_key(value) => {
            unfit.push(format!("line {line}: PresharedKey is no key"));
        }
        ("PresharedKey", Some(peer)) => {
            peer.preshared_key = preshared(value);
        }
        ("PublicKey", Some(peer)) => {
            let key = is_key(value).then(|| value.to_owned());
            peer.public_key = key.unwrap_or_default();
        }
        ("AllowedIPs", Some(peer)) if !value.is_empty() => {
            for item in value.split(',') {
                match Prefix::parse(item) {
                    Some(prefix) => peer.allowed_ips.push(prefix),
                    None => unfit.push(none(item, "an address or a network")),
                }
            }
        }
        ("Endpoint", Some(peer)) => {
            let host = endpoint_host(value);
            let address = host.is_some_and(|h| h.parse::<IpAddr>().is_ok());
            match host {
                None => unfit.push(none(value, "`host:port`")),
                Some(host) if !address && !is_host_name(host) => warnings.push(format!(
                    "line {line}: Endpoint {}: its peer will have none",
                    not(value, "an address or the name of a host")
                )),
                Some(_) => {}
            }
            peer.endpoint_is_name = host.is_some() && !address;
            peer.endpoint = Some(value.to_owned());
        }
        ("ListenPort", _) => match value.parse() {
            Ok(port) => interface.listen_port = Some(port),
            Err(_) => unfit.push(none(value, "a port")),
        },
        ("FwMark", _) => {
            let hex = value.strip_prefix("0x").map(|h| u32::from_str_radix(h, 16));
            if value != "off" && hex.unwrap_or_else(|| value.parse()).is_err() {
                unfit.push(none(value, "a number or `off`"));
            }
            interface.fwmark = Some(value.to_owned());
        }
        ("PersistentKeepalive", peer) => {
            let on = value.parse::<u16>();
            if value != "off" && on.is_err() {
                unfit.push(none(value, "a number from 0 to 65535 or `off`"));
            }
            if let Some(peer) = peer {
                peer.keepalive = on.ok().filter(|on| *on != 0);
            }
        }
        _ => {}
    }
    Ok(true)
}
