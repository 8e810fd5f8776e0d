//! The bytes of a zip, strictly: one end record at the very end, one central directory right before it, and before that
//! the entries, one after the other without gap or overlap. What other readers may understand in another way is
//! refused: two readers that see two archives in one file are how a checked backup becomes another one.
//!
//! Sizes and counts that the file declares are compared, never allocated.

use std::{fmt, io};

use super::cursor::Cursor;
use crate::error::Code;
use crate::text::wording;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const END64_LOCATOR: u32 = 0x0706_4b50;
const END_LENGTH: u64 = 22;
const END64_LENGTH: u64 = 56;
const LOCATOR_LENGTH: u64 = 20;
/// The flag of an entry whose sizes stand behind its bytes.
const STREAMED: u16 = 8;

/// One entry as the central directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) sizes: Sizes,
    /// Type and permission bits, if a Unix system made it.
    pub(super) unix_mode: u32,
    offset: u64,
    /// Where its bytes begin, behind its own header.
    pub(super) data: u64,
    /// An extra field says that the name is UTF-8.
    pub(super) named_again: bool,
}

/// What a zip says up to three times of the bytes of an entry: in the directory, before them and behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
}

/// Why a zip is not acceptable, or why it could not be read.
#[derive(Debug)]
pub(super) enum Unfit {
    Refused(Code, String),
    /// An honest tool may have made it so: why, and how to undo that.
    Repacked(String, &'static str),
    Io(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(e: io::Error) -> Unfit {
        if e.kind() == io::ErrorKind::UnexpectedEof {
            Unfit::Refused(
                Code::ARCHIVE_DAMAGED,
                "it ends in the middle of a record".into(),
            )
        } else {
            Unfit::Io(e)
        }
    }
}

impl Sizes {
    /// Whether a streamed entry may say this before its bytes: nothing, or the size alone, as Info-ZIP does of a file that it
    /// packs into a pipe.
    fn is_unsaid_of(self, entry: Sizes) -> bool {
        self.crc == 0 && self.packed == 0 && (self.size == 0 || self.size == entry.size)
    }
}

/// The name of an entry as people are shown it; made when it is, since there are thousands.
pub(super) fn shown(name: &[u8]) -> Shown<'_> {
    Shown(name)
}

pub(super) struct Shown<'n>(&'n [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        wording::Named(&String::from_utf8_lossy(self.0)).fmt(f)
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Unfit> {
    Err(Unfit::Refused(Code::ARCHIVE_DAMAGED, why.into()))
}

/// Reads the layout and checks it. `most` is the limit of entries.
pub(super) fn read(cursor: &mut Cursor, file_size: u64, most: u64) -> Result<Vec<Listed>, Unfit> {
    let directory = end(cursor, file_size, most)?;
    let mut listed = central(cursor, &directory)?;
    entries_fill_the_file(cursor, &mut listed, directory.offset)?;
    Ok(listed)
}

struct Directory {
    offset: u64,
    size: u64,
    entries: u64,
}

fn end(cursor: &mut Cursor, file_size: u64, most: u64) -> Result<Directory, Unfit> {
    let Some(at) = file_size.checked_sub(END_LENGTH) else {
        return refuse(
            "it is too short for a zip archive: it was cut off on its way here, or is another kind of file",
        );
    };
    let mut b = [0u8; END_LENGTH as usize];
    cursor.exact(at, &mut b)?;
    if u32_at(&b, 0) != END || u16_at(&b, 20) != 0 {
        if let Some(length) = comment(cursor, file_size)? {
            return Err(Unfit::Repacked(
                format!("it has a comment of {length} bytes at its end"),
                "take the comment out of a copy of the file: zip -z FILE < /dev/null; then try again",
            ));
        }
        return refuse(
            "it is not a complete zip archive: it was cut off on its way here, is another kind of file, or has other data behind its end",
        );
    }
    let disks = [u16_at(&b, 4), u16_at(&b, 6)];
    let counts = [u16_at(&b, 8), u16_at(&b, 10)];
    let mut directory = Directory {
        entries: u64::from(counts[1]),
        size: u64::from(u32_at(&b, 12)),
        offset: u64::from(u32_at(&b, 16)),
    };
    let mut directory_end = at;
    let wide = counts.contains(&u16::MAX)
        || [directory.size, directory.offset].contains(&u64::from(u32::MAX))
        || disks.contains(&u16::MAX);
    let mut locator = [0u8; LOCATOR_LENGTH as usize];
    let locator_at = at.checked_sub(LOCATOR_LENGTH);
    if let Some(locator_at) = locator_at {
        cursor.exact(locator_at, &mut locator)?;
    }
    if u32_at(&locator, 0) == END64_LOCATOR {
        (directory, directory_end) = end64(cursor, &locator, locator_at, counts, &directory)?;
    } else if wide || disks != [0, 0] || counts[0] != counts[1] {
        return refuse(
            "its end record speaks of other volumes, or of a zip64 record that is not there",
        );
    }
    if directory.entries > most {
        let why = format!(
            "it has {} entries, and the limit is {most}",
            directory.entries
        );
        return Err(Unfit::Refused(Code::ARCHIVE_TOO_LARGE, why));
    }
    if directory.offset.checked_add(directory.size) != Some(directory_end) {
        return refuse(
            "its directory does not end where its end record begins: something was put before or between them",
        );
    }
    Ok(directory)
}

/// What the zip64 end record says that this locator leads to, and where that record begins. Each small field either says the
/// same or that it is too small to say it.
fn end64(
    cursor: &mut Cursor,
    locator: &[u8],
    locator_at: Option<u64>,
    counts: [u16; 2],
    small: &Directory,
) -> Result<(Directory, u64), Unfit> {
    let at = locator_at.and_then(|l| l.checked_sub(END64_LENGTH));
    let Some(at) = at.filter(|e| u64_at(locator, 8) == *e) else {
        return refuse("its zip64 end record is not where it should be");
    };
    let mut b = [0u8; END64_LENGTH as usize];
    cursor.exact(at, &mut b)?;
    let sound = u32_at(&b, 0) == END64
        && u64_at(&b, 4) == END64_LENGTH - 12
        && u32_at(&b, 16) == 0
        && u32_at(&b, 20) == 0
        && u64_at(&b, 24) == u64_at(&b, 32)
        && u32_at(locator, 4) == 0
        && u32_at(locator, 16) == 1;
    let wider = Directory {
        entries: u64_at(&b, 32),
        size: u64_at(&b, 40),
        offset: u64_at(&b, 48),
    };
    let agrees = counts
        .iter()
        .all(|c| *c == u16::MAX || u64::from(*c) == wider.entries)
        && (small.size == u64::from(u32::MAX) || small.size == wider.size)
        && (small.offset == u64::from(u32::MAX) || small.offset == wider.offset);
    if !sound || !agrees {
        return refuse("its zip64 end record and its end record do not agree");
    }
    Ok((wider, at))
}

/// The length of the comment that the file ends with, if that is what it ends with.
fn comment(cursor: &mut Cursor, file_size: u64) -> Result<Option<u16>, Unfit> {
    let most = (END_LENGTH + u64::from(u16::MAX)).min(file_size);
    let mut tail = vec![0; usize::try_from(most).unwrap_or_default()];
    cursor.exact(file_size - most, &mut tail)?;
    let is_end = |at: &usize| {
        let record = &tail[*at..];
        let behind = record.len() - END_LENGTH as usize;
        u32_at(record, 0) == END && usize::from(u16_at(record, 20)) == behind
    };
    let mut places = 0..(tail.len() + 1).saturating_sub(END_LENGTH as usize);
    Ok(places.rfind(is_end).map(|at| u16_at(&tail[at..], 20)))
}

fn central(cursor: &mut Cursor, directory: &Directory) -> Result<Vec<Listed>, Unfit> {
    let mut listed = Vec::new();
    let mut at = directory.offset;
    let end = directory.offset + directory.size;
    for _ in 0..directory.entries {
        let mut b = [0u8; 46];
        if end - at < b.len() as u64 {
            return refuse("its directory has fewer entries than it says");
        }
        cursor.exact(at, &mut b)?;
        if u32_at(&b, 0) != CENTRAL {
            return refuse("its directory is damaged");
        }
        let lengths = [28, 30, 32].map(|i| u16_at(&b, i));
        let whole = 46 + lengths.iter().map(|l| u64::from(*l)).sum::<u64>();
        if end - at < whole {
            return refuse("its directory is cut off");
        }
        let mut name = vec![0u8; usize::from(lengths[0])];
        cursor.exact(at + 46, &mut name)?;
        let mut extra = vec![0u8; usize::from(lengths[1])];
        cursor.exact(at + 46 + name.len() as u64, &mut extra)?;
        let shown = shown(&name);
        if lengths[2] != 0 {
            return Err(Unfit::Repacked(
                format!("its entry {shown} has a comment"),
                "unpack it into an empty folder, and pack it again without: cd FOLDER && zip -r ../again.zip .",
            ));
        }
        if u16_at(&b, 34) != 0 {
            return refuse(format!("its entry {shown} is on another volume"));
        }
        let unix = u16_at(&b, 4) >> 8 == 3;
        let mut entry = Listed {
            name,
            flags: u16_at(&b, 8),
            method: u16_at(&b, 10),
            sizes: sizes_at(&b, 16),
            unix_mode: if unix { u32_at(&b, 38) >> 16 } else { 0 },
            offset: u64::from(u32_at(&b, 42)),
            data: 0,
            named_again: false,
        };
        let Listed {
            name,
            sizes,
            offset,
            named_again,
            ..
        } = &mut entry;
        extra_fields(name, &extra, sizes, offset, named_again)
            .or_else(|why| refuse(format!("its entry {} {why}", self::shown(&entry.name))))?;
        listed.push(entry);
        at += whole;
    }
    if at != end {
        return refuse("its directory has more entries than it says");
    }
    Ok(listed)
}

/// Takes wide sizes from the zip64 field of either header, and refuses fields that give an entry another name or meaning.
fn extra_fields(
    name: &[u8],
    mut extra: &[u8],
    sizes: &mut Sizes,
    offset: &mut u64,
    named_again: &mut bool,
) -> Result<(), &'static str> {
    let small = u64::from(u32::MAX);
    let mut seen = false;
    while !extra.is_empty() {
        if extra.len() < 4 {
            return Err("has a damaged extra field");
        }
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(mut field) = extra.get(4..4 + length) else {
            return Err("has a damaged extra field");
        };
        extra = &extra[4 + length..];
        match id {
            0x0001 if seen => return Err("has two zip64 fields"),
            0x0001 => {
                seen = true;
                for value in [&mut sizes.size, &mut sizes.packed, &mut *offset] {
                    if *value == small {
                        let Some(wide) = field.get(..8) else {
                            return Err("has a zip64 field that is too short");
                        };
                        *value = u64_at(wide, 0);
                        field = &field[8..];
                    }
                }
            }
            // As Info-ZIP marks a name as UTF-8: by a checksum of the plain one, and the very same name.
            0x7075 if field.len() > 5 && field[0] == 1 && field[5..] == *name => {
                if u32_at(field, 1) != crc32fast::hash(name) {
                    return Err("has a second name in an extra field, which is not for this one");
                }
                *named_again = true;
            }
            0x7075 => return Err("has a second name in an extra field"),
            0x9901 | 0x0017 => return Err("is encrypted"),
            _ => {}
        }
    }
    if !seen && [sizes.size, sizes.packed, *offset].contains(&small) {
        return Err("says that its sizes are in a zip64 field, and has none");
    }
    Ok(())
}

/// Each entry begins where the one before it ends, the first at 0, the last ending at the directory.
fn entries_fill_the_file(
    cursor: &mut Cursor,
    listed: &mut [Listed],
    directory: u64,
) -> Result<(), Unfit> {
    let mut order: Vec<&mut Listed> = listed.iter_mut().collect();
    order.sort_by_key(|e| e.offset);
    let mut at = 0u64;
    let mut rest = order.as_mut_slice();
    while let [entry, behind_it @ ..] = rest {
        let shown = shown(&entry.name);
        if entry.offset != at {
            return refuse(format!(
                "its entry {shown} begins at byte {} and not at byte {at}, where the one before it ends: entries overlap, or something is hidden between them",
                entry.offset
            ));
        }
        let mut b = [0u8; 30];
        cursor.exact(at, &mut b)?;
        let mut name = vec![0u8; entry.name.len()];
        cursor.exact(at + 30, &mut name)?;
        let streamed = entry.flags & STREAMED != 0;
        let alike = u32_at(&b, 0) == LOCAL
            && usize::from(u16_at(&b, 26)) == name.len()
            && name == entry.name
            && u16_at(&b, 6) == entry.flags
            && u16_at(&b, 8) == entry.method;
        let extra_at = at + 30 + name.len() as u64;
        let mut local = sizes_at(&b, 14);
        let mut named_again = false;
        if alike {
            let mut extra = vec![0u8; usize::from(u16_at(&b, 28))];
            cursor.exact(extra_at, &mut extra)?;
            extra_fields(&name, &extra, &mut local, &mut 0, &mut named_again)
                .or_else(|why| refuse(format!("its entry {shown} {why}, in its own header")))?;
        }
        // What a streamed entry says of its sizes before its bytes is the truth, as far as it says anything.
        let agrees = local == entry.sizes || (streamed && local.is_unsaid_of(entry.sizes));
        if !alike || !agrees || named_again != entry.named_again {
            return refuse(format!(
                "its entry {shown} is described in two ways, by its own header and by the directory"
            ));
        }
        let data = extra_at + u64::from(u16_at(&b, 28));
        entry.data = data;
        let Some(end) = data
            .checked_add(entry.sizes.packed)
            .filter(|end| *end <= directory)
        else {
            return refuse(format!("its entry {shown} overlaps the directory"));
        };
        let next = behind_it.first().map_or(directory, |n| n.offset);
        let behind = next.checked_sub(end);
        let ok = match behind {
            Some(length) if streamed => match descriptor(cursor, end, length)? {
                Some(sizes) if sizes != entry.sizes => {
                    return refuse(format!(
                        "its entry {shown} is described in two ways, behind its bytes and by the directory"
                    ));
                }
                found => found.is_some(),
            },
            other => other == Some(0),
        };
        if !ok {
            return refuse(format!(
                "its entry {shown} does not end where the next begins: entries overlap, or something is hidden between them"
            ));
        }
        at = next;
        rest = behind_it;
    }
    if order.is_empty() && directory != 0 {
        return refuse("it has no entries, and yet something lies before its directory");
    }
    Ok(())
}

/// What stands behind the bytes of a streamed entry: with a mark or without, narrow or wide. None if it is none of the four.
fn descriptor(cursor: &mut Cursor, at: u64, length: u64) -> Result<Option<Sizes>, Unfit> {
    let (marked, wide) = match length {
        12 => (false, false),
        16 => (true, false),
        20 => (false, true),
        24 => (true, true),
        _ => return Ok(None),
    };
    let mut b = [0u8; 24];
    cursor.exact(at, &mut b[..length as usize])?;
    if marked && u32_at(&b, 0) != DESCRIPTOR {
        return Ok(None);
    }
    let from = if marked { 4 } else { 0 };
    Ok(Some(if wide {
        Sizes {
            crc: u32_at(&b, from),
            packed: u64_at(&b, from + 4),
            size: u64_at(&b, from + 12),
        }
    } else {
        sizes_at(&b, from)
    }))
}

/// Checksum, packed size and size in 32 bits each.
fn sizes_at(b: &[u8], i: usize) -> Sizes {
    Sizes {
        crc: u32_at(b, i),
        packed: u64::from(u32_at(b, i + 4)),
        size: u64::from(u32_at(b, i + 8)),
    }
}

fn u16_at(b: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([b[i], b[i + 1]])
}

fn u32_at(b: &[u8], i: usize) -> u32 {
    u32::from(u16_at(b, i)) | u32::from(u16_at(b, i + 2)) << 16
}

fn u64_at(b: &[u8], i: usize) -> u64 {
    u64::from(u32_at(b, i)) | u64::from(u32_at(b, i + 4)) << 32
}
