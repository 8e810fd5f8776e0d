//! The gateway's service: what it opens, adds and leaves behind as it starts and stops.

use std::path::{Path, PathBuf};

use engine::host::Family;

use super::{Piece, WIREGUARD, World, name_of, side_files};
use crate::sim::kernel::Hook;

impl World {
    pub(in crate::sim) fn service_opens(&mut self, path: &str) -> Result<(), String> {
        let Some(object) = self.disk.find(Path::new(path)) else {
            return Ok(());
        };
        if !self.readable(path) {
            // SQLite looks at a journal before it sees that the database is none, and does away with one that is none.
            let [_, _, journal] = side_files(path);
            self.disk.remove(Path::new(&journal))?;
            let dir = Path::new(path).parent();
            return dir.map_or(Ok(()), |dir| self.disk.sync_dir(dir));
        }
        self.open(path)?;
        self.kernel.open.insert(object);
        // Databases of the kind `users` are seldom written to.
        if path.ends_with("configs.db") {
            let [wal, shm, _] = side_files(path);
            let name = self.text(path).map(|t| name_of(&t).to_owned());
            let mut log = self
                .text(&wal)
                .filter(|log| log.starts_with("db ") && log.ends_with('\n'))
                .unwrap_or_else(|| format!("{}\n", name.unwrap_or_default()));
            log.push_str(&format!("live {}\n", self.clock));
            self.disk.put(&wal, log.as_bytes(), 0o640);
            self.disk.put(&shm, b"index", 0o640);
        }
        Ok(())
    }

    pub(super) fn service_closes(&mut self, path: &str) -> Result<(), String> {
        let held = self.disk.find(Path::new(path));
        if !held.is_some_and(|o| self.kernel.open.contains(&o)) {
            return Ok(());
        }
        // One of them is closed without a checkpoint, as by a service that is killed: its side files stay.
        if path.ends_with("app.db") {
            return Ok(());
        }
        // Another is left in the middle of a transaction, with a hot journal beside it; one with a log never has that.
        let [wal, ..] = side_files(path);
        if path.ends_with("wireguard.db") && self.disk.find(Path::new(&wal)).is_none() {
            let before = self.text(path).unwrap_or_default();
            let [_, _, journal] = side_files(path);
            if self.disk.find(Path::new(&journal)).is_some() {
                // An earlier stop, which did not come to its end, left it so.
                return Ok(());
            }
            self.disk.put(&journal, before.as_bytes(), 0o640);
            self.disk.sync_file(Path::new(&journal))?;
            if let Some(dir) = Path::new(path).parent() {
                self.disk.sync_dir(dir)?;
            }
            return self.disk.rewrite(
                Path::new(path),
                format!("{before}half a transaction\n").into(),
            );
        }
        for stage in 0.. {
            if !self.settle(path, stage)? {
                break;
            }
        }
        Ok(())
    }

    /// The gateway's own start: every active client up, its rules added again.
    pub(super) fn clients(&mut self) {
        for name in self.active_clients() {
            let path = PathBuf::from(format!("{WIREGUARD}/{name}.conf"));
            if !self.kernel.tunnels.contains_key(&name)
                && let Ok(pieces) = self.tunnel_up(&path)
            {
                for piece in &pieces {
                    // A tunnel that does not come up is not the service's affair.
                    let _ = self.carry_out(piece);
                }
            }
            self.add_rules_of(&name);
        }
    }

    /// The clients that the first database says are active.
    pub(in crate::sim) fn active_clients(&self) -> Vec<String> {
        let rows = self.databases.first().and_then(|d| self.rows(d));
        let active = |row: String| {
            let name = row.strip_prefix("client ")?.strip_suffix(" active")?;
            Some(name.to_owned())
        };
        rows.unwrap_or_default()
            .into_iter()
            .filter_map(active)
            .collect()
    }

    /// The rules that the gateway adds for one client, whether they are there or not.
    pub(in crate::sim) fn add_rules_of(&mut self, name: &str) {
        for (table, line) in [
            ("nat", format!("-A POSTROUTING -o {name} -j MASQUERADE")),
            ("filter", format!("-A FORWARD -i eth0 -o {name} -j ACCEPT")),
            (
                "filter",
                format!(
                    "-A FORWARD -i {name} -o eth0 -m state --state RELATED,ESTABLISHED -j ACCEPT"
                ),
            ),
        ] {
            let hook = Hook {
                family: Family::V4,
                table: table.into(),
                line,
            };
            // The chains are the kernel's own.
            let _ = self.kernel.hook(&hook);
        }
    }

    /// What starting the service does.
    pub fn service_start(&self) -> Vec<Piece> {
        if self.kernel.running {
            return Vec::new();
        }
        let opens = self.databases.iter().cloned().map(Piece::Open);
        let first = self.databases.first().and_then(|path| self.text(path));
        let fails = first.is_some_and(|text| self.fails_with.as_deref() == Some(name_of(&text)));
        std::iter::once(Piece::Clients)
            .chain(opens)
            .chain([if fails { Piece::Falters } else { Piece::Runs }])
            .collect()
    }

    /// What stopping the service does.
    pub fn service_stop(&self) -> Vec<Piece> {
        let writes = self.unwritten.iter().map(|_| Piece::Writes);
        let closes = self.databases.iter().cloned().map(Piece::Close);
        writes.chain(closes).chain([Piece::Stopped]).collect()
    }

    /// The rest of a boot, once nothing holds it back: the gateway starts as it is.
    pub fn start_gateway(&mut self) {
        if self.kernel.falters {
            // Its manager is at it already.
            return;
        }
        for piece in self.service_start() {
            if let Err(why) = self.carry_out(&piece) {
                self.breaks(format!("the gateway does not start: {why}"));
            }
        }
    }
}
