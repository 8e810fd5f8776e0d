//! A service that something else starts over and over.
use super::*;

#[test]
fn of_a_service_that_a_loop_starts_over_and_over_the_loop_is_named_and_no_holder_is_blamed() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let backup = gateway.backup();
    let service = program("sample-gateway-service").unwrap();
    let root = path(gateway.sample().root());
    let supervise = format!("while :; do {} run {root}; done", path(&service));
    let mut supervisor = None;
    // Once everything is in place: the way back is what it is in the way of.
    let ended = meanwhile(&gateway, &backup, "swap-databases", || {
        let again = gateway.sandbox.spawn(&["sh", "-c", &supervise]);
        supervisor = Some(again.unwrap());
        gateway.run(&[
            "sh",
            "-c",
            &format!(
                "until {} active {root}; do :; done 2>/dev/null",
                path(&service)
            ),
        ]);
    });
    // It comes again and again, and runs on what is in place in the end.
    assert_eq!(ended.code(), 4, "{ended}");
    for words in [
        "keep sample-gateway stopped: something starts it again",
        " is a child of sh (pid ",
        "see with `ps -fp PID` what sh (pid ",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {ended}");
    }
    assert!(!ended.stderr.contains("held open"), "{ended}");
    assert!(supervisor.unwrap().kill9().unwrap());
    let recovered = gateway.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 0, "{recovered}");
    gateway.is_settled();
}

#[test]
fn a_service_that_a_loop_starts_now_and_then_keeps_no_rollback_from_its_end() {
    for (step, pause) in [
        ("stop-services", ".5"),
        ("tunnels-down", ".5"),
        ("tunnels-down", ".3"),
    ] {
        let Some(gateway) = Gateway::small() else {
            return;
        };
        let backup = gateway.backup();
        let service = program("sample-gateway-service").unwrap();
        let root = path(gateway.sample().root()).to_owned();
        let (before, active) = (gateway.picture(), gateway.sample().active().unwrap());
        let start = format!(
            "while :; do {} start {root}; sleep {pause}; done >/dev/null 2>&1",
            path(&service)
        );
        let mut starter = None;
        let ended = meanwhile(&gateway, &backup, step, || {
            starter = Some(gateway.sandbox.spawn(&["sh", "-c", &start]).unwrap());
        });
        assert!([0, 4].contains(&ended.code()), "{step}, {pause}: {ended}");
        assert!(starter.unwrap().kill9().unwrap());
        let recovered = gateway.holdfast(&["recover"]);
        assert_eq!(recovered.code(), 0, "{step}, {pause}: {recovered}");
        if ended.code() == 4 {
            let mut differs = before.diff(&gateway.picture());
            // A start that the restore does not know of writes when it saw to a client.
            differs.retain(|line| !line.contains("database configs.db clients"));
            assert!(differs.is_empty(), "{step}, {pause}: {differs:?}: {ended}");
            assert_eq!(gateway.sample().active().unwrap(), active, "{ended}");
        }
        gateway.is_settled();
    }
}
