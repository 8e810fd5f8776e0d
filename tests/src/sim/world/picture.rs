//! A gateway as a whole, for comparison: all that an admin would compare.

use std::collections::BTreeMap;

use engine::host::Family;

use super::{World, side_files};
use crate::sim::kernel::{Rules, Up};

/// A gateway, for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Bytes, owner, group and mode of each file but databases.
    pub files: BTreeMap<String, (String, u32, u32, u32)>,
    /// Rows of each database.
    pub databases: BTreeMap<String, Vec<String>>,
    /// What a reboot takes.
    pub running: Running,
}

/// What of a gateway a reboot takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Tunnels with the config that each came up with.
    pub tunnels: BTreeMap<String, Up>,
    /// IPv4 rules, sorted; one that is there twice counts twice.
    pub v4: Vec<String>,
    /// IPv6 rules.
    pub v6: Vec<String>,
    /// Forwarding.
    pub forwards: BTreeMap<Family, bool>,
    /// The service runs.
    pub service: bool,
    /// It fails, and is started again and again.
    pub falters: bool,
    /// The fence is closed.
    pub fence: bool,
}

impl World {
    /// All that an admin would compare.
    pub fn picture(&self, ignored: &[&str]) -> Picture {
        let mut files = BTreeMap::new();
        let databases: Vec<String> = self
            .databases
            .iter()
            .flat_map(|d| std::iter::once(d.clone()).chain(side_files(d)))
            .collect();
        for (path, inode) in self.disk.files() {
            // What `wg-quick` leaves where the power goes as it saves is root's alone, and its next save writes over it.
            let is_wg_quicks = path.ends_with(".conf.tmp");
            if databases.contains(&path)
                || is_wg_quicks
                || ignored.iter().any(|i| path.starts_with(i))
            {
                continue;
            }
            let held = &inode.now;
            files.insert(
                path,
                (
                    String::from_utf8_lossy(&held.data).into_owned(),
                    held.uid,
                    held.gid,
                    held.mode,
                ),
            );
        }
        let rules = |rules: &Rules| {
            let mut lines: Vec<String> = Vec::new();
            for (name, table) in rules {
                lines.extend(
                    table
                        .chains
                        .iter()
                        .map(|(c, p)| format!("{name}: :{c} {p}")),
                );
                lines.extend(table.rules.iter().map(|r| format!("{name}: {r}")));
            }
            lines.sort();
            lines
        };
        Picture {
            files,
            databases: self
                .databases
                .iter()
                .filter_map(|d| Some((d.clone(), self.rows(d)?)))
                .collect(),
            running: Running {
                tunnels: self.kernel.tunnels.clone(),
                v4: rules(&self.kernel.v4),
                v6: rules(&self.kernel.v6),
                forwards: self.kernel.forwards.clone(),
                service: self.kernel.running,
                falters: self.kernel.falters,
                fence: self.kernel.fence.is_some(),
            },
        }
    }
}
