//! What both hosts are told; runs a script on both, and says where they part.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::Arc;

use engine::gateway::profile::Profile;
use engine::host::linux::Linux;
use engine::host::{Host, Look, Query};
use fixtures::Sample;
use journal_format::{Control, FenceRules, Firewall, Plan, Policy, Service, Tunnel};
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::{Places, Sim};
use tests::sim::kernel::Kernel;
use tests::sim::world::{ServiceStart, World};

use super::calls::*;
use super::side::Side;

/// What both hosts are told, and what of it has the same name on both.
pub struct Course {
    pub profile: Profile,
    pub names: [String; TUNNELS],
    pub plan: Arc<Plan>,
    pub service: Control,
    pub databases: Vec<PathBuf>,
    pub wireguard: PathBuf,
    pub state: PathBuf,
    pub scenario: Scenario,
    sample: Sample,
}

/// The clients that have rows: the gateway's two active ones, and one that is not and that `wg-quick` cannot bring up.
pub const CLIENTS: [usize; 3] = [FIRST, SECOND, NEVER];

impl Course {
    /// Its configs are written over those of the sample.
    pub fn new(sample: &Sample) -> Course {
        let profile = Profile::read(&sample.profile(), false).unwrap();
        let active = sample.active().unwrap();
        let [first, second] = &active[..] else {
            panic!("{active:?}");
        };
        let names = [
            first, second, "new", "fails", "leaves", "never", "stays", "refused", "absent",
        ]
        .map(|name: &str| name.to_owned());
        let wireguard = sample.wireguard_dir();
        for (n, name) in names.iter().enumerate().filter(|(n, _)| *n != ABSENT) {
            let file = wireguard.join(format!("{name}.conf"));
            std::fs::write(file, config(n)).unwrap();
        }
        let tunnel = |n: usize| Tunnel {
            name: names[n].clone(),
            config: config_path(&wireguard, &names[n]),
        };
        let service = profile.gateway.service[0].service();
        let mut databases: Vec<PathBuf> = profile
            .gateway
            .database
            .iter()
            .map(|d| d.path.clone())
            .collect();
        let broken = sample.root().join("instance/broken.db");
        std::fs::write(&broken, "garbage\n".repeat(200)).unwrap();
        // Whose a database is says who reads it, and the simulator knows no rights.
        let first = std::fs::metadata(&databases[0]).unwrap();
        std::os::unix::fs::chown(&broken, Some(first.uid()), Some(first.gid())).unwrap();
        databases.extend([broken, sample.root().join("instance/missing.db")]);
        let scenario = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
        let rules = loads(V4, 0, &names);
        let plan = Plan {
            databases: Vec::new(),
            files: Vec::new(),
            staging: Vec::new(),
            services: vec![Service {
                name: service.name.clone(),
                control: service.control.clone(),
            }],
            tunnels_down: [FIRST, SECOND, LEAVES].map(tunnel).to_vec(),
            tunnels_up: [FIRST, NEW].map(tunnel).to_vec(),
            fence: FenceRules {
                interfaces: names[..NEW + 1].to_vec(),
                networks: vec!["10.61.0.0/16".into(), "fd61::/16".into()],
            },
            firewall: Firewall {
                v4: Some(digest(rules.as_bytes())),
                v6: None,
                ip_forward: Some(true),
                ipv6_forward: Some(true),
            },
            peers: Some(digest(peers_planned(&names).as_bytes())),
            without_safety_backup_of: Vec::new(),
            may_not_run: Vec::new(),
            may_stay_down: Vec::new(),
            left_out: Vec::new(),
            ..scenario.plan.as_ref().clone()
        };
        rusqlite::Connection::open(sample.client_database())
            .unwrap()
            .execute(
                "UPDATE clients SET name = 'never' WHERE rowid = \
                 (SELECT rowid FROM clients WHERE status = 'inactive' LIMIT 1)",
                [],
            )
            .unwrap();
        Course {
            sample: sample.clone(),
            state: sample.state_dir(),
            profile,
            names,
            plan: Arc::new(plan),
            service: service.control,
            databases,
            wireguard,
            scenario,
        }
    }

    pub fn config(&self, n: usize) -> String {
        config_path(&self.wireguard, &self.names[n])
    }

    pub fn restore_dir(&self) -> PathBuf {
        self.state.join("restores/x")
    }

    /// The real gateway as it is after boot, with nothing of this up; whatever an earlier script left is gone.
    pub fn real(&self) -> Linux {
        engine::host::programs::program_is(fixtures::program("holdfast").unwrap());
        let linux = Linux::new(&self.profile);
        let Control::Commands { stop, .. } = &self.service else {
            panic!("{:?}", self.service);
        };
        run(&stop.iter().map(String::as_str).collect::<Vec<_>>());
        self.sample.behave().unwrap();
        self.active_are(&self.names[..2]);
        for name in tunnels_up(&linux) {
            run(&["ip", "link", "delete", "dev", &name]);
        }
        while !tunnels_up(&linux).is_empty() {
            linux_sleeps();
        }
        run(&["nft", "flush", "ruleset"]);
        run(&[
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=0",
            "net.ipv6.conf.all.forwarding=0",
        ]);
        if self.state.exists() {
            std::fs::remove_dir_all(&self.state).unwrap();
        }
        linux
    }

