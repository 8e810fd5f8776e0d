#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use std::sync::atomic::Ordering;

use super::*;
use crate::agent::users::SETTLED;
use crate::gateway::profile::Database;
use crate::state_dir;
use journal_format::Problem;

/// A gateway with one database of users, and its agent.
struct Gateway {
    folder: tempfile::TempDir,
    agent: Agent,
}

impl Gateway {
    fn new() -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let mut profile = Profile {
            state_dir: folder.path().join("state"),
            ..Profile::default()
        };
        profile.gateway.database = ["users.db", "old.db"]
            .map(|name| Database {
                name: name.into(),
                path: folder.path().join(name),
                kind: crate::gateway::profile::DatabaseKind::Users,
            })
            .into();
        state_dir::make(&profile).unwrap();
        let agent = Agent::new(&profile, "/holdfast.toml".into()).unwrap();
        let gateway = Gateway { folder, agent };
        gateway.sql(
            "users.db",
            "CREATE TABLE user (id INTEGER PRIMARY KEY, username TEXT, password TEXT, active BOOLEAN, \
             must_change_password BOOLEAN, is_admin BOOLEAN)",
        );
        gateway.add("admin");
        gateway
    }

    fn sql(&self, name: &str, sql: &str) {
        let path = self.folder.path().join(name);
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch(sql).unwrap();
    }

    fn add(&self, name: &str) {
        self.sql(
            "users.db",
            &format!(
                "INSERT INTO user (username, password, active) VALUES ('{name}', '{}', 1)",
                hash("right")
            ),
        );
    }

    fn sign_in(&self, name: &str, password: &str) -> Result<Session, Refusal> {
        let given = Password::new(password);
        let signed_in = self.agent.sign_in.sign_in(&self.agent, name, &given, None);
        signed_in.map(|(session, _)| session)
    }

    fn still(&self, session: &Session) -> Result<bool, Refusal> {
        let kept = self.agent.sessions.find(&session.token).unwrap();
        self.agent.sign_in.check(&self.agent.profile, &kept)
    }

    fn users(&self) -> Result<Arc<ListedUsers>, UsersUnread> {
        self.agent.sign_in.users.now(&self.agent.profile)
    }

    /// As if the last write were long ago.
    fn settle(&self) {
        assert!(self.users().is_ok());
        std::thread::sleep(SETTLED);
        assert!(self.users().is_ok());
    }
}

fn hash(password: &str) -> String {
    let mut tag =
        <pbkdf2::hmac::Hmac<sha2::Sha256> as pbkdf2::hmac::KeyInit>::new_from_slice(b"salt")
            .unwrap();
    pbkdf2::hmac::Mac::update(&mut tag, password.as_bytes());
    let tag = pbkdf2::hmac::Mac::finalize(tag).into_bytes();
    let hex: String = tag.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256$salt${hex}")
}

