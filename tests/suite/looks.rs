//! What the steps see that look and change little: each thing that is not as planned is named, in each step that looks, on a
//! simulated machine. A look that saw nothing would let a restore end that is not whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use engine::host::Family;
use engine::restore::decide::Observed;
use engine::restore::step::{Env, ops};
use journal_format::{Change, Direction, Policy, Step, Target, Verdict};
use tests::oracle;
use tests::sim::disk::Held;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::Sim;
use tests::sim::peers::{self, Setting};
use tests::sim::world::World;

fn seen(s: &Scenario, world: &World, step: Step, served: bool) -> Observed {
    let sim = Sim::new(world.clone(), &s.places, None, false);
    let dir = s.places.journal.parent().unwrap();
    let env = Env {
        host: &sim,
        plan: &s.plan,
        dir,
        facts: &s.facts,
        source: None,
        same_boot: true,
        served,
        exchanged: false,
        lacking: Default::default(),
        over: false,
        started: false,
        left: false,
        untouched: false,
        may_have_taken_down: true,
        loaded: true,
        exchanges: &[],
        again: false,
        attempt: 1,
        asked: &|| false,
    };
    ops(step).observe(&env, Direction::Forward).unwrap()
}

fn rewritten(world: &mut World, path: &str, change: impl Fn(&mut Held)) {
    let object = world.disk.find(Path::new(path)).unwrap();
    let mut held = world.disk.get(Path::new(path)).unwrap().now.clone();
    change(&mut held);
    world.disk.write(object, held);
}

fn of(targets: &[Target], change: Change) -> &Target {
    targets.iter().find(|t| t.change == change).unwrap()
}

type Tamper<'a> = (&'a str, Box<dyn Fn(&mut World) + 'a>);

/// What anyone may do to a file that is as planned, under this name.
fn to_a_file<'a>(path: &'a str) -> Vec<Tamper<'a>> {
    let change = |f: fn(&mut Held)| -> Box<dyn Fn(&mut World) + 'a> {
        Box::new(move |w| rewritten(w, path, f))
    };
    vec![
        (
            "gone",
            Box::new(move |w| w.disk.remove(Path::new(path)).unwrap()),
        ),
        ("another owner", change(|h| h.uid += 1)),
        ("another group", change(|h| h.gid += 1)),
        ("another mode", change(|h| h.mode ^= 0o7)),
        (
            "other bytes, as many",
            change(|h| h.data = h.data.iter().rev().copied().collect()),
        ),
        (
            "more bytes",
            change(|h| h.data = [&h.data[..], b"\n"].concat().into()),
        ),
    ]
}

fn tunnel_gone(s: &Scenario) -> Tamper<'_> {
    let name = &s.plan.tunnels_up[0].name;
    let goes = |w: &mut World| drop(w.kernel.tunnels.remove(name).unwrap());
    ("a tunnel is gone", Box::new(goes))
}

fn turn(w: &mut World, family: Family) {
    *w.kernel.forwards.get_mut(&family).unwrap() ^= true;
}

/// The backup gave this tunnel one that is in no file.
fn peer_gone(w: &mut World) {
    let peers = &mut w.kernel.tunnels.get_mut("change").unwrap().peers;
    assert_eq!(peers.len(), 2);
    peers.pop_last();
}

/// What is seen after each of these, a line each.
fn looked(s: &Scenario, world: &World, step: Step, served: bool, tampers: Vec<Tamper>) -> String {
    assert_eq!(seen(s, world, step, served), Observed::After, "{step}");
    let line = |(name, tamper): Tamper| {
        let mut world = world.clone();
        tamper(&mut world);
        format!("{name}: {:?}\n", seen(s, &world, step, served))
    };
    tampers.into_iter().map(line).collect()
}

#[test]
fn whatever_is_not_as_planned_at_rest_is_named() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let world = s.begun(Step::VerifyAtRest).unwrap();
    let file = &of(&s.plan.files, Change::Replace).path;
    let removed = &of(&s.plan.files, Change::Remove).path;
    let database = &of(&s.plan.databases, Change::Replace).path;
    let mut tampers = to_a_file(file);
    tampers.push((
        "a removed file is there",
        Box::new(|w| w.disk.put(removed, b"", 0o600)),
    ));
    tampers.push(tunnel_gone(&s));
    tampers.push(("a peer is gone", Box::new(peer_gone)));
    let goes = |name: &&String| s.plan.tunnels_up.iter().all(|t| t.name != **name);
    tampers.push((
        "a tunnel that goes is up",
        Box::new(|w| {
            let any = w.kernel.tunnels.values().next().unwrap().clone();
            let names = s.plan.tunnels_down.iter().map(|t| &t.name);
            let gone = names.into_iter().find(goes).unwrap();
            w.kernel.tunnels.insert(gone.clone(), any);
        }),
    ));
    let text = looked(&s, &world, Step::VerifyAtRest, false, tampers);
    insta::assert_snapshot!("at_rest", text);

    let side = format!("{database}-wal");
    let mut tampers = to_a_file(database);
    tampers.push(("a side file", Box::new(|w| w.disk.put(&side, b"", 0o600))));
    let text = looked(&s, &world, Step::VerifyAtRest, false, tampers);
    insta::assert_snapshot!("database_at_rest", text);
}

