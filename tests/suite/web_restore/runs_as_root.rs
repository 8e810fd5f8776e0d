//! What of a backup runs as root, on the page that asks for the answer.

use super::*;

/// A backup of the kind that the gateway makes itself, with one config more.
fn with_config(stage: &Stage, name: &str, text: &str) -> Vec<u8> {
    let file = stage.sample().root().join("own.zip");
    let config = stage.sample().configs_dir().join(format!("{name}.conf"));
    std::fs::write(&config, text).unwrap();
    fixtures::format_1_0::write(stage.sample(), &file, false).unwrap();
    std::fs::remove_file(&config).unwrap();
    std::fs::read(file).unwrap()
}

fn hooks(hooks: &[&str], other: &str) -> String {
    let key = format!("{}A=", "b".repeat(42));
    let hooks: String = hooks.iter().map(|h| format!("PostUp = {h}\n")).collect();
    format!(
        "[Interface]\nPrivateKey = {key}\n{other}{hooks}[Peer]\nPublicKey = {key}\nAllowedIPs = 10.99.0.0/24\n"
    )
}

#[test]
fn nothing_that_runs_as_root_is_cut_folded_or_blanked_on_the_page_that_asks() {
    let Some(stage) = Stage::set() else { return };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let long = format!("true {} behind-2000", "x".repeat(2000));
    let unknown: String = (0..600).map(|i| format!("Foo{i} = 1\n")).collect();
    let text = hooks(
        &["exec -a token program-of-mine --password=mine", &long],
        &unknown,
    );
    let page = admin.reach_confirmation(&with_config(&stage, "zz", &text));
    let (before, asked) = page.split_once("What will run as root").unwrap();
    assert!(!before.contains("</svg> Warnings<"), "it comes first");
    let (commands, _) = asked.split_once("</section>").unwrap();
    assert!(
        commands.contains("PostUp = exec -a token program-of-mine --password=mine<"),
        "{commands}"
    );
    assert!(
        commands.contains(&format!("PostUp = {long}<")),
        "{commands}"
    );
    assert!(
        commands.contains("for zz") && !commands.contains("<details"),
        "{commands}"
    );
    assert!(page.contains("Overwrite and restore"));
    // One config with much to say does not hide what is said of the whole.
    assert!(
        page.contains("configs&#x2f;zz.conf: and 590 more lines like these"),
        "{page}"
    );
    assert!(page.contains("nothing vouches for what is in it"), "{page}");

    // What runs today changes: what was approved is not what would be done.
    let live = stage.sample().wireguard_dir().join("zz.conf");
    std::fs::write(&live, hooks(&["other"], "")).unwrap();
    let owner = stage.sample().configs_dir().metadata().unwrap();
    std::os::unix::fs::chown(&live, Some(owner.uid()), Some(owner.gid())).unwrap();
    let page = admin.reach_confirmation(&with_config(&stage, "zz", &hooks(&["mine"], "")));
    assert!(page.contains("PostUp = mine<"));
    std::fs::write(&live, hooks(&["mine"], "MTU = 1400\n")).unwrap();
    let (status, _, said) = admin.confirm(&page);
    assert_ne!(status, 303, "{said}");
    assert!(said.contains(">plan-drifted<"), "{said}");
}

#[test]
fn more_that_runs_as_root_than_can_be_read_on_a_page_has_no_button_there() {
    let Some(stage) = Stage::set() else { return };
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let hook = format!("true {}", "x".repeat(900));
    let many: Vec<String> = (0..40).map(|i| format!("{hook}{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let archive = with_config(&stage, "zz", &hooks(&many, ""));
    let page = admin.reach_confirmation(&archive);
    assert!(page.contains("run 40 commands as root"), "{page}");
    assert!(
        !page.contains("Overwrite and restore") && !page.contains("/system/restore/confirm"),
        "{page}"
    );
    // Nor by hand.
    let few = admin.reach_confirmation(&with_config(&stage, "zz", &hooks(&["true"], "")));
    let forged = few.replace(&field(&few, "upload"), &field(&page, "upload"));
    let (status, _, said) = admin.confirm(&forged);
    assert_ne!(status, 303);
    assert!(said.contains(">command-line-only<"), "{said}");
}
