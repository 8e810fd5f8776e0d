//! Entries of the archive: deflated by any number of threads, written by one hand, one behind the other, never going back.
//! The same bytes under the same name make the same entry, whatever the number of processors. Must not know what an entry is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use flate2::{Compress, Compression, FlushCompress, Status};
use rawzip::{CompressionMethod, DataDescriptorOutput, ZipArchiveWriter};
use sha2::{Digest as _, Sha256};

use crate::archive::Copied;
use crate::parallel;
use journal_format::Digest;

/// Regular, and root's alone wherever it is unpacked.
const MODE: u32 = 0o100_600;
/// Writes to the file have this size.
const WRITE: usize = 256 << 10;
/// Large files are deflated in pieces of this size, each by itself. Smaller ones pack worse.
const PIECE: u64 = 1 << 20;
const LEVEL: u32 = 6;

/// Bytes as they will lie in the archive, and what they are.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    crc: u32,
    deflated: Box<[u8]>,
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

    /// All that there will be in an entry.
    pub(super) fn pack(&mut self, bytes: &[u8]) -> io::Result<Packed> {
        self.deflate(bytes, FlushCompress::Finish)?;
        Ok(Packed {
            size: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
            crc: crc32fast::hash(bytes),
            deflated: self.room.as_slice().into(),
        })
    }

    /// Into `room`. Without its end, what is deflated can be followed by more that was deflated by itself.
    fn deflate(&mut self, bytes: &[u8], end: FlushCompress) -> io::Result<()> {
        self.deflate.reset();
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

/// An archive that is being written.
pub(super) struct Zip {
    zip: ZipArchiveWriter<BufWriter<File>>,
}

impl Zip {
    pub(super) fn new(file: File) -> Zip {
        Zip {
            zip: ZipArchiveWriter::new(BufWriter::with_capacity(WRITE, file)),
        }
    }

    /// Adds an entry of what is packed.
    pub(super) fn add(&mut self, name: &str, packed: &Packed) -> io::Result<()> {
        let (mut entry, _) = new_entry(&mut self.zip, name)?;
        entry.write_all(&packed.deflated)?;
        entry
            .finish(DataDescriptorOutput::new(packed.crc, packed.size))
            .map_err(io::Error::other)?;
        Ok(())
    }

    /// Adds an entry of the first `size` bytes of a file that nobody else writes, on all processors; tells how many bytes
    /// of it are done.
    pub(super) fn add_file(
        &mut self,
        name: &str,
        file: &File,
        size: u64,
        told: &mut dyn FnMut(u64),
    ) -> io::Result<Copied> {
        let pieces: Vec<(u64, u64)> = match size {
            0 => vec![(0, 0)],
            _ => (0..size.div_ceil(PIECE))
                .map(|i| (i * PIECE, PIECE.min(size - i * PIECE)))
                .collect(),
        };
        let work = |packer: &mut Packer, (at, length): &(u64, u64)| -> io::Result<_> {
            let mut bytes = vec![0; usize::try_from(*length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, *at)?;
            let end = match at + length == size {
                true => FlushCompress::Finish,
                false => FlushCompress::Full,
            };
            packer.deflate(&bytes, end)?;
            Ok((bytes, packer.room.clone()))
        };
        let (mut sha256, mut crc, mut done) = (Sha256::new(), crc32fast::Hasher::new(), 0);
        let (mut entry, _) = new_entry(&mut self.zip, name)?;
        parallel::in_order(&pieces, Packer::new, work, |piece| {
            let (bytes, deflated) = piece?;
            sha256.update(&bytes);
            crc.update(&bytes);
            entry.write_all(&deflated)?;
            done += bytes.len() as u64;
            told(done);
            Ok::<(), io::Error>(())
        })?;
        entry
            .finish(DataDescriptorOutput::new(crc.finalize(), size))
            .map_err(io::Error::other)?;
        Ok(Copied {
            size,
            sha256: Digest::of_bytes(sha256.finalize().into()),
        })
    }

    /// Adds an entry of what `fill` writes, as it comes.
    pub(super) fn add_written(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut entry, data) = new_entry(&mut self.zip, name)?;
        let deflate = flate2::write::DeflateEncoder::new(&mut entry, Compression::new(LEVEL));
        let mut written = data.wrap(deflate);
        fill(&mut written)?;
        let (deflate, is) = written.finish().map_err(io::Error::other)?;
        deflate.finish()?;
        entry.finish(is).map_err(io::Error::other)?;
        Ok(())
    }

    /// The file with everything in it.
    pub(super) fn finish(self) -> io::Result<File> {
        let written = self.zip.finish().map_err(io::Error::other)?;
        Ok(written.into_inner()?)
    }
}

type Entry<'z> = rawzip::ZipEntryWriter<'z, BufWriter<File>>;

fn new_entry<'z>(
    zip: &'z mut ZipArchiveWriter<BufWriter<File>>,
    name: &str,
) -> io::Result<(Entry<'z>, rawzip::ZipDataWriterConfig)> {
    let entry = zip
        .new_file(name)
        .compression_method(CompressionMethod::DEFLATE)
        .unix_permissions(MODE);
    entry.start().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

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
    fn what_is_packed_whole_in_pieces_or_as_it_comes_is_read_back_by_another_reader() {
        let piece = usize::try_from(PIECE).unwrap();
        let sizes = [0, 1, 300, piece - 1, piece, piece + 1, 5 * piece + 17];
        let mut zip = Zip::new(tempfile::tempfile().unwrap());
        for size in sizes {
            let bytes = noise(size);
            let packed = Packer::new().pack(&bytes).unwrap();
            zip.add(&format!("whole/{size}"), &packed).unwrap();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let copied = zip.add_file(&format!("pieces/{size}"), &file, size as u64, &mut |_| ());
            assert_eq!(copied.unwrap().sha256, Digest::of_bytes(packed.sha256));
            let written = zip.add_written(&format!("written/{size}"), |out| out.write_all(&bytes));
            written.unwrap();
        }
        let mut read = zip::ZipArchive::new(zip.finish().unwrap()).unwrap();
        for size in sizes {
            for how in ["whole", "pieces", "written"] {
                let mut entry = read.by_name(&format!("{how}/{size}")).unwrap();
                assert_eq!(entry.unix_mode(), Some(MODE));
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                assert_eq!(bytes, noise(size), "{how}, {size} bytes");
            }
        }
    }

    #[test]
    fn a_packer_that_was_used_packs_the_same() {
        let (small, large) = (noise(400), noise(400_000));
        let mut used = Packer::new();
        used.pack(&large).unwrap();
        let again = used.pack(&small).unwrap();
        assert_eq!(again.deflated, Packer::new().pack(&small).unwrap().deflated);
    }

    #[test]
    fn a_disk_that_is_full_is_an_error_and_no_panic_wherever_it_comes() {
        for entries in [1, 3000] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut zip = Zip::new(full);
            let packed = Packer::new().pack(&noise(400)).unwrap();
            let added = (0..entries).try_for_each(|i| zip.add(&format!("{i:0>200}"), &packed));
            assert!(added.and_then(|()| zip.finish()).is_err());
        }
    }
}
