//! Databases that the service has and the profile does not name: they make a backup incomplete, unless the admin said so.

use super::*;

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
