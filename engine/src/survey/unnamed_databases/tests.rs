#![allow(clippy::unwrap_used)]
use rusqlite::Connection;

use super::*;
use crate::gateway::database::trouble::holders;
use crate::host::linux::Linux;

#[test]
fn a_value_names_a_file_another_database_or_nothing_and_never_a_secret() {
    let file = |path: &str| Some(NamedDatabase::File(path.to_owned()));
    for (name, value, expected) in [
        (
            "DATABASE_URL",
            "sqlite:////opt/x/users.db",
            file("/opt/x/users.db"),
        ),
        (
            "X",
            "sqlite+pysqlite:////opt/x/users.db?timeout=5",
            file("/opt/x/users.db"),
        ),
        ("X", "sqlite:///users.db", file("users.db")),
        ("X", "sqlite:///users.db  # users", file("users.db")),
        ("--env", "DATABASE_URL=sqlite:////a.db", file("/a.db")),
        ("X", "sqlite:///file:/a.db?mode=rw&uri=true", file("/a.db")),
        ("X", "sqlite:///:memory:", None),
        ("X", "sqlite://", None),
        ("X", "a word about sqlite", None),
        ("SECRET_KEY", "https://user:password@host/", None),
        (
            "DATABASE_URL",
            "postgresql+psycopg://user:password@host/gateway",
            Some(NamedDatabase::Other("postgresql://".into())),
        ),
        ("DATABASE_URL", "nonsense", None),
    ] {
        assert_eq!(named(name, value), expected, "{name}={value}");
    }
}

#[test]
fn the_words_of_an_environment_are_read_as_systemd_prints_them() {
    assert_eq!(
        words(r#"A=b "C=d e" "F=\"g\" h" I="#),
        ["A=b", "C=d e", "F=\"g\" h", "I="]
    );
    let quoted = Setting::of("A='b c'", "the unit x");
    assert_eq!(
        (quoted.value.as_str(), quoted.who().as_str()),
        ("b c", "the unit x (A)")
    );
    assert_eq!(
        Setting::of("--key s3cret=x", "the unit x").who(),
        "the unit x"
    );
}

/// A gateway without a service, whose data lie in the folder `instance`; only its settings name databases.
struct Gateway {
    dir: tempfile::TempDir,
    profile: Profile,
}

impl Gateway {
    fn new() -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let instance = dir.path().join("instance");
        std::fs::create_dir(&instance).unwrap();
        let mut profile = Profile {
            state_dir: dir.path().join("state"),
            ..Profile::default()
        };
        profile.gateway.configs_dir = instance.join("configs");
        profile.gateway.service.clear();
        for database in &mut profile.gateway.database {
            database.path = instance.join(&database.name);
        }
        Gateway { dir, profile }
    }

    fn instance(&self) -> PathBuf {
        self.dir.path().join("instance")
    }

    fn env(&self) -> PathBuf {
        self.dir.path().join(".env")
    }

    fn unnamed(&self) -> Unnamed {
        unnamed(&self.profile, &Linux::new(&self.profile))
    }

    /// The names of what the profile does not know; everything was looked at.
    fn lacking(&self) -> Vec<String> {
        let found = self.unnamed();
        assert_eq!(found.unseen, [""; 0]);
        found.lacking.into_keys().collect()
    }
}

fn database(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch("CREATE TABLE t (x)").unwrap();
    conn
}

#[test]
fn a_database_of_the_profile_is_not_opened_and_keeps_the_locks_that_this_process_has_on_it() {
    let gateway = Gateway::new();
    let own = gateway.profile.gateway.database[0].path.clone();
    let held = database(&own);
    held.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // By another name, too.
    std::fs::hard_link(&own, gateway.instance().join("linked.db")).unwrap();
    let other = gateway.instance().join("other.db");
    drop(database(&other));
    let setting = format!("INSTANCE_PATH={}\n", gateway.instance().display());
    std::fs::write(gateway.env(), setting).unwrap();
    assert_eq!(gateway.lacking(), [other.display().to_string()]);
    let me = std::process::id();
    assert_eq!(holders(&own).into_keys().collect::<Vec<_>>(), [me]);
}

