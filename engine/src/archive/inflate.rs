//! The bytes of entries, one entry after another: read where the layout says that they lie, inflated, and compared with the
//! checksum. Owns one thread's means of that. Must not trust a size, know what an entry is, or read where none lies.

use std::fs::File;
use std::io;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};

use super::cursor::Cursor;

/// Bytes that are handed on at once, at most.
const PORTION: usize = 64 * 1024;
/// Bytes of the file that are read at once, at most.
const AHEAD: u64 = 1 << 20;

/// Where the bytes of an entry lie, and what is said of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryPlace {
    /// The first of them, in the file.
    pub(super) at: u64,
    /// Bytes in the file.
    pub(super) packed: u64,
    pub(super) crc: u32,
    pub(super) deflated: bool,
}

/// Why the bytes of an entry do not come.
#[derive(Debug)]
pub(super) enum UnreadBytes<E> {
    /// Of what they are.
    Damaged(String),
    /// Of the disk.
    Io(io::Error),
    /// Whoever takes them wants no more.
    Stopped(E),
}

/// One thread's means of reading entries.
pub(super) struct Reader {
    cursor: Cursor,
    inflate: Decompress,
    portion: Box<[u8]>,
}

impl Reader {
    pub(super) fn new(file: Arc<File>, size: u64) -> Reader {
        Reader {
            cursor: Cursor::new(file, size),
            inflate: Decompress::new(false),
            portion: vec![0; PORTION].into(),
        }
    }

    /// These are wanted next: they are read at once, if they lie close together.
    pub(super) fn ahead(&mut self, places: impl Iterator<Item = EntryPlace>) -> io::Result<()> {
        let ends = |p: EntryPlace| (p.at, p.at.saturating_add(p.packed));
        let Some((first, last)) = places.map(ends).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        else {
            return Ok(());
        };
        match last - first {
            span @ 1..=AHEAD => self.cursor.ahead(first, span),
            _ => Ok(()),
        }
    }

    /// Hands on the bytes of one entry, in portions.
    pub(super) fn read<E>(
        &mut self,
        place: EntryPlace,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), UnreadBytes<E>> {
        let mut crc = crc32fast::Hasher::new();
        let mut hand_on = |bytes: &[u8]| {
            crc.update(bytes);
            take(bytes).map_err(UnreadBytes::Stopped)
        };
        self.inflate.reset(false);
        let (mut at, mut left) = (place.at, place.packed);
        let mut ended = !place.deflated;
        while left > 0 {
            let input = self
                .cursor
                .some(at, left.min(AHEAD))
                .map_err(UnreadBytes::Io)?;
            let taken = if place.deflated {
                let (taken, came);
                (taken, came, ended) = inflated(&mut self.inflate, input, &mut self.portion)?;
                hand_on(&self.portion[..came])?;
                if !ended && taken == 0 && came == 0 {
                    break;
                }
                taken
            } else {
                let some = &input[..input.len().min(PORTION)];
                hand_on(some)?;
                some.len() as u64
            };
            at += taken;
            left = left.saturating_sub(taken);
            if ended && place.deflated {
                break;
            }
        }
        // What is inflated may be more than there was room for.
        while !ended {
            let came;
            (_, came, ended) = inflated(&mut self.inflate, &[], &mut self.portion)?;
            hand_on(&self.portion[..came])?;
            if !ended && came == 0 {
                return Err(UnreadBytes::Damaged("its bytes end too early".into()));
            }
        }
        if left > 0 {
            return Err(UnreadBytes::Damaged(
                "something is hidden behind its bytes".into(),
            ));
        }
        if crc.finalize() != place.crc {
            return Err(UnreadBytes::Damaged("its checksum is another".into()));
        }
        Ok(())
    }
}

