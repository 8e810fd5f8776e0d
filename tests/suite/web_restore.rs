//! An admin restores a real gateway by the page alone, whatever ends in between.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod left_alone;
mod runs_as_root;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use fixtures::skip;

use crate::web_stage::{Client, Stage, field};

#[test]
fn an_admin_backs_up_and_restores_by_the_page_without_a_script() {
    let Some(stage) = Stage::set() else { return };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let (status, archive) = admin.get_bytes("/system/backup");
    assert_eq!((status, &archive[..4]), (200, &b"PK\x03\x04"[..]));
    let before = stage.change_gateway();

    let confirmation = admin.reach_confirmation(&archive);
    assert!(
        confirmation.contains("What will be overwritten"),
        "{confirmation}"
    );
    let (status, restore, said) = admin.confirm(&confirmation);
    assert_eq!(status, 303, "{said}");
    let sent: Vec<_> = admin.events(&restore, None).collect();
    let ids: Vec<u64> = sent.iter().map(|s| s.id).collect();
    assert_eq!(
        ids,
        (0..ids.len() as u64).collect::<Vec<_>>(),
        "each record once, in order"
    );
    assert_eq!(sent.last().unwrap().data["verdict"], "restored");
    for (path, bytes) in before {
        assert!(
            std::fs::read(&path).unwrap() == bytes,
            "{} is not as in the backup",
            path.display()
        );
    }
    let page = admin.get(&restore).1;
    assert!(
        page.contains("data-over=\"true\"") && page.contains("The gateway is as the backup says."),
        "{page}"
    );
    assert!(admin.get("/").1.contains(">restored</span>"));

    // The same wish finds the same restore; another one for the same upload is sent there.
    assert_eq!(admin.confirm(&confirmation).1, restore);
    let again = confirmation.replace(&field(&confirmation, "request"), &"0".repeat(32));
    let (status, _, said) = admin.confirm(&again);
    assert_eq!(status, 409);
    assert!(said.contains(restore.rsplit('/').next().unwrap()), "{said}");

    let log = stage.agent_log();
    let user = stage.sample().admin().unwrap();
    let session = admin
        .cookies
        .iter()
        .find_map(|c| c.strip_prefix("holdfast-session="))
        .unwrap();
    assert!(log.contains(&format!("{} signed in", user.name)), "{log}");
    assert!(
        !log.contains(&user.password) && !log.contains(session),
        "a secret is in the log"
    );
}

#[test]
fn killing_the_page_and_the_agent_in_mid_restore_changes_nothing_and_no_event_is_missed() {
    let Some(mut stage) = Stage::set() else {
        return;
    };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let archive = admin.get_bytes("/system/backup").1;
    let before = stage.change_gateway();
    let confirmation = admin.reach_confirmation(&archive);
    let restore = admin.confirm(&confirmation).1;
    let mut events = admin.events(&restore, None);
    let mut ids: Vec<u64> = events.by_ref().take(8).map(|s| s.id).collect();
    stage.kill_agent();
    stage.kill_web();
    drop(events);
    stage.start_agent();
    stage.start_web();

    // The session is as good as before, and so is the list, from where it broke off.
    let rest: Vec<_> = admin.events(&restore, ids.last().copied()).collect();
    ids.extend(rest.iter().map(|s| s.id));
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>());
    let last = rest.last().unwrap();
    assert_eq!(last.data["verdict"], "restored");
    let drivers = rest
        .iter()
        .filter(|s| s.data["text"].as_str().unwrap().contains("recovery"))
        .count();
    assert_eq!(drivers, 0, "the restore itself went on to its end");
    for (path, bytes) in before {
        assert!(
            std::fs::read(&path).unwrap() == bytes,
            "{} is not as in the backup",
            path.display()
        );
    }
}

#[test]
fn ctrl_c_at_the_terminal_of_an_agent_does_not_reach_the_restore_that_it_started() {
    if skip::lacks(&["script"]) {
        return;
    }
    let Some(mut stage) = Stage::set() else {
        return;
    };
    let mut terminal = stage.start_agent_at_a_terminal();
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let archive = admin.get_bytes("/system/backup").1;
    stage.change_gateway();
    let confirmation = admin.reach_confirmation(&archive);
    let restore = admin.confirm(&confirmation).1;
    let mut events = admin.events(&restore, None);
    let seen = events.by_ref().take(8).last().unwrap().id;
    let mut keys = terminal.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(130));
    drop(events);
    stage.start_agent();
    let last = admin.events(&restore, Some(seen)).last().unwrap();
    assert_eq!(last.data["verdict"], "restored");
}

#[test]
fn a_user_who_is_no_admin_gets_403_and_no_backup() {
    let Some(stage) = Stage::set() else { return };
    let mut user = stage.client_of(stage.sample().plain_user().unwrap());
    for address in [
        "/",
        "/system/backup",
        "/system/restore",
        "/system/backup-status",
    ] {
        assert_eq!(user.get(address).0, 403, "{address}");
    }
    let backups = stage.sample().state_dir().join("backups");
    assert!(std::fs::read_dir(backups).map_or(0, Iterator::count) == 0);
}

