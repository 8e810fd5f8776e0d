//! The calls, what they are given, and random scripts of them.

use engine::gateway::peers;
use engine::host::Family;
use engine::text::fence_rules;
use journal_format::{Digest, Direction, FenceRules, Step};
use proptest::prelude::*;
use sha2::Digest as _;

pub use Call::{
    Active, CannotSeeTo, Down, Edit, Forward, Load, Move, Nft, PeerRemove, PeersAdd, Read,
    SameBoot, Settle, Start, StartedAgain, Statuses, Stop, Up,
};
pub use Direction::{Back, Forward as Onward};
pub use Family::{V4, V6};

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// `wg-quick up` of the config with this number; and so on.
    Up(usize),
    Down(usize),
    Load(Family, usize),
    Edit(Family, usize),
    Nft(usize),
    PeersAdd(usize, usize),
    PeerRemove(usize, usize),
    Start,
    /// From here on a start of the service cannot see to the client with this number; to all of them if there is none here.
    CannotSeeTo(Option<usize>),
    /// The client with this number is active, says its row.
    Active(usize),
    /// Its manager has waited, and started the service again.
    StartedAgain,
    /// Which clients are active, by their rows.
    Statuses,
    Stop,
    Forward(Family, bool),
    Settle(usize),
    /// What is in the database with this number, and beside it.
    Read(usize),
    /// The kernel facts are read, and count as those of before from here on.
    Facts,
    /// A step of a restore, with all that it asks and runs.
    Move(Step, Direction),
    /// What follows is in the boot in which the restore began, or in another.
    SameBoot(bool),
}

/// The tunnels: those of the gateway's two active clients, one that a restore brings, and some that go wrong.
pub const FIRST: usize = 0;
pub const SECOND: usize = 1;
pub const NEW: usize = 2;
/// Its second `PostUp` fails.
pub const FAILS: usize = 3;
/// Its first `PostDown` fails.
pub const LEAVES: usize = 4;
/// Its `PreUp` fails.
pub const NEVER: usize = 5;
/// Its `PreDown` fails.
pub const STAYS: usize = 6;
/// `wg` does not take its config.
pub const REFUSED: usize = 7;
/// It has no config.
pub const ABSENT: usize = 8;
pub const TUNNELS: usize = 9;

/// A key that is valid, and says nothing.
pub fn key(letter: char) -> String {
    format!("{}A=", letter.to_string().repeat(42))
}

/// The peers that are added to a tunnel while it runs.
pub fn peers_added(n: usize) -> String {
    let peer = |key: char, rest: &str| format!("[Peer]\nPublicKey = {}\n{rest}", self::key(key));
    match n {
        0 => peer('x', "AllowedIPs = 10.62.0.0/24\nPersistentKeepalive = 7\n"),
        // One that is there is set otherwise.
        1 => peer('p', "AllowedIPs = 10.63.0.0/24\n"),
        2 => peer('x', "Endpoint = 127.0.0.1:20998\n"),
        // A network of another peer.
        3 => peer('y', "AllowedIPs = 10.61.2.0/24, fd62::/64\n") + &peer('z', ""),
        4 => peer('x', "Colour = blue\n"),
        _ => "[Peer]\nAllowedIPs = 10.64.0.0/24\n".to_owned(),
    }
}
pub const PEERS_ADDED: usize = 6;
pub const PEERS_REMOVED: [char; 3] = ['p', 'x', 'w'];

/// What a plan gives the new tunnel: a peer that its config does not have, and none of those that it has.
pub fn peers_planned(names: &[String]) -> String {
    let dump = format!(
        "{}\t{}\t(none)\t(none)\t10.66.0.0/24\t0\t0\t0\t9\n",
        names[NEW],
        key('t')
    );
    serde_json::to_string(&peers::in_dump(&dump, names)).unwrap()
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::of_bytes(sha2::Sha256::digest(bytes).into())
}

/// Whether a call starts the service.
pub fn starts(call: &Call) -> bool {
    matches!(call, Start | Move(Step::StartServices, _))
}

