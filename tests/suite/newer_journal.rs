//! A restore whose journal a newer Holdfast wrote is not said to have ended as this one would read it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use journal_format::{Format, scan};

use crate::on_a_gateway::{Gateway, small};
use crate::web_stage::Stage;

const ID: &str = "20261122T185220Z-0a1b2c3d";

/// A journal that ends as restored, of the next minor version, which says more of the end than this one understands.
fn newer() -> Vec<u8> {
    let whole = include_bytes!("../../journal-format/golden/1.1/restored.journal");
    let (mut bytes, mut last) = (Vec::new(), [0; 32]);
    for (n, record) in scan(whole).records.iter().enumerate() {
        let mut json = serde_json::to_value(record).unwrap();
        if n == 0 {
            json["entry"]["header"]["format"]["minor"] = (Format::CURRENT.minor + 1).into();
        }
        if let Some(closed) = json["entry"].get_mut("closed") {
            closed["lacks"] = serde_json::json!(["wireguard-monitor.service"]);
        }
        let json = json.to_string();
        let hash = blake3::hash(&[&last[..], json.as_bytes()].concat());
        bytes.extend(format!("{} {json}\n", hash.to_hex()).bytes());
        last = *hash.as_bytes();
    }
    bytes
}

fn plant(state_dir: &Path) {
    let folder = state_dir.join("restores").join(ID);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("journal"), newer()).unwrap();
}

#[test]
fn the_command_line_says_that_it_cannot_tell_how_the_restore_of_a_newer_version_ended() {
    let Some(gateway) = Gateway::bare(small) else {
        return;
    };
    plant(&gateway.sample().state_dir());
    let verified = gateway.holdfast(&["journal", "verify", ID]);
    assert_eq!(verified.code(), 13, "{verified}");
    for words in [
        &["status"][..],
        &["journal", "list"],
        &["journal", "show", ID],
        &["journal", "show", ID, "--json"],
        &["status", "--json"],
    ] {
        let said = gateway.holdfast(words);
        assert_eq!(said.code(), 0, "{said}");
        for claim in [
            "as the backup says",
            "closed: restored",
            r#""verdict":"restored""#,
        ] {
            // The record itself is shown as it stands; what it adds up to may not be said.
            let adds_up = said.stdout.replace(
                r#""closed":{"lacks":["wireguard-monitor.service"],"verdict":"restored"}"#,
                "",
            );
            assert!(!adds_up.contains(claim), "{claim}: {said}");
        }
    }
    let shown = gateway.holdfast(&["journal", "show", ID]).stdout;
    assert!(shown.contains("How it stands is not known"), "{shown}");
    assert!(shown.contains("(unknown to this version)"), "{shown}");
    assert!(shown.contains("wireguard-monitor.service"), "{shown}");
}

#[test]
fn the_page_says_that_it_cannot_tell_how_the_restore_of_a_newer_version_ended() {
    let Some(stage) = Stage::set() else { return };
    plant(&stage.sample().state_dir());
    let mut admin = stage.client_of(stage.sample().admin().unwrap());
    let home = admin.get("/").1;
    assert!(home.contains(">not understood</span>"), "{home}");
    assert!(!home.contains(">restored</span>"), "{home}");
    let page = admin.get(&format!("/restores/{ID}")).1;
    assert!(
        page.contains("Cannot tell how this restore stands"),
        "{page}"
    );
    assert!(page.contains("How it stands is not known"), "{page}");
    assert!(!page.contains("as the backup says"), "{page}");
    assert!(!page.contains("Cleaning up"), "{page}");
}
