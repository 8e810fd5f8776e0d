//! The files in which a box keeps its rules over a reboot: as they were, never the rules that are loaded, whoever restores and
//! boots however often.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use fixtures::hostile::Backup;
use fixtures::program;

use crate::on_a_gateway::{Gateway, path};

const POLICIES: &str =
    "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

fn write(file: &Path, text: &str, mode: u32) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
}

/// What a boot does with rules: those that are kept are loaded, then the service starts and adds its own.
fn boot(gateway: &Gateway) {
    let service = program("sample-gateway-service").unwrap();
    let root = gateway.sample().root().to_path_buf();
    gateway.run(&[path(&service), "stop", path(&root)]);
    let tables = "for t in filter nat; do iptables -t $t -F; ip6tables -t $t -F; done";
    gateway.run(&["bash", "-c", tables]);
    for (file, load) in gateway
        .sample()
        .kept_rules()
        .iter()
        .zip(["iptables-restore", "ip6tables-restore"])
    {
        gateway.run(&[
            "bash",
            "-c",
            &format!("[ ! -e {0} ] || {load} < {0}", path(file)),
        ]);
    }
    gateway.run(&[path(&service), "start", path(&root)]);
}

fn rules(gateway: &Gateway) -> Vec<String> {
    let text = gateway.run(&["iptables-save"]) + &gateway.run(&["ip6tables-save"]);
    let lines = text.lines().filter(|l| l.starts_with("-A "));
    lines.map(str::to_owned).collect()
}

#[test]
fn three_restores_and_boots_leave_rules_and_kept_files_as_they_were() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let kept = gateway.sample().kept_rules();
    for file in &kept {
        write(file, POLICIES, 0o640);
    }
    boot(&gateway);
    let before = rules(&gateway);
    assert!(
        before.iter().any(|r| r.contains("MASQUERADE")),
        "{before:?}"
    );
    let backup = gateway.backup();
    for _ in 0..3 {
        gateway.told_by_restore(&backup);
        assert_eq!(rules(&gateway), before);
        boot(&gateway);
        assert_eq!(rules(&gateway), before);
        for file in &kept {
            assert_eq!(fs::read_to_string(file).unwrap(), POLICIES);
        }
    }
}

#[test]
fn kept_files_come_back_with_their_mode_go_where_they_were_not_there_and_stay_where_nobody_says() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let [v4, v6] = gateway.sample().kept_rules();
    write(&v4, POLICIES, 0o600);
    let _ = fs::remove_file(&v6);
    let backup = gateway.backup();
    let other = POLICIES.replace("ACCEPT", "DROP");
    let change = || {
        write(&v4, &other, 0o644);
        write(&v6, &other, 0o644);
    };
    let text = |file: &Path| fs::read_to_string(file).unwrap();
    change();
    let said = gateway.told_by_restore(&backup);
    assert!(
        said.contains("becomes what it was when the backup was made"),
        "{said}"
    );
    assert_eq!(text(&v4), POLICIES);
    assert_eq!(v4.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!v6.exists());
    // What went is kept.
    let originals = gateway.last_restore().join("originals");
    let name = v6.strip_prefix("/").unwrap();
    assert_eq!(text(&originals.join(name)), other);

    // The same words from elsewhere take nothing away.
    change();
    let mut elsewhere = Backup::read(&backup).unwrap();
    elsewhere.metadata["holdfast"]["host"] = "elsewhere".into();
    let file = gateway.beside("elsewhere.zip");
    fs::write(&file, elsewhere.bytes().unwrap()).unwrap();
    let said = gateway.told_by_restore(&file);
    assert_eq!((text(&v4).as_str(), text(&v6)), (POLICIES, other.clone()));
    let stays = format!("{} stays as it is", v6.display());
    assert!(said.contains(&stays), "{said}");

    // One that names a program is none to load at a boot.
    let evil = POLICIES.replace("COMMIT", "-A INPUT -M /tmp/evil -j ACCEPT\nCOMMIT");
    let hostile = elsewhere.with("holdfast/kept/rules.v4", evil.as_bytes());
    fs::write(&file, hostile.bytes().unwrap()).unwrap();
    change();
    let said = gateway.told_by_restore(&file);
    assert!(
        said.contains("kept its IPv4 rules is not put in place"),
        "{said}"
    );
    assert_eq!(text(&v4), other);

    // A backup that has none, as all were once, leaves them alone.
    let mut old = elsewhere;
    old.entries
        .retain(|(name, _)| !name.starts_with("holdfast/"));
    let manifest = old.metadata["holdfast"].as_object_mut().unwrap();
    manifest.remove("parts");
    let entries = manifest["entries"].as_object_mut().unwrap();
    entries.retain(|name, _| !name.starts_with("holdfast/"));
    fs::write(&file, old.bytes().unwrap()).unwrap();
    change();
    gateway.told_by_restore(&file);
    assert_eq!((text(&v4), text(&v6)), (other.clone(), other));
}