fn why(refusal: Result<Session, Refusal>) -> Problem {
    match refusal {
        Err(Refusal::Failed { problem }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_must_change_the_password_does_not_get_in_and_only_who_knows_it_is_told() {
    let gateway = Gateway::new();
    let before = gateway.sign_in("admin", "right").unwrap();
    gateway.sql("users.db", "UPDATE user SET must_change_password = 1");
    assert!(matches!(
        gateway.sign_in("admin", "right"),
        Err(Refusal::MustChangePassword)
    ));
    assert!(matches!(
        gateway.sign_in("admin", "wrong"),
        Err(Refusal::WrongPassword)
    ));
    assert!(matches!(gateway.still(&before), Err(Refusal::NotSignedIn)));
}

#[test]
fn a_changed_password_counts_at_once_for_sign_ins_and_for_sessions() {
    let gateway = Gateway::new();
    for settled in [false, true] {
        let session = gateway.sign_in("admin", "right").unwrap();
        if settled {
            gateway.settle();
        }
        assert!(gateway.still(&session).unwrap());
        // As long as the one before: the file keeps its size.
        let change = |to| format!("UPDATE user SET password = '{}'", hash(to));
        gateway.sql("users.db", &change("other"));
        assert!(matches!(
            gateway.sign_in("admin", "right"),
            Err(Refusal::WrongPassword)
        ));
        assert!(matches!(gateway.still(&session), Err(Refusal::NotSignedIn)));
        assert!(gateway.sign_in("admin", "other").is_ok());
        gateway.sql("users.db", &change("right"));
    }
}

#[test]
fn users_that_nobody_wrote_are_not_read_again() {
    let gateway = Gateway::new();
    gateway.settle();
    let users = || gateway.users().ok().unwrap();
    let before = users();
    assert!(Arc::ptr_eq(&before, &users()));
    gateway.add("second");
    assert_eq!(users().all.len(), 2);
}

#[test]
fn a_role_in_the_database_makes_nobody_an_admin() {
    let gateway = Gateway::new();
    gateway.add("second");
    gateway.sql("users.db", "UPDATE user SET is_admin = 1");
    assert!(gateway.sign_in("admin", "right").unwrap().admin);
    assert!(!gateway.sign_in("second", "right").unwrap().admin);
}

#[test]
fn a_database_that_is_missing_is_no_reason_to_ask_another() {
    let gateway = Gateway::new();
    let path = |name| gateway.folder.path().join(name);
    std::fs::rename(path("users.db"), path("old.db")).unwrap();
    let problem = why(gateway.sign_in("admin", "right"));
    assert_eq!(problem.code, Some(Code::NOT_THERE), "{problem}");
    std::fs::rename(path("old.db"), path("users.db")).unwrap();
    assert!(gateway.sign_in("admin", "right").is_ok());
}

#[test]
fn a_table_without_users_says_so_and_ends_every_session() {
    let gateway = Gateway::new();
    let session = gateway.sign_in("admin", "right").unwrap();
    gateway.sql("users.db", "DELETE FROM user");
    let problem = why(gateway.sign_in("admin", "right"));
    assert_eq!(problem.code, Some(Code::NO_USERS), "{problem}");
    assert!(matches!(gateway.still(&session), Err(Refusal::NotSignedIn)));
}

#[test]
fn users_that_cannot_be_read_let_nobody_in_and_leave_sessions_as_they_were_last_known() {
    let gateway = Gateway::new();
    gateway.add("second");
    let [admin, second] = ["admin", "second"].map(|name| gateway.sign_in(name, "right").unwrap());
    gateway.sql("users.db", "DELETE FROM user WHERE username = 'second'");
    assert!(gateway.users().is_ok());
    let path = gateway.folder.path().join("users.db");
    for breaks in [
        (|path| std::fs::remove_file(path)) as fn(&std::path::Path) -> std::io::Result<()>,
        |path| std::fs::write(path, "no database"),
        |path| std::fs::write(path, ""),
    ] {
        breaks(&path).unwrap();
        gateway.agent.sign_in.users.forget_failure();
        assert!(gateway.sign_in("admin", "right").is_err());
        assert!(gateway.still(&admin).unwrap());
        assert!(matches!(gateway.still(&second), Err(Refusal::NotSignedIn)));
    }
}

/// Does this while somebody else reads the users, which does not end.
fn while_reading(gateway: &Gateway, does: &dyn Fn()) {
    let path = gateway.folder.path().join("users.db");
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| gateway.users().is_ok());
        while !gateway.agent.sign_in.users.is_reading() {
            std::thread::yield_now();
        }
        does();
        assert!(!reading.is_finished());
        writer.execute_batch("COMMIT").unwrap();
        assert!(reading.join().unwrap());
    });
}

#[test]
fn while_a_database_is_slow_the_page_goes_on_with_what_was_read_of_it_just_before() {
    let gateway = Gateway::new();
    let session = gateway.sign_in("admin", "right").unwrap();
    while_reading(&gateway, &|| {
        assert!(gateway.still(&session).unwrap());
        assert!(gateway.sign_in("admin", "right").is_ok());
    });
}

#[test]
fn what_was_read_long_ago_lets_nobody_in_beside_somebody_who_reads() {
    let gateway = Gateway::new();
    let session = gateway.sign_in("admin", "right").unwrap();
    gateway.agent.sign_in.users.age();
    while_reading(&gateway, &|| {
        for refused in [
            gateway.sign_in("admin", "right").map(drop),
            gateway.still(&session).map(drop),
        ] {
            let Err(Refusal::Busy { problem, .. }) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(problem.code, Some(Code::BUSY), "{problem}");
        }
    });
    assert!(gateway.still(&session).unwrap());
}

#[test]
fn a_user_who_is_gone_gets_in_by_no_number_of_requests_at_once() {
    let gateway = Gateway::new();
    let session = gateway.sign_in("admin", "right").unwrap();
    gateway.sql("users.db", "DELETE FROM user");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| gateway.still(&session)))
            .collect();
        for one in all {
            let said = one.join().unwrap();
            assert!(matches!(said, Err(Refusal::NotSignedIn)), "{said:?}");
        }
    });
}

#[test]
fn a_reading_that_failed_is_not_tried_again_by_each_request() {
    let gateway = Gateway::new();
    let path = gateway.folder.path().join("users.db");
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, "no database").unwrap();
    let failed = why(gateway.sign_in("admin", "right"));
    std::fs::write(&path, &sound).unwrap();
    assert_eq!(why(gateway.sign_in("admin", "right")), failed);
    gateway.agent.sign_in.users.forget_failure();
    assert!(gateway.sign_in("admin", "right").is_ok());
}

