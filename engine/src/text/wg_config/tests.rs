//! Configs as real gateways have them: what is read out of one, and what is told of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rewritten;
mod unfit;

use super::*;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn good() -> String {
    format!(
        "# Büro – \"quoted\" 'text'\r\n[Interface]\r\nPrivateKey = {KEY}\r\naddress=10.0.0.2/32, fd00::2/64\r\nListenPort = 51820\r\nDNS = 1.1.1.1, example.net\r\n\
         MTU = 1380\r\nTable = off\r\nFwMark = 0xca6c\r\nPostUp = iptables -A FORWARD -i %i -j ACCEPT # allow\r\n\r\n[Peer] # first\r\nEndpoint = host.example.net:51820\r\n\
         PublicKey = {KEY}\r\nPresharedKey = {KEY}\r\nAllowedIPs = 10.2.0.0/24,fd01::/64\r\n\t[PEER]\r\nPublicKey = {KEY}\r\nAllowedIPs = 0.0.0.0/0\r\nEndpoint = [2001:db8::1]:7"
    )
}

#[test]
fn a_config_with_all_that_real_ones_have_is_understood() {
    let mut config = parse("a.conf", good().as_bytes()).unwrap();
    assert_eq!(config.warnings, Vec::<String>::new());
    let hooks = std::mem::take(&mut config.interface.hooks);
    let hook = b"iptables -A FORWARD -i %i -j ACCEPT";
    assert_eq!(hooks, [("PostUp".to_owned(), hook.to_vec())]);
    insta::assert_debug_snapshot!(config.interface, @r#"
    Interface {
        addresses: [
            Prefix {
                address: 10.0.0.2,
                length: 32,
            },
            Prefix {
                address: fd00::2,
                length: 64,
            },
        ],
        key: Some(
            Mark,
        ),
        listen_port: Some(
            51820,
        ),
        dns: [
            "1.1.1.1",
            "example.net",
        ],
        mtu: Some(
            1380,
        ),
        table: Some(
            "off",
        ),
        fwmark: Some(
            "0xca6c",
        ),
        save_config: false,
        hooks: [],
    }
    "#);
    let [first, second] = &config.peers[..] else {
        panic!("two peers")
    };
    assert_eq!(
        (first.endpoint.as_deref(), first.endpoint_is_name),
        (Some("host.example.net:51820"), true)
    );
    assert_eq!(
        (second.endpoint.as_deref(), second.endpoint_is_name),
        (Some("[2001:db8::1]:7"), false)
    );
    assert!(second.allowed_ips[0].is_everything());
}

#[test]
fn lines_that_could_reach_a_hook_in_another_guise_are_told_of_as_one() {
    let hooks = |line: &[u8]| {
        let text = [b"[Interface]\nAddress = 10.0.0.1/32\n", line, b"\n"].concat();
        let config = read(&text).unwrap();
        (config.interface.hooks, config.unfit)
    };
    let evil = [("PostUp".to_owned(), b"evil".to_vec())];
    // wg-quick runs these.
    for line in [
        &b"PostUp\x0b= evil"[..],
        b"PostUp\x0c=\x0cevil",
        b"\rPostUp\r=\revil\r",
        b" \tpostup=evil # or not",
    ] {
        assert_eq!(hooks(line), (evil.to_vec(), vec![]), "{line:?}");
    }
    // It hands these to wg, which does not know them; another shell might.
    for line in [
        &b"Post\rUp = evil"[..],
        b"Post Up = evil",
        b"PostUp\xa0= evil",
        "PostUp\u{a0}= evil".as_bytes(),
        "\u{85}PostUp = evil".as_bytes(),
        "\u{feff}PostUp = evil".as_bytes(),
        b"Post-Up = evil",
        b"PostUp\x1b = evil",
    ] {
        let (found, unfit) = hooks(line);
        assert_eq!((found, unfit.len()), (evil.to_vec(), 1), "{line:?}");
    }
    assert_eq!(
        hooks(b"PostUp"),
        (vec![("PostUp".into(), b"PostUp".to_vec())], vec![])
    );
    assert_eq!(
        hooks(b"PostUp = a\rb\xfc\x1b=c").0,
        [("PostUp".to_owned(), b"a\rb\xfc\x1b=c".to_vec())]
    );
}

#[test]
fn what_wg_quick_takes_however_it_is_spelled_is_read_as_it_reads_it() {
    let key = KEY;
    let config = |text: &str| {
        let config = read(text.as_bytes()).unwrap();
        assert_eq!(config.unfit, Vec::<String>::new(), "{text:?}");
        config
    };
    // Each of these was tried with wg-quick.
    config("");
    config(&format!(
        "[Peer]\nPublicKey = {key}\nAllowedIPs = 10.1.0.0/24\n"
    ));
    config("[Interface]\nTable =\nMTU =\nAddress =\n");
    let spaced = config(&format!(
        "[ Interface ]\nPrivate Key = {key}\n[ Peer ]\nPublic Key = {key}\nAllowed IPs = 10.1.0.0 /24\nEndpoint = 192.0.2.1 :5 \n"
    ));
    assert!(spaced.interface.key.is_some());
    assert_eq!(spaced.peers[0].endpoint.as_deref(), Some("192.0.2.1:5"));
    assert_eq!(spaced.peers[0].allowed_ips.len(), 1);
    let twice = config(
        "[Interface]\nAddress = 10.0.0.1/24\n[Interface]\nAddress = 10.0.0.2/24, 10.0.0.3\n",
    );
    assert_eq!(twice.interface.addresses.len(), 3);
    assert!(
        config("[Interface]\nSaveConfig = TRUE\n")
            .interface
            .save_config
    );
    let latin = read(b"# B\xfcro\n[Interface]\nPostUp = echo \xfc # \xff\n").unwrap();
    assert_eq!(latin.unfit, Vec::<String>::new());
    assert_eq!(
        latin.interface.hooks,
        [("PostUp".to_owned(), b"echo \xfc".to_vec())]
    );
}

#[test]
fn the_gateways_own_reader_takes_only_text_with_both_sections_and_a_plain_name() {
    let text = "[Interface]\n[Peer]\n";
    assert!(gateway_takes(b"a.conf", text.as_bytes()));
    assert!(gateway_takes(
        "\u{f6}\u{301} A.conf".as_bytes(),
        text.as_bytes()
    ));
    for name in [
        &b"a\xfc.conf"[..],
        b"a..b.conf",
        b"a\\b.conf",
        b"a\nb.conf",
        b".conf",
        b"a",
    ] {
        assert!(!gateway_takes(name, text.as_bytes()), "{name:?}");
    }
    for bytes in [
        &b""[..],
        b"[Interface]\n",
        b"[interface]\n[Peer]\n",
        b"[Interface]\n[ Peer ]\n",
        b"# \xfc\n[Interface]\n[Peer]\n",
    ] {
        assert!(!gateway_takes(b"a.conf", bytes), "{bytes:?}");
    }
}

#[test]
fn hooks_are_found_in_any_case_and_any_section() {
    let text = format!(
        "[INTERFACE]\npreup=a\nPOSTUP = b\nPreDown = c\n[peer]\nPublicKey = {KEY}\npostDOWN = d\n"
    );
    let config = parse("a.conf", text.as_bytes()).unwrap();
    let hooks: Vec<_> = config
        .interface
        .hooks
        .iter()
        .map(|(k, v)| format!("{k}={}", String::from_utf8_lossy(v)))
        .collect();
    assert_eq!(hooks, ["PreUp=a", "PostUp=b", "PreDown=c", "PostDown=d"]);
}

#[test]
fn private_keys_are_told_apart_and_not_kept() {
    let other = format!("B{}", &KEY[1..]);
    let key = |key: &str| {
        let text = format!("[Interface]\nPrivateKey = {key}\n[Peer]\n");
        parse("a.conf", text.as_bytes()).unwrap().interface.key
    };
    assert!(key(KEY).is_some());
    assert_eq!(key(KEY), key(KEY));
    assert_ne!(key(KEY), key(&other));
    assert_eq!(key("short"), None);
}

#[test]
fn a_key_in_the_wrong_place_is_not_shown() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0cwA=";
    for (interface, peer) in [
        (format!("Address = {secret}"), String::new()),
        (format!("DNS = {secret}"), String::new()),
        (String::new(), format!("AllowedIPs = {secret}")),
        (
            String::new(),
            format!("AllowedIPs = 10.0.0.0/8,{}", &secret[..43]),
        ),
        (String::new(), format!("Endpoint = {secret}")),
        (String::new(), format!("Endpoint = {secret}:51820")),
        (
            String::new(),
            format!("{} = x", secret.trim_end_matches('=')),
        ),
    ] {
        let text = format!("[Interface]\n{interface}\n[Peer]\nPublicKey = {KEY}\n{peer}\n");
        let config = parse("a.conf", text.as_bytes()).unwrap();
        let said = [config.warnings, config.unfit].concat();
        assert_eq!(said.len(), 1, "{text}");
        assert!(
            !said[0].contains("c2Vj") && said[0].starts_with("line "),
            "{said:?}"
        );
    }
}

