//! The simulator's commands against the real ones: the same calls, one after another, on the simulated gateway and on a real
//! one in a sandbox. Both do them or both refuse, and after each they show the same tunnels, peers, rules, forwarding,
//! fence, service and holders, and each step's `observe` says the same of both. Scripts by hand, and random ones.
//!
//! A test runs itself a second time, inside the sandbox, and there talks to both hosts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod course;
mod side;

use std::path::Path;

use engine::host::Family;
use fixtures::{Sample, Shape};
use journal_format::Step;

use crate::on_a_gateway::{Gateway, path};
use crate::seeded::each_of;

use calls::*;
use course::Course;

/// What the sandbox's own run of a test is told: where the gateway lies.
const INSIDE: &str = "HOLDFAST_INSIDE";

/// Runs the test of this name a second time, in a sandbox in which nothing is up yet. There, does it.
fn inside(test: &str, act: impl FnOnce(&Course)) {
    if let Some(root) = std::env::var_os(INSIDE) {
        // A sandbox has this; never the machine's own namespaces.
        assert!(Path::new("/run/boot_id").exists(), "this is no sandbox");
        return act(&Course::new(&Sample::open(root).unwrap()));
    }
    let shape = Shape {
        active: 2,
        wal: true,
        strangers: false,
        ..Shape::of(4)
    };
    let make = |folder: &Path| Sample::generate(&folder.join("gateway"), &shape).unwrap();
    let Some(gateway) = Gateway::bare(make) else {
        return;
    };
    let me = std::env::current_exe().unwrap();
    let test = format!("commands_agree::{test}");
    let argv = [path(&me), "--exact", &test, "--nocapture"];
    let mut again = gateway.sandbox.command(&argv);
    again.env(INSIDE, gateway.sample().root());
    let ended = gateway.sandbox.spawn_command(again).unwrap();
    let ended = ended.wait().unwrap();
    assert!(
        ended.code() == 0 && ended.stdout.contains("1 passed"),
        "{ended}"
    );
    print!("{}", ended.stdout);
}

fn agreed(course: &Course, script: &[Call]) {
    if let Err(unlike) = course.agree(script) {
        panic!("{unlike}");
    }
}

#[test]
fn a_restores_commands_there_and_back_do_the_same_on_both() {
    inside(
        "a_restores_commands_there_and_back_do_the_same_on_both",
        |course| {
            let onward = |step| Move(step, Onward);
            let back = |step| Move(step, Back);
            let mut script = vec![Up(FIRST), Up(SECOND), Up(LEAVES), Start];
            script.extend([PeersAdd(FIRST, 0), PeerRemove(FIRST, 0), Edit(V6, 2)]);
            script.push(Call::Facts);
            script.extend([onward(Step::Fence), onward(Step::StopServices)]);
            script.extend([onward(Step::TunnelsDown), onward(Step::ResetRules)]);
            script.extend([onward(Step::TunnelsUp), Up(SECOND)]);
            script.extend([onward(Step::StartServices), onward(Step::LoadFirewall)]);
            script.extend([onward(Step::VerifyRunning), onward(Step::LiftFence)]);
            script.extend([back(Step::Fence), back(Step::StopServices)]);
            script.extend([back(Step::TunnelsDown), back(Step::TunnelsUp)]);
            script.extend([back(Step::StartServices), back(Step::LoadFirewall)]);
            script.extend([back(Step::VerifyRunning), back(Step::LiftFence)]);
            agreed(course, &script);
        },
    );
}

#[test]
fn tunnels_come_and_go_with_their_hooks_alike_on_both() {
    inside(
        "tunnels_come_and_go_with_their_hooks_alike_on_both",
        |course| {
            let mut script = Vec::new();
            for n in 0..TUNNELS {
                script.extend([Down(n), Up(n), Up(n), Down(n), Down(n)]);
            }
            // Its rules are gone before its hooks take them out.
            script.extend([
                Up(FIRST),
                Load(V4, 2),
                Down(FIRST),
                Load(V6, 2),
                Down(FIRST),
            ]);
            agreed(course, &script);
        },
    );
}