    /// The simulated one.
    pub fn simulated(&self) -> Sim {
        let databases: Vec<String> = self.databases.iter().map(|d| text(d)).collect();
        let named: Vec<&str> = databases.iter().take(3).map(String::as_str).collect();
        let mut world = World::new(&[], &named);
        let disk = &mut world.disk;
        for n in (0..TUNNELS).filter(|n| *n != ABSENT) {
            disk.put(&self.config(n), config(n).as_bytes(), 0o640);
        }
        for (n, path) in named.iter().enumerate() {
            let mut rows = format!("db db{n} 1\n");
            for client in CLIENTS.iter().filter(|_| n == 0) {
                let status = ["inactive", "active"][usize::from(*client != NEVER)];
                rows.push_str(&format!("client {} {status}\n", self.names[*client]));
            }
            disk.put(path, rows.as_bytes(), 0o660);
            disk.put(
                &format!("{path}-wal"),
                format!("db db{n} 1\nrow of the log\n").as_bytes(),
                0o660,
            );
        }
        disk.put(&databases[3], b"garbage\n", 0o660);
        disk.make_dirs(self.state.parent().unwrap());
        disk.sync_all();
        world.kernel = Kernel {
            v4: BTreeMap::new(),
            ..Kernel::booted()
        };
        world.kernel.v6.clear();
        world.wireguard = text(&self.wireguard);
        world.start = ServiceStart {
            takes_down: true,
            times: u32::MAX,
            ..ServiceStart::polite()
        };
        let places = Places {
            state_dir: text(&self.state),
            journal: self.restore_dir().join("journal"),
            barrier: self.state.join("open"),
            names: Default::default(),
            staging: Default::default(),
        };
        Sim::new(world, &places, None, false)
    }

    /// Runs a script on both. Stops at the first call of which they say other things, and says which.
    pub fn agree(&self, script: &[Call]) -> Result<(), String> {
        let (linux, sim) = (self.real(), self.simulated());
        let mut real = Side::new(&linux, self);
        let mut made = Side::new(&sim, self);
        for (n, call) in script.iter().enumerate() {
            if !made.makes_sense(call) {
                continue;
            }
            if starts(call) && !made.runs() {
                self.active_are(&sim.world().active_clients());
            }
            self.acts(call, &linux, &sim);
            let (one, two) = (real.answer(call), made.answer(call));
            if one != two {
                return Err(format!(
                    "call {n}, {call:?}: the system: {one:?}, the simulator: {two:?}"
                ));
            }
            let said = one.map_or("refused".into(), |said| said.join("; "));
            println!("{call:?}: {said}");
            let two = made.looks();
            // What runs in userspace goes a moment after the command that ended it.
            let mut one = real.looks();
            for _ in 0..40 {
                if one == two {
                    break;
                }
                linux_sleeps();
                one = real.looks();
            }
            let unlike: Vec<String> = one
                .iter()
                .zip(&two)
                .filter(|(one, two)| one != two)
                .map(|(one, two)| format!("  the system: {one}\n  the simulator: {two}"))
                .collect();
            if !unlike.is_empty() {
                return Err(format!("after call {n}, {call:?}:\n{}", unlike.join("\n")));
            }
        }
        Ok(())
    }

    /// What is no call of a host, but comes over both.
    fn acts(&self, call: &Call, linux: &Linux, sim: &Sim) {
        match call {
            CannotSeeTo(client) => {
                let names: Vec<&str> = match client {
                    Some(client) => vec![&self.names[*client]],
                    None => CLIENTS.iter().map(|c| self.names[*c].as_str()).collect(),
                };
                self.sample.starts_cannot_see_to(&names).unwrap();
                sim.world().start.cannot = names.into_iter().map(str::to_owned).collect();
            }
            Call::Active(client) => {
                let name = &self.names[*client];
                let world = &mut sim.world();
                let path = text(&self.databases[0]);
                let rows = world.disk.read(path.as_ref()).unwrap();
                let rows = String::from_utf8_lossy(&rows);
                let rows = rows.replace(&format!("{name} inactive"), &format!("{name} active"));
                world.disk.rewrite(path.as_ref(), rows.into()).unwrap();
                self.active_are(&world.active_clients());
            }
            StartedAgain => {
                let active = Query::ServiceActive(self.service.clone());
                while !linux.ask(&active, "").unwrap().ok() {
                    linux_sleeps();
                }
                sim.sleep(u64::try_from(fixtures::service::AGAIN.as_millis()).unwrap());
            }
            _ => {}
        }
    }

    /// The sample's monitor calls a client inactive whose tunnel it misses; the simulated one does not.
    fn active_are(&self, names: &[String]) {
        let database = rusqlite::Connection::open(&self.databases[0]).unwrap();
        database
            .busy_timeout(std::time::Duration::from_secs(10))
            .unwrap();
        for client in CLIENTS {
            let name = &self.names[client];
            let status = ["inactive", "active"][usize::from(names.contains(name))];
            database
                .execute(
                    "UPDATE clients SET status = ?2 WHERE name = ?1",
                    [name.as_str(), status],
                )
                .unwrap();
        }
    }
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

pub fn config_path(folder: &Path, name: &str) -> String {
    text(&folder.join(format!("{name}.conf")))
}

/// For what the script does not do itself.
pub fn run(argv: &[&str]) {
    let ended = Program::new(argv[0]).args(&argv[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{argv:?}: {said}");
}

pub fn linux_sleeps() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

pub fn tunnels_up(host: &dyn Host) -> Vec<String> {
    let up = host.ask(&Query::Tunnels, "").unwrap().stdout;
    let mut up: Vec<String> = up.split_whitespace().map(str::to_owned).collect();
    up.sort();
    up
}
