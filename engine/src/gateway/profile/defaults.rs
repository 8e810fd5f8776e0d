//! What holds where the profile says nothing: a standard install. The package's profile and the README state the same.

use std::path::Path;

use journal_format::Policy;

use super::{
    Database, DatabaseKind, FirewallProfile, Gateway, Limits, Profile, Recovery, ScheduleProfile,
    ServiceProfile, UnitService, WebProfile,
};
use crate::gateway::retention::Retention;
use crate::text::iptables::Family;

impl Default for Recovery {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            agent_after_seconds: 60,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/holdfast".into(),
            gateway: Gateway::default(),
            recovery: Recovery::default(),
            limits: Limits::default(),
            retention: Retention::default(),
            schedule: ScheduleProfile::default(),
            web: WebProfile::default(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        let instance = Path::new("/opt/wireguard-gateway/instance");
        let state = Path::new("/var/lib/wireguard-gateway");
        let database = |name: &str, folder: &Path, kind| Database {
            name: name.into(),
            path: folder.join(name),
            kind,
        };
        Self {
            configs_dir: instance.join("configs"),
            wireguard_dir: "/etc/wireguard".into(),
            owner: "wireguard:wireguard".into(),
            busy_seconds: 30,
            tunnel_seconds: 60,
            service_seconds: 120,
            watch_seconds: 5,
            database: vec![
                database("configs.db", instance, DatabaseKind::Clients),
                database("wireguard.db", state, DatabaseKind::Users),
                database("app.db", instance, DatabaseKind::Users),
            ],
            other_databases: Vec::new(),
            service: vec![ServiceProfile::Unit(UnitService {
                unit: "wireguard-gateway.service".into(),
            })],
            firewall: FirewallProfile::default(),
        }
    }
}

impl Default for FirewallProfile {
    fn default() -> Self {
        Self {
            kept: Family::BOTH
                .map(|family| Path::new("/etc/iptables").join(family.rules_file()))
                .into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_mib: 512,
            unpacked_mib: 4096,
            entries: 200_000,
            backups_an_hour: 0,
        }
    }
}

impl Default for ScheduleProfile {
    fn default() -> Self {
        Self {
            every_hours: 24,
            on_backup: Vec::new(),
            on_backup_seconds: 60,
        }
    }
}

impl Default for WebProfile {
    fn default() -> Self {
        Self {
            user: "holdfast-web".into(),
            address: "127.0.0.1".into(),
            port: 8080,
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            admins: vec!["admin".into()],
            users: None,
        }
    }
}
