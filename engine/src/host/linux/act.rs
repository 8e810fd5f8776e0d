//! The changes, each under a permit. Owns the words of every command, and that no link is followed. Decides nothing.

#![expect(
    clippy::disallowed_methods,
    reason = "the one place that changes the system"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use journal_format::Control;
use nix::fcntl::{OFlag, RenameFlags};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;

use super::{
    COMMAND_LIMIT, Linux, forwarding, forwarding_of, hold, is_gone, make_private_dir, open_file,
    remove, rename, split, sync_dir, words,
};
use crate::error::Problem;
use crate::files::attributes;
use crate::files::open::{again, errno, open_at, open_dir};
use crate::gateway::database::{Settled, Trouble};
use crate::gateway::link::LinkChange;
use crate::host::live_database::Live;
use crate::host::programs::{execute, execute_exactly};
use crate::host::{
    Act, ExitKind, Family, Fill, GatewayCommand, MAY_START, Output, Owner, Permit, parent,
};

impl Act for Linux {
    fn make_dir(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        make_private_dir(dir)
    }

    fn create(
        &self,
        _: &Permit,
        path: &Path,
        owner: Owner,
        fill: &mut Fill,
    ) -> Result<(), Problem> {
        let (dir, name) = split(path, "make")?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = again(|| nix::fcntl::openat(&dir, name, flags, Mode::from_bits_truncate(0o600)))
            .map_err(|e| errno("make", path, e))?;
        let mut file = File::from(fd);
        fill(&mut file).map_err(|p| Problem {
            what: format!("write {}: {}", path.display(), p.what),
            ..p
        })?;
        give(&file, owner).map_err(|e| errno("set owner and mode of", path, e))
    }

    fn exchange(&self, _: &Permit, a: &Path, b: &Path) -> Result<(), Problem> {
        rename(a, b, RenameFlags::RENAME_EXCHANGE, "exchange")
    }

    fn rename(&self, _: &Permit, from: &Path, to: &Path) -> Result<(), Problem> {
        rename(from, to, RenameFlags::RENAME_NOREPLACE, "rename")
    }

    fn copy(&self, _: &Permit, from: &Path, to: &Path) -> Result<Vec<String>, Problem> {
        let mut source = open_file(from)?;
        let meta = source.metadata().map_err(|e| errno("read", from, e))?;
        let (dir, name) = split(to, "make")?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = again(|| nix::fcntl::openat(&dir, name, flags, Mode::from_bits_truncate(0o600)))
            .map_err(|e| errno("make", to, e))?;
        let mut file = File::from(fd);
        std::io::copy(&mut source, &mut file).map_err(|e| errno("write", to, e))?;
        give(
            &file,
            Owner {
                uid: meta.uid(),
                gid: meta.gid(),
                mode: meta.mode() & 0o777,
            },
        )
        .map_err(|e| errno("set owner and mode of", to, e))?;
        // It is the same file for everybody but the filesystem.
        if let Ok(modified) = meta.modified() {
            file.set_modified(modified)
                .map_err(|e| errno("set the time of", to, e))?;
        }
        let unkept = attributes::copy(&source, &file)
            .map_err(|e| errno("set the extended attributes of", to, e))?;
        file.sync_all().map_err(|e| errno("sync", to, e))?;
        Ok(unkept)
    }

    fn take_attributes(&self, _: &Permit, from: &Path, to: &Path) -> Result<Vec<String>, Problem> {
        if !attributes::may_have(from) {
            return Ok(Vec::new());
        }
        // The first may be a database: closing what can be read would drop the locks that this process has on it.
        let source =
            open_at(from, OFlag::O_PATH, Mode::empty()).map_err(|e| errno("look at", from, e))?;
        attributes::copy(&source.into(), &open_file(to)?)
            .map_err(|e| errno("set the extended attributes of", to, e))
    }

    fn remove_file(&self, _: &Permit, path: &Path) -> Result<(), Problem> {
        remove(path, UnlinkatFlags::NoRemoveDir)
    }

