//! Gateways and backups of any shape, on the simulated machine: a restore that nothing disturbs ends in After, and one
//! that is cut off or fails at any moment ends in Before or After. Each run takes a few moments of many gateways by chance,
//! where the enumeration takes every moment of a few.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use journal_format::{Policy, Verdict};
use proptest::prelude::*;
use tests::oracle;
use tests::sim::gateway::{Client, NEW, OLD, Scenario, Shape, Was};
use tests::sim::host::{How, Moment, Trouble};
use tests::sim::trial::{End, Run, Start};
use tests::sim::world::{ServiceStart, World};

use crate::seeded::each_of;

fn was() -> impl Strategy<Value = Was> {
    prop_oneof![
        Just(Was::Absent),
        Just(Was::Plain),
        Just(Was::Log),
        Just(Was::HotJournal),
        Just(Was::Unreadable),
    ]
}

fn client(n: u32) -> impl Strategy<Value = Client> {
    // Before and after: only one of them, another config, the same one.
    let versions = prop_oneof![
        Just((Some(n), None)),
        Just((None, Some(n))),
        Just((Some(n), Some(n + 100))),
        Just((Some(n), Some(n))),
    ];
    (versions, any::<[bool; 4]>()).prop_map(
        move |((before, after), [saves, saves_after, up, up_after])| Client {
            name: format!("wg{n}"),
            before,
            after,
            saves,
            // What stays is the same in both.
            saves_after: if before == after { saves } else { saves_after },
            up_before: up,
            up_after,
        },
    )
}

