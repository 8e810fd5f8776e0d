//! Databases of a real gateway that nobody can read, that somebody holds, with rows that are no text and tables that nobody
//! knows: saved as they are, and back as they were.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fixtures::{Finished, program};

use crate::on_a_gateway::{Gateway, path, stand_in};

fn database(gateway: &Gateway, name: &str) -> PathBuf {
    let databases = gateway.sample().databases();
    databases.into_iter().find(|d| d.name == name).unwrap().path
}

/// The gateway's service does this.
fn service(gateway: &Gateway, what: &str) {
    let program = program("sample-gateway-service").unwrap();
    gateway.run(&[path(&program), what, path(gateway.sample().root())]);
}

fn sql(database: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(database).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(60))
        .unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    conn.execute_batch(sql).unwrap();
}

/// Digest, size, owner, group and mode of a database and of what lies beside it.
fn held(database: &Path) -> Vec<(String, String, u32, u32, u32)> {
    let mut held = Vec::new();
    for side in ["", "-wal", "-shm", "-journal"] {
        let file = PathBuf::from(format!("{}{side}", database.display()));
        if let Ok(meta) = file.symlink_metadata() {
            let bytes = std::fs::read(&file).unwrap();
            let bytes = format!("{} bytes, {}", bytes.len(), blake3::hash(&bytes));
            held.push((
                side.to_owned(),
                bytes,
                meta.uid(),
                meta.gid(),
                meta.mode() & 0o777,
            ));
        }
    }
    held
}

fn restore(gateway: &Gateway, backup: &Path) -> Finished {
    let done = gateway.restore(backup);
    gateway.is_settled();
    done
}

/// The safety backup that was made last.
fn safety_backup(gateway: &Gateway, known: &[PathBuf]) -> PathBuf {
    let mut new = gateway.backups();
    new.retain(|b| !known.contains(b));
    new.pop().expect("no safety backup")
}

#[test]
fn a_gateway_whose_client_database_nobody_can_read_is_restored_and_gets_every_byte_of_it_back() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let good = gateway.backup();
    let clients = database(&gateway, "configs.db");
    let rows = |path: &Path| {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.query_row("SELECT count(*) FROM clients", [], |r| r.get::<_, i64>(0))
    };
    let count = rows(&clients).unwrap();
    // The service does not run on that.
    service(&gateway, "stop");
    let own = clients.metadata().unwrap();
    let garbage: Vec<u8> = (0..20_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    std::fs::write(&clients, &garbage).unwrap();
    // A restore closes what stands open to all.
    std::fs::set_permissions(&clients, PermissionsExt::from_mode(0o660)).unwrap();
    for (side, bytes) in [
        ("-wal", &b"half a log"[..]),
        ("-journal", b"half a journal"),
    ] {
        let file = PathBuf::from(format!("{}{side}", clients.display()));
        std::fs::write(&file, bytes).unwrap();
        std::os::unix::fs::chown(&file, Some(own.uid()), Some(0)).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    }
    let before = held(&clients);
    assert_eq!(before.len(), 3);

    let known = gateway.backups();
    restore(&gateway, &good);
    assert_eq!(rows(&clients).unwrap(), count);
    assert_eq!(held(&clients).len(), 1);
    let safety = safety_backup(&gateway, &known);

    let done = restore(&gateway, &safety);
    assert_eq!(held(&clients), before, "{done}");
    // All that it lacks is what nobody could tell to be a client's.
    let verified = gateway.holdfast(&["verify", path(&safety)]);
    assert_eq!(verified.code(), 8, "{verified}");
    assert!(
        verified
            .stdout
            .contains("lacks the configs (the clients cannot be read"),
        "{verified}"
    );

    // Over a database that nobody can read either, and back to one that all can.
    std::fs::write(&clients, b"still garbage, of another kind").unwrap();
    let done = restore(&gateway, &safety);
    assert_eq!(held(&clients), before, "{done}");
    restore(&gateway, &good);
    assert_eq!(rows(&clients).unwrap(), count);
}

