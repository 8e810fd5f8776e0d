#![allow(clippy::unwrap_used)]
use super::*;

/// The lines of a profile whose settings are commented out, with the settings in force.
fn in_force(packaged: &str) -> String {
    let setting = |line: &str| {
        line.strip_prefix('#')
            .filter(|l| !l.starts_with(' '))
            .map(str::to_owned)
    };
    let lines = packaged
        .lines()
        .map(|l| setting(l).unwrap_or_else(|| l.to_owned()) + "\n");
    lines.collect()
}

#[test]
fn the_readme_and_the_packaged_profile_state_every_default() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let (readme, packaged) = (
        read("README.md"),
        in_force(&read("packaging/holdfast.toml")),
    );
    let (_, behind) = readme.split_once("```toml\n").unwrap();
    let (shown, _) = behind.split_once("```").unwrap();
    assert!(packaged.ends_with(shown), "they differ: {packaged}");
    let mut defaults = Profile::default();
    defaults.web.users = Some("wireguard.db".to_owned());
    assert_eq!(toml::from_str::<Profile>(shown).unwrap(), defaults);
    for key in [
        "state_dir",
        "busy_seconds",
        "tunnel_seconds",
        "service_seconds",
        "watch_seconds",
        "other_databases",
        "hosts",
        "entries",
        "every_hours",
        "on_backup",
        "on_backup_seconds",
    ] {
        assert!(shown.contains(&format!("{key} ")), "{key}");
    }
}

#[test]
fn one_database_is_asked_who_signs_in_and_it_must_be_one_of_users() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdfast.toml");
    let read = |web: &str| {
        std::fs::write(&file, format!("[web]\n{web}\n")).unwrap();
        Profile::read(&file, false)
    };
    let asked = |web| read(web).unwrap().sign_in_database().unwrap().name.clone();
    assert_eq!(asked(""), "wireguard.db");
    assert_eq!(asked("users = \"app.db\""), "app.db");
    for bad in ["configs.db", "nothing.db", ""] {
        let problem = read(&format!("users = \"{bad}\"")).unwrap_err();
        assert!(problem.what.contains("web.users names"), "{problem}");
    }
}

#[test]
fn files_of_kept_rules_that_could_be_mixed_up_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdfast.toml");
    let read = |kept: &str| {
        std::fs::write(&file, format!("[gateway.firewall]\nkept = [{kept}]\n")).unwrap();
        Profile::read(&file, false)
    };
    for good in ["", r#""/a/rules.v4""#, r#""/a/rules.v4", "/a/rules.v6""#] {
        assert!(read(good).is_ok(), "{good}");
    }
    for bad in [
        r#""/a/rules.v6""#,
        r#""/a/rules.v6", "/a/rules.v4""#,
        r#""/a/rules.v4", "/a/rules.v6", "/a/more.v4""#,
    ] {
        let problem = read(bad).unwrap_err();
        assert!(problem.what.contains("IPv4 first"), "{problem}");
    }
}

#[test]
fn a_program_that_would_be_searched_for_and_a_time_that_is_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdfast.toml");
    let read = |schedule: &str| {
        std::fs::write(&file, format!("[schedule]\n{schedule}\n")).unwrap();
        Profile::read(&file, false)
    };
    assert!(read(r#"on_backup = ["/usr/bin/mail", "root"]"#).is_ok());
    for (bad, why) in [
        (r#"on_backup = ["mail", "root"]"#, "absolute path"),
        ("on_backup_seconds = 0", "is 0, not 1 to 3600"),
    ] {
        let problem = read(bad).unwrap_err();
        assert!(problem.what.contains(why), "{problem}");
    }
}

#[test]
fn a_profile_that_is_not_understood_is_told_by_line_and_mark_and_in_an_admins_words() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("holdfast.toml");
    let told = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let problem = Profile::read(&file, false).unwrap_err();
        let told = journal_format::problem_text(&problem);
        told.replace(&file.display().to_string(), "FILE")
    };
    let all = [
        "# a comment\n[gateway]\nconfig_dir = \"/a\"\n",
        "[web]\nport = 80800\n",
        "[web]\n\tport = \"x\"\n",
        "[gateway]\nservice = [{ name = \"x\" }]\n",
        "[[gateway.service]]\nunit = \"a.service\"\nstart = []\n",
        "[recovery]\npolicy = \"maybe\"\n",
        "limits = 3\n",
        "[gateway\n",
        "[gateway]\nowner = \"a\nb\"\n",
        "gateway.database = [{ name = \"a.db\", path = \"/a.db\" }]\n",
    ];
    let told: Vec<String> = all.iter().map(|text| told(text)).collect();
    insta::assert_snapshot!(told.join("\n\n"));
    std::fs::write(&file, b"[web]\nuser = \"\xff\"\n").unwrap();
    let problem = Profile::read(&file, false).unwrap_err();
    assert!(
        problem.what.ends_with("it is not text in UTF-8"),
        "{problem}"
    );
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let problem = not_understood::unread(&file, &denied);
    assert!(
        problem.advice.contains("sudo") && problem.advice.contains("ls -l"),
        "{problem}"
    );
}
