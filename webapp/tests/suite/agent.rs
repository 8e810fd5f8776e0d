//! An agent that tells the page what a test wants, on a real socket, and remembers what it was asked.

use std::net::IpAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use agent_protocol::{
    Ask, BackupLine, Backups, Chunk, GatewayLine, GatewayLines, Halt, LackLine, MAX_CHUNK,
    Overview, Preview, Refusal, Reply, Request, RestoreLine, RootCommand, RootCommands, Running,
    Session, Status, Token, UnfitTunnel, UploadId, Wire, greet,
};
use journal_format::{Code, Digest, Note, Policy, Problem, RestoreId, Standing, alike};
use rocket::local::blocking::Client;
use webapp::{App, Settings};

use crate::journals::{ID, Shown};

pub const PASSWORD: &str = "correct horse battery staple";
pub const UPLOAD: &str = "00112233445566778899aabbccddeeff";

/// What the agent tells.
#[derive(Default)]
pub struct Told {
    pub journal: Vec<Shown>,
    /// How many of the journal's records are there by now.
    pub published: usize,
    pub running: Option<Running>,
    /// Why the restore gets no further.
    pub halt: Option<Halt>,
    /// How the gateway stands then.
    pub now: Option<GatewayLines>,
    pub backup: Vec<u8>,
    /// What the next backup lacks.
    pub lacks: Vec<LackLine>,
    pub unfit: Vec<UnfitTunnel>,
    /// What is told of the last backups.
    pub backups: Backups,
    /// The transfer of the backup ends here, without its mark.
    pub break_off_at: Option<usize>,
    pub limit_mib: u64,
    /// What the next question of an admin is refused with.
    pub refuse: Option<Refusal>,
    pub asked: Vec<Ask>,
    /// Where the browser was that asked last.
    pub from: Option<IpAddr>,
    /// Sessions that were begun and ended.
    pub sessions: usize,
    /// What browsers showed of an earlier time when they signed in.
    pub devices: Vec<Option<Token>>,
    /// Bytes of the upload that comes in now.
    pub received: usize,
    /// Uploads that arrived, and whether whole.
    pub uploads: Vec<(Vec<u8>, bool)>,
    pub streams: Vec<UnixStream>,
}

pub struct FakeAgent {
    pub folder: tempfile::TempDir,
    pub told: Arc<Mutex<Told>>,
}

pub fn token(of: &str) -> Token {
    let digit = match of {
        "admin" => "a",
        "device" => "d",
        _ => "b",
    };
    Token::new(digit.repeat(64)).unwrap()
}

impl FakeAgent {
    pub fn start(told: Told) -> FakeAgent {
        let agent = FakeAgent {
            folder: tempfile::tempdir().unwrap(),
            told: Arc::new(Mutex::new(told)),
        };
        agent.listen();
        agent
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Listens, as an agent that was started (again).
    pub fn listen(&self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let told = self.told.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let told = told.clone();
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    told.lock()
                        .unwrap()
                        .streams
                        .push(stream.try_clone().unwrap());
                    let end = stream.try_clone().unwrap();
                    // A connection that a test broke ends its thread.
                    let _ = serve(Wire::new(stream), &told);
                    let _ = end.shutdown(std::net::Shutdown::Both);
                });
            }
        });
    }

    /// Ends as an agent that was killed: the socket is there, nobody answers, what was open is gone.
    pub fn kill(&self) {
        std::fs::remove_file(self.socket()).unwrap();
        for stream in self.told.lock().unwrap().streams.drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    pub fn settings(&self) -> Settings {
        settings(&self.socket())
    }

    /// A browser in which nobody has signed in.
    pub fn client(&self) -> Client {
        Client::tracked(
            webapp::rocket(App {
                settings: self.settings(),
            })
            .unwrap(),
        )
        .unwrap()
    }

    /// A browser in which this user has signed in.
    pub fn client_of(&self, user: &str) -> Client {
        let client = self.client();
        let page = client.get("/sign-in").dispatch().into_string().unwrap();
        let token = &page.split_once("name=\"token\" value=\"").unwrap().1[..64];
        let body = format!(
            "token={token}&user={user}&password={}",
            PASSWORD.replace(' ', "+")
        );
        let form = rocket::http::ContentType::Form;
        let answer = client.post("/sign-in").header(form).body(body).dispatch();
        assert!(answer.cookies().get("holdfast-session").is_some());
        drop(answer);
        client
    }
}