#[test]
fn from_elsewhere_a_database_that_is_bytes_alone_counts_as_absent_and_the_others_come() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let app = database(&gateway, "app.db");
    let sound = std::fs::read(&app).unwrap();
    std::fs::write(&app, b"SQLite format 3\0 and then nothing").unwrap();
    let backup = gateway.backup();
    std::fs::write(&app, sound).unwrap();
    let clients = database(&gateway, "configs.db");
    sql(&clients, "DELETE FROM clients");
    std::fs::remove_file(gateway.sample().state_dir().join("made")).unwrap();
    let before = held(&app);
    let done = restore(&gateway, &backup);
    let says = "the database app.db of the backup will not be restored";
    assert!(done.stdout.contains(says), "{done}");
    assert_eq!(held(&app)[0].1, before[0].1);
    let conn = rusqlite::Connection::open(&clients).unwrap();
    let rows: i64 = conn
        .query_row("SELECT count(*) FROM clients", [], |r| r.get(0))
        .unwrap();
    assert_eq!(rows, 6);
}

#[test]
fn rows_that_are_no_text_stop_nothing_and_come_back_as_they_were() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let old = gateway.backup();
    let (clients, users) = (
        database(&gateway, "configs.db"),
        database(&gateway, "wireguard.db"),
    );
    let latin = "CAST(x'42fc726f' AS TEXT)";
    sql(
        &clients,
        &format!(
            "UPDATE clients SET name = {latin} WHERE rowid = 3; UPDATE clients SET subnet = x'00ff' WHERE rowid = 4"
        ),
    );
    sql(
        &users,
        &format!(
            "UPDATE user SET username = {latin} WHERE id = (SELECT max(id) FROM user WHERE username <> 'admin'); \
         UPDATE email_settings SET smtp_host = {latin}, smtp_username = x'ff'"
        ),
    );
    let odd = |path: &Path, table: &str, column: &str| -> Vec<String> {
        let conn = rusqlite::Connection::open(path).unwrap();
        let sql =
            format!("SELECT typeof({column}) || ' ' || hex({column}) FROM {table} ORDER BY rowid");
        let mut read = conn.prepare(&sql).unwrap();
        let rows = read.query_map([], |r| r.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let all = || {
        [
            odd(&clients, "clients", "name"),
            odd(&clients, "clients", "subnet"),
            odd(&users, "user", "username"),
            odd(&users, "email_settings", "smtp_host"),
        ]
        .concat()
    };
    let before = all();
    assert!(before.contains(&"text 42FC726F".to_owned()), "{before:?}");
    assert_eq!(gateway.holdfast(&["survey"]).code(), 0);
    let backup = gateway.backup();
    let verified = gateway.holdfast(&["verify", path(&backup)]);
    assert_eq!(verified.code(), 0, "{verified}");
    // A good older one can be restored, and the safety backup brings these back; so does the same backup from elsewhere.
    let known = gateway.backups();
    restore(&gateway, &old);
    assert_ne!(all(), before);
    let safety = safety_backup(&gateway, &known);
    restore(&gateway, &safety);
    assert_eq!(all(), before);
    restore(&gateway, &old);
    std::fs::remove_file(gateway.sample().state_dir().join("made")).unwrap();
    restore(&gateway, &backup);
    assert_eq!(all(), before);
}

#[test]
fn tables_views_and_triggers_that_nobody_knows_come_back_here_and_are_named_elsewhere() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let old = gateway.backup();
    let users = database(&gateway, "wireguard.db");
    sql(
        &users,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL); INSERT INTO alembic_version VALUES ('4b1'); \
         CREATE VIEW admins AS SELECT * FROM user; CREATE TRIGGER t AFTER INSERT ON user BEGIN SELECT 1; END; \
         CREATE INDEX by_lower ON user (lower(username)); UPDATE user SET login_count = 77",
    );
    let schema = || -> Vec<String> {
        let conn = rusqlite::Connection::open(&users).unwrap();
        let mut read = conn
            .prepare("SELECT name FROM sqlite_schema ORDER BY name")
            .unwrap();
        let rows = read.query_map([], |r| r.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let before = schema();
    let known = gateway.backups();
    let backup = restore_and_back(&gateway, &old, &known);
    assert_eq!(schema(), before);

    // The same archive on a gateway that never saw it.
    let Some(other) = Gateway::small() else {
        return;
    };
    let carried = other.beside("carried.zip");
    std::fs::copy(&backup, &carried).unwrap();
    let done = other.holdfast(&["restore", path(&carried), "--yes"]);
    assert_eq!(done.code(), 0, "{done}");
    for named in [
        "it has a view, admins",
        "it has a trigger, t",
        "an index over an expression",
        "no table alembic_version",
    ] {
        assert!(done.stdout.contains(named), "{named}: {done}");
    }
    let conn = rusqlite::Connection::open(database(&other, "wireguard.db")).unwrap();
    let counts = "SELECT count(*), sum(login_count = 77) FROM user";
    let (all, came): (i64, i64) = conn
        .query_row(counts, [], |r| Ok((r.get(0)?, r.get(1)?)))
        .unwrap();
    assert!(all > 0 && all == came);
}

/// Restores this backup and then the safety backup, which is given.
fn restore_and_back(gateway: &Gateway, old: &Path, known: &[PathBuf]) -> PathBuf {
    restore(gateway, old);
    let safety = safety_backup(gateway, known);
    restore(gateway, &safety);
    safety
}

#[test]
fn a_lock_is_waited_for_and_one_that_stays_is_a_failure_that_names_who_holds_it() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    service(&gateway, "stop");
    let clients = database(&gateway, "configs.db");
    let hold = |seconds: u32| {
        let shell = format!(
            ".shell touch {}/held; sleep {seconds}",
            gateway.sample().root().display()
        );
        let holder = gateway
            .sandbox
            .spawn(&["sqlite3", path(&clients), "BEGIN EXCLUSIVE", &shell])
            .unwrap();
        let held = gateway.sample().root().join("held");
        while !held.exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::fs::remove_file(held).unwrap();
        holder
    };
    let holder = hold(10);
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    assert!(!made.stderr.contains("configs.db"), "{made}");
    holder.wait().unwrap();

    gateway.is_impatient();
    let mut holder = hold(600);
    let made = gateway.holdfast(&["backup"]);
    let said = format!("{}{}", made.stdout, made.stderr);
    // As long as the profile says, once.
    assert!(said.contains("(sqlite3) holds it (waited 1 s)"), "{made}");
    assert_eq!(made.code(), 8, "{made}");
    holder.kill9().unwrap();
}

