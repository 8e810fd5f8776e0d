//! A peer whose host name does not resolve now is a warning, not a failed restore: the resolver may be behind the very
//! tunnel.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use fixtures::{Sample, Sandbox, Shape, program, skip};

#[test]
fn a_tunnel_whose_endpoint_does_not_resolve_comes_up_with_its_last_known_address() {
    if skip::cannot_run_gateways() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape {
        active: 1,
        ..Shape::of(2)
    };
    let sample = Sample::generate(&folder.path().join("gateway"), &shape).unwrap();
    let sandbox = Sandbox::start(&sample).unwrap();
    let active = sample.active().unwrap().remove(0);
    let file = format!("{active}.conf");
    let endpoints = || {
        sandbox
            .run(&["wg", "show", &active, "endpoints"])
            .unwrap()
            .stdout
    };
    let known = endpoints();
    assert!(known.contains(':'), "{known}");
    for dir in [sample.configs_dir(), sample.wireguard_dir()] {
        let text = fs::read_to_string(dir.join(&file)).unwrap();
        let named: Vec<String> = text
            .lines()
            .map(|l| {
                if l.starts_with("Endpoint") {
                    "Endpoint = gateway.invalid:51820".into()
                } else {
                    l.into()
                }
            })
            .collect();
        fs::write(dir.join(&file), named.join("\n") + "\n").unwrap();
    }
    let holdfast = |words: &[&str]| {
        let program = program("holdfast").unwrap();
        let config = sample.profile();
        let mut argv = vec![
            program.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
        ];
        argv.extend(words);
        sandbox.run(&argv).unwrap()
    };
    let backup = holdfast(&["backup"]);
    assert_eq!(backup.code(), 0, "{backup:?}");

    let restored = holdfast(&["restore", backup.stdout.trim(), "--yes"]);

    assert_eq!(restored.code(), 0, "{restored:?}");
    assert!(
        restored
            .stderr
            .contains("these endpoints do not resolve now: gateway.invalid:51820"),
        "{}",
        restored.stderr
    );
    assert_eq!(endpoints(), known);
    let config = fs::read_to_string(sample.config(&active)).unwrap();
    assert!(
        config.contains("gateway.invalid"),
        "the config itself stays as the backup has it"
    );
}
