//! Many watch one restore at the agent's socket: each is told all of it, and who does not read holds up nobody.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::net::UnixStream;
use std::path::Path;

use agent_protocol::{Ask, Password, Reply, Request, Token, Wire, greet};
use fixtures::User;
use journal_format::{Event, RestoreId, Verdict};
use nix::sys::socket::{getsockopt, sockopt};

use crate::web_stage::Stage;

/// A connection on which this was asked.
fn asked(socket: &Path, request: &Request) -> Wire<UnixStream> {
    let mut wire = Wire::new(UnixStream::connect(socket).unwrap());
    greet(&mut wire, "a test").unwrap();
    wire.send(request).unwrap();
    wire
}

fn signed_in(socket: &Path, user: &User) -> Token {
    let request = Request::SignIn {
        user: user.name.clone(),
        password: Password::new(user.password.clone()),
        device: None,
        from: None,
    };
    match asked(socket, &request).receive().unwrap() {
        Reply::SignedIn { session, .. } => session.token,
        other => panic!("{other:?}"),
    }
}

/// Every event until it is over, and how many bytes of JSON the replies were.
fn read_all(wire: &mut Wire<UnixStream>) -> (Vec<Event>, usize) {
    let (mut events, mut bytes) = (Vec::new(), 0);
    loop {
        let reply: Reply = wire.receive().unwrap();
        bytes += serde_json::to_vec(&reply).unwrap().len();
        match reply {
            Reply::Event { event, .. } => events.push(Event::clone(&event)),
            Reply::Alive => {}
            Reply::Over => return (events, bytes),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn ten_viewers_are_told_all_of_a_restore_in_order_beside_one_that_reads_nothing() {
    let Some(stage) = Stage::set() else { return };
    let user = stage.sample().admin().unwrap();
    let mut admin = stage.client_of(user);
    assert_eq!(admin.get_bytes("/system/backup").0, 200);
    stage.change_gateway();
    let socket = stage.sample().root().join("agent.sock");
    let token = signed_in(&socket, user);
    let restoring = stage.start_restore();
    let page = stage.page_of_running();
    let id = RestoreId::new(page.rsplit('/').next().unwrap()).unwrap();
    let ask = Ask::Events { id, after: None };
    let from = None;
    let request = Request::Admin { token, from, ask };
    let mut silent = asked(&socket, &request);
    let told: Vec<_> = std::thread::scope(|scope| {
        let reader = || read_all(&mut asked(&socket, &request));
        let readers: Vec<_> = (0..10).map(|_| scope.spawn(reader)).collect();
        readers.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let ended = restoring.wait().unwrap();
    assert_eq!(ended.code(), 0, "{ended}");

    let (first, bytes) = &told[0];
    let room = getsockopt(silent.stream(), sockopt::SndBuf).unwrap();
    assert!(*bytes > room, "{bytes} bytes fit into a socket of {room}");
    let seqs: Vec<u64> = first.iter().map(|e| e.seq.0).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>());
    assert_eq!(first.last().unwrap().verdict, Some(Verdict::Restored));
    for (events, _) in &told {
        assert!(events == first, "another viewer was told something else");
    }
    // Nobody had to wait until the agent gave it up: it is still told all, once it reads.
    assert!(read_all(&mut silent).0 == *first);
}
