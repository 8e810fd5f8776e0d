//! A cursor of its own over one open file: positional reads through a window, so that nobody else's offset matters and
//! small headers do not cost a system call each. Must not open anything.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const WINDOW: usize = 64 * 1024;

/// Reads and seeks in a shared open file.
pub(super) struct Cursor {
    file: Arc<File>,
    size: u64,
    at: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Cursor {
    pub(super) fn new(file: Arc<File>, size: u64) -> Cursor {
        Cursor {
            file,
            size,
            at: 0,
            window: Vec::new(),
            window_at: 0,
        }
    }

    /// Reads these bytes in one go, to be asked for next.
    pub(super) fn ahead(&mut self, at: u64, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let inside = at
            .checked_sub(self.window_at)
            .is_some_and(|o| o + length as u64 <= self.window.len() as u64);
        if inside {
            return Ok(());
        }
        self.window.resize(length, 0);
        self.window_at = at;
        let filled = loop {
            match self.file.read_at(&mut self.window, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        self.window.truncate(*filled.as_ref().unwrap_or(&0));
        filled.map(drop)
    }

    /// Some of the bytes from a place on, at least one and at most so many; the end of the file is an error.
    pub(super) fn some(&mut self, at: u64, most: u64) -> io::Result<&[u8]> {
        let holds = |c: &Cursor| {
            let offset = at.checked_sub(c.window_at)?;
            (offset < c.window.len() as u64).then_some(offset as usize)
        };
        let offset = match holds(self) {
            Some(offset) => offset,
            None => {
                self.ahead(at, most)?;
                holds(self).ok_or(io::ErrorKind::UnexpectedEof)?
            }
        };
        let rest = &self.window[offset..];
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Ok(&rest[..rest.len().min(most)])
    }

    /// Exactly these bytes of the file.
    pub(super) fn exact(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.at = at;
        self.read_exact(buffer)
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inside = self
            .at
            .checked_sub(self.window_at)
            .filter(|o| *o < self.window.len() as u64);
        let offset = match inside {
            Some(offset) => offset as usize,
            None => {
                self.ahead(self.at, WINDOW as u64)?;
                0
            }
        };
        let n = (self.window.len() - offset).min(buffer.len());
        buffer[..n].copy_from_slice(&self.window[offset..offset + n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "seek before the beginning")
        })?;
        Ok(self.at)
    }
}