pub fn settings(socket: &Path) -> Settings {
    Settings {
        socket: socket.into(),
        address: "127.0.0.1".parse().unwrap(),
        port: 0,
        hosts: vec!["gw".into()],
        trusted_proxies: Vec::new(),
    }
}

/// How a gateway stands whose restore waits for somebody.
pub fn waits(recoveries: &[Policy]) -> GatewayLines {
    let line = |label: &str, text: &str| GatewayLine {
        label: label.into(),
        text: text.into(),
    };
    GatewayLines {
        lines: vec![
            line(
                "in place",
                "files are mixed: 9 as before the restore (<a>), 3 as the backup says (b)",
            ),
            line(
                "now",
                "9 of 10 tunnels are down (c0, c1, c2 and 6 more), since 2026-11-22T18:52:20Z (13.0 s)",
            ),
            line(
                "in the way",
                "restore ID was interrupted, and no process continues it",
            ),
            line(
                "what to do",
                "use a button below, or, on the gateway, run `holdfast recover`. If that fails: `holdfast recover --leave-as-it-is` unblocks traffic and leaves the files as they are",
            ),
        ],
        recoveries: recoveries.to_vec(),
    }
}

pub fn problem(what: &str) -> Problem {
    Problem::new(Code::IO, what, "do this")
}

pub fn backup(size: usize) -> BackupLine {
    BackupLine {
        name: "wireguard_backup_20261122_180000.zip".into(),
        size: size as u64,
        made_ms: 1_795_370_400_000,
        in_future: false,
        sha256: Digest::new("e".repeat(64)).unwrap(),
        lacks: Vec::new(),
    }
}

pub fn lacks() -> Vec<LackLine> {
    let lack = |part: &str, shown: &str, why: &str| LackLine {
        part: part.into(),
        shown: shown.into(),
        why: why.into(),
    };
    vec![
        lack(
            "configs.db",
            "the database configs.db",
            "database is locked: waited for 30 s <b>",
        ),
        lack(
            "rules-v4",
            "the IPv4 firewall rules",
            "two back ends hold rules",
        ),
    ]
}

pub fn preview() -> Preview {
    Preview {
        upload: UploadId::new(UPLOAD).unwrap(),
        gateway: "gw-north".into(),
        name: "nightly <b>backup</b>.zip".into(),
        size: 48_213,
        created_at: "2026-11-20T03:00:00Z".into(),
        host: Some("gw-south".into()),
        made_by: "holdfast 0.1.0".into(),
        commands: RootCommands::Shown(vec![RootCommand {
            key: "PostUp".into(),
            command: "exec -a token /tmp/<evil>".into(),
            tunnels: vec!["c0".into(), "c1".into()],
            more: 3,
        }]),
        changes: vec![
            "databases: configs.db, wireguard.db".into(),
            "configs: 2 changed, 1 added, 1 removed".into(),
        ],
        left_out: alike(&[Note::known(
            Code::NOT_IN_BACKUP,
            "the backup has none; those of now stay",
        )
        .of("the IPv6 firewall rules")]),
        notes: alike(&[
            Note::lost(
                Code::CLIENTS_GONE,
                "1 client is not in the backup and will be gone: branch-9",
            ),
            Note::down(
                Code::LOCKED_OUT,
                "the backup's IPv4 rules block SSH: nobody can reach port 22 after the restore",
            )
            .advising("see that another way leads to <this> box"),
            "the config berlin_01ab runs a command as root: PostUp = iptables -A FORWARD".into(),
        ]),
        plan: Digest::new("c".repeat(64)).unwrap(),
        needs_keep_going: false,
        has_open_folders: true,
        unsaved: Vec::new(),
        unfit: Vec::new(),
        until_ms: 1_795_377_140_000,
    }
}

