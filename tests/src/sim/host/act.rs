//! What a restore changes under a permit: files, databases, forwarding, and what its commands do.

use std::collections::BTreeSet;
use std::path::Path;

use engine::gateway::database::{Settled, Trouble};
use engine::host::{Act, ExitKind, Family, Fill, GatewayCommand, Kind, Output, Owner, Permit};
use journal_format::{Code, Problem, Step};

use super::{How, Sim, failed};
use crate::sim::disk::{Attributes, CROSSES, Held};
use crate::sim::kernel::{batches, nft};
use crate::sim::peers;
use crate::sim::world::{Piece, UnderWay, World};

impl Act for Sim {
    fn make_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "make", dir, |w| match w.disk.get(dir) {
            Some(there) if there.kind == Kind::Dir => Ok(()),
            Some(_) | None => w.disk.make_dir(dir, 0o700),
        })
    }

    fn create(
        &self,
        permit: &Permit,
        path: &Path,
        owner: Owner,
        fill: &mut Fill,
    ) -> Result<(), Problem> {
        let mut data = Vec::new();
        fill(&mut data)?;
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, "create", path);
        if fails == Some(How::Refused) {
            return Err(failed(format!("create {}: no space", path.display())));
        }
        let object = world.disk.create(path).map_err(failed)?;
        self.effect(&mut world, "create", path);
        if fails == Some(How::HalfWay) {
            data.truncate(data.len() / 2);
        }
        let held = Held {
            data: data.into(),
            uid: owner.uid,
            gid: owner.gid,
            mode: owner.mode,
            attributes: Attributes::default(),
        };
        world.disk.write(object, held);
        self.effect(&mut world, "fill", path);
        match fails {
            Some(_) => Err(failed(format!("create {}: no space", path.display()))),
            None => Ok(()),
        }
    }

    fn exchange(&self, permit: &Permit, a: &Path, b: &Path) -> Result<(), Problem> {
        self.change(permit, "exchange", a, |w| {
            let held = [a, b]
                .iter()
                .filter_map(|p| w.disk.find(p))
                .any(|o| w.kernel.open.contains(&o));
            // Whoever comes between the look and the exchange is looked for behind it.
            if held && w.acted.is_none() {
                w.breaks(format!("{} was swapped while it was held", a.display()));
            }
            w.disk.exchange(a, b)
        })
    }

    fn rename(&self, permit: &Permit, from: &Path, to: &Path) -> Result<(), Problem> {
        let renamed = self.change(permit, "rename", from, |w| w.disk.rename(from, to));
        renamed.map_err(|p| match p.what.contains(CROSSES) {
            true => Problem {
                code: Some(Code::CROSSES_MOUNTS),
                ..p
            },
            false => p,
        })
    }

    fn take_attributes(
        &self,
        permit: &Permit,
        from: &Path,
        to: &Path,
    ) -> Result<Vec<String>, Problem> {
        let attributes = self
            .world()
            .disk
            .get(from)
            .map(|i| i.now.attributes.clone());
        if let Some(attributes) = attributes.filter(|a| !a.is_empty()) {
            self.change(permit, "give attributes to", to, |w| {
                let object = w.disk.find(to).ok_or("no such file")?;
                let held = w.disk.inode(object).map(|i| i.now.clone());
                let mut held = held.ok_or("no such file")?;
                held.attributes = attributes;
                w.disk.write(object, held);
                Ok(())
            })?;
        }
        Ok(Vec::new())
    }

    fn copy(&self, permit: &Permit, from: &Path, to: &Path) -> Result<Vec<String>, Problem> {
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, "copy", to);
        if fails == Some(How::Refused) {
            return Err(failed(format!("copy to {}: no space", to.display())));
        }
        let mut held = world
            .disk
            .get(from)
            .filter(|i| i.kind == Kind::File)
            .map(|i| i.now.clone())
            .ok_or_else(|| failed(format!("copy {}: no such file", from.display())))?;
        let object = world.disk.create(to).map_err(failed)?;
        self.effect(&mut world, "create", to);
        if fails == Some(How::HalfWay) {
            held.data = held.data[..held.data.len() / 2].into();
        }
        world.disk.write(object, held);
        self.effect(&mut world, "fill", to);
        if fails.is_some() {
            return Err(failed(format!("copy to {}: no space", to.display())));
        }
        world.disk.sync_object(object);
        self.effect(&mut world, "sync", to);
        Ok(Vec::new())
    }

    fn remove_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem> {
        self.change(permit, "remove", path, |w| w.disk.remove(path))
    }

    fn remove_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "remove", dir, |w| w.disk.remove_dir(dir))
    }

    fn sync_file(&self, permit: &Permit, path: &Path) -> Result<(), Problem> {
        self.change(permit, "sync", path, |w| w.disk.sync_file(path))
    }

    fn sync_dir(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "sync", dir, |w| w.disk.sync_dir(dir))
    }

    fn sync_filesystem(&self, permit: &Permit, dir: &Path) -> Result<(), Problem> {
        self.change(permit, "sync all of", dir, |w| w.disk.sync_filesystem(dir))
    }

    fn settle_database(&self, permit: &Permit, path: &Path) -> Result<Settled, Problem> {
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, "settle", path);
        let text = path.display().to_string();
        if world.disk.find(path).is_none() {
            return Err(failed(format!("settle {text}: no such database")));
        }
        if !world.readable(&text) && fails.is_none() {
            return Ok(Settled::Unreadable("file is not a database".into()));
        }
        for stage in 0.. {
            if fails == Some(How::Refused) || fails == Some(How::HalfWay) && stage == 2 {
                return Err(failed(format!("settle {text}: input/output error")));
            }
            if !world.settle(&text, stage).map_err(failed)? {
                break;
            }
            self.effect(&mut world, "settle", path);
        }
        match fails {
            Some(_) => Err(failed(format!("settle {text}: input/output error"))),
            None => Ok(Settled::Whole),
        }
    }

    fn call_active(
        &self,
        permit: &Permit,
        database: &Path,
        clients: &BTreeSet<String>,
    ) -> Result<(), Trouble> {
        let call = |w: &mut World| w.calls_active(&database.display().to_string(), clients);
        Ok(self.change(permit, "call clients active in", database, call)?)
    }

    fn set_forwarding_of(&self, _: &Permit, _: Family, _: &str, _: bool) -> Result<(), Problem> {
        Err(failed(
            "set forwarding: no interface has its own here".into(),
        ))
    }

    fn set_forwarding(&self, permit: &Permit, family: Family, on: bool) -> Result<(), Problem> {
        let name = format!("forwarding of {}", family.name());
        self.change(permit, "set", Path::new(&name), |w| {
            let forwards = w.kernel.forwards.get_mut(&family);
            *forwards.ok_or("no such protocol")? = on;
            Ok(())
        })
    }

    fn run(
        &self,
        permit: &Permit,
        command: &GatewayCommand,
        input: &str,
    ) -> Result<Output, Problem> {
        let fails = self.command_fails();
        let mut world = self.world();
        let shown = match command {
            GatewayCommand::EditRules(family) => format!("edit {family:?}"),
            GatewayCommand::Nft => "nft".into(),
            GatewayCommand::TunnelUp(config, _) => format!("wg-quick up {config}"),
            GatewayCommand::TunnelDown(config, _) => format!("wg-quick down {config}"),
            GatewayCommand::PeersAdd(tunnel) => format!("wg addconf {tunnel}"),
            GatewayCommand::PeerRemove(tunnel, _) => format!("wg set {tunnel} peer remove"),
            GatewayCommand::SetLink(tunnel, change) => {
                format!("set {} of {tunnel}", change.shown())
            }
            GatewayCommand::ServiceStart(_) => "start the service".into(),
            GatewayCommand::ServiceStop(_) => "stop the service".into(),
        };
        self.watch(&mut world, permit, &shown, Path::new(""));
        let behind_the_fence = match command {
            GatewayCommand::TunnelUp(..)
            | GatewayCommand::TunnelDown(..)
            | GatewayCommand::PeersAdd(_)
            | GatewayCommand::PeerRemove(..) => true,
            // What a service brought up meanwhile carries traffic already.
            GatewayCommand::SetLink(..) => permit.r#move().step != Step::VerifyRunning,
            // Rules of tunnels that are down are missing meanwhile; what leads from one set to another at once loses nothing.
            GatewayCommand::EditRules(_) => permit.r#move().step == Step::ResetRules,
            GatewayCommand::Nft
            | GatewayCommand::ServiceStart(_)
            | GatewayCommand::ServiceStop(_) => false,
        };
        if behind_the_fence && world.kernel.fence.is_none() && !self.is_over(&world) {
            world.breaks(format!("{shown} with the fence open"));
        }
        if let GatewayCommand::EditRules(family) = command
            && world.unread == Some(*family)
        {
            world.breaks(format!(
                "{shown}, which cannot be read and so not be put back"
            ));
        }
        let mut of_session = true;
        let pieces = match command {
            GatewayCommand::EditRules(family) => Ok(batches(input)
                .into_iter()
                .map(|b| Piece::Edit(*family, b))
                .collect()),
            GatewayCommand::Nft => {
                nft(input, &world.kernel).map(|actions| vec![Piece::Nft(actions)])
            }
            GatewayCommand::TunnelUp(config, _) => world.tunnel_up(Path::new(config)),
            GatewayCommand::TunnelDown(config, _) => world.tunnel_down(Path::new(config)),
            GatewayCommand::PeersAdd(tunnel) => peers::settings(input).map(|settings| {
                let one = |setting| Piece::Peer(tunnel.clone(), setting);
                settings.into_iter().map(one).collect()
            }),
            GatewayCommand::PeerRemove(tunnel, key) => {
                Ok(vec![Piece::PeerGone(tunnel.clone(), key.clone())])
            }
            GatewayCommand::SetLink(tunnel, change) => {
                Ok(vec![Piece::Link(tunnel.clone(), change.clone())])
            }
            GatewayCommand::ServiceStart(_) => {
                of_session = false;
                world.finish_under_way();
                world.asked_for = true;
                Ok(world.service_start())
            }
            GatewayCommand::ServiceStop(_) => {
                of_session = false;
                world.finish_under_way();
                Ok(world.service_stop())
            }
        };
        Ok(self.commands(&mut world, shown, pieces, of_session, fails))
    }
}