#[test]
fn a_database_that_others_may_write_opens_nothing_and_goes_on_when_that_is_mended() {
    use std::os::unix::fs::PermissionsExt;
    let gateway = Gateway::new();
    let file = gateway.folder.path().join("users.db");
    let session = gateway.sign_in("admin", "right").unwrap();
    gateway.settle();
    for (path, open, closed) in [
        (file.as_path(), 0o666, 0o600),
        (gateway.folder.path(), 0o777, 0o700),
    ] {
        let set = |mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        set(open);
        let problem = why(gateway.sign_in("admin", "right"));
        assert_eq!(problem.code, Some(Code::OPEN_TO_OTHERS), "{problem}");
        assert!(matches!(
            gateway.still(&session),
            Err(Refusal::Failed { .. })
        ));
        set(closed);
        assert!(gateway.still(&session).unwrap());
        assert!(gateway.sign_in("admin", "right").is_ok());
    }
}

#[test]
fn sixty_guesses_at_once_keep_no_admin_out_in_a_browser_that_is_new() {
    let gateway = Gateway::new();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    assert!(gateway.sign_in("admin", "guess").is_err());
                }
            });
        }
        while gateway.agent.sign_in.silent.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let tries: Vec<_> = (0..5).map(|_| gateway.sign_in("admin", "right")).collect();
        over.store(true, Ordering::SeqCst);
        for signed_in in tries {
            assert!(signed_in.is_ok(), "{signed_in:?}");
        }
    });
}

#[test]
fn a_browser_is_known_after_an_admin_signed_in_and_after_no_other_user() {
    let gateway = Gateway::new();
    gateway.add("second");
    let sign_in = |name, device: Option<&Token>| {
        let given = Password::new("right");
        let agent = &gateway.agent;
        agent
            .sign_in
            .sign_in(agent, name, &given, device)
            .unwrap()
            .1
    };
    let device = sign_in("admin", None).unwrap();
    assert!(gateway.agent.devices.knows(&device, "admin"));
    assert_eq!(sign_in("admin", Some(&device)), Some(device.clone()));
    assert_eq!(sign_in("second", Some(&device)), None);
}

#[test]
fn each_wrong_password_of_a_name_costs_more_up_to_a_bound_and_others_pay_nothing_for_it() {
    let sign_in = SignInGuard::new(&Profile::default());
    let now = Instant::now();
    let costs: Vec<_> = (0..40)
        .map(|_| sign_in.cost("admin", now).as_millis())
        .collect();
    assert_eq!(costs[..6], [250, 500, 1000, 2000, 4000, 4000]);
    assert_eq!(costs[39], 4000);
    assert_eq!(sign_in.cost("somebody", now), FIRST);
    assert_eq!(
        sign_in.cost("admin", now + FORGIVEN),
        FIRST,
        "it is forgiven"
    );
}

#[test]
fn names_that_are_made_up_do_not_fill_the_memory() {
    let sign_in = SignInGuard::new(&Profile::default());
    let now = Instant::now();
    for i in 0..NAMES + 50 {
        sign_in.cost(&format!("n{i}"), now);
    }
    assert_eq!(locked(&sign_in.wrong).len(), NAMES);
    assert_eq!(sign_in.cost("one more", now), LONGEST);
}

#[test]
fn a_name_that_does_not_exist_costs_a_real_check_and_never_matches() {
    for guess in ["", "holdfast", "0"] {
        assert!(!password::verify(NOBODY, guess).unwrap());
    }
}

#[test]
fn those_who_guess_and_wait_are_bounded_themselves() {
    let sign_in = SignInGuard::new(&Profile::default());
    let silent: Vec<_> = (0..SILENT)
        .map(|_| Slot::take(&sign_in.silent, SILENT).unwrap())
        .collect();
    // With all places taken the silence is left out: this would never end.
    sign_in.be_silent(Duration::MAX);
    drop(silent);
    assert_eq!(sign_in.silent.load(Ordering::SeqCst), 0);
}

#[test]
fn a_plain_copy_of_the_users_ends_no_session() {
    let sessions_user = User {
        id: 1,
        username: "admin".into(),
        password: "x".into(),
        active: true,
        must_change_password: false,
        is_admin: true,
    };
    let kept = StoredSession::of_test("admin", 1, proof(&sessions_user), true);
    let read = |all: Vec<User>, from_copy| {
        standing(&Profile::default(), &ListedUsers { all, from_copy }, &kept)
    };
    assert!(read(vec![], true).unwrap());
    assert!(matches!(read(vec![], false), Err(Refusal::NotSignedIn)));
    let changed = User {
        password: "y".into(),
        ..sessions_user.clone()
    };
    assert!(read(vec![changed.clone()], true).unwrap());
    assert!(matches!(
        read(vec![changed], false),
        Err(Refusal::NotSignedIn)
    ));
    assert!(read(vec![sessions_user], false).unwrap());
}