fn serve(mut wire: Wire<UnixStream>, told: &Mutex<Told>) -> Result<(), Box<dyn std::error::Error>> {
    greet(&mut wire, "holdfast 0.1.0")?;
    let user_of = |t: &Token| ["admin", "viewer"].into_iter().find(|u| token(u) == *t);
    let session = |user: &str| Session {
        token: token(user),
        user: user.into(),
        admin: user == "admin",
    };
    let request = wire.receive()?;
    if matches!(request, Request::SignIn { .. } | Request::SignOut { .. }) {
        told.lock().unwrap().sessions += 1;
    }
    match request {
        Request::SignIn { user, .. } if user == "fresh" => {
            wire.send(&Reply::Refused(Refusal::MustChangePassword))?;
        }
        Request::SignIn {
            user,
            password,
            device,
            ..
        } if password.reveal() == PASSWORD && user != "nobody" => {
            told.lock().unwrap().devices.push(device);
            wire.send(&Reply::SignedIn {
                session: session(&user),
                device: (user == "admin").then(|| token("device")),
            })?;
        }
        Request::SignIn { .. } => wire.send(&Reply::Refused(Refusal::WrongPassword))?,
        Request::SignOut { .. } => wire.send(&Reply::SignedOut)?,
        Request::Who { token, .. } => match user_of(&token) {
            Some(user) => wire.send(&Reply::Session(session(user)))?,
            None => wire.send(&Reply::Refused(Refusal::NotSignedIn))?,
        },
        Request::Admin { token, from, ask } => {
            if user_of(&token) != Some("admin") {
                wire.send(&Reply::Refused(Refusal::NotAdmin))?;
                return Ok(());
            }
            let refusal = {
                let mut told = told.lock().unwrap();
                told.asked.push(ask.clone());
                told.from = from;
                told.refuse.take()
            };
            match refusal {
                Some(refusal) => wire.send(&Reply::Refused(refusal))?,
                None => answer(&mut wire, ask, told)?,
            }
        }
    }
    Ok(())
}

