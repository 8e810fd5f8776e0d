//! A backup that lacks a part, wherever it is shown: on the command line, in `status`, on the page and to scripts. And which
//! backup is the last good one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use fixtures::{Real, Sample};

use crate::on_a_gateway::{Gateway, hold_clients, impatient, json};
use crate::web_stage::{Stage, field};

fn make(folder: &Path) -> Sample {
    let sample = Real::gateway_5().unpack(folder).unwrap();
    impatient(&sample);
    sample
}

fn gateway() -> Option<Gateway> {
    Gateway::start(make)
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn a_backup_without_the_clients_is_incomplete_everywhere_and_not_the_last_good_one() {
    let Some(gateway) = gateway() else { return };
    let good = gateway.backup();
    let holder = hold_clients(gateway.sample());
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let path = PathBuf::from(made.stdout.trim());
    assert!(path.exists(), "{made}");
    let lacks = made
        .stderr
        .find("lacks: the database configs.db could not be saved")
        .unwrap();
    let verdict = made
        .stderr
        .find("holdfast: the backup is incomplete")
        .unwrap();
    let advice = made.stderr.find("what to do: ").unwrap();
    assert!(lacks < verdict && verdict < advice, "losses first: {made}");

    let again = gateway.holdfast(&["--json", "backup"]);
    assert_eq!(again.code(), 8, "{again}");
    let said = json(&again.stdout);
    assert_eq!(
        (&said["complete"], &said["lacks"][0]["part"]),
        (&false.into(), &"configs.db".into())
    );
    let last = PathBuf::from(said["path"].as_str().unwrap());
    drop(holder);

    let verified = gateway.holdfast(&["verify", path.to_str().unwrap()]);
    assert_eq!(verified.code(), 8, "{verified}");
    let first = format!(
        "{}: incomplete: lacks the database configs.db (",
        name(&path)
    );
    assert!(verified.stdout.starts_with(&first), "{verified}");
    let sound = format!("\n{}: what is in it is sound\n", name(&path));
    assert!(verified.stdout.contains(&sound), "{verified}");
    let verified = gateway.holdfast(&["--json", "verify", path.to_str().unwrap()]);
    let said = json(&verified.stdout);
    assert_eq!(
        (&said["verdict"], &said["complete"], &said["exit_status"]),
        (&"incomplete".into(), &false.into(), &8.into())
    );
    assert_eq!(
        gateway.holdfast(&["verify", good.to_str().unwrap()]).code(),
        0
    );

    let status = gateway.holdfast(&["status"]).stdout;
    assert!(
        status.contains(&format!("last good backup: {}, made", good.display())),
        "{status}"
    );
    let after = status
        .lines()
        .find(|l| l.starts_with("after it: "))
        .unwrap();
    assert!(
        after.contains(name(&last)) && after.contains("incomplete: lacks the database configs.db"),
        "{status}"
    );
    let status = json(&gateway.holdfast(&["--json", "status"]).stdout);
    assert_eq!(status["last_backup"]["path"], good.to_str().unwrap());
    assert_eq!(
        status["incomplete_backup"]["lacks"][0]["part"],
        "configs.db"
    );

    let whole = gateway.backup();
    let status = gateway.holdfast(&["status"]).stdout;
    assert!(
        status.contains(&format!("last good backup: {}, made", whole.display())),
        "{status}"
    );
    assert!(!status.contains("incomplete"), "{status}");
}

#[test]
fn the_last_good_backup_is_the_one_made_last_though_another_has_a_greater_name_or_time() {
    let Some(gateway) = gateway() else { return };
    let first = gateway.backup();
    let second = gateway.backup();
    let renamed = first.with_file_name("wireguard_backup_20360101_000000.zip");
    let last = |gateway: &Gateway| {
        json(&gateway.holdfast(&["--json", "status"]).stdout)["last_backup"].clone()
    };
    std::fs::copy(&first, &renamed).unwrap();
    assert_eq!(last(&gateway)["path"], second.to_str().unwrap());

    // As a box has it whose clock stood at 2036 when it made the first one.
    let notes = gateway.sample().state_dir().join("made");
    let text = std::fs::read_to_string(&notes).unwrap();
    let at = text.split_once("\"made_ms\":").unwrap().1;
    let at = at.split_once(|c: char| !c.is_ascii_digit()).unwrap().0;
    let moved = text
        .replacen(at, "2082758400000", 1)
        .replace(name(&first), name(&renamed));
    std::fs::write(&notes, moved).unwrap();
    assert_eq!(last(&gateway)["path"], second.to_str().unwrap());
    std::fs::remove_file(&second).unwrap();
    let left = last(&gateway);
    assert_eq!(
        (&left["path"], &left["in_future"]),
        (&renamed.to_str().unwrap().into(), &true.into())
    );
    let status = gateway.holdfast(&["status"]).stdout;
    assert!(
        status.contains(
            "made 2036-01-01T00:00:00Z (in the future: the clock was wrong then, or is wrong now)"
        ),
        "{status}"
    );
}

#[test]
fn the_page_says_what_a_backup_lacks_and_sends_it_only_when_asked_all_the_same() {
    let Some(stage) = Stage::with(make) else {
        return;
    };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let (status, good) = admin.get_bytes("/system/backup");
    assert_eq!((status, &good[..4]), (200, &b"PK\x03\x04"[..]));
    let told = |text: String| json(&text);
    let last_good = told(admin.get("/system/backup-status").1)["last_backup"]["name"].clone();
    assert!(last_good.is_string());

    let holder = hold_clients(stage.sample());
    let mut pages: Vec<String> = Vec::new();
    for _ in 0..3 {
        let (status, page) = admin.get("/system/backup");
        assert_eq!(status, 409, "{page}");
        assert!(
            page.contains("It lacks the database configs.db: "),
            "{page}"
        );
        pages.push(page);
    }
    drop(holder);
    let link = |page: &str| {
        let (_, rest) = page.split_once("href=\"/system/backup/").unwrap();
        format!("/system/backup/{}", &rest[..64])
    };
    for page in &pages {
        let (status, bytes) = admin.get_bytes(&link(page));
        assert_eq!((status, &bytes[..4]), (200, &b"PK\x03\x04"[..]));
    }

    let status = told(admin.get("/system/backup-status").1);
    assert_eq!(status["last_backup"]["name"], last_good);
    assert_eq!(
        status["incomplete_backup"]["lacks"][0]["part"],
        "configs.db"
    );
    let home = admin.get("/").1;
    assert!(
        home.contains("The last backup is incomplete") && home.contains(&link(&home)),
        "{home}"
    );
    assert!(
        stage
            .sample()
            .state_dir()
            .join("backups")
            .join(last_good.as_str().unwrap())
            .exists()
    );

    assert_eq!(admin.get_bytes("/system/backup").0, 200);
    assert!(!admin.get("/").1.contains("is incomplete"));
}

#[test]
fn a_restore_whose_safety_backup_lacks_what_it_replaces_ends_before_it_begins_unless_that_is_accepted()
 {
    let Some(gateway) = gateway() else { return };
    let backup = gateway.backup();
    let words = ["restore", backup.to_str().unwrap(), "--yes"];
    let holder = hold_clients(gateway.sample());
    let refused = gateway.holdfast(&words);
    assert_eq!(refused.code(), 1, "{refused}");
    assert_eq!(
        gateway.backups(),
        std::slice::from_ref(&backup),
        "it leaves none behind"
    );
    let plan = "the safety backup will lack a part: the database configs.db could not be saved: ";
    assert!(refused.stdout.contains(plan), "{refused}");
    let flag = "restore with --without-safety-backup-of configs.db";
    assert!(refused.stderr.contains(flag), "{refused}");
    assert!(
        refused
            .stdout
            .ends_with("Nothing was changed: the gateway is as it was before.\n"),
        "{refused}"
    );
    gateway.is_settled();

    let other = [&words[..], &["--without-safety-backup-of", "kept-v4"]].concat();
    assert_eq!(gateway.holdfast(&other).code(), 1);
    let accepted = [&words[..], &["--without-safety-backup-of", "configs.db"]].concat();
    let mut restore = gateway.begin(&accepted);
    assert!(gateway.barrier_is_up(&mut restore));
    drop(holder);
    let done = restore.wait().unwrap();
    assert_eq!(done.code(), 0, "{done}");
    assert!(
        done.stdout
            .contains("warning: the safety backup lacks a part: the database configs.db"),
        "{done}"
    );
    gateway.is_settled();
    let none = gateway.holdfast(&[&words[..], &["--without-safety-backup-of", "rules"]].concat());
    assert_eq!(none.code(), 2, "{none}");
}

#[test]
fn by_the_page_what_the_safety_backup_lacked_is_accepted_by_a_tick_and_the_same_upload_goes_on() {
    let Some(stage) = Stage::with(make) else {
        return;
    };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let archive = admin.get_bytes("/system/backup").1;
    let before = stage.change_gateway();
    let confirmation = admin.reach_confirmation(&archive);
    assert!(
        !confirmation.contains("without_safety_backup_of"),
        "{confirmation}"
    );
    let holder = hold_clients(stage.sample());
    // The lock alone changes the plan: it says that the database cannot be read.
    let confirmation = match admin.confirm(&confirmation) {
        (303, ..) => confirmation,
        _ => admin.reach_confirmation(&archive),
    };
    let (status, restore, said) = admin.confirm(&confirmation);
    assert_eq!(status, 303, "{said}");
    let last = admin.events(&restore, None).last().unwrap();
    assert_eq!(last.data["verdict"], "nothing-changed");
    let page = admin.get(&restore).1;
    let again = format!("/restores/{}/again", restore.rsplit('/').next().unwrap());
    assert!(page.contains(&again), "{page}");
    drop(holder);

    let address = admin.leads_to(&again);
    let confirmation = admin.get(&address).1;
    let tick = "name=\"without_safety_backup_of\" value=\"configs.db\"";
    assert!(confirmation.contains(tick), "{confirmation}");
    let mut fields: Vec<(&str, String)> = ["token", "upload", "plan", "request"]
        .map(|name| (name, field(&confirmation, name)))
        .to_vec();
    fields.push(("without_safety_backup_of", "configs.db".into()));
    let (status, restore, said) = admin.post("/system/restore/confirm", &fields);
    assert_eq!(status, 303, "{said}");
    let last = admin.events(&restore, None).last().unwrap();
    assert_eq!(last.data["verdict"], "restored");
    for (path, bytes) in before {
        assert!(std::fs::read(&path).unwrap() == bytes, "{}", path.display());
    }
}
