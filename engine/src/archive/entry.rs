//! One entry of a backup: the names that entries may have, and what each of them is. Reads nothing.

use std::sync::OnceLock;

use journal_format::Digest;

use super::inflate::EntryPlace;
use super::manifest;
pub use crate::gateway::database::SIDES;
use crate::text::iptables::Family;

/// The folder of first copies in a backup.
pub const CONFIGS: &str = "configs/";
/// The folder of second copies, those that `wg-quick` uses.
pub const WIREGUARD: &str = "wireguard/";
/// `iptables-save`.
pub const RULES_V4: &str = "iptables_rules.txt";
/// `iptables -t nat -S`, for people and for the gateway.
pub const RULES_NAT: &str = "iptables_nat_rules.txt";
/// `iptables -t filter -S FORWARD`.
pub const RULES_FORWARD: &str = "iptables_forward_rules.txt";
/// `ip6tables-save`.
pub const RULES_V6: &str = "ip6tables_rules.txt";
/// The folder of what the gateway's own reader would not take: `configs/`, `wireguard/` and `databases/` in it, with names as
/// [`manifest::escaped`] writes them. A database's side files stand beside it, as `databases/configs.db-wal`.
pub const RAW: &str = "holdfast/raw/";
/// The folder of the files in which the box keeps rules over a reboot: `rules.v4` and `rules.v6` in it.
pub const KEPT: &str = "holdfast/kept/";
/// First copies, below [`RAW`].
pub const RAW_CONFIGS: &str = "holdfast/raw/configs/";
/// Second copies, below [`RAW`].
pub const RAW_WIREGUARD: &str = "holdfast/raw/wireguard/";
/// Databases and their side files, below [`RAW`].
pub const RAW_DATABASES: &str = "holdfast/raw/databases/";
/// The file that keeps the rules of IPv4, below [`KEPT`].
pub const KEPT_V4: &str = "holdfast/kept/rules.v4";
/// The file that keeps the rules of IPv6, below [`KEPT`].
pub const KEPT_V6: &str = "holdfast/kept/rules.v6";

/// One entry of a backup. There are as many as files: what its name says is not kept besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// Its whole name, as `configs/a.conf`.
    pub name: Box<str>,
    /// Its declared size; true once it has been copied without complaint.
    pub size: u64,
    pub(super) what: What,
    /// Its place among all that the zip lists.
    pub(super) index: u32,
    pub(super) place: EntryPlace,
    /// What its bytes are: as the manifest says, or else as they were when they were first read.
    pub(super) sha256: OnceLock<Digest>,
    /// Whose the file was, and the second copy of a config where that is the same: places in the manifest's `owners`.
    pub(super) owner: Option<u16>,
    pub(super) owner_of_second: Option<u16>,
}

impl ArchiveEntry {
    /// What it is.
    pub fn part(&self) -> EntryKind<'_> {
        let behind = |folder: &str| self.name.strip_prefix(folder).unwrap_or_default();
        let raw = |folder| manifest::unescaped(behind(folder)).unwrap_or_default();
        match self.what {
            What::Metadata => EntryKind::Metadata,
            What::Database => EntryKind::Database(&self.name),
            What::Config => EntryKind::Config(behind(CONFIGS)),
            What::SecondCopy => EntryKind::SecondCopy(behind(WIREGUARD)),
            What::Rules => EntryKind::Rules,
            What::RulesText => EntryKind::RulesText,
            What::RawConfig => EntryKind::RawConfig(raw(RAW_CONFIGS)),
            What::RawSecondCopy => EntryKind::RawSecondCopy(raw(RAW_WIREGUARD)),
            What::Kept(family) => EntryKind::Kept(family),
            What::RawDatabase(side) => {
                let side = SIDES[usize::from(side)];
                let name = String::from_utf8(raw(RAW_DATABASES)).unwrap_or_default();
                let name = name.strip_suffix(side).unwrap_or_default().to_owned();
                EntryKind::RawDatabase { name, side }
            }
            What::UnknownDatabase => EntryKind::UnknownDatabase,
        }
    }
}

/// What an entry is, less what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Metadata,
    Database,
    Config,
    SecondCopy,
    Rules,
    RulesText,
    RawConfig,
    RawSecondCopy,
    Kept(Family),
    /// A place in [`SIDES`].
    RawDatabase(u8),
    /// In its plain form, or below [`RAW`].
    UnknownDatabase,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind<'n> {
    /// `backup_metadata.json`.
    Metadata,
    /// A database, by its name in the profile.
    Database(&'n str),
    /// The first copy of a config, by file name.
    Config(&'n str),
    /// The second copy of a config, where it differs, by file name.
    SecondCopy(&'n str),
    /// `iptables-save` or `ip6tables-save`.
    Rules,
    /// Rules of the NAT table or of the forward chain as text.
    RulesText,
    /// The first copy of a config that the gateway's own reader would not take, by file name, which may be of any bytes.
    RawConfig(Vec<u8>),
    /// The second copy of one.
    RawSecondCopy(Vec<u8>),
    /// The file in which the box keeps the rules of a family over a reboot.
    Kept(Family),
    /// The bytes of a database that SQLite could not read, or of a file beside it.
    RawDatabase {
        /// The database's name in the profile.
        name: String,
        /// Which of its files: one of [`SIDES`].
        side: &'static str,
    },
    /// A database that was backed up and that the profile does not name any more, or one of its files.
    UnknownDatabase,
}

/// The entry of the file in which the box keeps the rules of this family.
pub fn kept(family: Family) -> &'static str {
    family.of(KEPT_V4, KEPT_V6)
}

/// The entry of a file of a database whose bytes are saved: one of [`SIDES`].
pub fn raw_database(name: &str, side: &str) -> String {
    format!(
        "{RAW_DATABASES}{}{side}",
        manifest::escaped(name.as_bytes())
    )
}
