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
    assert_eq!(ended.code(), 5, "{ended}");
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
    assert!([0, 4].contains(&recovered.code()), "{recovered}");
    gateway.is_settled();
}