#[test]
fn keys_are_in_no_model_and_no_problem() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0cwA=";
    let text = format!(
        "[Interface]\nPrivateKey = {secret}\n[Peer]\nPublicKey = {KEY}\nPresharedKey = {secret}\n"
    );
    assert!(!format!("{:?}", parse("a.conf", text.as_bytes()).unwrap()).contains(secret));
    for broken in [
        text.replace("PrivateKey =", "PrivateKey"),
        text.replace("PrivateKey = ", ""),
        text.replace("[Interface]", "[Interface"),
    ] {
        let config = parse("a.conf", broken.as_bytes()).unwrap();
        assert!(!config.unfit.is_empty());
        assert!(!format!("{config:?}").contains("c2Vj"), "{config:?}");
    }
    let problem = parse("a.conf", format!("{text}\0").as_bytes()).unwrap_err();
    assert!(!format!("{problem:?}").contains("c2Vj"), "{problem}");
}

#[test]
fn names_of_interfaces_are_those_that_wg_quick_takes() {
    for good in ["a", "c00000_30058fa2", "a+b=9.x-y", "-".repeat(0).as_str()]
        .iter()
        .take(3)
    {
        assert_eq!(interface_name(good).unwrap(), *good);
    }
    for bad in [
        "",
        ".",
        "..",
        "-x",
        "a/b",
        "a b",
        "ä",
        "a\0",
        "sixteen_letters_",
        "site*",
        "a\n",
    ] {
        assert!(interface_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn networks_lose_their_host_bits() {
    let network = |text: &str| Prefix::parse(text).unwrap().network().to_string();
    assert_eq!(network("10.2.3.4/24"), "10.2.3.0/24");
    assert_eq!(network("10.2.3.4"), "10.2.3.4/32");
    assert_eq!(network("1.2.3.4/0"), "0.0.0.0/0");
    assert_eq!(network("fd00:1:2:3::4/48"), "fd00:1:2::/48");
    assert_eq!(network("::1/0"), "::/0");
    for bad in [
        "",
        "/24",
        "10.0.0.0/",
        "10.0.0.0/+1",
        "10.0.0.0/33",
        "10.0.0/8",
        "::/129",
        "x",
    ] {
        assert_eq!(Prefix::parse(bad), None, "{bad}");
    }
}