pub fn config(n: usize) -> String {
    let mut text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.6{n}.0.1/32\n",
        key(char::from(b'a' + u8::try_from(n).unwrap()))
    );
    let absent = "iptables -D INPUT -i absent -j DROP";
    let hooks: &[&str] = match n {
        FIRST => &[
            "ListenPort = 20061",
            "PreUp = ip6tables -A INPUT -i %i -j ACCEPT",
            "PostUp = iptables -A FORWARD -i %i -j ACCEPT",
            "PostUp = ip6tables -A FORWARD -i %i -j ACCEPT",
            "PostUp = iptables -t mangle -I FORWARD -o %i -j ACCEPT",
            "PreDown = ip6tables -D INPUT -i %i -j ACCEPT",
            "PostDown = iptables -D FORWARD -i %i -j ACCEPT",
            "PostDown = ip6tables -D FORWARD -i %i -j ACCEPT",
            "PostDown = iptables -t mangle -D FORWARD -o %i -j ACCEPT",
        ],
        // Going down by this very file would write over it.
        SECOND => &["SaveConfig = true"],
        NEW => &[
            "ListenPort = 20062",
            "PostUp = iptables -I FORWARD -i %i -j ACCEPT",
            "PostDown = iptables -D FORWARD -i %i -j ACCEPT",
        ],
        FAILS => &[
            "PostUp = iptables -A FORWARD -o %i -j ACCEPT",
            &format!("PostUp = {absent}"),
            "PostUp = iptables -A OUTPUT -o %i -j ACCEPT",
        ],
        LEAVES => &[
            "PostUp = iptables -A OUTPUT -o %i -j ACCEPT",
            &format!("PostDown = {absent}"),
            "PostDown = iptables -D OUTPUT -o %i -j ACCEPT",
        ],
        NEVER => &[&format!("PreUp = {absent}")],
        STAYS => &[&format!("PreDown = {absent}")],
        _ => &[],
    };
    for hook in hooks {
        text.push_str(hook);
        text.push('\n');
    }
    match n {
        FIRST => text.push_str(&format!(
            "\n[Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = 10.61.1.0/24, fd61:1::/64\n\
             Endpoint = 127.0.0.1:20999\nPersistentKeepalive = 25\n\
             \n[Peer]\nPublicKey = {}\nAllowedIPs = 10.61.2.0/24\n",
            key('p'),
            key('s'),
            key('q')
        )),
        REFUSED => text.push_str("\n[Peer]\nAllowedIPs = 10.67.1.0/24\n"),
        _ => text.push_str(&format!(
            "\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.6{n}.9.0/24\n",
            key('p')
        )),
    }
    text
}

/// Tables to load beside what is there: good ones; half good ones; a table's policy alone; a table that there is not; no end.
pub fn loads(family: Family, n: usize, names: &[String]) -> String {
    let (first, new) = (&names[FIRST], &names[NEW]);
    let network = match family {
        V4 => "10.61.0.0/16",
        V6 => "fd61::/16",
    };
    match n {
        0 => format!(
            "# a comment\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [7:8]\n:OUTPUT ACCEPT [0:0]\n:OWN - [0:0]\n\
             -A FORWARD -i eth0 -o {first} -j ACCEPT\n-A FORWARD -i {new} -j ACCEPT\n-A FORWARD -j OWN\n\
             -A OWN -s {network} -j RETURN\nCOMMIT\n*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n\
             :OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o {first} -j MASQUERADE\nCOMMIT\n"
        ),
        1 => format!(
            "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -i {new} -j DROP\nCOMMIT\n\
             *nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o {new} -j NOWHERE\nCOMMIT\n"
        ),
        2 => "*filter\n:INPUT DROP [0:0]\nCOMMIT\n".to_owned(),
        3 => "*nonsense\n:INPUT ACCEPT [0:0]\nCOMMIT\n".to_owned(),
        _ => format!("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -o {new} -j DROP\n"),
    }
}
pub const LOADS: usize = 5;

