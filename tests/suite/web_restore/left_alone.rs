//! A restore that the command line began and that nothing works on any more, while an agent runs.

use super::*;

/// A stage whose agent recovers by itself what was left alone for so long.
fn stage(seconds: u64) -> Option<Stage> {
    Stage::with(|folder| {
        let sample = fixtures::Real::gateway_5().unpack(folder).unwrap();
        let profile = sample.profile();
        let text = std::fs::read_to_string(&profile).unwrap();
        let recovery = format!("\n[recovery]\nagent_after_seconds = {seconds}\n");
        std::fs::write(profile, text + &recovery).unwrap();
        sample
    })
}

/// An admin, and the page of a restore of the command line that was killed in mid-exchange.
fn killed(stage: &Stage) -> (Client, String) {
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    admin.get_bytes("/system/backup");
    stage.change_gateway();
    let restore = stage.start_restore();
    let page = stage.page_of_running();
    let journal = page.replace("/restores", "restores") + "/journal";
    let journal = stage.sample().state_dir().join(journal);
    let begun = "\"intent\":{\"move\":{\"step\":\"swap-databases\"";
    while !std::fs::read_to_string(&journal)
        .unwrap_or_default()
        .contains(begun)
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    stage.kill_restore();
    restore.wait().unwrap();
    (admin, page)
}

#[test]
fn it_is_shown_as_interrupted_with_how_the_gateway_stands_and_a_button_that_recovers_it() {
    let Some(stage) = stage(100_000) else { return };
    let (mut admin, restore) = killed(&stage);
    let page = admin.get(&restore).1;
    assert!(page.contains("<h1>Interrupted</h1>"), "{page}");
    let (_, card) = page.split_once("<dl class=\"gateway\">").expect(&page);
    let (lines, form) = card.split_once("</dl>").unwrap();
    assert_eq!(lines.matches("<dt>").count(), 4, "{lines}");
    for said in [
        "forwarded traffic of the tunnels is blocked",
        "was interrupted, and no process continues it",
        "holdfast recover --leave-as-it-is",
        "holdfast restore ",
    ] {
        assert!(lines.contains(said), "{said}: {lines}");
    }
    assert!(
        form.contains("value=\"roll-back\">Roll back</button>"),
        "{form}"
    );
    // The first page says the same, and its button is the same.
    let home = admin.get("/").1;
    let (_, home) = home.split_once("<dl class=\"gateway\">").unwrap();
    assert!(
        home.contains(&format!("action=\"{restore}/recover\"")),
        "{home}"
    );

    let address = format!("{restore}/recover");
    let pressed = |admin: &mut Client, token: String| {
        let fields = [("token", token), ("policy", "roll-back".to_owned())];
        admin.post(&address, &fields)
    };
    assert_eq!(pressed(&mut admin, "0".repeat(64)).0, 403);
    assert!(admin.get(&restore).1.contains("<h1>Interrupted</h1>"));
    let token = field(&page, "token");
    let (status, there, said) = pressed(&mut admin, token.clone());
    assert_eq!((status, there), (303, restore.clone()), "{said}");
    let sent: Vec<_> = admin.events(&restore, None).collect();
    assert_eq!(sent.last().unwrap().data["verdict"], "rolled-back");
    let by_hand = |s: &&crate::web_stage::Sent| {
        s.data["text"]
            .as_str()
            .unwrap()
            .starts_with("a recovery started by hand")
    };
    assert_eq!(sent.iter().filter(by_hand).count(), 1);
    // Once it is over there is nothing to recover, and no button.
    let page = admin.get(&restore).1;
    assert!(!page.contains("class=\"recover\""), "{page}");
    assert_eq!(pressed(&mut admin, token).0, 409);
}

#[test]
fn the_agent_recovers_it_once_it_was_left_alone_for_long_enough() {
    let Some(stage) = stage(0) else { return };
    let (admin, restore) = killed(&stage);
    let sent: Vec<_> = admin.events(&restore, None).collect();
    let verdict = &sent.last().unwrap().data["verdict"];
    assert!(
        verdict == "rolled-back" || verdict == "restored",
        "{verdict}"
    );
    let texts = sent.iter().map(|s| s.data["text"].as_str().unwrap());
    let recoveries = texts.filter(|t| t.starts_with("a recovery started by itself"));
    assert_eq!(recoveries.count(), 1);
}

#[test]
fn a_restore_whose_journal_is_gone_has_neither_a_link_nor_a_button() {
    let Some(stage) = stage(100_000) else { return };
    let (mut admin, restore) = killed(&stage);
    let state_dir = stage.sample().state_dir();
    std::fs::rename(state_dir.join("restores"), state_dir.join("away")).unwrap();
    std::fs::rename(state_dir.join("open"), state_dir.join("open-away")).unwrap();
    let home = admin.get("/").1;
    let (_, card) = home.split_once("<section class=\"verdict").expect(&home);
    let (card, _) = card.split_once("</section>").unwrap();
    assert!(card.contains("A restore is lost"), "{card}");
    assert!(card.contains("its journal is not in state_dir"), "{card}");
    assert!(!card.contains("<a ") && !card.contains("<form"), "{card}");
    assert_eq!(admin.get(&restore).0, 404);
}
