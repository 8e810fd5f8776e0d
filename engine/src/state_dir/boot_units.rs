//! What a boot holds back while a restore is open, as settings of systemd units: text made from the profile. Writes
//! nothing and asks nobody.
//!
//! The settings hold without this program: what is not there to be run cannot let anything through.

use std::path::{Path, PathBuf};

use crate::error::Problem;
use crate::gateway::profile::{Profile, ServiceProfile};
use crate::host::held_units::{self, word};
use crate::state_dir::barrier::{HELD, LOST};

/// The name of each file, in the folder of settings of its unit.
pub const FILE: &str = "50-holdfast.conf";

/// The settings of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropIn {
    /// The unit.
    pub unit: String,
    /// The text of its file.
    pub text: String,
}

/// The settings of every unit that this gateway needs them for.
pub fn settings(profile: &Profile) -> Result<Vec<DropIn>, Problem> {
    let state = word(&profile.state_dir)?;
    let sentinel = word(&profile.sentinel())?;
    let barrier = word(&profile.barrier())?;
    let configs = word(&profile.gateway.configs_dir)?;
    let mut all = vec![
        DropIn {
            unit: "holdfast-fence.service".into(),
            text: format!(
                "[Unit]\nRequiresMountsFor={state}\n\n[Service]\nEnvironment=BARRIER={barrier}\n"
            ),
        },
        DropIn {
            unit: "holdfast-recover.service".into(),
            text: format!(
                "[Unit]\nRequiresMountsFor={}\n\n[Service]\nEnvironment=BARRIER={barrier}\n",
                places(profile)?
            ),
        },
        DropIn {
            unit: "holdfast-agent.service".into(),
            text: format!("[Unit]\nRequiresMountsFor={state}\nConditionPathExists={sentinel}\n"),
        },
        DropIn {
            unit: "wg-quick@.service".into(),
            // One by one: a tunnel that is not the gateway's starts as it always did.
            text: format!(
                "[Unit]\nWants=holdfast-recover.service\nAfter=holdfast-recover.service\n\n[Service]\n\
                 # Without state_dir, or the journal that belongs to what a restore left, nobody knows how far that came: then none of\n\
                 # the gateway's tunnels.\n\
                 ExecCondition=/bin/sh -c '{{ test -e {sentinel} && test ! -e {LOST}; }} || ! test -e {configs}/%i.conf'\n\
                 ExecCondition=/bin/sh -c 'test ! -e {barrier} || {{ grep -qxF -e \"{HELD}%i\" {barrier}; test $$? -eq 1; }}'\n"
            ),
        },
        DropIn {
            unit: "nftables.service".into(),
            // Its own file begins by emptying the whole ruleset. Should this fail, the admin's rules must still stay.
            text: format!(
                "[Unit]\nAfter=holdfast-recover.service\n\n[Service]\n\
                 ExecStartPost=-/bin/sh -c 'test ! -e {barrier} || nft -f {barrier}'\n"
            ),
        },
    ];
    for service in &profile.gateway.service {
        let ServiceProfile::Unit(service) = service else {
            continue;
        };
        all.push(DropIn {
            unit: held_units::name(&service.unit)?.to_owned(),
            text: format!(
                "[Unit]\nWants=holdfast-recover.service\nAfter=holdfast-recover.service\n\
                 ConditionPathExists={sentinel}\nConditionPathExists=!{LOST}\n\
                 # And no restore is open, or its driver starts this unit.\n\
                 {}",
                held_units::conditions(&profile.barrier())?
            ),
        });
    }
    for settings in &mut all {
        settings.text.insert_str(
            0,
            "# Made by `holdfast boot-units` from the profile, and made anew when that changes. Do not edit.\n",
        );
    }
    Ok(all)
}

/// Every folder that a restore may change something in, and Holdfast's own.
fn places(profile: &Profile) -> Result<String, Problem> {
    let gateway = &profile.gateway;
    let mut all: Vec<PathBuf> = vec![
        profile.state_dir.clone(),
        gateway.configs_dir.clone(),
        gateway.wireguard_dir.clone(),
    ];
    let databases = gateway.database.iter().map(|d| &d.path);
    let files = databases.chain(&gateway.firewall.kept);
    all.extend(files.filter_map(|f| f.parent().map(Path::to_owned)));
    all.sort();
    all.dedup();
    let words: Result<Vec<String>, Problem> = all.iter().map(|p| word(p)).collect();
    Ok(words?.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gateway::profile::UnitService;

    #[test]
    fn a_standard_gateway_gets_these_settings() {
        let all = settings(&Profile::default()).unwrap();
        let shown: Vec<String> = all
            .iter()
            .map(|s| format!("=== {}\n{}", s.unit, s.text))
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_name_that_a_shell_or_systemd_would_read_otherwise_is_refused() {
        for path in [
            "/var/lib/hold fast",
            "/srv/%n",
            "/srv/$(reboot)",
            "srv",
            "/srv/a'b",
            "/srv/ä",
        ] {
            let profile = Profile {
                state_dir: path.into(),
                ..Profile::default()
            };
            assert!(settings(&profile).is_err(), "{path}");
        }
        for unit in [
            "",
            "../x.service",
            "a b.service",
            "..",
            "x\nExecStart=/bin/sh",
        ] {
            let mut profile = Profile::default();
            profile.gateway.service = vec![ServiceProfile::Unit(UnitService { unit: unit.into() })];
            assert!(settings(&profile).is_err(), "{unit:?}");
        }
    }
}
