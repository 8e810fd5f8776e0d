//! Entries of the archive: deflated by any number of threads, written by one hand, one behind the other, never going back.
//! The same bytes under the same name make the same entry, whatever the number of processors. Must not know what an entry is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use flate2::{Compress, Compression, FlushCompress, Status};
use sha2::{Digest as _, Sha256};

use crate::archive::manifest::EntryFacts;
use crate::parallel;
use journal_format::Digest;

/// Regular, and root's alone wherever it is unpacked.
const MODE: u32 = 0o100_600;
/// Writes to the file have this size.
const WRITE: usize = 256 << 10;
/// Large files are deflated in pieces of this size, each with what stands before it as its dictionary: together they are one
/// stream, whoever packed which.
const PIECE: u64 = 1 << 20;
const WINDOW: u64 = 32 << 10;
const LEVEL: u32 = 6;

/// What bytes are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum {
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    crc: u32,
}

/// One thread's means of packing.
pub(super) struct Packer {
    deflate: Compress,
    room: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Packer {
        Packer {
            deflate: Compress::new(Compression::new(LEVEL), false),
            room: Vec::new(),
        }
    }

    /// All that there will be in an entry: what it is, and its bytes as they will lie in the archive.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> io::Result<(Sum, &[u8])> {
        self.deflate(&[], bytes, FlushCompress::Finish)?;
        let sum = Sum {
            size: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
            crc: crc32fast::hash(bytes),
        };
        Ok((sum, &self.room))
    }

    /// Into `room`; `known` stands before the bytes. Without its end, what is deflated can be followed by more.
    fn deflate(&mut self, known: &[u8], bytes: &[u8], end: FlushCompress) -> io::Result<()> {
        self.deflate.reset();
        if !known.is_empty() {
            self.deflate.set_dictionary(known)?;
        }
        self.room.clear();
        self.room.reserve(bytes.len() / 2 + 64);
        loop {
            let taken = usize::try_from(self.deflate.total_in()).map_err(io::Error::other)?;
            let status = self
                .deflate
                .compress_vec(&bytes[taken..], &mut self.room, end)?;
            let whole = match end {
                FlushCompress::Finish => status == Status::StreamEnd,
                // What is flushed is out once there was room to spare.
                _ => self.room.len() < self.room.capacity(),
            };
            if whole {
                return Ok(());
            }
            self.room.reserve(bytes.len() / 4 + 64);
        }
    }
}

/// An archive that is being written. No library writes entries that were packed elsewhere without a descriptor behind each
/// one (a twentieth of a config) or a seek back for it.
pub(super) struct Zip {
    out: BufWriter<File>,
    /// Bytes written.
    at: u64,
    /// The central directory so far.
    directory: Vec<u8>,
    entries: u64,
}

/// What is known of an entry once its bytes are written.
#[derive(Default)]
struct PackedSizes {
    crc: u32,
    packed: u64,
    size: u64,
}

/// Sizes and checksum stand behind the bytes.
const STREAMED: u16 = 1 << 3;
/// The name is UTF-8.
const UTF8: u16 = 1 << 11;
const DEFLATED: u16 = 8;
/// Made on Unix.
const UNIX: u16 = 3 << 8;
/// What it takes to read: version 2.0, and 4.5 where something is too wide for 32 bits.
const PLAIN: u16 = 20;
const WIDE: u16 = 45;
/// The first day that a zip has a date for: the same content makes the same bytes.
const DATE: u16 = 0x21;
/// In the place of what is wider.
const TOO_WIDE: u32 = u32::MAX;

impl Zip {
    pub(super) fn new(file: File) -> Zip {
        Zip {
            out: BufWriter::with_capacity(WRITE, file),
            at: 0,
            directory: Vec::new(),
            entries: 0,
        }
    }

    /// Adds an entry of what is packed.
    pub(super) fn add(&mut self, name: &str, sum: &Sum, deflated: &[u8]) -> io::Result<()> {
        let sizes = PackedSizes {
            crc: sum.crc,
            packed: deflated.len() as u64,
            size: sum.size,
        };
        let offset = self.begin(name, 0, &sizes)?;
        self.write(deflated)?;
        self.list(name, 0, offset, &sizes)
    }