/// How the service starts: politely, or with a client that it cannot bring up, or it never runs with what is there before.
fn start(odd: u32, clients: &[Client]) -> ServiceStart {
    let before = |c: &&Client| c.before.is_some() && c.up_before;
    let after = |c: &&Client| c.after.is_some() && c.up_after;
    let (cannot, with) = match odd {
        0 => return ServiceStart::polite(),
        1 => (clients.iter().find(before), OLD),
        2 => (clients.iter().find(after), NEW),
        _ => (None, OLD),
    };
    let cannot: Vec<&str> = cannot.map(|c| c.name.as_str()).into_iter().collect();
    ServiceStart {
        times: if odd == 2 { 1 } else { u32::MAX },
        never_runs: odd > 2,
        ..ServiceStart::lifelike(&cannot, with)
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let clients = (1..6_u32).prop_flat_map(|count| (1..=count).map(client).collect::<Vec<_>>());
    let mounts = proptest::sample::subsequence(
        vec![
            "/opt",
            "/var/lib/wireguard-gateway",
            "/etc/wireguard",
            "/etc/iptables",
        ],
        0..=4,
    );
    // A gateway without its clients' database is not one.
    let first = prop_oneof![Just(Was::Plain), Just(Was::Log), Just(Was::HotJournal)];
    (
        (first, was(), was()),
        any::<[bool; 2]>(),
        clients,
        any::<[bool; 2]>(),
        0..4_u32,
        any::<[Option<bool>; 2]>(),
        prop_oneof![Just(None), Just(Some("wg1")), Just(Some("wg2"))],
        mounts,
        proptest::option::of(proptest::sample::subsequence(
            vec!["-wal", "-shm", "-journal"],
            0..=3,
        )),
    )
        .prop_map(
            |(
                (one, two, three),
                [two_saved, three_saved],
                clients,
                [v4, v6],
                odd,
                forwards,
                peers,
                mounts,
                raw,
            )| {
                let start = start(odd, &clients);
                Shape {
                    databases: [one, two, three],
                    backed_up: [true, two_saved, three_saved],
                    raw,
                    clients,
                    v4,
                    v6,
                    forwards,
                    peers,
                    by_hand: (odd % 2 == 1).then_some("wg1"),
                    mounts,
                    start,
                    unread: None,
                }
            },
        )
}

/// Where chance cuts in, each a part of a whole.
#[derive(Debug, Clone)]
struct Chance {
    at: [proptest::sample::Index; 4],
    start: usize,
    how: How,
    for_ever: bool,
}

fn chance() -> impl Strategy<Value = Chance> {
    let how = prop_oneof![
        Just(How::Refused),
        Just(How::AfterTheFact),
        Just(How::HalfWay),
        Just(How::Hangs),
    ];
    let indexes = any::<[proptest::sample::Index; 4]>();
    (indexes, 0..Start::ALL.len(), how, any::<bool>()).prop_map(|(at, start, how, for_ever)| {
        Chance {
            at,
            start,
            how,
            for_ever,
        }
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Auto),
        Just(Policy::Resume),
        Just(Policy::RollBack)
    ]
}

/// What a crash at this moment may leave: one of all that may be.
fn crash(s: &Scenario, moment: &Moment, image: proptest::sample::Index) -> (World, bool, String) {
    let images = moment.world.disk.images(99, &moment.world.databases);
    match image.index(images.len() + 1) {
        0 => (moment.world.clone(), false, "the process dies".to_owned()),
        n => {
            let (what, disk) = images[n - 1].clone();
            let mut world = moment.world.reboot(disk);
            if world.disk.find(&s.places.barrier).is_none() {
                world.start_gateway();
            }
            (world, true, what)
        }
    }
}

/// What is wrong with a run that should have come to an end.
fn judged(s: &Scenario, run: Run, booted: bool) -> Vec<String> {
    let mut world = run.world;
    if world.disk.find(&s.places.barrier).is_none() && booted {
        world.start_gateway();
    }
    if let End::Stuck(why) | End::Broken(why) = &run.end {
        return vec![format!("it does not end: {why}")];
    }
    let mut wrong = oracle::settled(s, &oracle::Journal::of(s, &world), &world, booted);
    let mut second = s.recover(world.clone(), Start::AUTO, None, false);
    if oracle::lacks(&oracle::Journal::of(s, &world)) {
        // Once the cause is gone, one recovery mends what lacks.
        world = second.world;
        second = s.recover(world.clone(), Start::AUTO, None, false);
    }
    wrong.extend(oracle::i5_twice_is_once(&world, &second));
    wrong
}

/// A run in which calls failed is settled once nothing fails any more.
fn judged_in_trouble(s: &Scenario, run: Run, booted: bool) -> Vec<String> {
    match &run.end {
        End::Closed(_) | End::Over | End::Idle | End::BeforeNetwork => judged(s, run, booted),
        End::Broken(_) | End::Stuck(_) => {
            let next = s.recover(run.world, Start::AUTO, None, false);
            match next.end {
                End::Stuck(_) => {
                    let by_hand = s.recover(next.world, Start::ROLL_BACK, None, false);
                    judged(s, by_hand, booted)
                }
                End::Closed(_) | End::Over | End::Idle | End::BeforeNetwork | End::Broken(_) => {
                    judged(s, next, booted)
                }
            }
        }
    }
}

fn one(shape: &Shape, policy: Policy, chances: &[Chance]) -> Result<(), String> {
    let s = match Scenario::of(shape, policy) {
        Ok(s) => s,
        Err(problems) => return Err(format!("no plan: {problems:?}")),
    };
    let right = |place: String, wrong: Vec<String>| match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("{place}:\n{}", wrong.join("\n"))),
    };
    let run = s.restore(None, true);
    let (moments, calls) = (run.moments, run.calls);
    // Two starts that cannot bring a client of the backup up turn it.
    let goes_well = shape.start.cannot.is_empty() || shape.start.times < 2;
    let verdict = match goes_well || shape.start.with == Some(OLD) {
        true => Verdict::Restored,
        false => Verdict::RolledBack,
    };
    if run.end != End::Closed(verdict) {
        return Err(format!("undisturbed it ends {:?}", run.end));
    }
    let journal = oracle::Journal::of(&s, &run.world);
    right(
        "undisturbed".into(),
        oracle::settled(&s, &journal, &run.world, false),
    )?;
    for chance in chances {
        let [moment, image, second, image_again] = chance.at;
        let moment = &moments[moment.index(moments.len())];
        let (world, booted, what) = crash(&s, moment, image);
        let start = Start::ALL[chance.start];
        let place = format!("after `{}`, {what}, {start:?}", moment.what);
        let first = s.recover(world.clone(), start, None, true);
        let recovery = first.moments.clone();
        let recovery_calls = first.calls;
        right(place.clone(), judged(&s, first, booted))?;
        if !recovery.is_empty() {
            let again = &recovery[second.index(recovery.len())];
            let (world, rebooted, what) = crash(&s, again, image_again);
            let run = s.recover(world, Start::AUTO, None, false);
            right(
                format!("{place}, then `{}`, {what}", again.what),
                judged(&s, run, booted || rebooted),
            )?;
        }
        let trouble = |calls: u64| Trouble {
            at: second.index(usize::try_from(calls).unwrap().max(1)) as u64,
            for_ever: chance.for_ever,
            how: chance.how,
        };
        let run = s.restore(Some(trouble(calls)), false);
        right(
            format!("{:?}", trouble(calls)),
            judged_in_trouble(&s, run, false),
        )?;
        let run = s.recover(world, Start::AUTO, Some(trouble(recovery_calls)), false);
        right(
            format!("{place}, {:?}", trouble(recovery_calls)),
            judged_in_trouble(&s, run, booted),
        )?;
    }
    Ok(())
}

#[test]
fn gateways_and_backups_of_any_shape_end_in_before_or_after() {
    let all = (shape(), policies(), proptest::collection::vec(chance(), 3));
    each_of(40, 160, &all, |(shape, policy, chances)| {
        one(&shape, policy, &chances)
    });
}