/// Inflates some of these bytes into a room. Gives how many were taken, how many came, and whether that was their end.
fn inflated<E>(
    inflate: &mut Decompress,
    input: &[u8],
    room: &mut [u8],
) -> Result<(u64, usize, bool), UnreadBytes<E>> {
    let (before, came) = (inflate.total_in(), inflate.total_out());
    let status = inflate
        .decompress(input, room, FlushDecompress::None)
        .map_err(|e| UnreadBytes::Damaged(e.to_string()))?;
    let came = usize::try_from(inflate.total_out() - came).unwrap_or(usize::MAX);
    // It never says more than it was given room for.
    let came = came.min(room.len());
    let taken = inflate.total_in() - before;
    Ok((taken, came, status == Status::StreamEnd))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn deflated(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(6));
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn reader(bytes: &[u8]) -> Reader {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Reader::new(Arc::new(file), bytes.len() as u64)
    }

    fn read(reader: &mut Reader, place: EntryPlace) -> Result<Vec<u8>, UnreadBytes<()>> {
        let mut all = Vec::new();
        reader.read(place, |bytes| {
            all.extend_from_slice(bytes);
            Ok::<(), ()>(())
        })?;
        Ok(all)
    }

    /// As deflate and as they are, at these places.
    fn places(file: &mut Vec<u8>, bytes: &[u8]) -> [EntryPlace; 2] {
        [true, false].map(|is_deflated| {
            let stored = if is_deflated {
                deflated(bytes)
            } else {
                bytes.to_vec()
            };
            file.extend_from_slice(b"between");
            let at = file.len() as u64;
            file.extend_from_slice(&stored);
            EntryPlace {
                at,
                packed: stored.len() as u64,
                crc: crc32fast::hash(bytes),
                deflated: is_deflated,
            }
        })
    }

    #[test]
    fn entries_of_any_size_come_whole_in_any_order_whatever_was_read_ahead() {
        let noise = |size: usize| -> Vec<u8> {
            (0..size as u32)
                .map(|i| (i.wrapping_mul(i) >> 7) as u8)
                .collect()
        };
        let mut file = Vec::new();
        let mut wanted = Vec::new();
        for bytes in [
            Vec::new(),
            b"x".to_vec(),
            noise(400),
            noise(PORTION),
            vec![7; 40 * PORTION],
            noise(3 << 20),
        ] {
            let at = places(&mut file, &bytes);
            wanted.extend(at.map(|place| (place, bytes.clone())));
        }
        let mut reader = reader(&file);
        for _ in 0..2 {
            for (place, bytes) in &wanted {
                assert!(read(&mut reader, *place).unwrap() == *bytes, "{place:?}");
            }
            wanted.reverse();
            let small = wanted.iter().map(|(place, _)| *place);
            reader.ahead(small.filter(|p| p.packed < 1000)).unwrap();
        }
    }

    #[test]
    fn what_ends_early_goes_on_or_was_changed_is_damaged() {
        let bytes: Vec<u8> = (0..9_000u32).map(|i| ((i * i) >> 5) as u8).collect();
        let mut file = Vec::new();
        let both = places(&mut file, &bytes);
        file.extend_from_slice(b"behind");
        for place in both {
            let mut reader = reader(&file);
            assert_eq!(read(&mut reader, place).unwrap(), bytes);
            for other in [
                EntryPlace {
                    packed: place.packed - 1,
                    ..place
                },
                EntryPlace {
                    packed: place.packed + 1,
                    ..place
                },
                EntryPlace { packed: 0, ..place },
                EntryPlace {
                    crc: !place.crc,
                    ..place
                },
                EntryPlace {
                    at: place.at + 1,
                    ..place
                },
                EntryPlace {
                    deflated: !place.deflated,
                    ..place
                },
            ] {
                let refused = read(&mut reader, other);
                assert!(
                    matches!(refused, Err(UnreadBytes::Damaged(_))),
                    "{other:?}: {refused:?}"
                );
            }
            // Where the file ends meanwhile, that is the disk's.
            let cut = &file[..usize::try_from(place.at + place.packed / 2).unwrap()];
            let mut cut = super::tests::reader(cut);
            assert!(matches!(read(&mut cut, place), Err(UnreadBytes::Io(_))));
        }
    }
}
