//! Configs that are changed on their way, with every other byte left as it was.

use super::*;

#[test]
fn save_config_goes_and_every_other_byte_stays() {
    let text = b"[Interface]\r\nsaveconfig=true # x\r\nPostDown = x\r\n# SaveConfig = true\r\n SaveConfig = true";
    assert_eq!(
        without(text, &["SaveConfig"]),
        b"[Interface]\r\nPostDown = x\r\n# SaveConfig = true\r\n"
    );
    assert_eq!(
        without(text, &["SaveConfig", "PostDown"]),
        b"[Interface]\r\n# SaveConfig = true\r\n"
    );
    let plain = good();
    assert_eq!(without(plain.as_bytes(), &["SaveConfig"]), plain.as_bytes());
}

#[test]
fn what_wg_quick_saves_is_told_from_what_a_person_wrote() {
    let saved = b"[Interface]\nAddress = 10.8.0.1/24\nSaveConfig = true\nPostUp = true\nListenPort = 1\n\n[Peer]\n";
    assert!(is_as_saved(saved) && saves(saved));
    let commented = b"[Interface]\n# the office\nSaveConfig = true\n";
    let without = b"[Interface]\nAddress = 10.8.0.1/24\n";
    let other = b"\n[Interface]\nSaveConfig = true\n";
    assert!(
        ![&commented[..], without, other]
            .iter()
            .any(|t| is_as_saved(t))
    );
    assert!(saves(commented) && saves(other) && !saves(without));
}

#[test]
fn endpoints_are_rewritten_or_dropped_peer_by_peer() {
    let other = format!("B{}", &KEY[1..]);
    let text = format!(
        "[Interface]\nEndpoint = no:1\n[Peer]\nEndpoint = a.example:1\nPublicKey = {KEY}\n[Peer]\r\nPublicKey = {other}\r\nendpoint = b.example:2\r\n[Peer]\nEndpoint = 192.0.2.1:3"
    );
    let mut asked = Vec::new();
    let new = with_endpoints(text.as_bytes(), |key, endpoint| {
        asked.push((key.to_owned(), endpoint.to_owned()));
        match endpoint {
            "a.example:1" => None,
            "b.example:2" => Some("192.0.2.9:2".to_owned()),
            same => Some(same.to_owned()),
        }
    });
    let expected = text
        .replace("Endpoint = a.example:1\n", "")
        .replace("endpoint = b.example:2", "Endpoint = 192.0.2.9:2");
    assert_eq!(String::from_utf8(new).unwrap(), expected);
    assert_eq!(
        asked,
        [
            (KEY.to_owned(), "a.example:1".to_owned()),
            (other, "b.example:2".to_owned()),
            (String::new(), "192.0.2.1:3".to_owned())
        ]
    );
}

proptest::proptest! {
    /// Where the parser accepts, bash sees no hook that the model does not have: this is how wg-quick reads a line.
    #[test]
    fn no_accepted_config_has_a_hook_that_the_model_lacks(
        lines in proptest::collection::vec("(?i)(\\[interface\\]|\\[peer\\]|post ?up ?[= \\t\r\x0b\x0c\0#]{0,3}x|#|address ?= ?1\\.2\\.3\\.4)[ \\t\r\x0b#=]{0,2}", 0..12),
    ) {
        let text = lines.join("\n");
        if let Ok(config) = parse("a.conf", text.as_bytes()) {
            let mut seen = 0;
            let mut inside = false;
            for line in text.replace('\0', "").split('\n') {
                let stripped = line.split('#').next().unwrap();
                let space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
                let key = stripped.split('=').next().unwrap().trim_matches(space).to_ascii_lowercase();
                if key.starts_with('[') {
                    inside = key == "[interface]";
                }
                if inside && key == "postup" {
                    seen += 1;
                }
            }
            proptest::prop_assert!(seen <= config.interface.hooks.len());
        }
    }
}
