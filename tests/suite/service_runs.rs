//! A gateway's service on a real gateway: whether it runs is looked at for long enough, and what it does while it must be down.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fixtures::Misbehaviour;

use crate::on_a_gateway::{Gateway, path};

/// From now on the service is watched for longer than one that dies later lives.
fn watches(gateway: &Gateway) {
    let profile = gateway.sample().profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    let changed = text.replacen("watch_seconds = 0\n", "watch_seconds = 3\n", 1);
    assert_ne!(text, changed);
    std::fs::write(&profile, changed).unwrap();
}

#[test]
fn a_service_that_dies_while_it_is_watched_is_started_once_more() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    watches(&gateway);
    let backup = gateway.backup();
    let how = Misbehaviour::DieLater { times: Some(1) };
    gateway.sample().misbehave(how).unwrap();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    gateway.is_settled();
}

#[test]
fn a_service_that_always_dies_while_it_is_watched_turns_the_restore_back_and_is_stopped() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    watches(&gateway);
    let backup = gateway.backup();
    let how = Misbehaviour::DieLater { times: None };
    gateway.sample().misbehave(how).unwrap();
    let before = gateway.picture();
    let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
    assert_eq!(done.code(), 4, "{done}");
    assert!(
        done.stderr.contains("it ended soon after its start"),
        "{done}"
    );
    assert!(
        done.stdout.contains("does not run, though it ran before"),
        "{done}"
    );
    let differs = before.diff(&gateway.picture());
    assert_eq!(differs.len(), 1, "{differs:?}");
    assert!(differs[0].contains("service sample-gateway"), "{differs:?}");
    gateway.is_settled();
}
