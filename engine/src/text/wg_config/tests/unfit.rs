//! What makes a config unfit or slow, and what wg-quick takes all the same.

use super::*;

#[test]
fn what_neither_wg_quick_nor_wg_knows_makes_a_config_unfit_with_the_line() {
    for line in [
        &b"\xef\xbb\xbf[Interface]"[..],
        b"\xef\xbb\xbf# a mark, and no comment to wg",
        b"[Interface]=x",
        b"[Interface]x",
        b"[Foo]",
        b"[Peer",
        b"evil",
        b"= evil",
        "P\u{f6}st = evil".as_bytes(),
        b"$(evil) = x",
        b"9x = 1",
        b"Key\x7f = x",
        b"Address = \xfc",
        b"[Peer]\nEndpoint = \xfc:1",
    ] {
        let text = [b"[Interface]\nListenPort = 1\n", line, b"\n"].concat();
        let unfit = read(&text).unwrap().unfit;
        assert!(
            unfit
                .iter()
                .any(|w| w.starts_with("line 3: ") || w.starts_with("line 4: ")),
            "{line:?}: {unfit:?}"
        );
    }
}

#[test]
fn what_would_have_to_be_guessed_at_cannot_be_vetted() {
    for text in [
        &b"[Interface]\nPost\0Up = evil\n"[..],
        b"\0",
        b"[Inter\0face]",
    ] {
        let why = read(text).unwrap_err().to_string();
        assert!(why.contains("NUL"), "{why}");
    }
    let most = MOST as usize;
    assert!(read(&vec![b'#'; most]).is_ok());
    let why = read(&vec![b'#'; most + 1]).unwrap_err().to_string();
    assert!(why.contains("1048577 bytes"), "{why}");
}

#[test]
fn what_is_not_a_config_is_unfit_and_says_why() {
    for (text, says) in [
        (
            "Address = 10.0.0.1\n[Interface]\n[Peer]\n",
            "setting Address",
        ),
        ("[Interface]\nAddress = /etc/pass*\n[Peer]\n", "pattern"),
        ("[Interface]\nDNS = [a-z]?\n[Peer]\n", "pattern"),
        ("[Interface]\nTable = $(x)\n[Peer]\n", "number or a word"),
        ("[Interface]\nMTU = -h\n[Peer]\n", "number or a word"),
        (
            "[Interface]\nSaveConfig = maybe\n[Peer]\n",
            "neither true nor false",
        ),
        ("[Interface]\n[Peer]\nEndpoint = a b:1 x\n", "host:port"),
        ("[Interface]\nListenPort =\n[Peer]\n", "ListenPort"),
    ] {
        let config = parse("a.conf", text.as_bytes()).unwrap();
        let said = config.unfit.join("; ");
        assert!(said.contains(says), "{text:?}: {said}");
    }
    assert_eq!(
        read(b"").unwrap().warnings,
        ["it has no [Interface]", "it has no [Peer]"]
    );
}

#[test]
fn what_wg_quick_would_refuse_makes_a_config_unfit_and_what_it_takes_does_not() {
    let unfit = |interface: &str, peer: &str| {
        let text = format!("[Interface]\n{interface}\n[Peer]\nPublicKey = {KEY}\n{peer}\n");
        parse("a.conf", text.as_bytes()).unwrap().unfit
    };
    // Each was tried with wg-quick.
    for (interface, peer) in [
        ("PrivateKey = short", ""),
        ("Address = $(id)", ""),
        ("Address = ~root", ""),
        ("Address = -force", ""),
        ("Address = 10.0.0.1/33", ""),
        ("Address = 10.0.0.1/32, 10.0.0.1/32", ""),
        ("ListenPort = http", ""),
        ("ListenPort = 99999", ""),
        ("FwMark = 77x", ""),
        ("MTU = 1", ""),
        ("MTU = 70000", ""),
        ("Foo = 1", ""),
        ("AllowedIPs = 10.0.0.0/8", ""),
        ("", "AllowedIPs = $(id)"),
        ("", "AllowedIPs = 10.0.0.0/24 10.1.0.0/24"),
        ("SaveConfig = maybe", ""),
        ("", "AllowedIPs = 10.0.0.0/24,"),
        ("", "PostUp = true"),
        ("", "PresharedKey = short"),
        ("", "Endpoint = nowhere"),
        ("", "PersistentKeepalive = 70000"),
    ] {
        assert_eq!(unfit(interface, peer).len(), 1, "{interface} {peer}");
    }
    for (interface, peer) in [
        ("Address = 10.0.0.1/255.255.255.0, 10.0.0.1/16", ""),
        ("Address =", ""),
        ("ListenPort = 0", "AllowedIPs ="),
        (
            "FwMark = off\nTable = 1234",
            "AllowedIPs = 10.0.0.0/24 , fd00::/8",
        ),
        ("FwMark = 0xca6c", "PersistentKeepalive = off"),
        ("DNS = -x", "Endpoint = -x:5"),
        ("", "Endpoint = 2001:db8::1:51820"),
        ("", "Endpoint = $(id):5"),
    ] {
        assert_eq!(
            unfit(interface, peer),
            Vec::<String>::new(),
            "{interface} {peer}"
        );
    }
}