#[test]
fn the_processes_of_a_service_are_those_of_groups_below_its_own_too() {
    let gateway = Gateway::new();
    let group = gateway.dir.path().join("group");
    std::fs::create_dir_all(group.join("workers.slice/one")).unwrap();
    for (folder, pids) in [
        ("", "1\n2\n"),
        ("workers.slice", ""),
        ("workers.slice/one", "3\n"),
    ] {
        std::fs::write(group.join(folder).join("cgroup.procs"), pids).unwrap();
    }
    let host = Linux::new(&gateway.profile);
    let mut looking = Looking::at(&gateway.profile, &host);
    assert_eq!(looking.in_group(&group), [1, 2, 3]);
    assert_eq!(looking.in_group(&group.join("gone")), [0; 0]);
    assert_eq!(looking.unseen, [""; 0]);
}

#[test]
fn what_is_no_file_of_settings_names_no_database_and_is_no_look_that_failed() {
    let gateway = Gateway::new();
    let env = gateway.env();
    std::fs::create_dir(&env).unwrap();
    let venv = gateway.dir.path().join("venv");
    std::fs::create_dir(&venv).unwrap();
    std::os::unix::fs::symlink(&venv, gateway.instance().join(".env")).unwrap();
    assert_eq!(gateway.lacking(), [""; 0]);
    std::fs::remove_dir(&env).unwrap();
    // One with certificates in it is read; one that is longer still is not passed over as if it named nothing.
    std::fs::write(&env, vec![b'#'; 200 << 10]).unwrap();
    assert_eq!(gateway.lacking(), [""; 0]);
    std::fs::write(&env, vec![b'#'; (1 << 20) + 1]).unwrap();
    let unseen = gateway.unnamed().unseen;
    assert!(unseen.iter().any(|t| t.contains("larger")), "{unseen:?}");
    // Behind a link, settings are settings.
    let users = gateway.instance().join("users.db");
    drop(database(&users));
    let settings = gateway.dir.path().join("settings");
    std::fs::write(&settings, "DATABASE_URL=sqlite:///users.db\n").unwrap();
    std::fs::remove_file(&env).unwrap();
    std::os::unix::fs::symlink(&settings, &env).unwrap();
    assert_eq!(gateway.lacking(), [users.display().to_string()]);
}

#[test]
fn blanks_around_the_sign_and_a_comment_behind_the_value_hide_no_setting() {
    for (line, expected) in [
        ("X = sqlite:///a.db", ("X", "sqlite:///a.db")),
        ("export X= 'a b'", ("X", "a b")),
        ("X=/opt/x  # where", ("X", "/opt/x")),
        ("X=/opt/x\t# where # it is", ("X", "/opt/x")),
        ("X=\"/opt/x # y\"  # \"where\"", ("X", "/opt/x # y")),
        ("X=/opt/x#y", ("X", "/opt/x#y")),
        ("X='open", ("X", "open")),
        ("X=", ("X", "")),
        ("words", ("", "words")),
    ] {
        let found = settings_in(line.as_bytes(), "a file");
        let found: Vec<_> = found.iter().map(|s| (&*s.name, &*s.value)).collect();
        assert_eq!(found, [expected], "{line}");
    }
    let gateway = Gateway::new();
    let users = gateway.instance().join("users.db");
    drop(database(&users));
    let settings = "DATABASE_URL = postgresql://a:b@c/d\nUSERS=sqlite:///users.db  # users\n";
    std::fs::write(gateway.env(), settings).unwrap();
    let expected = [users.display().to_string(), "postgresql://".to_owned()];
    assert_eq!(gateway.lacking(), expected);
}

/// Whoever follows it twice must not write the key twice.
#[test]
fn the_advice_adds_to_a_list_that_may_be_there() {
    for shown in ["/a.db", "mysql://"] {
        let advice = why(shown, "a file");
        let add = format!("add {shown:?} to other_databases under [gateway] in the profile");
        assert!(advice.contains(&add), "{advice}");
        assert!(!advice.contains("other_databases ="), "{advice}");
    }
}