    /// Adds an entry of the first `size` bytes of a file that nobody else writes, on all processors; tells how many bytes
    /// of it are done.
    pub(super) fn add_file(
        &mut self,
        name: &str,
        file: &File,
        size: u64,
        told: &mut dyn FnMut(u64),
    ) -> io::Result<EntryFacts> {
        let pieces: Vec<(u64, u64)> = match size {
            0 => vec![(0, 0)],
            _ => (0..size.div_ceil(PIECE))
                .map(|i| (i * PIECE, PIECE.min(size - i * PIECE)))
                .collect(),
        };
        let work = |packer: &mut Packer, (at, length): &(u64, u64)| -> io::Result<_> {
            let known = (*at).min(WINDOW);
            let whole = usize::try_from(known + length).map_err(io::Error::other)?;
            let mut bytes = vec![0; whole];
            file.read_exact_at(&mut bytes, at - known)?;
            let piece = bytes.split_off(usize::try_from(known).map_err(io::Error::other)?);
            let end = match at + length == size {
                true => FlushCompress::Finish,
                false => FlushCompress::Sync,
            };
            packer.deflate(&bytes, &piece, end)?;
            Ok((piece, packer.room.clone()))
        };
        let (mut sha256, mut crc, mut done) = (Sha256::new(), crc32fast::Hasher::new(), 0);
        // Nothing is known yet.
        let offset = self.begin(name, STREAMED, &PackedSizes::default())?;
        let from = self.at;
        parallel::in_order(&pieces, Packer::new, work, |piece| {
            let (bytes, deflated) = piece?;
            sha256.update(&bytes);
            crc.update(&bytes);
            self.write(&deflated)?;
            done += bytes.len() as u64;
            told(done);
            Ok::<(), io::Error>(())
        })?;
        let sizes = PackedSizes {
            crc: crc.finalize(),
            packed: self.at - from,
            size,
        };
        self.describe(&sizes)?;
        self.list(name, STREAMED, offset, &sizes)?;
        Ok(EntryFacts {
            size,
            sha256: Digest::of_bytes(sha256.finalize().into()),
            owner: None,
        })
    }

    /// The file with everything in it.
    pub(super) fn finish(mut self) -> io::Result<File> {
        let (offset, size) = (self.at, self.directory.len() as u64);
        let directory = std::mem::take(&mut self.directory);
        self.write(&directory)?;
        let mut end = Vec::new();
        let wide = self.entries >= u64::from(u16::MAX) || offset >= u64::from(TOO_WIDE);
        if wide {
            put32(&mut end, 0x0606_4b50);
            put64(&mut end, 44);
            put16(&mut end, UNIX | WIDE);
            put16(&mut end, WIDE);
            put64(&mut end, 0);
            for number in [self.entries, self.entries, size, offset] {
                put64(&mut end, number);
            }
            put32(&mut end, 0x0706_4b50);
            put32(&mut end, 0);
            put64(&mut end, self.at);
            put32(&mut end, 1);
        }
        let entries = u16::try_from(self.entries).unwrap_or(u16::MAX);
        put32(&mut end, 0x0605_4b50);
        put32(&mut end, 0);
        put16(&mut end, entries);
        put16(&mut end, entries);
        put32(&mut end, narrow(size));
        put32(&mut end, narrow(offset));
        put16(&mut end, 0);
        self.write(&end)?;
        Ok(self.out.into_inner()?)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The header before the bytes; gives where it begins.
    fn begin(&mut self, name: &str, flags: u16, sizes: &PackedSizes) -> io::Result<u64> {
        let offset = self.at;
        let mut header = Vec::with_capacity(30 + name.len());
        put32(&mut header, 0x0403_4b50);
        common(&mut header, PLAIN, name, flags, sizes)?;
        put16(&mut header, 0);
        header.extend_from_slice(name.as_bytes());
        self.write(&header)?;
        Ok(offset)
    }

    /// What stands behind the bytes of a streamed entry.
    fn describe(&mut self, sizes: &PackedSizes) -> io::Result<()> {
        let mut behind = Vec::with_capacity(24);
        put32(&mut behind, 0x0807_4b50);
        put32(&mut behind, sizes.crc);
        for size in [sizes.packed, sizes.size] {
            match sizes.is_wide() {
                true => put64(&mut behind, size),
                false => put32(&mut behind, narrow(size)),
            }
        }
        self.write(&behind)
    }

    /// The entry in the directory.
    fn list(&mut self, name: &str, flags: u16, offset: u64, sizes: &PackedSizes) -> io::Result<()> {
        let mut wide = Vec::new();
        for number in [sizes.size, sizes.packed, offset] {
            if narrow(number) == TOO_WIDE {
                put64(&mut wide, number);
            }
        }
        let version = if wide.is_empty() { PLAIN } else { WIDE };
        let directory = &mut self.directory;
        put32(directory, 0x0201_4b50);
        put16(directory, UNIX | version);
        common(directory, version, name, flags, sizes)?;
        let fields = match wide.len() as u16 {
            0 => 0,
            length => 4 + length,
        };
        put16(directory, fields);
        // No comment, on the first volume, and nothing is known of what is inside.
        put32(directory, 0);
        put16(directory, 0);
        put32(directory, MODE << 16);
        put32(directory, narrow(offset));
        directory.extend_from_slice(name.as_bytes());
        if !wide.is_empty() {
            put16(directory, 1);
            put16(directory, wide.len() as u16);
            directory.extend_from_slice(&wide);
        }
        self.entries += 1;
        Ok(())
    }
}

impl PackedSizes {
    fn is_wide(&self) -> bool {
        [self.packed, self.size].map(narrow).contains(&TOO_WIDE)
    }
}

/// What both headers of an entry say, from the version that it takes to the length of the name.
fn common(
    to: &mut Vec<u8>,
    version: u16,
    name: &str,
    flags: u16,
    sizes: &PackedSizes,
) -> io::Result<()> {
    let length = u16::try_from(name.len()).map_err(io::Error::other)?;
    let utf8 = if name.is_ascii() { 0 } else { UTF8 };
    put16(to, version);
    put16(to, flags | utf8);
    put16(to, DEFLATED);
    put16(to, 0);
    put16(to, DATE);
    put32(to, sizes.crc);
    put32(to, narrow(sizes.packed));
    put32(to, narrow(sizes.size));
    put16(to, length);
    Ok(())
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(TOO_WIDE)
}

fn put16(to: &mut Vec<u8>, number: u16) {
    to.extend_from_slice(&number.to_le_bytes());
}

fn put32(to: &mut Vec<u8>, number: u32) {
    to.extend_from_slice(&number.to_le_bytes());
}

fn put64(to: &mut Vec<u8>, number: u64) {
    to.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Seek};

