//! Which entries a backup may have: the allow-list of their names, what each is, and what an honest tool may have done to one
//! that has others, with what undoes that. Must not read any entry, nor look into the metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::entry::What;
use super::inflate::EntryPlace;
use super::{
    ArchiveEntry, CONFIGS, KEPT, KEPT_V4, KEPT_V6, NAMED, RAW, RAW_CONFIGS, RAW_DATABASES,
    RAW_WIREGUARD, RULES_FORWARD, RULES_NAT, RULES_V4, RULES_V6, SIDES, WIREGUARD, zip_layout,
};
use crate::archive::manifest;
use crate::error::Code;
use crate::text::iptables::Family;
use crate::text::wg_config::NAME;
use crate::text::wording;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// The cause, why an archive is not acceptable, and what would help.
type NotAcceptable = (Code, String, Option<String>);

/// Reasons why entries are not acceptable, each kind once: with the first entry, how many more, and what undoes it.
#[derive(Default)]
struct Reasons {
    order: Vec<(String, String, usize)>,
    at: BTreeMap<String, usize>,
}

impl Reasons {
    fn add(&mut self, name: &[u8], why: String) {
        match self.at.get(&why) {
            Some(at) => self.order[*at].2 += 1,
            None => {
                self.at.insert(why.clone(), self.order.len());
                self.order
                    .push((zip_layout::shown(name).to_string(), why, 0));
            }
        }
    }

    fn sentences(self) -> impl Iterator<Item = NotAcceptable> {
        self.order.into_iter().map(|(shown, why, more)| {
            let advice = advice_on(&why, &shown);
            let more = match more {
                0 => String::new(),
                1 => "; so it is with 1 more entry".to_owned(),
                n => format!("; so it is with {n} more entries"),
            };
            let code = match advice {
                Some(_) if ![LEADS_OUT, SUBFOLDER].contains(&&*why) => Code::ARCHIVE_REPACKED,
                Some(_) | None => Code::ARCHIVE_DAMAGED,
            };
            (code, format!("its entry {shown} {why}{more}"), advice)
        })
    }
}

/// What is said of a database that has no place here, and that nothing says was backed up.
pub(super) const NOT_KNOWN: &str =
    "is of a database that the profile does not know ([[gateway.database]])";
const NO_CONFIG: &str = "is not a config: its name does not end in .conf";
const NO_PLACE: &str = "has no place in a backup of a gateway";
const LEADS_OUT: &str = "has no place in a backup of a gateway: its path leads out of the archive";
const SUBFOLDER: &str = "lies in a subfolder; Holdfast writes none";
const NOT_MARKED: &str = "has a name beyond ASCII that is not marked as UTF-8, as another's is";
const PACK_AGAIN: &str = "unpack it into an empty folder, and pack it again from inside: cd FOLDER && zip -r ../again.zip .";

/// What undoes what an honest tool may have done; none where no tool does so.
fn advice_on(why: &str, shown: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._=+-/ ".contains(&b);
    match why {
        LEADS_OUT => Some(
            "do not use this file: no tool that packs a folder adds such an entry. Choose another backup"
                .to_owned(),
        ),
        SUBFOLDER => Some("do not use this file. Choose another backup".to_owned()),
        NO_PLACE if shown.bytes().all(plain) => Some(format!(
            "if you trust the archive, copy it and remove this entry: `zip -d COPY '{shown}'`"
        )),
        NOT_MARKED => Some(format!(
            "two tools packed it, and one does not say how names are written; {PACK_AGAIN}"
        )),
        _ if why.starts_with("is packed with method ") || why == "is encrypted" => {
            Some(PACK_AGAIN.to_owned())
        }
        _ => None,
    }
}

/// What is said of an entry of this name that no backup has. One that leads out of the folder into which it is unpacked is no
/// honest tool's.
fn no_place(name: &str) -> &'static str {
    match name.starts_with('/') || name.split('/').any(|piece| piece == "..") {
        true => LEADS_OUT,
        false => NO_PLACE,
    }
}

