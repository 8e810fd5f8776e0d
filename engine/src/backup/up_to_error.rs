//! A file that is written up to the first error. Owns what the writer of the zip sees after it; must not let that pass for
//! a file.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};

/// After an error it takes whatever comes and keeps nothing: the zip's writer ends its archive also when it is given up,
/// and would trip over a file that is shorter than what it wrote.
pub(super) struct UpToError {
    file: BufWriter<File>,
    at: u64,
    failed: bool,
}

impl UpToError {
    pub(super) fn new(buffer: usize, file: File) -> UpToError {
        UpToError {
            file: BufWriter::with_capacity(buffer, file),
            at: 0,
            failed: false,
        }
    }

    /// The file with everything in it, or why it is not.
    pub(super) fn whole(self) -> io::Result<File> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        Ok(self.file.into_inner()?)
    }

    fn noted<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        self.failed |= done
            .as_ref()
            .is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
        done
    }
}

// Its place moves on also when a call fails, since whoever gives up goes on from there.
impl Write for UpToError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = if self.failed {
            Ok(bytes.len())
        } else {
            let done = self.file.write(bytes);
            self.noted(done)
        };
        self.at += *done.as_ref().unwrap_or(&bytes.len()) as u64;
        done
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let done = self.file.flush();
        self.noted(done)
    }
}

impl Seek for UpToError {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            // No writer of an archive asks where the end is; nothing was cut off behind this place.
            SeekFrom::End(_) => self.at,
        };
        if !self.failed {
            let done = self.file.seek(to);
            self.at = self.noted(done)?;
        }
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_zip_that_is_given_up_after_a_failed_write_is_dropped_in_peace_and_is_no_file() {
        // Every write to it fails with ENOSPC: that of the first entry, of a later one, and of a header that is written again.
        let full = || File::options().write(true).open("/dev/full").unwrap();
        for buffer in [16, 512, 4096, 1 << 20] {
            let mut zip = zip::ZipWriter::new(UpToError::new(buffer, full()));
            let noise: Vec<u8> = (0..20_000u32).map(|i| ((i * i) >> 7) as u8).collect();
            let packed = (0..100).try_for_each(|i| {
                zip.start_file(i.to_string(), super::super::options())?;
                zip.write_all(&noise)?;
                zip::result::ZipResult::Ok(())
            });
            assert!(packed.unwrap_err().to_string().contains("No space left"));
            drop(zip);
        }

        let mut file = UpToError::new(16, full());
        file.write_all(&[0; 64]).unwrap_err();
        assert_eq!(file.write(&[0; 64]).unwrap(), 64);
        assert_eq!(file.stream_position().unwrap(), file.at);
        assert!(file.whole().is_err());
    }
}