/// What survey and backup say, which both leave this database out and say who names it; the backup is incomplete.
fn unnamed(gateway: &Gateway, database: &Path, who: &str) {
    let says = format!("the database {} ", database.display());
    let surveyed = gateway.holdfast(&["survey"]);
    assert_eq!(surveyed.code(), 0, "{surveyed}");
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    for said in [&surveyed.stdout, &made.stderr] {
        let line = said.lines().find(|l| l.contains(&says));
        let line = line.unwrap_or_else(|| panic!("{says}: {said}"));
        assert!(line.contains(who), "{line}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    let verified = gateway.holdfast(&["verify", made.stdout.trim()]);
    assert_eq!(verified.code(), 8, "{verified}");
}

#[test]
fn a_database_that_the_service_has_open_and_the_profile_does_not_name_makes_a_backup_incomplete() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let profile = gateway.sample().profile();
    let text = std::fs::read_to_string(&profile).unwrap();
    let app = text
        .find("[[gateway.database]]\nname = \"app.db\"")
        .unwrap();
    let end = text[app + 2..]
        .find("\n[")
        .map_or(text.len(), |at| app + 2 + at + 1);
    std::fs::write(&profile, format!("{}{}", &text[..app], &text[end..])).unwrap();
    unnamed(
        &gateway,
        &database(&gateway, "app.db"),
        "what the gateway's service has open",
    );
    std::fs::write(&profile, text).unwrap();
    assert_eq!(gateway.holdfast(&["backup"]).code(), 0);
}

#[test]
fn a_database_that_settings_name_and_the_profile_does_not_makes_a_backup_incomplete() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let root = gateway.sample().root().to_owned();
    let users = root.join("instance/users.sqlite");
    std::fs::copy(database(&gateway, "app.db"), &users).unwrap();
    let env = root.join(".env");
    std::fs::write(
        &env,
        "# settings\nSECRET_KEY=s3cret\nexport DATABASE_URL='sqlite:///users.sqlite'\n",
    )
    .unwrap();
    unnamed(
        &gateway,
        &users,
        &format!("{} (DATABASE_URL)", env.display()),
    );
    // One that is not there is no loss, nor is one that the profile names by another path.
    let link = root.join("linked");
    std::os::unix::fs::symlink(root.join("instance"), &link).unwrap();
    std::fs::write(
        &env,
        format!(
            "DATABASE_URL=sqlite:////nowhere/users.db\nX=sqlite:///{}/app.db\n",
            link.display()
        ),
    )
    .unwrap();
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    std::fs::write(
        &env,
        "DATABASE_URL=postgresql://gateway:s3cret@db/gateway\n",
    )
    .unwrap();
    unnamed(&gateway, Path::new("postgresql://"), "(DATABASE_URL)");
}

