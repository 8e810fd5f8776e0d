//! The case table and the grammar, together and without a host: whatever fails, dies or reboots at whatever moment, the
//! grammar refuses nothing that the table decides, and once nothing fails any more the restore ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use engine::restore::decide::{self, ATTEMPTS, Decision, Inputs, STARTS, Swaps};
use engine::restore::next;
use journal_format::{
    ArchiveInfo, BootId, Change, Code, Digest, Direction, Driver, Entry, Exchange, Fate,
    FenceRules, FileFacts, FileId, Firewall, Format, Header, Move, MoveState, Phase, Plan, Policy,
    Problem, Record, RestoreId, Role, Seq, State, Step, Tail, Target, Verdict,
};
use proptest::prelude::*;

fn target(n: u64) -> Target {
    let new = FileFacts {
        sha256: Digest::of_bytes([1; 32]),
        size: 1,
        uid: 0,
        gid: 0,
        mode: 0o600,
    };
    Target {
        entry: format!("{n}"),
        path: format!("/gateway/{n}"),
        staged: format!("/gateway/.staged/{n}"),
        change: Change::Replace,
        new: Some(new),
    }
}

/// The lists of format 1.0's first programs: journals that they left open are finished by these.
fn older_lists() -> Lists {
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
    (Step::ALL.to_vec(), back.to_vec())
}

type Lists = (Vec<Step>, Vec<Step>);

/// What a plan may leave out, with its steps: services, tunnels, databases, configs, rules.
const PARTS: [&[Step]; 5] = [
    &[Step::StopServices, Step::StartServices],
    &[
        Step::Fence,
        Step::TunnelsDown,
        Step::ResetRules,
        Step::TunnelsUp,
    ],
    &[Step::SettleDatabases, Step::SwapDatabases],
    &[Step::SwapConfigs],
    &[Step::LoadFirewall],
];

/// The lists without the steps of the parts that this number leaves out, a bit each.
fn without(lists: Lists, left_out: u8) -> Lists {
    let out = |step: &Step| (0..5).any(|n| left_out & (1 << n) != 0 && PARTS[n].contains(step));
    let some = |list: Vec<Step>| list.into_iter().filter(|s| !out(s)).collect();
    (some(lists.0), some(lists.1))
}

fn plan(policy: Policy, (forward, back): Lists) -> Plan {
    Plan {
        archive: ArchiveInfo {
            name: "backup.zip".into(),
            sha256: Digest::of_bytes([2; 32]),
            size: 1,
            created_at: String::new(),
            host: None,
            made_by: "gateway".into(),
        },
        forward,
        back,
        policy,
        keep_going_without_firewall: false,
        staging: Vec::new(),
        databases: vec![target(1)],
        files: vec![target(2), target(3)],
        services: Vec::new(),
        tunnels_down: Vec::new(),
        tunnels_up: Vec::new(),
        fence: FenceRules::default(),
        firewall: Firewall::default(),
        peers: None,
        without_safety_backup_of: Vec::new(),
        may_not_run: Vec::new(),
        may_stay_down: Vec::new(),
        stays_up: Vec::new(),
        left_out: Vec::new(),
        warnings: Vec::new(),
    }
}

fn problem() -> Problem {
    Problem::new(Code::INTERNAL, "do it", "look")
}

fn boot(n: u32) -> BootId {
    BootId::new(format!("boot-{n}")).unwrap()
}

/// One restore and whatever happens to it.
struct World {
    state: State,
    boots: u32,
    /// The boot that it is in all the time; without one it counts them.
    boot: Option<BootId>,
    refused: Option<String>,
    /// What this world does to its drivers, a number a moment. When they run out, nothing fails any more.
    fates: std::vec::IntoIter<u8>,
    /// The step forward that fails whatever the numbers say.
    fails: Option<Step>,
}

/// How a driver went.
#[derive(Debug, PartialEq, Eq)]
enum Gone {
    Died,
    Rebooted,
    Stuck,
    Over,
}

