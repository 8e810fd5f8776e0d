//! Journals for tests: a small plan, a pen that writes only what the grammar allows, and walks through the grammar.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::*;

pub const BOOTS: [&str; 2] = ["11111111-aaaa", "22222222-bbbb"];

pub fn digest(n: u8) -> Digest {
    Digest::of_bytes([n; 32])
}

pub fn problem(what: &str) -> Problem {
    Problem {
        // As 1.0 knows it.
        code: None,
        command: Some("wg-quick up wg0".into()),
        stderr: Some("RTNETLINK answers: Address already in use\n".into()),
        ..Problem::new(
            Code::TUNNEL_DOES_NOT_COME_UP,
            what,
            "free the port, then restore again",
        )
    }
}

fn target(entry: &str, folder: &str, change: Change) -> Target {
    let new = FileFacts {
        sha256: digest(7),
        size: 318,
        uid: 990,
        gid: 990,
        mode: 0o640,
    };
    Target {
        entry: entry.into(),
        path: format!("{folder}/{}", entry.rsplit('/').next().unwrap()),
        staged: format!(
            "{folder}/.holdfast-20261122T185220Z-0a1b2c3d/{}",
            entry.rsplit('/').next().unwrap()
        ),
        change,
        new: (change != Change::Remove).then_some(new),
    }
}

pub fn plan() -> Plan {
    let back = [
        Step::Fence,
        Step::StopServices,
        Step::TunnelsDown,
        Step::SwapConfigs,
        Step::SwapDatabases,
        Step::SettleDatabases,
        Step::TunnelsUp,
        Step::StartServices,
        Step::LoadFirewall,
        Step::VerifyRunning,
        Step::LiftFence,
        Step::CleanUp,
    ];
    let tunnel = Tunnel {
        name: "wg0".into(),
        config: "/etc/wireguard/wg0.conf".into(),
    };
    Plan {
        archive: ArchiveInfo {
            name: "wireguard_backup_20261101_030000.zip".into(),
            sha256: digest(1),
            size: 48_213,
            created_at: "2026-11-01T03:00:00".into(),
            host: Some("gw-1".into()),
            made_by: "gateway".into(),
        },
        forward: Step::ALL.to_vec(),
        back: back.to_vec(),
        policy: Policy::Auto,
        keep_going_without_firewall: false,
        staging: vec!["/etc/wireguard/.holdfast-20261122T185220Z-0a1b2c3d".into()],
        databases: vec![target(
            "configs.db",
            "/opt/wireguard-gateway/instance",
            Change::Replace,
        )],
        files: vec![
            target("configs/wg0.conf", "/etc/wireguard", Change::Replace),
            target("configs/wg7.conf", "/etc/wireguard", Change::Add),
            target("configs/wg8.conf", "/etc/wireguard", Change::Remove),
        ],
        services: vec![Service {
            name: "wireguard-gateway.service".into(),
            control: Control::Unit("wireguard-gateway.service".into()),
        }],
        tunnels_down: vec![tunnel.clone()],
        tunnels_up: vec![tunnel],
        fence: FenceRules {
            interfaces: vec!["wg0".into()],
            networks: vec!["10.8.0.0/24".into()],
        },
        firewall: Firewall {
            v4: Some(digest(2)),
            v6: None,
            ip_forward: Some(true),
            ipv6_forward: None,
        },
        peers: None,
        without_safety_backup_of: Vec::new(),
        may_not_run: Vec::new(),
        may_stay_down: Vec::new(),
        stays_up: Vec::new(),
        left_out: Vec::new(),
        warnings: vec!["the backup has no app.db: it stays as it is".into()],
    }
}

/// A plan that says all that format 1.1 knows besides.
pub fn plan_of_1_1() -> Plan {
    Plan {
        peers: Some(digest(4)),
        without_safety_backup_of: vec!["app.db".into()],
        firewall: Firewall {
            ipv6_forward: Some(true),
            ..plan().firewall
        },
        ..plan()
    }
}

pub fn header(plan: &Plan) -> Header {
    Header {
        format: plan.format(),
        restore: RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap(),
        boot: BootId::new(BOOTS[0]).unwrap(),
        program: "holdfast 0.1.0".into(),
        plan: plan.digest(),
    }
}

pub fn driver(role: Role, boot: usize) -> Entry {
    Entry::Driver(Driver {
        role,
        boot: BootId::new(BOOTS[boot]).unwrap(),
        pid: 4711,
        session: 4711,
        started_ticks: 123_456,
        policy: None,
    })
}

pub fn exchanges(targets: &[Target]) -> Vec<Exchange> {
    let id = |ino| FileId {
        ino,
        born_ns: 1_795_373_540_000_000_000 + i64::try_from(ino).unwrap(),
    };
    targets
        .iter()
        .zip(0..)
        .map(|(t, i)| Exchange {
            path: t.path.clone(),
            staged: t.staged.clone(),
            old: (t.change != Change::Add).then(|| id(100 + i)),
            new: (t.change != Change::Remove).then(|| id(200 + i)),
        })
        .collect()
}

