//! The simulator's disk against the real system's: the same calls, one after another, on both. Both do them or both refuse, and after
//! each they show the same names, kinds, bytes, modes, and the same objects under them. The calls are random.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::gateway::profile::Profile;
use engine::host::Permit;
use engine::host::linux::Linux;
use engine::host::{Append, Host, Kind as Is, Look, Owner};
use engine::restore::journal::JournalWriter;
use engine::restore::process;
use journal_format::{
    Code, Direction, Driver, FileId, Format, Header, Move, Plan, Policy, RestoreId, Role, Step,
};
use proptest::prelude::*;
use tests::sim::gateway::{Kind, Scenario};
use tests::sim::host::Sim;

use crate::seeded::each_of;

/// One call, on names of a small folder.
#[derive(Debug, Clone)]
enum Call {
    MakeDir(usize),
    Create(usize, Vec<u8>),
    Exchange(usize, usize),
    Rename(usize, usize),
    Copy(usize, usize),
    RemoveFile(usize),
    RemoveDir(usize),
    SyncFile(usize),
    SyncDir(usize),
    SyncFilesystem(usize),
    KeepDir(usize),
    Keep(usize, Vec<u8>),
    Discard(usize),
    Reserve(usize),
    OpenJournal(usize),
    Append(Vec<u8>),
    Read(usize),
    List(usize),
    Sha256(usize),
}

const NAMES: [&str; 8] = ["", "a", "b", "c", "d", "d/a", "d/b", "e/f"];

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let name = || 1..NAMES.len();
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let call = prop_oneof![
        3 => name().prop_map(Call::MakeDir),
        4 => (name(), bytes()).prop_map(|(n, b)| Call::Create(n, b)),
        4 => (name(), name()).prop_map(|(a, b)| Call::Exchange(a, b)),
        4 => (name(), name()).prop_map(|(a, b)| Call::Rename(a, b)),
        2 => (name(), name()).prop_map(|(a, b)| Call::Copy(a, b)),
        2 => name().prop_map(Call::RemoveFile),
        2 => name().prop_map(Call::RemoveDir),
        1 => name().prop_map(Call::SyncFile),
        1 => (0..NAMES.len()).prop_map(Call::SyncDir),
        1 => (0..NAMES.len()).prop_map(Call::SyncFilesystem),
        2 => name().prop_map(Call::KeepDir),
        3 => (name(), bytes()).prop_map(|(n, b)| Call::Keep(n, b)),
        2 => name().prop_map(Call::Discard),
        1 => name().prop_map(Call::Reserve),
        1 => name().prop_map(Call::OpenJournal),
        2 => bytes().prop_map(Call::Append),
        1 => name().prop_map(Call::Read),
        1 => (0..NAMES.len()).prop_map(Call::List),
        1 => name().prop_map(Call::Sha256),
    ];
    proptest::collection::vec(call, 1..50)
}

/// One of the two hosts, with what a script needs of it.
struct Side<'h> {
    host: &'h dyn Host,
    base: PathBuf,
    permit: Permit,
    /// One that is open, with its name and object: it is appended to only while that is still its own.
    journal: Option<(Box<dyn Append>, usize, Option<FileId>)>,
    /// Objects in the order in which they were first seen.
    objects: BTreeMap<(u64, i64), usize>,
}

/// A permit comes of a journal, here as in a restore.
pub fn permit(host: &dyn Host, id: &RestoreId, plan: &Arc<Plan>, folder: &Path) -> Permit {
    let boot = host.boot().unwrap();
    let header = Header {
        format: Format::CURRENT,
        restore: id.clone(),
        boot: boot.clone(),
        program: process::program(),
        plan: plan.digest(),
    };
    let driver = Driver {
        role: Role::Restore,
        boot,
        pid: 7,
        session: 7,
        started_ticks: 7,
        policy: None,
    };
    host.keep_dir(folder).unwrap();
    let path = folder.join("journal");
    let mut journal = JournalWriter::begin(host, &path, header, plan.clone(), driver).unwrap();
    let first = Move {
        step: Step::SafetyBackup,
        direction: Direction::Forward,
        attempt: 1,
    };
    journal.intend(first, Vec::new()).unwrap()
}