/// Where a tool packed the folder and not what is in it: the one folder that everything lies in.
fn one_folder_around(listed: &[zip_layout::Listed]) -> Option<NotAcceptable> {
    let names = listed
        .iter()
        .filter_map(|l| std::str::from_utf8(&l.name).ok());
    let mut metadata = names.filter_map(|name| name.strip_suffix(manifest::ENTRY));
    let around =
        metadata.find(|f| f.len() > 1 && f.ends_with('/') && !f[..f.len() - 1].contains('/'))?;
    let inside = |l: &zip_layout::Listed| {
        l.name.starts_with(around.as_bytes())
            || std::str::from_utf8(&l.name).is_ok_and(is_a_tools_own)
    };
    if !listed.iter().all(inside) {
        return None;
    }
    let why = format!(
        "everything in it lies in one folder, {}: a tool packed the folder, and not what is in it",
        zip_layout::shown(&around.as_bytes()[..around.len() - 1])
    );
    let advice =
        "unpack it, and pack it again from inside that folder: cd FOLDER && zip -r ../again.zip .";
    Some((Code::ARCHIVE_REPACKED, why, Some(advice.to_owned())))
}

/// What a Mac or Windows puts beside the files of a folder. Nobody reads it: whoever looks at an archive sees the same backup
/// with it and without.
fn is_a_tools_own(name: &str) -> bool {
    let plain = !name.starts_with('/')
        && !name.contains('\\')
        && !name.chars().any(char::is_control)
        && !name.split('/').any(|piece| piece == "..");
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let place = folder.is_empty() || is_folder(&format!("{folder}/"));
    plain
        && (name.starts_with("__MACOSX/")
            || place && matches!(file, ".DS_Store" | "Thumbs.db" | "desktop.ini"))
}

/// Every entry that is taken.
pub(super) struct Accepted {
    pub(super) entries: Vec<ArchiveEntry>,
    /// Places in `entries`, sorted by name.
    pub(super) by_name: Vec<u32>,
    /// Entries that a tool adds of its own.
    pub(super) passed_over: usize,
}

/// Every entry that is listed, if all are acceptable, and how many are passed over; else why not, and what would help.
pub(super) fn accept(
    listed: Vec<zip_layout::Listed>,
    databases: &[&str],
    unpacked_most: u64,
) -> Result<Accepted, Vec<NotAcceptable>> {
    if let Some(why) = one_folder_around(&listed) {
        return Err(vec![why]);
    }
    // zip marks no name where its box lacks a locale, the Mac's archive utility none ever. Whoever takes such names for those of
    // DOS sees other ones, which no metadata list; unless another entry is marked, and has what he sees as its name.
    let mixed = listed.iter().any(|l| !l.name.is_ascii() && is_marked(l));
    let mut reasons = Reasons::default();
    let mut entries = Vec::with_capacity(listed.len());
    let mut passed_over = 0;
    let mut total = 0u64;
    // Names on Linux have case, and umlauts of one sign or two: others are other files.
    let (mut others, mut twice) = (BTreeSet::new(), Vec::new());
    for (l, index) in listed.into_iter().zip(0..) {
        let what = match acceptable(&l, databases, mixed) {
            Ok(TakenNames::As(what)) => what,
            Ok(other) => {
                passed_over += usize::from(matches!(other, TakenNames::PassedOver));
                let shown = zip_layout::shown(&l.name).to_string();
                if !others.insert(l.name) {
                    twice.push(named_twice(&shown));
                }
                continue;
            }
            Err(why) => {
                reasons.add(&l.name, why);
                continue;
            }
        };
        total = total.saturating_add(l.sizes.size);
        let Ok(name) = String::from_utf8(l.name) else {
            // Such a name is not acceptable.
            continue;
        };
        entries.push(ArchiveEntry {
            name: name.into(),
            what,
            size: l.sizes.size,
            index,
            place: EntryPlace {
                at: l.data,
                packed: l.sizes.packed,
                crc: l.sizes.crc,
                deflated: l.method == DEFLATED,
            },
            sha256: OnceLock::new(),
            owner: None,
            owner_of_second: None,
        });
    }
    let by_name = by_name(&entries, &mut twice);
    let mut found: Vec<NotAcceptable> = reasons.sentences().collect();
    found.extend(twice);
    found.extend(too_much(total, unpacked_most));
    if found.is_empty() {
        return Ok(Accepted {
            entries,
            by_name,
            passed_over,
        });
    }
    let rest = |more| {
        let why = format!("and {more} more of the kind");
        (Code::ARCHIVE_DAMAGED, why, None)
    };
    Err(wording::first(found, NAMED, rest))
}

