//! The gateway's service: what it opens, adds and leaves behind as it starts and stops.

use std::path::Path;

use engine::host::Family;

use super::{Piece, World, name_of, side_files};
use crate::sim::kernel::Hook;

/// The rules of IPv4 that the gateway adds for one client, each behind its table.
pub fn rules_of(client: &str) -> [(&'static str, String); 3] {
    let established = "-m state --state RELATED,ESTABLISHED -j ACCEPT";
    [
        ("nat", format!("-A POSTROUTING -o {client} -j MASQUERADE")),
        (
            "filter",
            format!("-A FORWARD -i eth0 -o {client} -j ACCEPT"),
        ),
        (
            "filter",
            format!("-A FORWARD -i {client} -o eth0 {established}"),
        ),
    ]
}

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

    /// The clients that the first database says are active.
    pub fn active_clients(&self) -> Vec<String> {
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

    /// The gateway adds its rules for one client, whether they are there or not.
    pub(in crate::sim) fn add_rules_of(&mut self, name: &str) {
        for (table, line) in rules_of(name) {
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
        let clients = self.active_clients().into_iter().enumerate();
        let clients = clients.flat_map(|(n, name)| {
            let inactive = Piece::Inactive(name.clone());
            [Piece::Client(name, n == 0), inactive]
        });
        let opens = self.databases.iter().cloned().map(Piece::Open);
        let ends = match self.start.never_runs && self.start_is_concerned() {
            true => Piece::Falters,
            false => Piece::Runs,
        };
        let opens = opens.chain([ends]);
        clients.chain([Piece::SeenTo]).chain(opens).collect()
    }

    /// What stopping the service does.
    pub fn service_stop(&self) -> Vec<Piece> {
        let writes = self.unwritten.iter().map(|_| Piece::Writes);
        let closes = self.databases.iter().cloned().map(Piece::Close);
        writes.chain(closes).chain([Piece::Stopped]).collect()
    }

    /// The rest of a boot, once nothing holds it back: the gateway starts as it is.
    pub fn start_gateway(&mut self) {
        if self.kernel.falters && self.due.is_empty() {
            // Its manager is at it already.
            return;
        }
        if !self.kernel.falters {
            self.starts();
        }
        // Whoever looks at a gateway after its boot waits until its manager has tried again.
        while let Some(wait) = self.until_started_again() {
            self.time_passes(wait);
        }
    }
}
