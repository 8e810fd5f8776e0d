//! Journals as a restore writes them, for pages to show: each with the event and the view behind every record.

use journal_format::{
    ArchiveInfo, AskedBy, BootId, Code, Control, Digest, Direction, Driver, Entry, Event,
    FenceRules, Firewall, Format, Header, Info, Move, Note, Plan, Policy, Problem, Record,
    RestoreId, Role, Seq, Service, State, Step, Tunnel, Verdict, View,
};

pub const ID: &str = "20261122T185220Z-0a1b2c3d";
const BEGAN_MS: i64 = 1_795_373_540_000;

/// What one record changed, and the restore behind it.
pub type Shown = (Event, View);

pub struct Journal {
    plan: Plan,
    records: Vec<Record>,
    now_ms: i64,
}

impl Journal {
    pub fn new() -> Journal {
        let zeros = Digest::new("0".repeat(64)).unwrap();
        let back = [
            Step::Fence,
            Step::StopServices,
            Step::TunnelsDown,
            Step::SwapConfigs,
            Step::SettleDatabases,
            Step::SwapDatabases,
            Step::TunnelsUp,
            Step::StartServices,
            Step::LoadFirewall,
            Step::VerifyRunning,
            Step::LiftFence,
            Step::CleanUp,
        ];
        let plan = Plan {
            archive: ArchiveInfo {
                name: "wireguard_backup_20261120_030000.zip".into(),
                sha256: zeros.clone(),
                size: 48_213,
                created_at: "2026-11-20T03:00:00Z".into(),
                host: Some("gw-north".into()),
                made_by: "holdfast 0.1.0".into(),
            },
            forward: Step::ALL.to_vec(),
            back: back.to_vec(),
            policy: Policy::Auto,
            keep_going_without_firewall: false,
            staging: vec![],
            databases: vec![],
            files: vec![],
            services: vec![Service {
                name: "wireguard-gateway.service".into(),
                control: Control::Unit("wireguard-gateway.service".into()),
            }],
            tunnels_down: vec![],
            tunnels_up: vec![Tunnel {
                name: "berlin_01ab".into(),
                config: "/etc/wireguard/berlin_01ab.conf".into(),
            }],
            fence: FenceRules::default(),
            firewall: Firewall::default(),
            peers: None,
            without_safety_backup_of: Vec::new(),
            may_not_run: Vec::new(),
            may_stay_down: Vec::new(),
            stays_up: Vec::new(),
            left_out: Vec::new(),
            warnings: vec![
                Note::lost(
                    Code::USERS_GONE,
                    "1 user of wireguard.db is not in the backup and will be gone: guest",
                ),
                Note::known(Code::BACKUP_OLD, "the backup is over 30 days old")
                    .advising("see whether there is a <newer> one"),
            ],
        };
        Journal::of(plan)
    }

    /// One that leaves this out.
    pub fn leaving_out(left_out: &[(&str, &str)]) -> Self {
        let left_out = left_out.iter().map(|(what, why)| {
            let why = Note::known(Code::NOT_IN_BACKUP, *why);
            why.of(*what)
        });
        Journal::of(Plan {
            left_out: left_out.collect(),
            ..Journal::new().plan
        })
    }

    fn of(plan: Plan) -> Self {
        let boot = BootId::new("11111111-2222-3333-4444-555555555555").unwrap();
        let mut journal = Journal {
            plan: plan.clone(),
            records: Vec::new(),
            now_ms: BEGAN_MS,
        };
        journal.add(Entry::Header(Header {
            format: Format::CURRENT,
            restore: RestoreId::new(ID).unwrap(),
            boot: boot.clone(),
            program: "holdfast 0.1.0".into(),
            plan: plan.digest(),
        }));
        journal.add(Entry::Plan(plan.into()));
        let driver = Driver {
            role: Role::Restore,
            boot,
            pid: 4711,
            session: 4711,
            started_ticks: 1,
            policy: None,
        };
        journal.add(Entry::Driver(driver));
        journal
    }

    /// Asked for by somebody.
    pub fn asked_by(mut self, who: AskedBy) -> Self {
        self.records[0].info = Info::asked_by(Some(who));
        self
    }

    fn add(&mut self, entry: Entry) {
        let up_ms = u64::try_from(self.now_ms - BEGAN_MS).unwrap() + 60_000;
        self.records.push(Record {
            seq: Seq(self.records.len() as u64),
            at_ms: self.now_ms,
            up_ms,
            entry,
            info: None,
        });
    }