    fn remove_dir(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        remove(dir, UnlinkatFlags::RemoveDir)
    }

    fn sync_file(&self, _: &Permit, path: &Path) -> Result<(), Problem> {
        open_file(path)?
            .sync_all()
            .map_err(|e| errno("sync", path, e))
    }

    fn sync_dir(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        sync_dir(dir)
    }

    fn sync_filesystem(&self, _: &Permit, dir: &Path) -> Result<(), Problem> {
        let fd = open_dir(dir).map_err(|e| errno("sync the filesystem of", dir, e))?;
        again(|| nix::unistd::syncfs(fd.as_fd()))
            .map_err(|e| errno("sync the filesystem of", dir, e))
    }

    fn settle_database(&self, _: &Permit, path: &Path) -> Result<Settled, Problem> {
        Live::new(&self.profile).settle(path)
    }

    fn call_active(
        &self,
        _: &Permit,
        database: &Path,
        clients: &BTreeSet<String>,
    ) -> Result<(), Trouble> {
        Live::new(&self.profile).call_active(database, clients)
    }

    fn set_forwarding(&self, _: &Permit, family: Family, on: bool) -> Result<(), Problem> {
        let path = Path::new(forwarding(family));
        std::fs::write(path, if on { "1" } else { "0" }).map_err(|e| errno("write", path, e))
    }

    fn set_forwarding_of(
        &self,
        _: &Permit,
        family: Family,
        interface: &str,
        on: bool,
    ) -> Result<(), Problem> {
        let path = forwarding_of(family, interface);
        match std::fs::write(&path, if on { "1" } else { "0" }) {
            Err(e) if is_gone(&e) => Ok(()),
            done => done.map_err(|e| errno("write", &path, e)),
        }
    }