/// Writes a journal, and only what the grammar allows.
#[derive(Debug, Clone)]
pub struct Pen {
    pub state: State,
    pub records: Vec<Record>,
    pub bytes: Vec<u8>,
    /// Where each line ends.
    pub ends: Vec<usize>,
    chain: Chain,
    now_ms: i64,
}

/// What a step says of a service that could not be started.
pub fn lack() -> Note {
    let text = "gateway.service does not run, though it ran before";
    Note::down(Code::SERVICE_STAYS_DOWN, text).about("gateway.service")
}

impl Pen {
    /// A journal with its header.
    pub fn opened_with(header: Header) -> Pen {
        let now_ms = 1_795_373_540_000;
        let record = Record {
            seq: Seq(0),
            at_ms: now_ms,
            up_ms: 100_000,
            entry: Entry::Header(header),
            info: None,
        };
        let mut chain = Chain::start();
        let bytes = chain.encode(&record).unwrap();
        let state = State::begin(&record).unwrap();
        Pen {
            state,
            records: vec![record],
            ends: vec![bytes.len()],
            bytes,
            chain,
            now_ms,
        }
    }

    /// A journal with its header, plan and first driver.
    pub fn begun() -> Pen {
        Pen::begun_with(plan())
    }

    pub fn begun_with(plan: Plan) -> Pen {
        let mut pen = Pen::opened_with(header(&plan));
        pen.write(Entry::Plan(plan.into()));
        pen.write(driver(Role::Restore, 0));
        pen
    }

    /// The same plan in a journal of the newest version.
    pub fn newest() -> Pen {
        let mut pen = Pen::opened_with(Header {
            format: Format::CURRENT,
            ..header(&plan())
        });
        pen.write(Entry::Plan(plan().into()));
        pen.write(driver(Role::Restore, 0));
        pen
    }

    /// The barrier is up.
    pub fn armed() -> Pen {
        let mut pen = Pen::begun();
        pen.arm();
        pen
    }

    pub fn arm(&mut self) {
        self.step(Step::SafetyBackup, Direction::Forward);
        self.step(Step::Stage, Direction::Forward);
        self.write(Entry::Armed { facts: digest(3) });
    }

    /// All steps before this one are done.
    pub fn forward_until(step: Step) -> Pen {
        let mut pen = Pen::armed();
        pen.forward_between(Step::Fence, step);
        pen
    }

    pub fn forward_between(&mut self, from: Step, until: Step) {
        let steps = Step::ALL
            .into_iter()
            .skip_while(|s| *s != from)
            .take_while(|s| *s != until);
        for step in steps {
            self.step(step, Direction::Forward);
        }
    }

    pub fn record(&self, entry: Entry) -> Record {
        let now_ms = self.now_ms + 340;
        let up_ms = 100_000 + u64::try_from(now_ms - 1_795_373_540_000).unwrap();
        Record {
            seq: self.state.seq.next(),
            at_ms: now_ms,
            up_ms,
            entry,
            info: None,
        }
    }

    pub fn try_write(&mut self, entry: Entry) -> Result<(), Illegal> {
        let record = self.record(entry);
        self.state.apply(&record)?;
        self.now_ms = record.at_ms;
        self.bytes.extend(self.chain.encode(&record).unwrap());
        self.ends.push(self.bytes.len());
        self.records.push(record);
        Ok(())
    }

    pub fn write(&mut self, entry: Entry) {
        self.try_write(entry).unwrap();
    }

    /// The state behind each record where it is only shown.
    pub fn lean_states(&self) -> Vec<State> {
        let mut state = State::begin(&self.records[0]).unwrap();
        state.make_lean();
        let mut all = vec![state.clone()];
        for record in &self.records[1..] {
            state.apply(record).unwrap();
            all.push(state.clone());
        }
        all
    }

    pub fn twice(&mut self, entry: Entry) {
        self.write(entry.clone());
        self.write(entry);
    }

