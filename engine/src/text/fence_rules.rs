//! The fence: a firewall table of Holdfast's own that drops what is forwarded from or to tunnels being replaced. Owns its
//! ruleset as text. It adds only, and touches neither other rules nor the admin's own connection: no output or input
//! hook, never a network of length 0.

use std::fmt::Write;

use journal_format::FenceRules;

/// The name of its table, in family `inet`.
pub const TABLE: &str = "holdfast";

/// Before `raw` (-300): nothing of `iptables` sees a packet first.
const PRIORITY: i32 = -310;

/// Lifts the fence; also where there is none.
pub fn lifted() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// Closes the fence, whatever was there of it. `nft -f` loads it in one transaction.
pub fn closed(fence: &FenceRules) -> String {
    let (v4, v6): (Vec<&String>, Vec<&String>) = fence
        .networks
        .iter()
        .filter(|n| !n.ends_with("/0"))
        .partition(|n| !n.contains(':'));
    let mut out = lifted();
    // Writing to a string does not fail.
    let _ = writeln!(out, "table inet {TABLE} {{");
    let quoted: Vec<String> = fence
        .interfaces
        .iter()
        .map(|i| format!("\"{i}\""))
        .collect();
    set(&mut out, "interfaces", "type ifname;", &quoted);
    set(
        &mut out,
        "networks4",
        "type ipv4_addr; flags interval; auto-merge;",
        &v4,
    );
    set(
        &mut out,
        "networks6",
        "type ipv6_addr; flags interval; auto-merge;",
        &v6,
    );
    let _ = writeln!(
        out,
        "\tchain forward {{\n\t\ttype filter hook forward priority {PRIORITY}; policy accept;"
    );
    for rule in [
        "iifname @interfaces",
        "oifname @interfaces",
        "ip saddr @networks4",
        "ip daddr @networks4",
        "ip6 saddr @networks6",
        "ip6 daddr @networks6",
    ] {
        let _ = writeln!(out, "\t\t{rule} counter drop");
    }
    out.push_str("\t}\n}\n");
    out
}

fn set<T: AsRef<str>>(out: &mut String, name: &str, kind: &str, elements: &[T]) {
    let elements: Vec<&str> = elements.iter().map(AsRef::as_ref).collect();
    // Writing to a string does not fail.
    let _ = write!(out, "\tset {name} {{ {kind} ");
    if !elements.is_empty() {
        let _ = write!(out, "elements = {{ {} }} ", elements.join(", "));
    }
    out.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fence_names_tunnels_and_networks_and_never_everything() {
        let fence = FenceRules {
            interfaces: vec!["c00000_30058fa2".into(), "a+b=9".into()],
            networks: vec![
                "10.2.0.0/24".into(),
                "0.0.0.0/0".into(),
                "::/0".into(),
                "fd00::/64".into(),
            ],
        };
        insta::assert_snapshot!(closed(&fence), @r#"
        add table inet holdfast
        delete table inet holdfast
        table inet holdfast {
        	set interfaces { type ifname; elements = { "c00000_30058fa2", "a+b=9" } }
        	set networks4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.2.0.0/24 } }
        	set networks6 { type ipv6_addr; flags interval; auto-merge; elements = { fd00::/64 } }
        	chain forward {
        		type filter hook forward priority -310; policy accept;
        		iifname @interfaces counter drop
        		oifname @interfaces counter drop
        		ip saddr @networks4 counter drop
        		ip daddr @networks4 counter drop
        		ip6 saddr @networks6 counter drop
        		ip6 daddr @networks6 counter drop
        	}
        }
        "#);
    }
}
