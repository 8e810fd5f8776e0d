//! A gateway in a sandbox and two states of it, with a backup and a picture of each: whatever is done to it, it must end
//! as one of the two. For the tests of crashes and recoveries.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fixtures::{Finished, Picture, Sample, Sandbox, Shape, program, skip};
use journal_format::{RestoreId, Verdict};

pub struct TwoStates {
    /// Goes first, so that nothing holds the folder when that goes.
    sandbox: Option<Sandbox>,
    /// The state that it is in.
    pub at: usize,
    pub backups: [PathBuf; 2],
    pictures: [Picture; 2],
    _folder: tempfile::TempDir,
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl TwoStates {
    /// None, and a skip on record, where the machine cannot run a gateway.
    pub fn make(shape: &Shape) -> Option<TwoStates> {
        if skip::cannot_run_gateways() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let sample = Sample::generate(&folder.path().join("gateway"), shape).unwrap();
        let sandbox = Sandbox::start(&sample).unwrap();
        let backup = |to: &str| {
            let dir = folder.path().join(to);
            std::fs::create_dir(&dir).unwrap();
            let argv = ["backup", "--output", text(&dir)];
            let made = holdfast(&sandbox, &argv).ok().unwrap();
            PathBuf::from(made.stdout.trim())
        };
        // A restore writes the kept rules as the kernel prints them: each picture is of a gateway that was restored.
        let settle = |backup: &Path| {
            holdfast(&sandbox, &["restore", text(backup), "--yes"])
                .ok()
                .unwrap();
            Picture::take(&sandbox).unwrap()
        };
        let first = backup("first");
        let first_picture = settle(&first);
        change(&sandbox);
        let second = backup("second");
        let second_picture = settle(&second);
        assert!(first_picture.diff(&second_picture).len() > 10);
        Some(TwoStates {
            sandbox: Some(sandbox),
            at: 1,
            backups: [first, second],
            pictures: [first_picture, second_picture],
            _folder: folder,
        })
    }

    pub fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().unwrap()
    }

    pub fn sample(&self) -> &Sample {
        self.sandbox().sample()
    }

    /// The picture of the state that it is in.
    pub fn before(&self) -> &Picture {
        &self.pictures[self.at]
    }

    /// The backup of the other state.
    pub fn other(&self) -> String {
        text(&self.backups[1 - self.at]).to_owned()
    }

    /// Another boot, with nothing up but what a boot brings up that is not the gateway's.
    pub fn reboot(&mut self) {
        let sandbox = self.sandbox.take().unwrap().reboot().unwrap();
        let stranger = sandbox.sample().config("wg-admin");
        if stranger.exists() {
            sandbox
                .run(&["wg-quick", "up", text(&stranger)])
                .unwrap()
                .ok()
                .unwrap();
        }
        self.sandbox = Some(sandbox);
    }

    pub fn holdfast(&self, argv: &[&str]) -> Finished {
        holdfast(self.sandbox(), argv)
    }

    pub fn journal(&self, id: &RestoreId) -> PathBuf {
        self.sample()
            .state_dir()
            .join("restores")
            .join(id.as_str())
            .join("journal")
    }

    /// Every restore that left a folder.
    pub fn restores(&self) -> BTreeSet<RestoreId> {
        let profile =
            engine::gateway::profile::Profile::read(&self.sample().profile(), false).unwrap();
        let ids = engine::state_dir::restores(&profile).unwrap();
        ids.into_iter().collect()
    }

    /// The one restore that is new. Names have no order within a second.
    pub fn fresh(&self, began: &BTreeSet<RestoreId>) -> Option<RestoreId> {
        let now = self.restores();
        let fresh: Vec<&RestoreId> = now.difference(began).collect();
        assert!(fresh.len() < 2, "{fresh:?}");
        fresh.first().map(|id| (*id).clone())
    }

    /// The one law: after a recovery the gateway is as before or as the backup says, the journal says which and is sound,
    /// and nothing is left to recover. `began`: the restores there were before this one.
    pub fn is_settled(
        &mut self,
        began: &BTreeSet<RestoreId>,
        recovered: &Finished,
        what: &str,
    ) -> Option<Verdict> {
        let verdict = self.fresh(began).and_then(|id| {
            let journal = self.journal(&id);
            let bytes = match std::fs::read(&journal) {
                // It died before it had written a record.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return None,
                read => read.unwrap(),
            };
            let verify = self.holdfast(&["journal", "verify", text(&journal)]);
            assert_eq!(verify.code(), 0, "{what}: {verify}\n{recovered}");
            let scan = journal_format::scan(&bytes);
            Some(scan.state.unwrap().verdict().unwrap())
        });
        let to = match verdict {
            Some(Verdict::Restored) => 1 - self.at,
            Some(Verdict::RolledBack | Verdict::NothingChanged) | None => self.at,
            Some(Verdict::Left) => panic!("{what}: only the operator leaves it so"),
        };
        let nothing = recovered.stdout.contains("nothing to do") || verdict.is_none();
        let expected = if to == self.at && !nothing { 4 } else { 0 };
        assert_eq!(
            recovered.code(),
            expected,
            "{what}: {verdict:?}: {recovered}"
        );
        let now = Picture::take(self.sandbox()).unwrap();
        let diff = self.pictures[to].diff(&now);
        assert!(
            diff.is_empty(),
            "{what}: {verdict:?}, but\n{}\n{recovered}",
            diff.join("\n")
        );
        assert!(!self.sample().state_dir().join("open").exists(), "{what}");
        let again = self.holdfast(&["recover"]);
        assert!(
            again.code() == 0 && again.stdout.contains("nothing to do"),
            "{what}: {again}"
        );
        self.at = to;
        verdict
    }
}