    pub fn intent(&self, step: Step, direction: Direction) -> Entry {
        let attempt = self.state.next_attempt(step, direction);
        let plan = self.state.plan.as_ref();
        let exchanges = match (step, direction, plan) {
            (Step::SwapDatabases, Direction::Forward, Some(plan)) => exchanges(&plan.databases),
            (Step::SwapConfigs, Direction::Forward, Some(plan)) => exchanges(&plan.files),
            _ => Vec::new(),
        };
        Entry::Intent {
            r#move: Move {
                step,
                direction,
                attempt,
            },
            exchanges,
        }
    }

    pub fn begin(&mut self, step: Step, direction: Direction) -> Move {
        self.write(self.intent(step, direction));
        self.state.in_doubt.unwrap()
    }

    pub fn step(&mut self, step: Step, direction: Direction) {
        let r#move = self.begin(step, direction);
        self.write(Entry::Done {
            r#move,
            did: vec![format!("did {step}")],
            warnings: Vec::new(),
        });
    }

    pub fn fail(&mut self, step: Step, direction: Direction) {
        let r#move = self.begin(step, direction);
        self.write(Entry::Failed {
            r#move,
            problem: problem("bring wg0 up: its port is taken"),
        });
    }

    pub fn turn(&mut self) {
        self.twice(Entry::Turned {
            problem: problem("bring tunnels up: its port is taken"),
        });
    }

    /// The whole way back, but for the clean-up.
    pub fn all_back(&mut self) {
        for step in plan().back {
            if step != Step::CleanUp {
                self.step(step, Direction::Back);
            }
        }
    }

    pub fn close(&mut self, verdict: Verdict) {
        self.twice(Entry::Closed {
            verdict,
            warnings: Vec::new(),
        });
    }

    pub fn restored() -> Pen {
        let mut pen = Pen::forward_until(Step::CleanUp);
        pen.twice(Entry::Committed);
        pen.step(Step::CleanUp, Direction::Forward);
        pen.close(Verdict::Restored);
        pen
    }

    pub fn rolled_back() -> Pen {
        let mut pen = Pen::forward_until(Step::TunnelsUp);
        pen.fail(Step::TunnelsUp, Direction::Forward);
        pen.turn();
        pen.all_back();
        pen.step(Step::CleanUp, Direction::Back);
        pen.close(Verdict::RolledBack);
        pen
    }

    /// Every entry that may follow, of a vocabulary that covers each rule.
    pub fn legal(&self) -> Vec<Entry> {
        self.vocabulary()
            .into_iter()
            .filter(|entry| {
                self.state
                    .clone()
                    .apply(&self.record(entry.clone()))
                    .is_ok()
            })
            .collect()
    }

    pub fn vocabulary(&self) -> Vec<Entry> {
        let mut all = vec![
            Entry::Header(header(&plan())),
            Entry::Plan(plan().into()),
            Entry::Armed { facts: digest(3) },
            Entry::Turned {
                problem: problem("go on"),
            },
            Entry::Committed,
            Entry::Stuck {
                problem: problem("go on or back"),
            },
        ];
        for role in [
            Role::Restore,
            Role::Recover,
            Role::RecoverByHand,
            Role::Leave,
        ] {
            all.extend((0..BOOTS.len()).map(|boot| driver(role, boot)));
        }
        for verdict in [
            Verdict::Restored,
            Verdict::RolledBack,
            Verdict::NothingChanged,
            Verdict::Left,
        ] {
            all.push(Entry::Closed {
                verdict,
                warnings: vec!["left".into()],
            });
        }
        for direction in [Direction::Forward, Direction::Back] {
            for step in Step::ALL {
                all.push(self.intent(step, direction));
                let r#move = Move {
                    step,
                    direction,
                    attempt: self.state.next_attempt(step, direction).max(2) - 1,
                };
                all.push(Entry::Done {
                    r#move,
                    did: vec!["\u{1b}[2J\n".into()],
                    warnings: vec!["w".into()],
                });
                if [Step::TunnelsUp, Step::StartServices].contains(&step) {
                    all.push(Entry::Done {
                        r#move,
                        did: Vec::new(),
                        warnings: vec![lack()],
                    });
                }
                all.push(Entry::Failed {
                    r#move,
                    problem: problem("do it"),
                });
            }
        }
        all
    }

    /// A walk through the grammar: each number chooses among what may follow. Going on is likelier than a crash.
    pub fn walk(choices: &[u16]) -> Pen {
        let plan = plan();
        let mut pen = Pen::opened_with(Header {
            format: Format::CURRENT,
            ..header(&plan)
        });
        pen.write(Entry::Plan(plan.into()));
        for choice in choices {
            let legal = pen.legal();
            let rare = |e: &&Entry| match e {
                Entry::Driver(_)
                | Entry::Stuck { .. }
                | Entry::Failed { .. }
                | Entry::Turned { .. } => true,
                Entry::Intent { r#move, .. } => {
                    r#move.step == Step::CleanUp && pen.state.turned.is_none()
                }
                _ => false,
            };
            let (rare, usual): (Vec<&Entry>, Vec<&Entry>) = legal.iter().partition(rare);
            let pick = if usual.is_empty() || choice % 10 == 0 && !rare.is_empty() {
                &rare
            } else {
                &usual
            };
            let Some(entry) = pick.get(usize::from(choice / 10) % pick.len().max(1)) else {
                break;
            };
            pen.write((*entry).clone());
        }
        pen
    }
}