    fn run(&self, _: &Permit, command: &GatewayCommand, input: &str) -> Result<Output, Problem> {
        self.before(command)?;
        let service_limit = Duration::from_secs(self.profile.gateway.service_seconds);
        let (argv, limit) = match command {
            GatewayCommand::EditRules(Family::V4) => (
                words(&["iptables-restore", "--noflush", "--wait", "10"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::EditRules(Family::V6) => (
                words(&["ip6tables-restore", "--noflush", "--wait", "10"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::Nft => (words(&["nft", "-f", "-"]), COMMAND_LIMIT),
            GatewayCommand::TunnelUp(config, within) => {
                (words(&["wg-quick", "up", config]), *within)
            }
            GatewayCommand::TunnelDown(config, within) => {
                (words(&["wg-quick", "down", config]), *within)
            }
            GatewayCommand::PeersAdd(tunnel) => (
                words(&["wg", "addconf", tunnel, "/dev/stdin"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::PeerRemove(tunnel, key) => (
                words(&["wg", "set", tunnel, "peer", key, "remove"]),
                COMMAND_LIMIT,
            ),
            GatewayCommand::SetLink(tunnel, change) => (set_link(tunnel, change), COMMAND_LIMIT),
            GatewayCommand::ServiceStart(Control::Unit(unit)) => (
                words(&["systemctl", "--no-ask-password", "start", "--", unit]),
                service_limit,
            ),
            GatewayCommand::ServiceStop(Control::Unit(unit)) => (
                // A start that somebody asks for meanwhile would take the place of this job.
                words(&[
                    "systemctl",
                    "--no-ask-password",
                    "stop",
                    "--job-mode=replace-irreversibly",
                    "--",
                    unit,
                ]),
                service_limit,
            ),
            GatewayCommand::ServiceStart(Control::Commands { start, .. }) => {
                (start.clone(), service_limit)
            }
            GatewayCommand::ServiceStop(Control::Commands { stop, .. }) => {
                (stop.clone(), service_limit)
            }
        };
        let exactly = matches!(command, GatewayCommand::EditRules(_));
        let run = if exactly { execute_exactly } else { execute };
        let mut out = run(&argv, input, limit)?;
        if out.end == ExitKind::TimedOut && is_of_a_service(command) {
            let said = format!(
                "\nit was ended after {} s (`service_seconds` of the profile)",
                limit.as_secs()
            );
            out.stderr.push_str(&said);
            if let GatewayCommand::ServiceStart(_) = command {
                // The service says nothing of that.
                let hook = ": a tunnel that the service brings up may hang in a hook";
                out.stderr.push_str(hook);
            }
        }
        Ok(out)
    }
}

impl Linux {
    /// What a command on a unit needs beforehand.
    fn before(&self, command: &GatewayCommand) -> Result<(), Problem> {
        match command {
            GatewayCommand::ServiceStart(Control::Unit(unit)) => {
                // Before anybody else can start the unit: a socket does not listen for one that runs.
                if let Err(problem) = hold::listen_again(unit) {
                    tracing::warn!("{problem}");
                }
                let_start(true)?;
                // systemd refuses a unit that was started five times in 10 s, by whomever. It need not have failed.
                let reset = ["systemctl", "--no-ask-password", "reset-failed", "--", unit];
                execute(&words(&reset), "", COMMAND_LIMIT)?;
            }
            GatewayCommand::ServiceStop(Control::Unit(unit)) => {
                let_start(false)?;
                if let Err(problem) = hold::hold(unit, &self.profile.barrier()) {
                    tracing::warn!("{unit} may be started by others meanwhile: cannot {problem}");
                }
            }
            GatewayCommand::ServiceStart(Control::Commands { .. })
            | GatewayCommand::ServiceStop(Control::Commands { .. })
            | GatewayCommand::EditRules(_)
            | GatewayCommand::Nft
            | GatewayCommand::TunnelUp(..)
            | GatewayCommand::TunnelDown(..)
            | GatewayCommand::PeersAdd(_)
            | GatewayCommand::SetLink(..)
            | GatewayCommand::PeerRemove(_, _) => {}
        }
        Ok(())
    }
}

fn is_of_a_service(command: &GatewayCommand) -> bool {
    matches!(
        command,
        GatewayCommand::ServiceStart(_) | GatewayCommand::ServiceStop(_)
    )
}

/// An address may have another end.
fn set_address(how: &str, address: &str, tunnel: &str) -> Vec<String> {
    let ip = ["ip", "address", how].into_iter();
    let dev = ["dev", tunnel];
    words(&ip.chain(address.split(' ')).chain(dev).collect::<Vec<_>>())
}

fn set_link(tunnel: &str, change: &LinkChange) -> Vec<String> {
    match change {
        LinkChange::AddAddress(a) => set_address("add", a, tunnel),
        LinkChange::RemoveAddress(a) => set_address("del", a, tunnel),
        LinkChange::Mtu(mtu) => {
            words(&["ip", "link", "set", "dev", tunnel, "mtu", &mtu.to_string()])
        }
        LinkChange::Port(port) => words(&["wg", "set", tunnel, "listen-port", &port.to_string()]),
        LinkChange::AddRoute(route) => {
            let add = ["ip", "route", "add"].into_iter();
            words(&add.chain(route.split_whitespace()).collect::<Vec<_>>())
        }
    }
}

/// Says to units that a boot holds back whether they may start now.
fn let_start(now: bool) -> Result<(), Problem> {
    let path = Path::new(MAY_START);
    if !now {
        return remove(path, UnlinkatFlags::NoRemoveDir);
    }
    let dir = parent(path)?;
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(path, ""))
        .map_err(|e| errno("write", path, e))
}

fn give(file: &File, owner: Owner) -> nix::Result<()> {
    let uid = nix::unistd::Uid::from_raw(owner.uid);
    let gid = nix::unistd::Gid::from_raw(owner.gid);
    let mode = Mode::from_bits_truncate(owner.mode & 0o777);
    again(|| nix::unistd::fchown(file, Some(uid), Some(gid)))?;
    again(|| nix::sys::stat::fchmod(file, mode))
}