/// Their places, sorted by name; a name that two have is noted.
fn by_name(entries: &[ArchiveEntry], twice: &mut Vec<NotAcceptable>) -> Vec<u32> {
    let mut by_name: Vec<u32> = (0..).take(entries.len()).collect();
    let name = |i: &u32| &entries[*i as usize].name;
    by_name.sort_unstable_by(|a, b| name(a).cmp(name(b)));
    let pairs = by_name.windows(2).filter(|p| name(&p[0]) == name(&p[1]));
    twice.extend(pairs.map(|pair| {
        let shown = zip_layout::shown(name(&pair[0]).as_bytes());
        named_twice(&shown)
    }));
    by_name
}

fn named_twice(shown: &dyn std::fmt::Display) -> NotAcceptable {
    let why = format!("it has two entries named {shown}");
    (Code::ARCHIVE_DAMAGED, why, None)
}

fn too_much(total: u64, most: u64) -> Option<NotAcceptable> {
    let why = format!(
        "unpacked it has {} MiB, and the limit is {} MiB (unpacked_mib under [limits] in the profile)",
        total.div_ceil(1 << 20),
        most >> 20
    );
    (total > most).then_some((Code::ARCHIVE_TOO_LARGE, why, None))
}

/// Whether an entry says that its name is UTF-8.
fn is_marked(l: &zip_layout::Listed) -> bool {
    l.flags & 1 << 11 != 0 || l.named_again
}

/// What becomes of an entry that is acceptable.
enum TakenNames {
    As(What),
    Folder,
    PassedOver,
}

/// What one entry is, or why it is not acceptable.
fn acceptable(
    l: &zip_layout::Listed,
    databases: &[&str],
    mixed: bool,
) -> Result<TakenNames, String> {
    const TYPE: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    const FOLDER: u32 = 0o040_000;
    if l.flags & (1 | 1 << 6 | 1 << 13) != 0 {
        return Err("is encrypted".into());
    }
    if l.method != STORED && l.method != DEFLATED {
        return Err(format!(
            "is packed with method {}, and only stored and deflated are known",
            l.method
        ));
    }
    let Ok(name) = std::str::from_utf8(&l.name) else {
        return Err("has a name that is not UTF-8".into());
    };
    if mixed && !name.is_ascii() && !is_marked(l) {
        return Err(NOT_MARKED.into());
    }
    // As long as a file's name may be, in each of its folders; escaped it may be three times as long.
    let times = if name.starts_with(RAW) { 3 } else { 1 };
    let most = times * NAME;
    let longest = name.split('/').map(str::len).max().unwrap_or_default();
    if longest > most {
        return Err(format!(
            "has a name of {longest} bytes, and the limit is {most}"
        ));
    }
    let kind = l.unix_mode & TYPE;
    let empty = l.sizes.size == 0 && l.sizes.packed <= 2;
    if is_folder(name) {
        return if (kind == 0 || kind == FOLDER) && empty {
            Ok(TakenNames::Folder)
        } else {
            Err("is named like a folder and is not one".into())
        };
    }
    if l.unix_mode & 0o7000 != 0 {
        return Err("has set-id or sticky bits".into());
    }
    if name.ends_with('/') && kind == FOLDER && empty && is_a_tools_own(name) {
        return Ok(TakenNames::PassedOver);
    }
    if kind != 0 && kind != REGULAR {
        return Err(
            "is not a regular file: links, folders and devices have no place in a backup".into(),
        );
    }
    if is_a_tools_own(name) {
        return Ok(TakenNames::PassedOver);
    }
    part(name, databases).map(TakenNames::As)
}