    use super::*;

    fn noise(size: usize) -> Vec<u8> {
        let mut seed = 1u32;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 17;
            seed ^= seed << 5;
            // Half of it packs well.
            if seed & 1 == 0 { 7 } else { (seed >> 8) as u8 }
        };
        (0..size).map(|_| next()).collect()
    }

    #[test]
    fn what_is_packed_whole_or_in_pieces_is_read_back_by_another_reader() {
        let piece = usize::try_from(PIECE).unwrap();
        let sizes = [0, 1, 300, piece - 1, piece, piece + 1, 5 * piece + 17];
        let mut zip = Zip::new(tempfile::tempfile().unwrap());
        for size in sizes {
            let bytes = noise(size);
            let mut packer = Packer::new();
            let (sum, packed) = packer.pack(&bytes).unwrap();
            zip.add(&format!("whole/{size}"), &sum, packed).unwrap();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let copied = zip.add_file(&format!("pieces/{size}"), &file, size as u64, &mut |_| ());
            assert_eq!(copied.unwrap().sha256, Digest::of_bytes(sum.sha256));
        }
        let mut read = zip::ZipArchive::new(zip.finish().unwrap()).unwrap();
        for size in sizes {
            for how in ["whole", "pieces"] {
                let mut entry = read.by_name(&format!("{how}/{size}")).unwrap();
                assert_eq!(entry.unix_mode(), Some(MODE));
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, noise(size), "{how}, {size} bytes");
            }
        }
    }

    #[test]
    fn more_entries_than_16_bits_count_and_places_beyond_32_bits_are_read_back() {
        let mut packer = Packer::new();
        let (sum, packed) = packer.pack(b"x").unwrap();
        for (from, entries) in [(0, 65_534), (0, 65_535), (0, 70_000), (5 << 30, 3)] {
            let mut file = tempfile::tempfile().unwrap();
            // A hole: nothing of it takes room.
            file.seek(io::SeekFrom::Start(from)).unwrap();
            let mut zip = Zip::new(file);
            zip.at = from;
            for i in 0..entries {
                zip.add(&i.to_string(), &sum, packed).unwrap();
            }
            let mut packer = Packer::new();
            let (sum, packed) = packer.pack(b"y").unwrap();
            zip.add("last \u{fc}", &sum, packed).unwrap();
            let config = zip::read::Config {
                archive_offset: zip::read::ArchiveOffset::Known(0),
            };
            let file = zip.finish().unwrap();
            let mut read = zip::ZipArchive::with_config(config, file).unwrap();
            assert_eq!(read.len(), entries + 1);
            for (name, bytes) in [(&(entries - 1).to_string()[..], "x"), ("last \u{fc}", "y")] {
                let mut text = String::new();
                let mut entry = read.by_name(name).unwrap();
                entry.read_to_string(&mut text).unwrap();
                assert_eq!(text, bytes);
            }
        }
    }

    #[test]
    fn a_packer_that_was_used_packs_the_same() {
        let (small, large) = (noise(400), noise(400_000));
        let mut used = Packer::new();
        used.pack(&large).unwrap();
        let (_, again) = used.pack(&small).unwrap();
        assert_eq!(again, Packer::new().pack(&small).unwrap().1);
    }

    #[test]
    fn a_disk_that_is_full_is_an_error_and_no_panic_wherever_it_comes() {
        for entries in [1, 3000] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut zip = Zip::new(full);
            let mut packer = Packer::new();
            let (sum, packed) = packer.pack(&noise(400)).unwrap();
            let added = (0..entries).try_for_each(|i| zip.add(&format!("{i:0>200}"), &sum, packed));
            assert!(added.and_then(|()| zip.finish()).is_err());
        }
    }
}