#[test]
fn a_database_that_the_units_environment_names_and_the_profile_does_not_makes_a_backup_incomplete()
{
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let root = gateway.sample().root().to_owned();
    let profile = std::fs::read_to_string(gateway.sample().profile()).unwrap();
    let (before, service) = profile.split_once("name = \"sample-gateway\"\n").unwrap();
    let rest = &service[service.find("\n\n").unwrap()..];
    std::fs::write(
        gateway.sample().profile(),
        format!("{before}unit = \"sample.service\"{rest}"),
    )
    .unwrap();
    let other = root.join("other");
    std::fs::create_dir(&other).unwrap();
    let defaults = root.join("defaults");
    let systemctl = |environment: &str| {
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in\n*Environment*) cat <<'END'\nEnvironment=KEY=s3cret {environment}\n\
             EnvironmentFiles={} (ignore_errors=yes)\nMainPID=0\nEND\n;;\n*ActiveState*) echo active;;\nesac\n",
            defaults.display()
        );
        stand_in(&gateway, "systemctl", &text);
    };
    let users = other.join("users.db");
    std::fs::copy(database(&gateway, "app.db"), &users).unwrap();
    let url = format!("DATABASE_URL=sqlite:///{}", users.display());
    let folder = format!("INSTANCE_PATH={}", other.display());
    for (environment, file) in [
        (format!("\"{url}\""), ""),
        (folder, ""),
        (String::new(), url.as_str()),
    ] {
        systemctl(&environment);
        std::fs::write(&defaults, file).unwrap();
        let who = match file {
            "" => "the unit sample.service (".to_owned(),
            _ => format!("{} (DATABASE_URL)", defaults.display()),
        };
        unnamed(&gateway, &users, &who);
    }
}

/// The profile, with this under `[gateway]`.
fn set(gateway: &Gateway, line: &str) {
    let file = gateway.sample().profile();
    let text = std::fs::read_to_string(&file).unwrap();
    let text: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with("other_databases"))
        .collect();
    let text = text.join("\n") + "\n";
    std::fs::write(
        &file,
        text.replacen("[gateway]\n", &format!("[gateway]\n{line}\n"), 1),
    )
    .unwrap();
}