/// The folders that a backup's entries lie in, and those above them: a tool that packs folders makes entries of them.
fn is_folder(name: &str) -> bool {
    let places = [
        CONFIGS,
        WIREGUARD,
        KEPT,
        RAW_CONFIGS,
        RAW_WIREGUARD,
        RAW_DATABASES,
    ];
    name.ends_with('/') && places.iter().any(|place| place.starts_with(name))
}

/// What an entry below [`RAW`] is.
fn raw_part(name: &str, databases: &[&str]) -> Result<What, String> {
    let file = |escaped: &str| {
        manifest::unescaped(escaped)
            .filter(|name| !name.is_empty() && name.len() <= NAME)
            .filter(|name| !name.contains(&b'/') && !name.contains(&0))
            .ok_or_else(|| "has a name that is not that of a file, escaped".to_owned())
    };
    let config = |escaped: &str, what| match file(escaped)?.ends_with(b".conf") {
        true => Ok(what),
        false => Err(NO_CONFIG.to_owned()),
    };
    if let Some(escaped) = name.strip_prefix(RAW_CONFIGS) {
        config(escaped, What::RawConfig)
    } else if let Some(escaped) = name.strip_prefix(RAW_WIREGUARD) {
        config(escaped, What::RawSecondCopy)
    } else if let Some(escaped) = name.strip_prefix(RAW_DATABASES) {
        raw_file(escaped, databases)
    } else {
        Err(no_place(name).into())
    }
}

/// The allow-list.
fn part(name: &str, databases: &[&str]) -> Result<What, String> {
    let config = |file: &str, what| -> Result<What, String> {
        let stem = file.strip_suffix(".conf").ok_or(NO_CONFIG)?;
        let bad =
            stem.is_empty() || file.contains(['/', '\\']) || file.chars().any(char::is_control);
        match bad {
            true if no_place(name) == LEADS_OUT => Err(LEADS_OUT.into()),
            true if file.contains('/') => Err(SUBFOLDER.into()),
            true => Err("has a name that is not the name of a plain file".into()),
            false => Ok(what),
        }
    };
    match name {
        manifest::ENTRY => Ok(What::Metadata),
        RULES_V4 | RULES_V6 => Ok(What::Rules),
        RULES_NAT | RULES_FORWARD => Ok(What::RulesText),
        KEPT_V4 => Ok(What::Kept(Family::V4)),
        KEPT_V6 => Ok(What::Kept(Family::V6)),
        _ if name.starts_with(RAW) => raw_part(name, databases),
        _ if databases.contains(&name) => Ok(What::Database),
        _ => {
            if let Some(file) = name.strip_prefix(CONFIGS) {
                config(file, What::Config)
            } else if let Some(file) = name.strip_prefix(WIREGUARD) {
                config(file, What::SecondCopy)
            } else if could_be_a_database(name) {
                Ok(What::UnknownDatabase)
            } else {
                Err(no_place(name).into())
            }
        }
    }
}

/// Whether a profile could name a database so. Whether one was is for the metadata to say.
fn could_be_a_database(name: &str) -> bool {
    name.ends_with(".db")
        && !name.starts_with('.')
        && !name.contains(['/', '\\'])
        && !name.chars().any(char::is_control)
}

/// A file of a database whose bytes are saved, by its escaped name.
fn raw_file(escaped: &str, databases: &[&str]) -> Result<What, String> {
    let file = manifest::unescaped(escaped).and_then(|name| String::from_utf8(name).ok());
    let file = file.unwrap_or_default();
    let mut names = SIDES
        .into_iter()
        .zip(0..)
        .filter_map(|(side, place)| Some((file.strip_suffix(side)?, place)));
    match names.clone().find(|(name, _)| databases.contains(name)) {
        Some((_, place)) => Ok(What::RawDatabase(place)),
        None if names.any(|(name, _)| could_be_a_database(name)) => Ok(What::UnknownDatabase),
        None => Err(NOT_KNOWN.into()),
    }
}