impl Sim {
    /// One change of the disk that belongs to a move.
    fn change(
        &self,
        permit: &Permit,
        what: &str,
        path: &Path,
        act: impl FnOnce(&mut World) -> Result<(), String>,
    ) -> Result<(), Problem> {
        let fails = self.fails(true);
        let mut world = self.world();
        self.watch(&mut world, permit, what, path);
        if fails == Some(How::Refused) {
            return Err(failed(format!("{what} {}: no", path.display())));
        }
        act(&mut world).map_err(|e| failed(format!("{what} {e}")))?;
        self.effect(&mut world, what, path);
        match fails {
            Some(_) => Err(failed(format!(
                "{what} {}: input/output error",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    fn commands(
        &self,
        world: &mut World,
        shown: String,
        pieces: Result<Vec<Piece>, String>,
        of_session: bool,
        fails: Option<How>,
    ) -> Output {
        let answer = |end, stderr: String| Output {
            shown: shown.clone(),
            end,
            stdout: String::new(),
            stderr,
        };
        world.finish_under_way();
        // Holdfast takes no tunnel down by a config that would be written over.
        let mut all = pieces.iter().flatten();
        if all.any(|piece| matches!(piece, Piece::Save(_))) {
            world.breaks(format!("{shown}: SaveConfig writes over the config"));
        }
        let pieces = match (pieces, fails) {
            (Err(why), _) => return answer(ExitKind::Exit(1), why),
            (Ok(_), Some(How::Refused)) => return answer(ExitKind::Exit(1), "it failed".into()),
            (Ok(_), Some(How::Lies)) => return answer(ExitKind::Exit(0), String::new()),
            (Ok(mut pieces), Some(How::HalfWay | How::Hangs)) => {
                pieces.truncate(pieces.len() / 2);
                pieces
            }
            (Ok(pieces), Some(How::AfterTheFact) | None) => pieces,
        };
        let mut why = None;
        for (n, piece) in pieces.iter().enumerate() {
            // Whatever fails ends the command there; also a hook of an interface that is gone already.
            if let Err(e) = world.carry_out(piece) {
                why = Some(e);
                break;
            }
            world.under_way = UnderWay {
                pieces: pieces[n + 1..].to_vec(),
                of_session,
            };
            self.moment(world, &shown, Path::new(""));
        }
        world.under_way = UnderWay::default();
        match (why, fails) {
            (_, Some(How::Hangs)) => answer(ExitKind::TimedOut, String::new()),
            (Some(why), _) => answer(ExitKind::Exit(1), why),
            (None, Some(_)) => answer(ExitKind::Exit(1), "it failed".into()),
            (None, None) => answer(ExitKind::Exit(0), String::new()),
        }
    }
}