#[test]
fn what_the_admin_says_is_not_to_be_saved_is_named_and_makes_no_backup_incomplete() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let root = gateway.sample().root().to_owned();
    let users = root.join("instance/users.sqlite");
    std::fs::copy(database(&gateway, "app.db"), &users).unwrap();
    let env = root.join(".env");
    for (url, shown, accepted) in [
        (
            format!("sqlite:///{}", users.display()),
            users.display().to_string(),
            users.clone(),
        ),
        (
            "sqlite:///users.sqlite".into(),
            users.display().to_string(),
            users.clone(),
        ),
        (
            "postgresql://gateway:s3cret@db/gateway".into(),
            "postgresql://".into(),
            "postgresql://".into(),
        ),
        (
            "mysql+pymysql://gateway:s3cret@db/gateway".into(),
            "mysql://".into(),
            "mysql://".into(),
        ),
    ] {
        std::fs::write(&env, format!("DATABASE_URL={url}\n")).unwrap();
        let made = gateway.holdfast(&["backup"]);
        assert_eq!(made.code(), 8, "{made}");
        let accepted = format!("{:?}", accepted.display().to_string());
        let add = format!("add {accepted} to other_databases under [gateway]");
        assert!(made.stderr.contains(&add), "{made}");
        let advice = match shown.split("://").collect::<Vec<_>>().as_slice() {
            ["postgresql", _] => "save it with pg_dump",
            ["mysql", _] => "save it with mysqldump",
            _ => "[[gateway.database]]",
        };
        assert!(made.stderr.contains(advice), "{made}");
        set(&gateway, &format!("other_databases = [{accepted}]"));
        let made = gateway.holdfast(&["backup"]);
        assert_eq!(made.code(), 0, "{made}");
        let said =
            format!("the database {shown} is not saved, as other_databases in the profile says");
        assert!(made.stderr.contains(&said), "{made}");
        let surveyed = gateway.holdfast(&["survey"]).ok().unwrap().stdout;
        assert!(surveyed.contains(&said), "{surveyed}");
        set(&gateway, "");
    }
    for bad in ["[\"users.db\"]", "[\"a b://\"]", "[\"/\"]"] {
        set(&gateway, &format!("other_databases = {bad}"));
        let refused = gateway.holdfast(&["backup"]);
        assert_ne!(refused.code(), 0, "{refused}");
        assert!(
            refused.stderr.contains("gateway.other_databases"),
            "{refused}"
        );
    }
}

/// A process of the gateway's own account that has these open, and the first with a lock.
fn holding(gateway: &Gateway, files: &[&Path]) -> fixtures::Running {
    let own = database(gateway, "configs.db").metadata().unwrap();
    let opened: Vec<String> = files
        .iter()
        .enumerate()
        .map(|(n, f)| format!("exec {}<>'{}'", n + 4, f.display()))
        .collect();
    let ready = gateway.sample().root().join("ready");
    let script = format!(
        "{}; touch {}; sleep 600",
        opened.join("; "),
        ready.display()
    );
    let (uid, gid) = (
        format!("--reuid={}", own.uid()),
        format!("--regid={}", own.gid()),
    );
    let mode = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(gateway.sample().root(), mode).unwrap();
    let held = gateway
        .sandbox
        .spawn(&[
            "setpriv",
            &uid,
            &gid,
            "--clear-groups",
            "bash",
            "-c",
            &script,
        ])
        .unwrap();
    let began = std::time::Instant::now();
    while !ready.exists() && began.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(ready.exists(), "the files could not be opened");
    std::fs::remove_file(ready).unwrap();
    held
}