fn answer(
    wire: &mut Wire<UnixStream>,
    ask: Ask,
    told: &Mutex<Told>,
) -> Result<(), Box<dyn std::error::Error>> {
    let id = RestoreId::new(ID).unwrap();
    match ask {
        Ask::Overview => {
            let told = told.lock().unwrap();
            let line = |standing, interrupted| RestoreLine {
                id: id.clone(),
                began_ms: 1_795_373_540_000,
                archive: "a <i>b</i>.zip".into(),
                standing,
                in_part: false,
                interrupted,
                in_future: false,
            };
            wire.send(&Reply::Overview(Box::new(Overview {
                host: "gw-north".into(),
                backups: told.backups.clone(),
                running: told.running.clone(),
                restores: vec![
                    line(Some(Standing::Restored), false),
                    RestoreLine {
                        in_part: true,
                        in_future: true,
                        ..line(Some(Standing::Restored), false)
                    },
                    line(Some(Standing::RolledBack), false),
                    line(Some(Standing::Stuck), false),
                    line(Some(Standing::Forward), true),
                    line(None, false),
                ],
                upload_mib: told.limit_mib,
            })))?;
        }
        Ask::Status => {
            let (running, backups) = {
                let told = told.lock().unwrap();
                (told.running.clone(), told.backups.clone())
            };
            wire.send(&Reply::Status(Box::new(Status { running, backups })))?;
        }
        Ask::MakeBackup | Ask::GiveBackup { .. } => {
            let (bytes, end, lacks) = {
                let told = told.lock().unwrap();
                (told.backup.clone(), told.break_off_at, told.lacks.clone())
            };
            wire.send(&Reply::Alive)?;
            let backup = BackupLine {
                lacks,
                ..backup(bytes.len())
            };
            if ask == Ask::MakeBackup && !backup.lacks.is_empty() {
                wire.send(&Reply::Incomplete(backup))?;
                return Ok(());
            }
            wire.send(&Reply::Backup(backup))?;
            wire.send_bytes(&bytes[..end.unwrap_or(bytes.len())])?;
            if end.is_none() {
                wire.end_bytes()?;
            }
        }
        Ask::Upload { .. } => {
            let limit_mib = told.lock().unwrap().limit_mib;
            wire.send(&Reply::Ready { limit_mib })?;
            let mut buffer = Box::new([0; MAX_CHUNK]);
            let mut got = Vec::new();
            let whole = loop {
                match wire.receive_bytes(&mut buffer) {
                    Ok(Chunk::Bytes(n)) => {
                        got.extend_from_slice(&buffer[..n]);
                        told.lock().unwrap().received = got.len();
                    }
                    Ok(Chunk::End) => break true,
                    Ok(Chunk::Aborted) | Err(_) => break false,
                }
            };
            told.lock().unwrap().uploads.push((got, whole));
            if whole {
                wire.send(&Reply::Alive)?;
                wire.send(&Reply::Uploaded(Box::new(preview())))?;
            }
        }
        Ask::Preview { .. } | Ask::Again { .. } => {
            let told = told.lock().unwrap();
            let preview = Preview {
                unsaved: told.lacks.clone(),
                unfit: told.unfit.clone(),
                ..preview()
            };
            drop(told);
            wire.send(&Reply::Uploaded(Box::new(preview)))?;
        }
        Ask::Discard { .. } => wire.send(&Reply::Discarded)?,
        Ask::Start { .. } | Ask::Recover { .. } => wire.send(&Reply::Started { id })?,
        Ask::Restore { .. } => {
            let (view, halt, now) = {
                let told = told.lock().unwrap();
                let last = told.published.checked_sub(1);
                (
                    last.map(|last| told.journal[last].1.clone()),
                    told.halt.clone(),
                    told.now.clone(),
                )
            };
            match view {
                Some(view) => wire.send(&Reply::Restore {
                    view: Arc::new(view),
                    halt,
                    now,
                })?,
                None => wire.send(&Reply::Refused(Refusal::Gone {
                    problem: problem("find that restore"),
                }))?,
            }
        }
        Ask::Events { after, .. } => {
            let mut next = after.map_or(0, |seq| seq.0 as usize + 1);
            let mut first = true;
            let mut halted = None;
            loop {
                let (shown, over) = {
                    let told = told.lock().unwrap();
                    if next == told.published && told.halt != halted {
                        halted = told.halt.clone();
                        wire.send(&Reply::Halt {
                            view: Arc::new(told.journal[next - 1].1.clone()),
                            halt: halted.clone(),
                            now: told.now.clone(),
                        })?;
                    }
                    let over = told.published == told.journal.len()
                        && told.journal.last().is_some_and(|s| s.1.over);
                    (told.journal[..told.published].get(next).cloned(), over)
                };
                match shown {
                    Some((event, view)) => {
                        let now = told.lock().unwrap().now.clone();
                        wire.send(&Reply::Event {
                            now: now.filter(|_| event.over),
                            event: Arc::new(event),
                            view: Arc::new(view),
                        })?;
                        next += 1;
                    }
                    None if over => {
                        wire.send(&Reply::Over)?;
                        return Ok(());
                    }
                    None => {
                        if first {
                            wire.send(&Reply::Alive)?;
                        }
                        thread::sleep(Duration::from_millis(2));
                    }
                }
                first = false;
            }
        }
    }
    Ok(())
}
