//! How one thread reads and packs what lies under one name. Follows no link, refuses no content.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{ConfigBytes, Lying, MOST, Stamp, There, stamp_of};
use crate::backup::aside::AsidePlace;
use crate::backup::pack::Packer;
use crate::files::open::again;
use crate::text::wg_config;

/// One thread's means of reading.
pub(super) struct Hand {
    packer: Packer,
    /// Of what was read last.
    bytes: Vec<u8>,
    /// What was packed, one behind the other.
    pub(super) packed: Vec<u8>,
}

impl Hand {
    pub(super) fn new() -> Hand {
        Hand {
            packer: Packer::new(),
            bytes: Vec::new(),
            packed: Vec::new(),
        }
    }

    /// What lies in both folders under this name.
    pub(super) fn look_in(&mut self, folders: &[There; 2], name: &OsStr) -> [Option<Lying>; 2] {
        let [first, second] = folders;
        let mut like = None;
        let first = match first {
            There::Open(folder) => self.look(folder, name, None),
            _ => None,
        };
        // What cannot lie under its own name is not said to be as another.
        if let Some(Lying::File { plain: true, .. }) = &first {
            like = Some(std::mem::take(&mut self.bytes));
        }
        let second = match second {
            There::Open(folder) => self.look(folder, name, like.as_deref()),
            _ => None,
        };
        [first, second]
    }

    /// What lies there; none if nothing does. What is `like` those bytes is not packed again.
    pub(super) fn look(
        &mut self,
        folder: &File,
        name: &OsStr,
        like: Option<&[u8]>,
    ) -> Option<Lying> {
        let unread = |why: String| {
            let stamp = stamp_of(folder, name);
            Some(Lying::Unread { stamp, why })
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match again(|| nix::fcntl::openat(folder, name, flags, Mode::empty())) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT) => return None,
            Err(Errno::ELOOP) => return link(folder, name),
            // A socket, or a device without a driver.
            Err(Errno::ENXIO | Errno::ENODEV) => {
                let stamp = stamp_of(folder, name)?;
                let what = "it is not a regular file";
                return Some(Lying::NoFile { stamp, what });
            }
            Err(e) => return unread(format!("it cannot be opened: {}", e.desc())),
        };
        let meta = match file.metadata() {
            Ok(meta) => meta,
            Err(e) => return unread(format!("it cannot be looked at: {e}")),
        };
        let stamp = Stamp::of(&meta);
        if !meta.is_file() {
            let what = match meta.is_dir() {
                true => "it is a folder",
                false => "it is not a regular file",
            };
            return Some(Lying::NoFile { stamp, what });
        }
        if meta.size() > MOST {
            return unread(format!(
                "it has {} bytes, and what has over {MOST} is not taken for a config",
                meta.size()
            ));
        }
        let owner = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
        let bytes = match self.read(&file, meta.size()).and_then(|()| self.pack(like)) {
            Ok(bytes) => bytes,
            Err(e) => return unread(format!("it cannot be read: {e}")),
        };
        let plain = match bytes {
            ConfigBytes::OfFirst => true,
            ConfigBytes::Packed(..) => is_plain(name, &self.bytes),
        };
        Some(Lying::File {
            stamp,
            owner,
            bytes,
            plain,
        })
    }

    /// Packs what was read last.
    fn pack(&mut self, like: Option<&[u8]>) -> io::Result<ConfigBytes> {
        if like == Some(&self.bytes) {
            return Ok(ConfigBytes::OfFirst);
        }
        let (sum, deflated) = self.packer.pack(&self.bytes)?;
        let place = AsidePlace {
            at: self.packed.len() as u64,
            length: deflated.len(),
        };
        self.packed.extend_from_slice(deflated);
        Ok(ConfigBytes::Packed(sum, place))
    }

    /// In one read, if it has the size that is known.
    fn read(&mut self, mut file: &File, size: u64) -> io::Result<()> {
        self.bytes.clear();
        let wanted = usize::try_from(size).map_err(io::Error::other)?;
        self.bytes.resize(wanted + 1, 0);
        let mut filled = 0;
        while filled < self.bytes.len() {
            match file.read(&mut self.bytes[filled..]) {
                // The end. Where it grew, that is another moment's; whoever looks again sees it.
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    if filled == wanted {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }
}

fn link(folder: &File, name: &OsStr) -> Option<Lying> {
    match (
        again(|| nix::fcntl::readlinkat(folder, name)),
        stamp_of(folder, name),
    ) {
        (Ok(target), Some(stamp)) => Some(Lying::Link {
            stamp,
            target: target.into_vec(),
        }),
        (Err(Errno::ENOENT), _) | (_, None) => None,
        (Err(e), stamp) => Some(Lying::Unread {
            stamp,
            why: format!("it is a link that cannot be read: {}", e.desc()),
        }),
    }
}

/// Whether the gateway's own reader takes it under its own name.
fn is_plain(name: &OsStr, bytes: &[u8]) -> bool {
    bytes.len() as u64 <= wg_config::MOST && wg_config::gateway_takes(name.as_bytes(), bytes)
}