#[test]
fn of_what_the_service_has_open_only_databases_count_that_are_to_last_and_no_other_path_to_one() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    service(&gateway, "stop");
    let app = database(&gateway, "app.db");
    let owner = database(&gateway, "configs.db").metadata().unwrap();
    // Beside the gateway: its own folders lie in the place for what is passing as well.
    let other = tempfile::Builder::new().tempdir_in("/var/lib").unwrap();
    let cache = other.path().join(".cache");
    std::fs::create_dir(&cache).unwrap();
    let passing = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let link = gateway.sample().root().join("the-same.db");
    std::fs::hard_link(&app, &link).unwrap();
    let text = other.path().join("text.db");
    let gone = other.path().join("gone.db");
    let mut files = vec![text.clone(), link.clone()];
    std::fs::write(&text, "no database, whatever its name").unwrap();
    for file in [
        cache.join("a.db"),
        passing.path().join("a.db"),
        gone.clone(),
    ] {
        std::fs::copy(&app, &file).unwrap();
        files.push(file);
    }
    let counts = other.path().join("data-without-a-name");
    std::fs::copy(&app, &counts).unwrap();
    let all = files.iter().chain([&counts]);
    for file in all.clone() {
        std::os::unix::fs::chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o660)).unwrap();
    }
    for folder in [other.path(), cache.as_path(), passing.path()] {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let configs = database(&gateway, "configs.db");
    let held = |files: &[&Path]| {
        let files: Vec<&Path> = [configs.as_path()].iter().chain(files).copied().collect();
        holding(&gateway, &files)
    };
    let plain: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let mut holder = held(&plain);
    std::fs::remove_file(&gone).unwrap();
    // With a second name elsewhere the database itself is not opened.
    std::fs::remove_file(&link).unwrap();
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    holder.kill9().unwrap();

    let mut holder = held(&[&counts]);
    unnamed(&gateway, &counts, "what the gateway's service has open");
    holder.kill9().unwrap();

    // A job of root's that somebody began is not the service.
    let ready = other.path().join("ready");
    let script = format!(
        "exec 4<>'{}'; exec 5<>'{}'; touch {}; sleep 600",
        configs.display(),
        counts.display(),
        ready.display()
    );
    let argv = ["bash", "-c", "setsid -w bash -c \"$0\"; true", &script];
    let mut job = gateway.sandbox.spawn(&argv).unwrap();
    while !ready.exists() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    job.kill9().unwrap();
}

#[test]
fn another_path_to_a_database_of_the_profile_is_no_other_database() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let root = gateway.sample().root().to_owned();
    let bound = root.join("bound");
    std::fs::create_dir(&bound).unwrap();
    let instance = root.join("instance");
    gateway.run(&["mount", "--bind", path(&instance), path(&bound)]);
    std::fs::write(
        root.join(".env"),
        format!(
            "DATABASE_URL=sqlite:///{}/app.db\nINSTANCE_PATH={}\n",
            bound.display(),
            bound.display()
        ),
    )
    .unwrap();
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 0, "{made}");
    // The same settings of a copy are of another one.
    gateway.run(&["umount", path(&bound)]);
    std::fs::copy(instance.join("app.db"), bound.join("app.db")).unwrap();
    unnamed(&gateway, &bound.join("app.db"), "(DATABASE_URL)");
}

#[test]
fn settings_that_cannot_be_read_are_not_settings_that_name_nothing() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let env = gateway.sample().root().join(".env");
    // Far longer than settings are.
    std::fs::write(&env, vec![b'#'; 2 << 20]).unwrap();
    let made = gateway.holdfast(&["backup"]);
    assert_eq!(made.code(), 8, "{made}");
    let said = format!("cannot read {}", env.display());
    assert!(made.stderr.contains(&said), "{made}");
    // A link to one is followed; one that leads nowhere is none.
    std::fs::remove_file(&env).unwrap();
    std::os::unix::fs::symlink("/nowhere/env", &env).unwrap();
    assert_eq!(gateway.holdfast(&["backup"]).code(), 0);
}