#[test]
fn an_archive_that_is_none_is_refused_with_the_reason_and_leaves_nothing_behind() {
    let Some(stage) = Stage::set() else { return };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let token = field(&admin.get("/system/restore").1, "token");
    let (status, _, said) = admin.upload(&token, b"this is no zip at all");
    assert_eq!(status, 422, "{said}");
    assert!(
        said.contains("Nothing was changed.") && said.contains("Cannot "),
        "{said}"
    );
    assert!(stage.spool().is_empty());
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing_behind() {
    let Some(stage) = Stage::set() else { return };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let token = field(&admin.get("/system/restore").1, "token");
    let mut browser = std::net::TcpStream::connect(("127.0.0.1", stage.port)).unwrap();
    let cookies = admin.cookies.join("; ");
    write!(
        browser,
        "POST /system/restore HTTP/1.1\r\nHost: localhost\r\nCookie: {cookies}\r\nContent-Length: 9000000\r\n\
         Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n\
         {token}\r\n--b\r\nContent-Disposition: form-data; name=\"archive\"; filename=\"a.zip\"\r\n\r\n"
    )
    .unwrap();
    browser.write_all(&vec![7; 500_000]).unwrap();
    while stage.spool().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(browser);
    while !stage.spool().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(admin.get("/").0, 200);
}

#[test]
fn a_restore_that_is_killed_is_settled_while_the_page_goes_on_showing_it() {
    let Some(stage) = Stage::set() else { return };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let archive = admin.get_bytes("/system/backup").1;
    let page = admin.reach_confirmation(&archive);
    let restore = admin.confirm(&page).1;
    let mut ids = Vec::new();
    let mut killed = false;
    let mut last = serde_json::Value::Null;
    for sent in admin.events(&restore, None) {
        ids.push(sent.id);
        if !killed && sent.data["text"] == "Checkpoint databases: begins" {
            stage.kill_restore();
            killed = true;
        }
        last = sent.data;
    }
    assert!(killed, "it was over too soon");
    assert_eq!(ids, (0..ids.len() as u64).collect::<Vec<_>>());
    assert!(
        last["verdict"] == "restored" || last["verdict"] == "rolled-back",
        "{last}"
    );
    let page = admin.get(&restore).1;
    assert!(page.contains("data-over=\"true\""), "{page}");
}

#[test]
fn an_agent_that_starts_settles_what_a_crash_left_open() {
    let Some(mut stage) = Stage::set() else {
        return;
    };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let archive = admin.get_bytes("/system/backup").1;
    let page = admin.reach_confirmation(&archive);
    let restore = admin.confirm(&page).1;
    let seen = admin
        .events(&restore, None)
        .find(|s| s.data["text"] == "Checkpoint databases: begins")
        .unwrap();
    stage.kill_agent();
    stage.kill_restore();
    stage.start_agent();
    let rest: Vec<_> = admin.events(&restore, Some(seen.id)).collect();
    let recovered = rest.iter().any(|s| {
        s.data["text"]
            .as_str()
            .unwrap()
            .starts_with("a recovery started by itself")
    });
    assert!(recovered);
    let verdict = &rest.last().unwrap().data["verdict"];
    assert!(
        verdict == "restored" || verdict == "rolled-back",
        "{verdict}"
    );
}

#[test]
fn a_restore_that_an_agent_finds_running_and_that_is_killed_later_is_settled() {
    let Some(mut stage) = Stage::set() else {
        return;
    };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let archive = admin.get_bytes("/system/backup").1;
    let page = admin.reach_confirmation(&archive);
    let restore = admin.confirm(&page).1;
    let seen = admin
        .events(&restore, None)
        .find(|s| s.data["text"] == "Checkpoint databases: begins")
        .unwrap();
    // It stands still, so that the next agent finds it alive.
    stage.signal_restore("STOP");
    stage.kill_agent();
    stage.start_agent();
    stage.kill_restore();
    let last = admin.events(&restore, Some(seen.id)).last().unwrap();
    let verdict = &last.data["verdict"];
    assert!(
        verdict == "restored" || verdict == "rolled-back",
        "{verdict}"
    );
}

#[test]
fn a_session_ends_when_its_user_gets_another_password() {
    let Some(stage) = Stage::set() else { return };
    let user = stage.sample().admin().unwrap();
    let mut admin = stage.client_of(user);
    assert_eq!(admin.get("/").0, 200);
    let users = stage
        .sample()
        .databases()
        .into_iter()
        .find(|d| d.name == "wireguard.db")
        .unwrap();
    let database = rusqlite::Connection::open(users.path).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    let sql = "UPDATE user SET password = replace(password, '$', '$x') WHERE username = ?1";
    assert_eq!(database.execute(sql, [&user.name]).unwrap(), 1);
    while admin.get("/").0 == 200 {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(admin.get("/").0, 303, "it leads to the sign-in");
}

#[test]
fn a_confirmation_that_is_sent_again_while_its_restore_comes_up_finds_that_one() {
    let Some(mut stage) = Stage::set() else {
        return;
    };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let archive = admin.get_bytes("/system/backup").1;
    let confirmation = admin.reach_confirmation(&archive);
    // A browser that sends it and hears no answer: the page and the agent end in between.
    let fields = ["token", "upload", "plan", "request"]
        .map(|name| format!("{name}={}", field(&confirmation, name)));
    let body = fields.join("&");
    let mut browser = std::net::TcpStream::connect(("127.0.0.1", stage.port)).unwrap();
    write!(
        browser,
        "POST /system/restore/confirm HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
        admin.cookies.join("; "),
        body.len()
    )
    .unwrap();
    while !stage.agent_log().contains(" is started, process ") {
        std::thread::sleep(Duration::from_millis(2));
    }
    stage.kill_web();
    stage.kill_agent();
    drop(browser);
    stage.start_agent();
    stage.start_web();
    let (status, restore, said) = admin.confirm(&confirmation);
    assert_eq!(status, 303, "{said}");
    let last = admin.events(&restore, None).last().unwrap();
    assert_eq!(last.data["verdict"], "restored");
    let restores = stage.sample().state_dir().join("restores");
    assert_eq!(std::fs::read_dir(restores).unwrap().count(), 1);
}

#[test]
fn an_event_stream_ends_with_its_session_and_a_download_is_not_begun() {
    let Some(stage) = Stage::set() else { return };
    let user = stage.sample().admin().unwrap();
    let (mut admin, mut other) = (stage.client_of(user), stage.client_of(user));
    assert_eq!(admin.get_bytes("/system/backup").0, 200);
    stage.change_gateway();
    let restoring = stage.start_restore();
    let page = stage.page_of_running();
    // It stays open: nothing is left to settle it.
    let mut still = other.events(&page, None);
    still
        .find(|s| s.data["text"] == "Checkpoint databases: begins")
        .unwrap();
    stage.kill_restore();
    restoring.wait().unwrap();
    let events = admin.events(&page, None);
    let token = field(&admin.get("/").1, "token");
    assert_eq!(admin.post("/sign-out", &[("token", token)]).0, 303);
    assert!(events.last().is_some(), "and then it ended");
    assert_eq!(admin.get_bytes("/system/backup").0, 303);
    // The other session's goes on to the end of the restore.
    stage.recover();
    assert!(still.last().unwrap().data["verdict"].is_string());
    assert_eq!(other.get(&page).0, 200);
}

#[test]
fn a_restore_that_nothing_works_on_does_not_look_alive_until_it_is_recovered() {
    let Some(stage) = Stage::set() else { return };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    assert_eq!(admin.get_bytes("/system/backup").0, 200);
    stage.change_gateway();
    let restoring = stage.start_restore();
    let page = stage.page_of_running();
    let mut events = admin.events(&page, None);
    events
        .find(|s| s.data["text"] == "Checkpoint databases: begins")
        .unwrap();
    stage.kill_restore();
    restoring.wait().unwrap();
    let shown = loop {
        let shown = admin.get(&page).1;
        if shown.contains("<h1>Interrupted</h1>") {
            break shown;
        }
        assert!(shown.contains("data-over=\"false\""), "{shown}");
    };
    let button = "<button class=\"main\" name=\"policy\" value=\"auto\">Recover</button>";
    assert!(shown.contains(button), "{shown}");
    assert!(!shown.contains("data-ms="), "a clock runs: {shown}");
    assert!(admin.get("/").1.contains("A restore was interrupted"));
    stage.recover();
    let last = events.last().unwrap();
    assert!(
        last.data["verdict"] == "restored" || last.data["verdict"] == "rolled-back",
        "{last:?}"
    );
    assert!(!admin.get(&page).1.contains("Interrupted</h1>"));
}

#[test]
fn while_anybody_may_write_who_the_users_are_the_page_opens_to_nobody_and_names_the_command() {
    use std::os::unix::fs::PermissionsExt;
    let Some(stage) = Stage::set() else { return };
    let user = stage.sample().admin().unwrap().clone();
    let database = stage.sample().databases()[1].path.clone();
    let folder = database.parent().unwrap();
    for (open, mode) in [(folder, 0o777), (database.as_path(), 0o666)] {
        std::fs::set_permissions(open, PermissionsExt::from_mode(mode)).unwrap();
        let (_, refused) = stage.try_to_sign_in(&user);
        for said in [open.to_str().unwrap(), "holdfast secure"] {
            assert!(refused.contains(&said.replace('/', "&#x2f;")), "{refused}");
        }
        stage.secure();
        assert_eq!(stage.client_of(&user).get("/").0, 200);
    }
}