/// Lines for `--noflush`: each is good, or good once, or only once there is what it names.
pub fn edits(n: usize, names: &[String]) -> String {
    let (first, second) = (&names[FIRST], &names[SECOND]);
    match n {
        0 => format!("*filter\n-A FORWARD -i {second} -j ACCEPT\nCOMMIT\n"),
        1 => format!("*filter\n-D FORWARD -i {second} -j ACCEPT\nCOMMIT\n"),
        2 => "*filter\n:OWN - [0:0]\n-A OWN -j RETURN\n-A FORWARD -j OWN\nCOMMIT\n".to_owned(),
        3 => "*filter\n-A NOWHERE -j ACCEPT\nCOMMIT\n".to_owned(),
        4 => format!(
            "*nat\n-A POSTROUTING -o {first} -j MASQUERADE\nCOMMIT\n\
             *filter\n-A FORWARD -o {first} -j ACCEPT\n-D FORWARD -o absent -j ACCEPT\nCOMMIT\n"
        ),
        5 => "*mangle\n:FORWARD DROP [0:0]\nCOMMIT\n".to_owned(),
        6 => format!("*filter\n-I FORWARD -o {first} -j DROP\nCOMMIT\n"),
        7 => "*filter\n-A FORWARD -j OWN\nCOMMIT\n".to_owned(),
        8 => format!("*filter\n-I FORWARD 2 -o {second} -j DROP\nCOMMIT\n"),
        9 => "*filter\n-D FORWARD -j OWN\n-F OWN\n-X OWN\nCOMMIT\n".to_owned(),
        10 => "*filter\n-F OWN\n-X OWN\nCOMMIT\n".to_owned(),
        _ => format!("*filter\n-F FORWARD\n-A FORWARD -i {first} -j ACCEPT\nCOMMIT\n"),
    }
}
pub const EDITS: usize = 12;

/// What `nft` is told.
pub fn nft(n: usize, fence: &FenceRules) -> String {
    match n {
        0 => fence_rules::closed(fence),
        1 => fence_rules::lifted(),
        2 => "nonsense\n".to_owned(),
        3 => "delete table inet holdfast\n".to_owned(),
        // All or nothing.
        4 => format!("{}delete table ip6 raw\n", fence_rules::lifted()),
        5 => "add table ip mangle\ndelete table ip mangle\n".to_owned(),
        _ => "add table ip6 filter\ndelete table ip6 filter\n".to_owned(),
    }
}
pub const NFTS: usize = 7;

/// The steps that are not about files. Each is run, and observed, in these directions.
pub const MOVES: [(Step, Direction); 13] = [
    (Step::Fence, Onward),
    (Step::Fence, Back),
    (Step::StopServices, Onward),
    (Step::TunnelsDown, Onward),
    (Step::ResetRules, Onward),
    (Step::TunnelsUp, Onward),
    (Step::TunnelsUp, Back),
    (Step::StartServices, Onward),
    (Step::LoadFirewall, Onward),
    (Step::LoadFirewall, Back),
    (Step::VerifyRunning, Onward),
    (Step::VerifyRunning, Back),
    (Step::LiftFence, Onward),
];

pub fn calls() -> impl Strategy<Value = Vec<Call>> {
    let family = || prop_oneof![2 => Just(V4), 1 => Just(V6)];
    let call = prop_oneof![
        5 => (0..TUNNELS).prop_map(Up),
        3 => (0..TUNNELS).prop_map(Down),
        2 => (family(), 0..LOADS).prop_map(|(f, n)| Load(f, n)),
        3 => (family(), 0..EDITS).prop_map(|(f, n)| Edit(f, n)),
        2 => (0..NFTS).prop_map(Nft),
        1 => (0..TUNNELS, 0..PEERS_ADDED).prop_map(|(t, n)| PeersAdd(t, n)),
        1 => (0..TUNNELS, 0..PEERS_REMOVED.len()).prop_map(|(t, n)| PeerRemove(t, n)),
        2 => Just(Start),
        1 => Just(Stop),
        1 => (family(), any::<bool>()).prop_map(|(f, on)| Forward(f, on)),
        1 => (0..5_usize).prop_map(Settle),
        1 => (0..5_usize).prop_map(Read),
        2 => Just(Call::Facts),
        1 => any::<bool>().prop_map(SameBoot),
        10 => (0..MOVES.len()).prop_map(|n| Move(MOVES[n].0, MOVES[n].1)),
    ];
    // Some begin with the gateway up.
    let begin = prop_oneof![
        1 => Just(Vec::new()),
        2 => Just(vec![Up(FIRST), Up(SECOND), Start, Call::Facts]),
    ];
    (begin, proptest::collection::vec(call, 1..10)).prop_map(|(mut begin, calls)| {
        begin.extend(calls);
        begin
    })
}
