//! The plan: all that one restore will do, and all that is needed to go on or go back later. Pure data, written into
//! the journal whole, so that a newer program can finish what an older one began.

use serde::{Deserialize, Serialize};

use crate::{Digest, Direction, Format, Note, Policy, Step};

/// What one restore will do, in order. Its digest is what an admin approves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The backup it restores from.
    pub archive: ArchiveInfo,
    /// Steps forward, in order; the clean-up is the last.
    pub forward: Vec<Step>,
    /// Steps back, in order; the clean-up is the last.
    pub back: Vec<Step>,
    /// What recovery does where the journal leaves the choice.
    pub policy: Policy,
    /// The admin accepts a restore whose firewall rules could not be loaded.
    pub keep_going_without_firewall: bool,
    /// Staging folders, one next to each folder that holds a target. Root only, gone after the verdict.
    pub staging: Vec<String>,
    /// Databases to swap, in order.
    pub databases: Vec<Target>,
    /// Config files (and kept rules files) to swap, in order. Only those that change.
    pub files: Vec<Target>,
    /// Services of the gateway that ran and are to run again.
    pub services: Vec<Service>,
    /// Gateway tunnels that are up and go down, by their old configs.
    pub tunnels_down: Vec<Tunnel>,
    /// Gateway tunnels that are up afterwards, by their new configs.
    pub tunnels_up: Vec<Tunnel>,
    /// What the fence holds back.
    pub fence: FenceRules,
    /// Rules and forwarding afterwards.
    pub firewall: Firewall,
    /// SHA-256 of the peers that the tunnels get once they are up, besides those of their configs: the file `after/peers`
    /// in the restore's folder, since a peer may have a key. Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<Digest>,
    /// Parts, by name, that the admin accepts the safety backup to lack. Since 1.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_safety_backup_of: Vec<String>,
    /// Services, by name, that the admin accepts not to run afterwards. Since 1.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_not_run: Vec<String>,
    /// Tunnels, by name, that may be down afterwards: the admin accepts it, or they were down when the plan was made. Since 1.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_stay_down: Vec<String>,
    /// Tunnels, by name, that are up before and after and change in nothing: they are in both lists of tunnels, and the way forward
    /// leaves them alone. After a reboot they are up no more, and are as any other. Since 1.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stays_up: Vec<String>,
    /// What does not go back, or is not in the backup, though the gateway has such a thing. The verdict names it by the note's
    /// name, as a sentence calls it: `the IPv4 firewall rules`. Since 1.1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Note>,
    /// What the admin must know before agreeing, what matters more first: lost users, hooks that run as root, parts that the
    /// backup lacks.
    pub warnings: Vec<Note>,
}

/// The backup that a plan restores from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveInfo {
    /// File name as shown; never used as a path.
    pub name: String,
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// When the backup was made, as its metadata say (ISO 8601).
    pub created_at: String,
    /// The host that it was made on, if it says so.
    pub host: Option<String>,
    /// Which program made it, as `holdfast 0.1.0` or `gateway`.
    pub made_by: String,
}

/// One file to be replaced, added or removed. The staged object lies beside it on the same filesystem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The name in the backup, as `configs/a.conf`. Of what is removed only a file of kept rules has one.
    pub entry: String,
    /// The file's own path.
    pub path: String,
    /// Where its new object is staged; after the swap the old object lies there.
    pub staged: String,
    /// What happens to it.
    pub change: Change,
    /// The new object; none for a removal.
    pub new: Option<FileFacts>,
}

/// What happens to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Change {
    Replace,
    Add,
    Remove,
}

/// What a new file holds and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, without set-id bits.
    pub mode: u32,
}

/// One service of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What a person reads: the unit's name, or the profile's.
    pub name: String,
    /// How it is driven.
    pub control: Control,
}

/// How a service is driven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// By `systemctl`, under this unit name.
    Unit(String),
    /// By commands of the profile. Each is an argument list, never a shell line.
    Commands {
        /// Stops it, and returns once it has stopped.
        stop: Vec<String>,
        /// Starts it; the service must detach from the session that starts it.
        start: Vec<String>,
        /// Ends with 0 while it runs.
        active: Vec<String>,
    },
}

/// One tunnel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tunnel {
    /// The interface.
    pub name: String,
    /// The config that `wg-quick` reads.
    pub config: String,
}

/// What the fence drops while tunnels are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceRules {
    /// Tunnel interfaces.
    pub interfaces: Vec<String>,
    /// Clients' networks in prefix form; never one of length 0.
    pub networks: Vec<String>,
}

/// Rules and forwarding afterwards. The rules themselves lie in the restore's folder, bound by their digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// SHA-256 of the `iptables-save` text to load; none if the backup has no rules for IPv4.
    pub v4: Option<Digest>,
    /// The same for IPv6.
    pub v6: Option<Digest>,
    /// `net.ipv4.ip_forward` afterwards; none leaves it alone.
    pub ip_forward: Option<bool>,
    /// `net.ipv6.conf.all.forwarding` afterwards; none leaves it alone. Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_forward: Option<bool>,
}

impl Plan {
    /// The steps in a direction, in order.
    pub fn steps(&self, direction: Direction) -> &[Step] {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Back => &self.back,
        }
    }

    /// BLAKE3 of the plan's JSON: what the header binds and what an admin approves.
    ///
    /// Fields that later versions add must be skipped when they have their default, so that an older plan keeps its
    /// digest when it is written again.
    pub fn digest(&self) -> Digest {
        Digest::of_json(self)
    }

    /// The lowest version of the format that knows all that this plan says. A journal of an older version must not hold it.
    pub fn format(&self) -> Format {
        let Plan {
            archive: _,
            forward: _,
            back: _,
            policy: _,
            keep_going_without_firewall: _,
            staging: _,
            databases: _,
            files: _,
            services: _,
            tunnels_down: _,
            tunnels_up: _,
            fence: _,
            firewall:
                Firewall {
                    v4: _,
                    v6: _,
                    ip_forward: _,
                    ipv6_forward,
                },
            peers,
            without_safety_backup_of,
            may_not_run,
            may_stay_down,
            stays_up,
            left_out,
            warnings,
        } = self;
        let plain = ipv6_forward.is_none()
            && peers.is_none()
            && without_safety_backup_of.is_empty()
            && may_not_run.is_empty()
            && may_stay_down.is_empty()
            && stays_up.is_empty()
            && left_out.is_empty()
            && warnings.iter().all(|w| w.format() == Format::FIRST);
        if plain { Format::FIRST } else { Format::V1_1 }
    }
}
