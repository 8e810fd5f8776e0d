//! A tunnel whose config says `SaveConfig`, on a real gateway whose service takes it down as it starts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::MetadataExt;

use fixtures::Misbehaviour;

use crate::on_a_gateway::{Gateway, files_below, path};

#[test]
fn a_config_over_which_the_start_of_the_service_writes_is_back_after_both_endings_and_named() {
    let Some(gateway) = Gateway::small() else {
        return;
    };
    let sample = gateway.sample();
    let tunnel = sample.active().unwrap().remove(0);
    let file = format!("{tunnel}.conf");
    for dir in [sample.configs_dir(), sample.wireguard_dir()] {
        let text = std::fs::read_to_string(dir.join(&file)).unwrap();
        let saves = "[Interface]\nSaveConfig = true # a comment, which wg-quick drops\n";
        let text = text.replacen("[Interface]\n", saves, 1);
        // In place: owner and mode stay.
        std::fs::write(dir.join(&file), text).unwrap();
    }
    let backup = gateway.backup();
    sample.starts_cannot_see_to(&[&tunnel]).unwrap();
    let before = gateway.picture();
    let config = sample.wireguard_dir().join(&file);
    for (fails, status) in [(None, 0), (Some(2), 4)] {
        if let Some(times) = fails {
            let how = Misbehaviour::FailStart { times: Some(times) };
            sample.misbehave(how).unwrap();
            // What the restore replaces, too.
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, format!("{text}# of before\n")).unwrap();
        }
        let was = std::fs::read(&config).unwrap();
        let done = gateway.holdfast(&["restore", path(&backup), "--yes"]);
        assert_eq!(done.code(), status, "{done}");
        let said = format!("SaveConfig wrote over {}", config.display());
        assert_eq!(done.stdout.matches(&said).count(), 1, "{done}");
        assert!(!done.stdout.contains("changed by others"), "{done}");
        assert_eq!(std::fs::read(&config).unwrap(), was, "{done}");
        let mut differs = before.diff(&gateway.picture());
        // The time of the change is that of the row's last; and this test wrote to the file.
        differs.retain(|l| !l.contains("database configs.db clients") && !l.contains(&file));
        assert!(differs.is_empty(), "{differs:?}");
        let owner = |path: &std::path::Path| std::fs::metadata(path).map(|m| (m.uid(), m.mode()));
        let other = sample.configs_dir().join(&file);
        assert_eq!(owner(&config).unwrap(), owner(&other).unwrap());

        let kept = files_below(&gateway.last_restore().join("found"));
        let kept = kept.iter().find(|f| f.ends_with(&file)).expect("kept");
        let kept = std::fs::read_to_string(kept).unwrap();
        assert!(kept.contains("SaveConfig = true\n"), "no save");
        // Copies that hold keys are gone, and nothing is left beside the configs.
        assert!(files_below(&gateway.last_restore().join("saved")).is_empty());
        let beside = files_below(&sample.wireguard_dir());
        let left = beside.iter().filter(|f| path(f).contains("holdfast"));
        assert_eq!(left.count(), 0);
    }
}