#[test]
fn once_the_services_run_a_databases_bytes_and_side_files_are_theirs() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let world = s.begun(Step::VerifyAtRest).unwrap();
    let database = &of(&s.plan.databases, Change::Replace).path;
    let side = format!("{database}-wal");
    let mut tampers = to_a_file(database);
    tampers.push(("a side file", Box::new(|w| w.disk.put(&side, b"", 0o600))));
    let text = looked(&s, &world, Step::VerifyAtRest, true, tampers);
    insta::assert_snapshot!("database_served", text);
}

#[test]
fn whatever_is_not_as_planned_while_it_runs_is_named_and_nothing_else() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let world = s.begun(Step::VerifyRunning).unwrap();
    // It is up by its config without that line, so on a port that the kernel chose.
    let of_port = |w: &mut World, port: u16| {
        let line = format!("[Interface]\nListenPort = {port}\n");
        rewritten(w, &s.plan.tunnels_up[0].config, |held| {
            let text = String::from_utf8_lossy(&held.data).into_owned();
            held.data = text.replacen("[Interface]\n", &line, 1).into_bytes().into();
        });
    };
    let tampers = || -> Vec<Tamper> {
        vec![
            (
                "the service is gone",
                Box::new(|w| w.kernel.running = false),
            ),
            tunnel_gone(&s),
            (
                "a rule is gone",
                Box::new(|w| {
                    w.kernel.v4.get_mut("filter").unwrap().rules.pop().unwrap();
                }),
            ),
            (
                "a rule of the other family is gone",
                Box::new(|w| {
                    w.kernel.v6.get_mut("filter").unwrap().rules.pop().unwrap();
                }),
            ),
            (
                "a tunnel hears on another port than its own",
                Box::new(|w| of_port(w, 51_999)),
            ),
            ("a tunnel may hear on any port", Box::new(|w| of_port(w, 0))),
            ("forwarding is turned", Box::new(|w| turn(w, Family::V4))),
            (
                "forwarding of the other family is turned",
                Box::new(|w| turn(w, Family::V6)),
            ),
            (
                "a peer that its config does not have is gone",
                Box::new(peer_gone),
            ),
            (
                "a peer that others added is there",
                Box::new(|w| {
                    let up = w.kernel.tunnels.get_mut("change").unwrap();
                    let peer = Setting::plain("others", "10.252.0.0/16");
                    peers::set(&mut up.peers, &peer);
                }),
            ),
        ]
    };
    let text = looked(&s, &world, Step::VerifyRunning, true, tampers());
    insta::assert_snapshot!("running", text);
    let gone = tampers().into_iter().take(1).collect();
    insta::assert_snapshot!(
        "started",
        looked(&s, &world, Step::StartServices, true, gone)
    );
}

#[test]
fn whatever_is_not_as_planned_in_the_staging_is_named() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let world = s.begun(Step::Fence).unwrap();
    let staged = &of(&s.plan.files, Change::Replace).staged;
    let text = looked(&s, &world, Step::Stage, false, to_a_file(staged));
    insta::assert_snapshot!("staged", text);
}

#[test]
fn a_gateway_that_changed_since_the_plan_is_left_as_it_is() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let replaced = &of(&s.plan.files, Change::Replace).path;
    let added = &of(&s.plan.files, Change::Add).path;
    let gone: Tamper = (
        "gone",
        Box::new(|w| w.disk.remove(Path::new(replaced)).unwrap()),
    );
    let there: Tamper = ("there", Box::new(|w| w.disk.put(added, b"", 0o600)));
    for (name, tamper) in [gone, there] {
        let mut world = s.world.clone();
        tamper(&mut world);
        let state_dir = s.places.state_dir.as_str();
        let tampered = world.picture(&[state_dir]);
        let run = s.restore_on(world, None, false, None);
        let journal = oracle::Journal::of(&s, &run.world);
        assert_eq!(oracle::verdict(&journal), Verdict::NothingChanged, "{name}");
        assert!(journal.failed(Step::Stage), "{name}");
        assert_eq!(run.world.picture(&[state_dir]), tampered, "{name}");
    }
}