#[test]
fn rules_are_loaded_edited_and_refused_alike_on_both() {
    inside(
        "rules_are_loaded_edited_and_refused_alike_on_both",
        |course| {
            for family in Family::BOTH {
                let mut script = Vec::new();
                for n in 0..EDITS {
                    script.extend([Edit(family, n), Edit(family, n)]);
                }
                for n in 0..LOADS {
                    script.extend([Load(family, n), Edit(family, 4), Edit(family, 7)]);
                }
                agreed(course, &script);
            }
        },
    );
}

#[test]
fn the_fence_and_peers_are_set_alike_on_both() {
    inside("the_fence_and_peers_are_set_alike_on_both", |course| {
        let mut script = vec![Load(V4, 0), Edit(V4, 5)];
        for n in 0..NFTS {
            script.extend([Nft(n), Nft(0), Nft(n)]);
        }
        script.extend([PeersAdd(FIRST, 0), PeerRemove(FIRST, 0), Up(FIRST)]);
        for n in 0..PEERS_ADDED {
            script.extend([PeersAdd(FIRST, n), PeerRemove(FIRST, n % 3), Call::Facts]);
            script.push(PeersAdd(FIRST, n));
        }
        agreed(course, &script);
    });
}

#[test]
fn the_service_and_its_databases_answer_alike_on_both() {
    inside(
        "the_service_and_its_databases_answer_alike_on_both",
        |course| {
            let settle = || (0..5).map(Settle).chain((0..5).map(Read));
            let mut script: Vec<Call> = (0..5).map(Read).chain(settle()).collect();
            script.extend([
                Stop,
                Up(FIRST),
                Up(SECOND),
                Start,
                Start,
                Forward(V4, true),
                Forward(V6, true),
            ]);
            script.extend((0..5).map(Read));
            script.extend([Call::Facts, Stop, Stop]);
            script.extend(settle());
            script.extend([Start, Move(Step::StopServices, Onward), SameBoot(false)]);
            script.extend([Forward(V4, false), Forward(V6, false)]);
            script.push(Move(Step::LoadFirewall, Back));
            agreed(course, &script);
        },
    );
}

#[test]
fn a_start_of_the_service_that_cannot_bring_a_client_up_does_the_same_on_both() {
    inside(
        "a_start_of_the_service_that_cannot_bring_a_client_up_does_the_same_on_both",
        |course| {
            // `wg-quick` cannot bring it up; the others come up with the start.
            let hook = [Active(NEVER), Start, Statuses, StartedAgain, Statuses, Stop];
            agreed(course, &hook);
            // It is up, and goes down with the start. The next one leaves it alone, and adds the others' rules again.
            let mut cannot = vec![Up(FIRST), Up(SECOND), CannotSeeTo(Some(FIRST)), Start];
            cannot.extend([Statuses, StartedAgain, Statuses, Up(FIRST), Stop, Start]);
            agreed(course, &cannot);
            // Whoever stops it ends the waiting; and a start does not wait.
            let stopped = [Active(NEVER), Start, Stop, Statuses, Start, Statuses, Stop];
            agreed(course, &stopped);
            let at_once = [Active(NEVER), Start, Start, Statuses, Stop];
            agreed(course, &at_once);
            // As a step of a restore.
            let mut there = vec![Up(FIRST), Up(SECOND), Call::Facts, CannotSeeTo(Some(FIRST))];
            there.extend([Move(Step::StartServices, Back), Statuses]);
            there.extend([Move(Step::TunnelsUp, Back), Move(Step::StartServices, Back)]);
            there.extend([Move(Step::VerifyRunning, Back), Statuses]);
            // The clean-up sets it active again.
            there.extend([Move(Step::CleanUp, Back), Statuses]);
            agreed(course, &there);
        },
    );
}

#[test]
fn whatever_is_run_on_a_gateway_the_simulator_answers_as_the_system_does() {
    inside(
        "whatever_is_run_on_a_gateway_the_simulator_answers_as_the_system_does",
        |course| {
            each_of(5, 40, &calls(), |script| course.agree(&script));
        },
    );
}