    pub fn begin(mut self, step: Step, direction: Direction) -> Self {
        self.now_ms += 12;
        self.add(Entry::Intent {
            r#move: Move {
                step,
                direction,
                attempt: 1,
            },
            exchanges: vec![],
        });
        self
    }

    pub fn done(
        mut self,
        step: Step,
        direction: Direction,
        did: &[&str],
        warnings: &[&str],
    ) -> Self {
        self = self.begin(step, direction);
        self.now_ms += 340;
        let own = |lines: &[&str]| lines.iter().map(|l| l.to_string()).collect();
        let r#move = Move {
            step,
            direction,
            attempt: 1,
        };
        self.add(Entry::Done {
            r#move,
            did: own(did),
            warnings: warnings.iter().map(|w| Note::from(*w)).collect(),
        });
        self
    }

    /// The preparation and the steps forward, up to and without this one.
    pub fn forward_until(mut self, end: Step) -> Self {
        for step in self
            .plan
            .forward
            .clone()
            .into_iter()
            .take_while(|s| *s != end)
        {
            if step == Step::Fence {
                self.add(Entry::Armed {
                    facts: Digest::new("1".repeat(64)).unwrap(),
                });
            }
            let did: &[&str] = match step {
                Step::SafetyBackup => &["wireguard_backup_20261122_185220.zip, 51,200 bytes"],
                Step::TunnelsDown => &[
                    "berlin_01ab",
                    "paris_9f3c",
                    "oslo_77d0",
                    "rome_1b2c",
                    "wien_c0de",
                    "bonn_beef",
                ],
                Step::SwapDatabases => &["configs.db", "wireguard.db"],
                Step::LoadFirewall => &["loaded 41 rules for IPv4"],
                _ => &[],
            };
            let warnings: &[&str] = match step {
                Step::TunnelsUp => {
                    &["the endpoint vpn.example.org of <oslo_77d0> does not resolve, as before"]
                }
                _ => &[],
            };
            self = self.done(step, Direction::Forward, did, warnings);
        }
        self
    }

    pub fn restored(self) -> Self {
        let mut journal = self.forward_until(Step::CleanUp);
        journal.add(Entry::Committed);
        journal.add(Entry::Committed);
        journal = journal.done(
            Step::CleanUp,
            Direction::Forward,
            &["staging folders removed"],
            &[],
        );
        for _ in 0..2 {
            journal.add(Entry::Closed {
                verdict: Verdict::Restored,
                warnings: vec![],
            });
        }
        journal
    }

    /// It fails at bringing tunnels up, for a reason that a person can act on.
    pub fn turned(self) -> Self {
        let mut journal = self
            .forward_until(Step::TunnelsUp)
            .begin(Step::TunnelsUp, Direction::Forward);
        let problem = Problem {
            command: Some("wg-quick up /etc/wireguard/berlin_01ab.conf".into()),
            stderr: Some(
                "RTNETLINK answers: Address already in use\n<script>alert(1)</script>\n".into(),
            ),
            ..Problem::new(
                Code::TUNNEL_DOES_NOT_COME_UP,
                "bring up the tunnel berlin_01ab: its port 51820 is taken",
                "find what listens with ss -lunp, stop it, and restore again",
            )
        };
        journal.now_ms += 1_900;
        let r#move = Move {
            step: Step::TunnelsUp,
            direction: Direction::Forward,
            attempt: 1,
        };
        journal.add(Entry::Failed {
            r#move,
            problem: problem.clone(),
        });
        for _ in 0..2 {
            journal.add(Entry::Turned {
                problem: problem.clone(),
            });
        }
        journal
    }

    pub fn rolled_back(self) -> Self {
        let mut journal = self.turned();
        for step in journal.plan.back.clone() {
            journal = journal.done(step, Direction::Back, &[], &[]);
        }
        for _ in 0..2 {
            journal.add(Entry::Closed {
                verdict: Verdict::RolledBack,
                warnings: vec![],
            });
        }
        journal
    }

    /// Its safety backup lacks a part that it would replace: it ends before it changes anything.
    pub fn without_a_part(self) -> Self {
        let mut journal = self.begin(Step::SafetyBackup, Direction::Forward);
        let problem = Problem {
            about: vec!["configs.db".into()],
            ..Problem::new(
                Code::SAFETY_BACKUP_LACKS,
                "make a safety backup that could bring back what the restore replaces: the database configs.db could not \
                 be saved: database is locked, waited for 30 s",
                format!(
                    "mend that and restore again; or accept that nothing brings it back: restore with {}",
                    journal_format::accepting(["configs.db".into()])
                ),
            )
        };
        journal.add(Entry::Failed {
            r#move: Move {
                step: Step::SafetyBackup,
                direction: Direction::Forward,
                attempt: 1,
            },
            problem,
        });
        journal = journal.done(Step::CleanUp, Direction::Back, &[], &[]);
        for _ in 0..2 {
            journal.add(Entry::Closed {
                verdict: Verdict::NothingChanged,
                warnings: vec![],
            });
        }
        journal
    }

    pub fn stuck(self) -> Self {
        let mut journal = self.turned();
        let problem = Problem::new(
            Code::READ_ONLY,
            "put the old configs back: /etc/wireguard has become read-only",
            "make it writable, then run holdfast recover",
        );
        journal.add(Entry::Stuck { problem });
        journal
    }

    pub fn shown(&self) -> Vec<Shown> {
        let mut state = State::begin(&self.records[0]).unwrap();
        let mut shown = vec![(Event::of(&state, &self.records[0]), View::of(&state))];
        for record in &self.records[1..] {
            state.apply(record).unwrap();
            shown.push((Event::of(&state, record), View::of(&state)));
        }
        shown
    }
}