#[test]
fn a_host_or_domain_that_is_none_is_named() {
    let text = "[Interface]\nDNS = -x, 1.1.1.1, example.net\n[Peer]\nEndpoint = $(id):5\n[Peer]\nEndpoint = -x:5\n";
    assert_eq!(
        parse("a.conf", text.as_bytes()).unwrap().warnings,
        [
            "line 2: DNS -x is not an address or the name of a domain",
            "line 4: Endpoint $(id):5 is not an address or the name of a host: its peer will have none",
            "line 6: Endpoint -x:5 is not an address or the name of a host: its peer will have none",
        ]
    );
}

#[test]
fn a_config_that_would_hold_the_outage_open_is_slow_and_says_the_number() {
    let slow = |interface: &str, peers: &str| {
        let text = format!("[Interface]\n{interface}\n[Peer]\nPublicKey = {KEY}\n{peers}");
        parse("a.conf", text.as_bytes()).unwrap().slow.join("\n")
    };
    let blanks = slow(&format!("PostUp = a{}b", " ".repeat(3000)), "");
    assert!(
        blanks.contains("about 108 s")
            && blanks.contains("line 2")
            && blanks.contains("3000 blanks"),
        "{blanks}"
    );
    let letters = slow(&format!("PostUp = {}", "a".repeat(16_000)), "");
    assert!(letters.contains("about 8 s"), "{letters}");
    let lines = format!("PostUp = {}\n", "a".repeat(4000)).repeat(20);
    assert!(slow(&lines, "").contains("to read it"), "{lines:.60}");
    let peer = |i: usize| {
        format!(
            "[Peer]\nPublicKey = {KEY}\nAllowedIPs = 10.{}.{}.0/24\n",
            i / 256,
            i % 256
        )
    };
    let peers = |n: usize| (0..n).map(peer).collect::<String>();
    assert_eq!(
        slow("", &peers(9000)),
        "it has 9001 peers, and 4000 are allowed: the gateway is down while wg-quick goes through them\n\
         it has 9000 networks in AllowedIPs, and 4000 are allowed: the gateway is down while wg-quick goes through them"
    );
    // A large site, and a long hook.
    assert_eq!(
        slow(&format!("PostUp = {}", "a ".repeat(1000)), &peers(3000)),
        ""
    );
}

#[test]
fn what_cannot_work_is_kept_with_a_warning() {
    let text = "[Interface]\nAddress = nowhere\nListenPort = 99999\nFoo = 1\n[Interface]\n[Peer]\nPublicKey = short\nEndpoint = nowhere\nAllowedIPs = 10.0.0.0/33, 10.0.0.1\n";
    let config = parse("a.conf", text.as_bytes()).unwrap();
    insta::assert_snapshot!([config.warnings, config.unfit].concat().join("\n"), @r"
    it has more than one [Interface]
    line 2: Address nowhere is not an address
    line 3: ListenPort 99999 is not a port
    line 4: nothing knows the setting Foo here
    line 8: Endpoint nowhere is not `host:port`
    line 9: AllowedIPs 10.0.0.0/33 is not an address or a network
    it has a peer without a usable PublicKey
    ");
    assert_eq!(config.peers[0].allowed_ips.len(), 1);
}