impl<'h> Side<'h> {
    fn new(host: &'h dyn Host, s: &Scenario, folder: &Path, base: PathBuf) -> Side<'h> {
        let permit = permit(host, &s.id, &s.plan, folder);
        host.keep_dir(&base).unwrap();
        Side {
            host,
            base,
            permit,
            journal: None,
            objects: BTreeMap::new(),
        }
    }

    fn path(&self, name: usize) -> PathBuf {
        match NAMES[name] {
            "" => self.base.clone(),
            name => self.base.join(name),
        }
    }

    fn id(&self, name: usize) -> Option<FileId> {
        self.host.stat(&self.path(name)).unwrap()?.id
    }

    /// What it answers; none if it refuses.
    fn answer(&mut self, call: &Call, owner: Owner) -> Option<Vec<String>> {
        let (host, permit) = (self.host, &self.permit);
        let at = |n: &usize| self.path(*n);
        let nothing = |()| Vec::new();
        match call {
            Call::MakeDir(n) => host.make_dir(permit, &at(n)).map(nothing),
            Call::Create(n, bytes) => host
                .create(permit, &at(n), owner, &mut |out| {
                    out.write_all(bytes).unwrap();
                    Ok(())
                })
                .map(nothing),
            Call::Exchange(a, b) => host.exchange(permit, &at(a), &at(b)).map(nothing),
            Call::Rename(a, b) => host.rename(permit, &at(a), &at(b)).map(nothing),
            Call::Copy(a, b) => host.copy(permit, &at(a), &at(b)),
            Call::RemoveFile(n) => host.remove_file(permit, &at(n)).map(nothing),
            Call::RemoveDir(n) => host.remove_dir(permit, &at(n)).map(nothing),
            Call::SyncFile(n) => host.sync_file(permit, &at(n)).map(nothing),
            Call::SyncDir(n) => host.sync_dir(permit, &at(n)).map(nothing),
            Call::SyncFilesystem(n) => host.sync_filesystem(permit, &at(n)).map(nothing),
            Call::KeepDir(n) => host.keep_dir(&at(n)).map(nothing),
            Call::Keep(n, bytes) => host.keep(&at(n), bytes).map(nothing),
            Call::Discard(n) => host.discard(&at(n)).map(nothing),
            Call::Reserve(n) => host.reserve(&at(n), 4096).map(nothing),
            Call::OpenJournal(n) => {
                let opened = host.open_journal(&at(n), 4096);
                let id = self.id(*n);
                self.journal = opened.ok().map(|journal| (journal, *n, id));
                return self.journal.is_some().then(Vec::new);
            }
            Call::Append(bytes) => {
                let is_own = |(_, n, id): &(_, usize, Option<FileId>)| self.id(*n) == *id;
                if !self.journal.as_ref().is_some_and(is_own) {
                    return Some(Vec::new());
                }
                let (journal, ..) = self.journal.as_mut().unwrap();
                journal.append(bytes).map(nothing)
            }
            Call::Read(n) => host.read(&at(n), 1 << 20).map(|b| vec![format!("{b:?}")]),
            Call::List(n) => host.list(&at(n)),
            Call::Sha256(n) => host.sha256(&at(n)).map(|d| vec![d.to_string()]),
        }
        .ok()
    }

    /// All that there is to see.
    fn looks(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        for (n, name) in NAMES.iter().enumerate() {
            let path = self.path(n);
            assert_eq!(self.host.link_target(&path).unwrap(), None);
            let access = self.host.access(&path);
            let Some(meta) = self.host.stat(&path).unwrap() else {
                let nothing = access.map_err(|e| e.kind());
                seen.push(format!("{name} {nothing:?}"));
                continue;
            };
            let access = access.unwrap().unwrap();
            assert_eq!(access.object, (meta.dev, meta.id.unwrap().ino));
            assert_eq!(access.kind, meta.kind);
            let next = self.objects.len();
            let id = meta.id.unwrap();
            let object = *self.objects.entry((id.ino, id.born_ns)).or_insert(next);
            let held = match meta.kind {
                Is::File => format!(
                    "{} bytes {:?}",
                    meta.size,
                    self.host.read(&path, 1 << 20).unwrap()
                ),
                Is::Dir => format!("{:?}", self.host.list(&path).unwrap()),
                Is::Other => panic!("{}", path.display()),
            };
            let (uid, gid, mode) = (meta.uid, meta.gid, meta.mode);
            assert_eq!((access.uid, access.gid, access.mode), (uid, gid, mode));
            seen.push(format!(
                "{name} object {object} {:?} {uid}:{gid} {mode:o} {} {held}",
                meta.kind, access.has_list
            ));
        }
        seen
    }
}

/// A filesystem that restores are made on keeps times of birth.
fn keeps_births(host: &dyn Look, dir: &Path) -> bool {
    host.stat(dir).unwrap().is_some_and(|m| m.id.is_some())
}

#[test]
fn whatever_is_done_to_files_the_simulator_answers_as_the_system_does() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    let me = nix::unistd::geteuid();
    if !me.is_root() {
        fixtures::skip::record("needs root: files are given to others");
        return;
    }
    let owner = Owner {
        uid: 990,
        gid: 991,
        mode: 0o640,
    };
    each_of(200, 1000, &calls(), |script| {
        let folder = tempfile::tempdir().unwrap();
        let linux = Linux::new(&Profile::default());
        assert!(keeps_births(&linux, folder.path()));
        let sim = Sim::new(s.world.clone(), &s.places, None, false);
        let own = Path::new("/var/lib/holdfast/restores/x");
        let play = folder.path().join("play");
        let mut real = Side::new(&linux, &s, &folder.path().join("own"), play);
        let mut made = Side::new(&sim, &s, own, own.join("play"));
        for (n, call) in script.iter().enumerate() {
            let answers = (real.answer(call, owner), made.answer(call, owner));
            let after = (real.looks(), made.looks());
            if answers.0 != answers.1 || after.0 != after.1 {
                return Err(format!(
                    "call {n}, {call:?}: the system, then the simulator: {answers:#?}, and after it {after:#?}"
                ));
            }
        }
        Ok(())
    });
}