impl World {
    fn write(&mut self, entry: Entry) -> Result<(), Gone> {
        let fate = self.fates.next().unwrap_or(255);
        if fate < 6 {
            return Err(Gone::Died);
        }
        let record = Record {
            seq: self.state.seq.next(),
            at_ms: 0,
            up_ms: 0,
            entry: entry.within(self.state.header.format),
            info: None,
        };
        if let Err(illegal) = self.state.apply(&record) {
            self.refused = Some(format!("{illegal}: {:?}", record.entry));
            return Err(Gone::Over);
        }
        match fate {
            6..12 => Err(Gone::Died),
            12..16 => Err(Gone::Rebooted),
            _ => Ok(()),
        }
    }

    fn twice(&mut self, entry: Entry) -> Result<(), Gone> {
        self.write(entry.clone())?;
        self.write(entry)
    }

    fn make(&mut self, step: Step, direction: Direction) -> Result<(), Gone> {
        let attempt = self.state.next_attempt(step, direction);
        let noted = match (direction, step, &self.state.plan) {
            (Direction::Forward, Step::SwapDatabases, Some(plan)) => &plan.databases[..],
            (Direction::Forward, Step::SwapConfigs, Some(plan)) => &plan.files[..],
            _ => &[],
        };
        let object = |ino| Some(FileId { ino, born_ns: 1 });
        let exchange = |t: &Target| Exchange {
            path: t.path.clone(),
            staged: t.staged.clone(),
            old: object(1).filter(|_| t.change != Change::Add),
            new: object(2).filter(|_| t.change != Change::Remove),
        };
        // Noted once: later they may be half made.
        let before = self.state.exchanges(step).map(<[Exchange]>::to_vec);
        let exchanges = match direction {
            Direction::Forward => before.unwrap_or_else(|| noted.iter().map(exchange).collect()),
            Direction::Back => Vec::new(),
        };
        let r#move = Move {
            step,
            direction,
            attempt,
        };
        self.write(Entry::Intent { r#move, exchanges })?;
        let fails = direction == Direction::Forward && self.fails == Some(step);
        match self.fates.next().unwrap_or(255) {
            fate if fails || fate < 20 => self.write(Entry::Failed {
                r#move,
                problem: problem(),
            }),
            _ => self.write(Entry::Done {
                r#move,
                did: Vec::new(),
                warnings: Vec::new(),
            }),
        }
    }

    /// What a look at the objects would tell: a swap that is in doubt may be anywhere.
    fn swaps(&mut self) -> Swaps {
        let fates: Vec<_> = [Step::SwapDatabases, Step::SwapConfigs]
            .iter()
            .map(|s| self.state.find(*s, Direction::Forward).map(|m| m.fate))
            .collect();
        match (&fates[..], self.fates.next().unwrap_or(255)) {
            (_, 0..8) => Swaps::Unknown,
            (fates, _) if fates.iter().all(|f| *f == Some(Fate::Done)) => Swaps::AllInPlace,
            (fates, 8..128) if fates.iter().all(Option::is_some) => Swaps::AllInPlace,
            _ => Swaps::NotAll,
        }
    }

    /// Now and then something that was done is gone.
    fn lost(&mut self, plan: &Plan, boot: &BootId) -> Option<Step> {
        let fate = usize::from(self.fates.next().unwrap_or(255));
        let claims = next::claims(&self.state, plan, boot);
        (fate < 16).then(|| claims.get(fate % claims.len().max(1)).copied())?
    }

    /// The driver's loop, with this world for a host.
    fn drive(&mut self, role: Role, policy: Option<Policy>) -> Result<(), Gone> {
        let boot = self.boot.clone().unwrap_or_else(|| boot(self.boots));
        let driver = Driver {
            role,
            boot: boot.clone(),
            pid: 1,
            session: 1,
            started_ticks: 1,
            policy,
        };
        self.write(Entry::Driver(driver))?;
        let mut recovering = role != Role::Restore;
        let mut cleaned = false;
        let mut asked = false;
        loop {
            let swaps = if recovering && self.state.phase == Phase::Forward {
                self.swaps()
            } else {
                Swaps::NotAll
            };
            asked |= self.fates.next().unwrap_or(255) < 4;
            let plan = self.state.plan.clone().unwrap();
            let direction = match self.state.phase {
                Phase::Back => Direction::Back,
                _ => Direction::Forward,
            };
            let lost = self.lost(&plan, &boot);
            let state = &self.state;
            let next = next::next_step(state, &plan, &boot, lost);
            let inputs = Inputs {
                phase: state.phase,
                stuck: state.stuck.is_some(),
                recovering,
                effects: state.has_effects(),
                failed: decide::forward_failed(state),
                asked: asked || decide::given_up(state),
                kernel_kept: state.header.boot == boot || decide::given_up(state),
                swaps,
                policy: policy.unwrap_or(plan.policy),
                next,
                anew: next.is_some_and(|step| state.is_past(step, direction)),
                attempts_left: next.is_none_or(|step| state.attempts(step, direction) < ATTEMPTS),
                starts_left: state.starts <= STARTS,
                cleaned,
            };
            match decide::decide(&inputs).1 {
                Decision::Do(step, direction) => {
                    self.make(step, direction)?;
                    cleaned |= step == Step::CleanUp;
                    if !matches!(inputs.phase, Phase::Opening | Phase::Preparing) {
                        recovering = false;
                    }
                }
                Decision::Arm => self.write(Entry::Armed {
                    facts: Digest::of_bytes([3; 32]),
                })?,
                Decision::Turn => {
                    self.twice(Entry::Turned { problem: problem() })?;
                    recovering = false;
                }
                Decision::Anew => {
                    let driver = self.state.driver.clone().unwrap();
                    let role = Role::Recover;
                    self.write(Entry::Driver(Driver { role, ..driver }))?;
                }
                Decision::Commit => self.twice(Entry::Committed)?,
                Decision::Close(verdict) => self.twice(Entry::Closed {
                    verdict,
                    warnings: Vec::new(),
                })?,
                Decision::Finish => return Err(Gone::Over),
                Decision::Stick => {
                    self.write(Entry::Stuck { problem: problem() })?;
                    return Err(Gone::Stuck);
                }
                Decision::Halt => return Err(Gone::Stuck),
            }
        }
    }
}

/// Before the first driver.
fn planned(policy: Policy, lists: Lists) -> State {
    let plan = plan(policy, lists);
    let header = Header {
        format: Format::CURRENT,
        restore: RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap(),
        boot: boot(0),
        program: "holdfast".into(),
        plan: plan.digest(),
    };
    let record = |seq, entry| Record {
        seq: Seq(seq),
        at_ms: 0,
        up_ms: 0,
        entry,
        info: None,
    };
    let mut state = State::begin(&record(0, Entry::Header(header))).unwrap();
    state.apply(&record(1, Entry::Plan(plan.into()))).unwrap();
    state
}

/// So that what fails early costs no outage.
#[test]
fn on_the_way_back_only_what_was_begun_is_undone() {
    let lists = engine::plan::order::lists(engine::plan::order::PlannedWork::ALL);
    let effects = lists
        .0
        .clone()
        .into_iter()
        .filter(|s| !s.is_preparation() && *s != Step::CleanUp);
    let lines: Vec<String> = effects
        .map(|step| {
            let mut world = World {
                state: planned(Policy::Auto, lists.clone()),
                boots: 0,
                boot: None,
                refused: None,
                fates: Vec::new().into_iter(),
                fails: Some(step),
            };
            assert_eq!(world.drive(Role::Restore, None), Err(Gone::Over));
            assert_eq!(world.refused, None);
            let back = world.state.moves.iter();
            let back = back.filter(|m| m.direction == Direction::Back);
            let names: Vec<_> = back.map(|m| m.step.to_string()).collect();
            format!("{step}: {}", names.join(", "))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// What a restore that rolled back began and did not undo, or undid while services might run.
fn not_undone(state: &State) -> Vec<String> {
    let mut wrong = Vec::new();
    let plan = state.plan.as_ref().unwrap();
    if state.verdict() != Some(Verdict::RolledBack) {
        return wrong;
    }
    let begun = |steps: &[Step]| steps.iter().any(|s| state.begun(*s, Direction::Forward));
    let is_back = |step| {
        let done = |m: &MoveState| m.direction == Direction::Back && m.fate == Fate::Done;
        !plan.back.contains(&step) || state.moves.iter().any(|m| m.step == step && done(m))
    };
    let owns: [(Step, &[Step]); 7] = [
        (Step::SwapDatabases, &[Step::SwapDatabases]),
        (Step::SwapConfigs, &[Step::SwapConfigs]),
        (Step::TunnelsDown, &[Step::TunnelsDown, Step::TunnelsUp]),
        (Step::TunnelsUp, &[Step::TunnelsDown, Step::TunnelsUp]),
        (
            Step::LoadFirewall,
            &[Step::ResetRules, Step::LoadFirewall, Step::TunnelsUp],
        ),
        (
            Step::StartServices,
            &[Step::StopServices, Step::StartServices],
        ),
        (
            Step::StopServices,
            &[
                Step::SettleDatabases,
                Step::SwapDatabases,
                Step::SwapConfigs,
                Step::StartServices,
            ],
        ),
    ];
    for (back, forward) in owns {
        if begun(forward) && !is_back(back) {
            wrong.push(format!("{back} was not made on the way back"));
        }
    }
    wrong
}

/// What the golden journals of format 1.0 say, after each of their records from the plan's on.
fn golden_of_1_0() -> Vec<(String, State)> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = golden.join("../journal-format/golden/1.0");
    let mut states = Vec::new();
    for file in std::fs::read_dir(golden).unwrap() {
        let file = file.unwrap().path();
        let bytes = std::fs::read(&file).unwrap();
        let mut at = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            at += line.len();
            let scan = journal_format::scan(&bytes[..at]);
            let whole = scan.tail == Tail::Clean;
            let state = scan.state.filter(|s| whole && s.plan.is_some());
            states.extend(state.map(|state| (format!("{}, {at} bytes", file.display()), state)));
        }
    }
    states
}

#[test]
fn a_golden_journal_of_1_0_cut_at_each_record_is_finished_by_its_own_lists() {
    let states = golden_of_1_0();
    assert!(states.len() > 150, "{}", states.len());
    let mut ends = std::collections::BTreeSet::new();
    for (what, state) in states {
        let same = state.driver.as_ref().map(|d| d.boot.clone());
        for boot in [same, Some(boot(1))] {
            for policy in [None, Some(Policy::Resume), Some(Policy::RollBack)] {
                let mut world = World {
                    state: state.clone(),
                    boots: 0,
                    boot: boot.clone(),
                    refused: None,
                    fates: Vec::new().into_iter(),
                    fails: None,
                };
                let what = format!("{what}, {boot:?}, {policy:?}");
                let role = match world.state.stuck {
                    Some(_) => Role::RecoverByHand,
                    None => Role::Recover,
                };
                let mut gone = world.drive(role, policy);
                if gone == Err(Gone::Stuck) {
                    gone = world.drive(Role::RecoverByHand, policy);
                }
                assert_eq!((gone, &world.refused), (Err(Gone::Over), &None), "{what}");
                ends.insert(world.state.verdict().expect(&what).to_string());
                assert_eq!(not_undone(&world.state), [""; 0], "{what}");
            }
        }
    }
    assert_eq!(ends.len(), 3, "{ends:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn whatever_happens_no_decision_is_refused_and_every_restore_ends(
        fates in prop::collection::vec(any::<u8>(), 0..400),
        of_plan in prop::sample::select(vec![Policy::Auto, Policy::Resume, Policy::RollBack]),
        by_hand in prop::collection::vec(
            prop::sample::select(vec![None, Some(Policy::Resume), Some(Policy::RollBack)]), 1..8),
        is_older in any::<bool>(),
        left_out in 0..32_u8,
    ) {
        let all = if is_older { older_lists() } else { engine::plan::order::lists(engine::plan::order::PlannedWork::ALL) };
        let lists = without(all, left_out);
        let mut world = World {
            state: planned(of_plan, lists),
            boots: 0,
            boot: None,
            refused: None,
            fates: fates.into_iter(),
            fails: None,
        };
        let mut role = Role::Restore;
        let mut policy = None;
        let mut choices = by_hand.iter().cycle();
        let mut starts = 0;
        loop {
            let gone = world.drive(role, policy).unwrap_err();
            prop_assert_eq!(&world.refused, &None);
            if gone == Gone::Over {
                break;
            }
            starts += 1;
            prop_assert!(starts < 500, "it does not end: {:?}", world.state.phase);
            world.boots += u32::from(gone == Gone::Rebooted);
            let stuck = world.state.stuck.is_some();
            role = if stuck || starts % 5 == 4 { Role::RecoverByHand } else { Role::Recover };
            policy = if role == Role::RecoverByHand { *choices.next().unwrap() } else { None };
        }
        prop_assert!(world.state.verdict().is_some());
        prop_assert_eq!(not_undone(&world.state), [""; 0]);
    }
}
