//! The engine's survey of simulated gateways finds them as they were set up: their plans are made from it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write;
use std::path::PathBuf;

use engine::survey;
use journal_format::Policy;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::{Places, Sim};

#[test]
fn what_a_survey_finds_of_each_simulated_gateway() {
    let mut found = String::new();
    for kind in [
        Kind::Everything,
        Kind::PartsMissing,
        Kind::Unreadable,
        Kind::Faltering,
        Kind::Raw,
        Kind::RulesUnread,
    ] {
        let s = Scenario::new(kind, Policy::Auto).unwrap();
        let sim = Sim::new(s.world.clone(), &Places::nowhere(), None, false);
        let now = survey::survey(&sim, &s.profile, &|_| false).unwrap();
        let configs: Vec<&String> = now.configs.keys().collect();
        assert_eq!(configs, now.wireguard.keys().collect::<Vec<_>>());
        let clients = now.clients.iter().flatten();
        let clients: Vec<String> = clients
            .map(|c| format!("{} {}", c.name, c.status))
            .collect();
        let facts = &now.facts;
        writeln!(found, "{kind:?}").unwrap();
        writeln!(found, "  configs {configs:?}").unwrap();
        writeln!(found, "  databases {:?}", now.databases.keys()).unwrap();
        writeln!(found, "  clients {clients:?}").unwrap();
        writeln!(found, "  users of {:?}", now.users.keys()).unwrap();
        let kept: Vec<&PathBuf> = now.kept.iter().map(|(_, path, _)| path).collect();
        writeln!(found, "  kept {kept:?} at {:?}", now.kept_at).unwrap();
        writeln!(found, "  tunnels {:?}", facts.tunnels).unwrap();
        writeln!(found, "  links {:?}", now.links).unwrap();
        let services = (&facts.services, &facts.faltering);
        writeln!(found, "  services {services:?}").unwrap();
        let forwards = (facts.ip_forward, facts.ipv6_forward);
        writeln!(found, "  forwarding {forwards:?}").unwrap();
        writeln!(found, "  unread {:?}", facts.unread.keys()).unwrap();
        writeln!(found, "  owner {:?}, {:?}", now.owner, now.exposure).unwrap();
        for warning in &now.warnings {
            writeln!(found, "  warning: {warning}").unwrap();
        }
    }
    insta::assert_snapshot!(found);
}
