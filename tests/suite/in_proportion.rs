//! What people read of a gateway with thousands of clients is no longer than of a small one, and what they lose comes first.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fixtures::{Sample, Shape};

use crate::on_a_gateway::{Gateway, path};
use crate::web_stage::Stage;

/// Lines of a restore, from its plan to its verdict.
const RESTORE: usize = 60;
/// Lines of `holdfast status`.
const STATUS: usize = 15;
/// Lines at login.
const LOGIN: usize = 4;
/// Lines of a small terminal.
const SCREEN: usize = 24;

/// So many clients of which none runs, without histories.
fn at_rest(folder: &Path, clients: usize) -> Sample {
    let shape = Shape {
        active: 0,
        history: 0,
        second_copy_differs: false,
        ..Shape::of(clients)
    };
    Sample::generate(&folder.join("gateway"), &shape).unwrap()
}

/// Configs that can never come up, a hint each.
fn add_hints(sample: &Sample, hints: usize) -> Vec<std::path::PathBuf> {
    let key = format!("{}A=", "b".repeat(42));
    let text = format!(
        "[Interface]\nPrivateKey = {key}\nAddress = 10.99.0.1/32\n[Peer]\nPublicKey = {key}\nAllowedIPs = 10.99.0.0/24\n"
    );
    let names = (0..hints).map(|i| format!("much-too-long-a-name-{i:04}.conf"));
    let files: Vec<_> = names.map(|n| sample.configs_dir().join(n)).collect();
    for file in &files {
        std::fs::write(file, &text).unwrap();
    }
    files
}

/// A client that no backup has.
fn add_client(sample: &Sample) {
    let database = sample.client_database();
    let insert = "INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES ('b9', 'branch-9', 'p', 's', 'k', 'inactive')";
    let done = std::process::Command::new("sqlite3")
        .arg(&database)
        .arg(insert)
        .status();
    assert!(done.unwrap().success());
}

const LOST: &str = "1 client is not in the backup and will be gone: branch-9";

#[test]
fn a_restore_of_ten_thousand_clients_fits_on_two_screens_and_so_does_what_is_said_of_it_later() {
    let Some(gateway) = Gateway::bare(|folder| at_rest(folder, 10_000)) else {
        return;
    };
    let backup = gateway.backup();
    let sample = gateway.sample();
    for folder in [sample.configs_dir(), sample.wireguard_dir()] {
        for name in sample.clients().unwrap() {
            let file = folder.join(format!("{name}.conf"));
            let changed = std::fs::read_to_string(&file).unwrap() + "# changed\n";
            std::fs::write(&file, changed).unwrap();
        }
    }
    let told = gateway.told_by_restore(&backup);
    let lines = |text: &str| text.lines().count();
    assert!(lines(&told) <= RESTORE, "{} lines: {told}", lines(&told));
    assert!(told.contains("replaces 20000 files"), "{told}");
    let say = |words: &[&str]| gateway.holdfast(words).ok().unwrap().stdout;
    assert!(lines(&say(&["status"])) <= STATUS);
    assert!(lines(&say(&["status", "--short"])) <= LOGIN);
    let followed = say(&["journal", "follow", "latest"]);
    assert!(lines(&followed) <= RESTORE, "{followed}");
    let whole = say(&["journal", "show", "latest", "--verbose"]);
    assert!(lines(&whole) > 20_000, "all of it is there for who asks");
}

#[test]
fn of_five_thousand_hints_the_one_lost_client_is_on_the_first_screen_of_a_terminal() {
    let Some(gateway) = Gateway::bare(|folder| at_rest(folder, 3)) else {
        return;
    };
    let hints = add_hints(gateway.sample(), 5_000);
    let backup = gateway.backup();
    add_client(gateway.sample());
    let told = gateway.told_by_restore(&backup);
    let first: Vec<&str> = told.lines().take(SCREEN).collect();
    assert!(first[1].contains(LOST), "{told}");
    assert!(told.lines().count() <= RESTORE, "{told}");
    // The hints are one line, with their number.
    assert!(told.contains("(and 4999 more of this kind"), "{told}");
    let checked = gateway.holdfast(&["verify", path(&backup)]).ok().unwrap();
    assert!(checked.stdout.lines().count() <= SCREEN, "{checked}");
    let all = gateway.holdfast(&["verify", path(&backup), "--verbose"]);
    let all = all.ok().unwrap().stdout;
    let name = |file: &std::path::PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(hints.iter().all(|hint| all.contains(&name(hint))));
}

#[test]
fn of_five_thousand_hints_the_one_lost_client_is_the_first_thing_on_the_page_that_asks() {
    let Some(stage) = Stage::with(|folder| at_rest(folder, 3)) else {
        return;
    };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let hints = add_hints(stage.sample(), 5_000);
    let file = stage.sample().root().join("own.zip");
    fixtures::format_1_0::write(stage.sample(), &file, false).unwrap();
    for hint in &hints {
        std::fs::remove_file(hint).unwrap();
    }
    add_client(stage.sample());
    let page = admin.reach_confirmation(&std::fs::read(file).unwrap());
    let (before, _) = page.split_once(LOST).expect("the lost client");
    let (_, main) = before.split_once("<main").unwrap();
    assert!(
        !main.contains("<details") && main.lines().count() < 12,
        "{main}"
    );
    // What is folded is there, and counted.
    assert!(page.contains("and 4999 more of this kind"), "{page}");
}