/// Runs `holdfast` inside.
pub fn holdfast(sandbox: &Sandbox, argv: &[&str]) -> Finished {
    let program = program("holdfast").unwrap();
    let profile = sandbox.sample().profile();
    let all = [&[text(&program), "--config", text(&profile)], argv].concat();
    sandbox.run(&all).unwrap()
}

/// Changes something of every kind: rows, configs (changed, added, removed), tunnels, rules, forwarding.
fn change(sandbox: &Sandbox) {
    let sample = sandbox.sample();
    let run = |argv: &[&str]| drop(sandbox.run(argv).unwrap().ok().unwrap());
    let open = |path: &Path| {
        let database = rusqlite::Connection::open(path).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        database
    };
    let (clients, active) = (sample.clients().unwrap(), sample.active().unwrap());
    let (kept, gone) = (&active[0], &active[1]);
    let come = &clients[1];
    let removed = clients.last().unwrap();
    assert!(!active.contains(come) && !active.contains(removed));
    let both = |name: &str| {
        [
            sample.configs_dir().join(format!("{name}.conf")),
            sample.config(name),
        ]
    };
    let edit = |name: &str, edit: &dyn Fn(String) -> String| {
        for path in both(name) {
            let new = edit(std::fs::read_to_string(&path).unwrap());
            std::fs::write(&path, new).unwrap();
        }
    };
    let client_database = open(&sample.client_database());

    // Its PostDown may fail: the rules of its PostUp are not loaded in every state.
    sandbox
        .run(&["wg-quick", "down", text(&sample.config(kept))])
        .unwrap();
    edit(kept, &|text| {
        text.replace("PersistentKeepalive = 25", "PersistentKeepalive = 17")
    });
    run(&["wg-quick", "up", text(&sample.config(kept))]);
    run(&["wg-quick", "down", text(&sample.config(gone))]);
    edit(come, &|text| {
        text.replace(
            "Endpoint = site1.ddns.example.net:51820",
            "Endpoint = 127.0.0.1:20999",
        )
    });
    run(&["wg-quick", "up", text(&sample.config(come))]);
    for (name, status) in [(kept, "active"), (gone, "inactive"), (come, "active")] {
        client_database
            .execute(
                "UPDATE clients SET status = ?1 WHERE name = ?2",
                [status, name],
            )
            .unwrap();
    }
    for table in ["test_history", "monitoring_logs"] {
        let sql = format!(
            "DELETE FROM {table} WHERE client_id = (SELECT id FROM clients WHERE name = ?1)"
        );
        client_database.execute(&sql, [removed]).unwrap();
    }
    client_database
        .execute("DELETE FROM clients WHERE name = ?1", [removed])
        .unwrap();
    for path in both(removed) {
        std::fs::remove_file(path).unwrap();
    }
    let added = std::fs::read_to_string(sample.config(gone)).unwrap();
    for path in both("fresh_0a1b2c3d") {
        std::fs::write(&path, format!("# a new one\n{added}")).unwrap();
    }
    for database in sample.databases().iter().filter(|d| d.kind == "users") {
        open(&database.path)
            .execute("UPDATE user SET login_count = 77 WHERE id = 1", [])
            .unwrap();
    }

    change_rules(sandbox, gone, come);
}

/// Its rules and its forwarding.
fn change_rules(sandbox: &Sandbox, gone: &str, come: &str) {
    let run = |argv: &[&str]| drop(sandbox.run(argv).unwrap().ok().unwrap());
    for (table, chain, rule) in [
        ("nat", "POSTROUTING", "-o {gone} -j MASQUERADE"),
        ("filter", "FORWARD", "-i eth0 -o {gone} -j ACCEPT"),
    ] {
        let rule = rule.replace("{gone}", gone);
        let rule: Vec<&str> = rule.split(' ').collect();
        run(&[&["iptables", "-t", table, "-D", chain][..], &rule[..]].concat());
    }
    run(&[
        "iptables",
        "-A",
        "FORWARD",
        "-s",
        "10.99.0.0/16",
        "-j",
        "DROP",
    ]);
    run(&[
        "iptables",
        "-t",
        "nat",
        "-A",
        "POSTROUTING",
        "-o",
        come,
        "-j",
        "MASQUERADE",
    ]);
    run(&["ip6tables", "-A", "WG_GATE6", "-i", come, "-j", "ACCEPT"]);
    run(&[
        "sysctl",
        "-qw",
        "net.ipv4.ip_forward=0",
        "net.ipv6.conf.all.forwarding=0",
    ]);
}