#[test]
fn between_two_mounts_of_one_filesystem_neither_renames_and_both_copy() {
    let s = Scenario::new(Kind::Everything, Policy::Auto).unwrap();
    if !nix::unistd::geteuid().is_root() {
        fixtures::skip::record("needs root: it mounts a folder");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (base, own) = (folder.path().join("play"), folder.path().join("own"));
    let on = |host: &dyn Host, base: &Path, own: &Path| {
        let permit = permit(host, &s.id, &s.plan, own);
        let at = |name: &str| base.join(name);
        let owner = Owner {
            uid: 990,
            gid: 991,
            mode: 0o640,
        };
        let mut fill = |out: &mut dyn std::io::Write| {
            out.write_all(b"text").unwrap();
            Ok(())
        };
        for name in ["a", "there/b"] {
            host.create(&permit, &at(name), owner, &mut fill).unwrap();
        }
        let dev = |name: &str| host.stat(&at(name)).unwrap().unwrap().dev;
        assert_eq!(dev("a"), dev("there/b"), "one filesystem");
        let moved = [
            host.rename(&permit, &at("a"), &at("there/a")),
            host.rename(&permit, &at("there/b"), &at("b")),
        ];
        let codes = moved.map(|m| m.unwrap_err().code.unwrap());
        assert_eq!(codes, [Code::CROSSES_MOUNTS, Code::CROSSES_MOUNTS]);
        host.exchange(&permit, &at("a"), &at("there/b"))
            .unwrap_err();
        host.copy(&permit, &at("a"), &at("there/a")).unwrap();
        let of = |name: &str| {
            let meta = host.stat(&at(name)).unwrap().unwrap();
            (meta.size, meta.uid, meta.gid, meta.mode)
        };
        assert_eq!(of("a"), of("there/a"));
        host.list(&at("there")).unwrap()
    };
    let mut world = s.world.clone();
    let play = Path::new("/var/lib/holdfast/restores/x/play");
    world.disk.bind(&play.join("there"));
    let sim = Sim::new(world, &s.places, None, false);
    let in_sim = on(&sim, play, Path::new("/var/lib/holdfast/restores/x"));
    // The mount is this thread's alone, and ends with it.
    let in_system = std::thread::scope(|scope| {
        let real = scope.spawn(|| {
            use nix::mount::{MsFlags, mount};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(none, "/", none, private, none).unwrap();
            let there = base.join("there");
            std::fs::create_dir_all(&there).unwrap();
            std::fs::set_permissions(&base, std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .unwrap();
            mount(Some(&there), &there, none, MsFlags::MS_BIND, none).unwrap();
            on(&Linux::new(&Profile::default()), &base, &own)
        });
        real.join().unwrap()
    });
    assert_eq!(in_sim, in_system);
}

#[test]
fn looked_at_together_or_one_by_one_files_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, size) in [("empty", 0), ("small", 300), ("large", 200_000)] {
        std::fs::write(at(name), vec![b'x'; size]).unwrap();
    }
    std::fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink("small", at("link")).unwrap();
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    let mut names = [
        "empty", "gone", "small", "folder", "large", "link", "pipe", "socket",
    ]
    .map(str::to_owned)
    .to_vec();
    for i in 0..300 {
        names.push(format!("many-{i}"));
        std::fs::write(at(&names[names.len() - 1]), i.to_string()).unwrap();
    }
    let linux = Linux::new(&Profile::default());
    let leads = linux.link_target(&at("link")).unwrap();
    assert_eq!(leads.as_deref(), Some(Path::new("small")));
    let of_link = linux.access(&at("link")).unwrap().unwrap();
    assert_eq!((of_link.kind, of_link.names), (Is::Other, 1));
    assert!(linux.access(&at("link/below")).is_err());
    let together = linux.held(folder.path(), &names).unwrap();
    assert_eq!(together.len(), names.len());
    for (name, held) in names.iter().zip(together) {
        let meta = linux.stat(&at(name)).unwrap();
        assert_eq!(held.as_ref().map(|h| &h.meta), meta.as_ref(), "{name}");
        let is_file = meta.is_some_and(|m| m.kind == Is::File);
        let alone = is_file.then(|| linux.sha256(&at(name)).unwrap());
        assert_eq!(held.and_then(|h| h.sha256), alone, "{name}");
    }
}
