//! The firewall rules of a backup: those in force when it was made, and the files in which its box kept rules. Loads
//! nothing.

use std::collections::BTreeMap;
use std::io;

use journal_format::Note;

use super::{FileInBackup, Findings};
use crate::archive::lost::Lost;
use crate::archive::{Archive, KEPT_V4, KEPT_V6};
use crate::error::{Code, Fault, cannot};
use crate::gateway::database::Origin;
use crate::gateway::parts::Part;
use crate::text::iptables::{self, Family, Rules};
use crate::text::octets;

/// `iptables-save` of a gateway with 10,000 tunnels has about 3 MiB.
const RULES_MOST: u64 = 16 << 20;

pub(super) fn rules(
    archive: &Archive,
    entry: &str,
    found: &mut Findings,
) -> Result<Option<String>, Fault> {
    if archive.entry(entry).is_none() {
        return Ok(None);
    }
    let bytes = archive.read_small(entry, RULES_MOST)?;
    // A comment may have any byte but this one.
    let text = Some(octets::text(&bytes)).filter(|t| !t.contains('\0'));
    match text {
        None => {
            found.problems.push(cannot(
                Code::ARCHIVE_DAMAGED,
                format!("accept {entry} of the backup: it is not text"),
                "make a new backup, or take another one",
            ));
            Ok(None)
        }
        // Where Holdfast wrote it, it was so: no rules. The gateway's own backup writes an empty file when it may not look.
        Some(text) if text.trim().is_empty() && archive.metadata().holdfast.is_none() => {
            let text = format!("{entry} is empty: the rules stay as they are");
            found.warnings.push(Note::known(Code::NOT_IN_BACKUP, text));
            Ok(None)
        }
        Some(text) => Ok(Some(text)),
    }
}

/// The files of kept rules, by family.
type KeptFiles = BTreeMap<Family, FileInBackup>;
/// What stands in those from elsewhere.
type KeptRules = BTreeMap<Family, Rules>;

/// The files in which the box keeps rules. They are loaded at each boot, as root: of those from elsewhere only what would be
/// taken as rules is put in place. With these rules.
pub(super) fn kept(
    archive: &Archive,
    origin: Origin,
    found: &mut Findings,
) -> Result<(KeptFiles, KeptRules), Fault> {
    let (mut kept, mut rules) = (KeptFiles::new(), KeptRules::new());
    for (family, entry) in [(Family::V4, KEPT_V4), (Family::V6, KEPT_V6)] {
        let Some(size) = archive.entry(entry).map(|e| e.size) else {
            continue;
        };
        let vetted = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
            // An empty file keeps no rules.
            let rules = match text.trim() {
                "" => return Ok(Rules::default()),
                _ => iptables::parse(text, "it"),
            };
            rules.map_err(|p| format!("cannot {}", p.what))
        };
        let (facts, taken) = if origin == Origin::Elsewhere && size <= RULES_MOST {
            let mut bytes = Vec::new();
            let facts = archive.copy(entry, &mut bytes)?;
            (facts, vetted(&bytes))
        } else {
            let taken = match origin {
                Origin::Here => Ok(Rules::default()),
                Origin::Elsewhere => Err(format!("it has over {RULES_MOST} bytes")),
            };
            (archive.copy(entry, &mut io::sink())?, taken)
        };
        match taken {
            Ok(read) => {
                rules.insert(family, read);
                kept.insert(family, FileInBackup::new(entry, facts));
            }
            Err(why) => {
                let said = format!(
                    "the file in which the gateway that was backed up kept its {} rules is not put in place: {why}; the one \
                     here stays as it is",
                    family.name()
                );
                let part = Part::Kept(family);
                found.lost.push(Lost::of(part.shown(), said));
            }
        }
    }
    Ok((kept, rules))
}
