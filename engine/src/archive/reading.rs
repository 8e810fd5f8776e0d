//! The bytes of entries: inflated, counted against the limits, hashed, and compared with what the manifest says on the way.
//! Gives them to whoever asks; nothing of an entry stays here.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{MutexGuard, PoisonError};
use std::thread;

use journal_format::Digest;
use sha2::{Digest as _, Sha256};

use super::inflate::{Reader, UnreadBytes};
use super::manifest::EntryFacts;
use super::{Archive, ArchiveEntry, refuse, refused, unreadable};
use crate::error::{Code, Fault, OrCannot};
use crate::parallel;
use crate::text::wording::Named;

/// Entries that one thread reads at a time, at most, and their bytes.
const BATCH: usize = 256;
const BATCH_BYTES: u64 = 1 << 20;
/// An entry from this size on is inflated by a thread of its own, beside the one that takes its bytes.
const LARGE: u64 = 1 << 20;
/// Portions of it that wait to be taken, and their size: what is larger the allocator gives back to the kernel each time.
const WAITING: usize = 8;
const PORTION: usize = 64 << 10;

/// Bytes inflated so far, of each entry and of all. One that is read again costs no more than the first time.
pub(super) struct Inflated {
    each: Box<[AtomicU64]>,
    pub(super) all: AtomicU64,
}

impl Inflated {
    pub(super) fn of(entries: usize) -> Inflated {
        Inflated {
            each: (0..entries).map(|_| AtomicU64::new(0)).collect(),
            all: AtomicU64::new(0),
        }
    }

    /// Of this entry so many have come now. Gives how many of all.
    fn count(&self, entry: usize, size: u64) -> u64 {
        let before = self.each[entry].fetch_max(size, Ordering::Relaxed);
        let more = size.saturating_sub(before);
        self.all.fetch_add(more, Ordering::Relaxed) + more
    }
}

impl Archive {
    /// A small entry whole; one of more than `most` bytes is refused.
    pub fn read_small(&self, name: &str, most: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Bounded {
            bytes: Vec::new(),
            most,
            over: false,
        };
        let copied = self.copy(name, &mut bytes);
        if bytes.over {
            let why = format!("its entry {} is over {most} bytes", Named(name));
            return Err(refuse(&self.name, &why));
        }
        copied.map(|_| bytes.bytes)
    }

    /// Copies an entry out. What comes is as long as declared, fits its checksum and, if there is a manifest, is what the
    /// manifest says; over the whole archive no more is inflated than the limit.
    pub fn copy(&self, name: &str, out: &mut dyn Write) -> Result<EntryFacts, Fault> {
        let Some(i) = self.find(name) else {
            return Err(self.refuse_entry(Code::ARCHIVE_DAMAGED, name, "is not there"));
        };
        let mut write = |bytes: &[u8]| {
            let (entry, backup) = (Named(name), &self.name);
            Ok(out.write_all(bytes).or_cannot(
                Code::IO,
                format_args!("write what entry {entry} of the backup {backup} holds"),
                "check the disk of `state_dir`: `df -h` shows whether it is full, `dmesg` whether it fails",
            )?)
        };
        if self.entries[i].size < LARGE {
            return self.with_reader(|reader| self.read(reader, i, &mut write));
        }
        self.copy_beside(i, &mut write)
    }

    /// Reads all of these entries, by their places, each whole, on all processors: `work` gets each, what copying it proved and
    /// its bytes, and `take` what came of it, in their order. The caller bounds their sizes: two batches of entries, or one large entry, are in
    /// memory for each processor.
    pub fn read_each<'s, R: Send>(
        &'s self,
        entries: &[usize],
        work: impl Fn(&'s ArchiveEntry, EntryFacts, &[u8]) -> R + Sync,
        mut take: impl FnMut(R),
    ) -> Result<(), Fault> {
        let batches = self.batches(entries);
        let whole = |reader: &mut Borrowed<'_>, batch: &&[usize]| -> Result<Vec<R>, Fault> {
            let (reader, bytes) = reader.parts();
            self.ahead(reader, batch)?;
            let mut done = Vec::with_capacity(batch.len());
            for i in *batch {
                bytes.clear();
                let facts = self.read(reader, *i, &mut |portion| {
                    bytes.extend_from_slice(portion);
                    Ok(())
                })?;
                done.push(work(&self.entries[*i], facts, bytes));
            }
            Ok(done)
        };
        let new = || Borrowed::of(self);
        parallel::in_order(&batches, new, whole, |done| {
            done?.into_iter().for_each(&mut take);
            Ok(())
        })
    }

    /// Reads every entry, on all processors, for what [`Archive::copy`] would find; tells how many bytes have come.
    pub fn read_all(&self, told: &mut dyn FnMut(u64)) -> Result<(), Fault> {
        let all: Vec<usize> = (0..self.entries.len()).collect();
        let mut done = 0;
        let pass = |reader: &mut Borrowed<'_>, batch: &&[usize]| -> Result<u64, Fault> {
            let (reader, _) = reader.parts();
            self.ahead(reader, batch)?;
            batch.iter().try_fold(0, |sum, i| {
                Ok(sum + self.read(reader, *i, &mut |_| Ok(()))?.size)
            })
        };
        let new = || Borrowed::of(self);
        parallel::in_order(&self.batches(&all), new, pass, |size| {
            done += size?;
            told(done);
            Ok(())
        })
    }

    /// In their order, such as one thread reads at a time.
    fn batches<'i>(&self, mut entries: &'i [usize]) -> Vec<&'i [usize]> {
        let mut batches = Vec::new();
        while !entries.is_empty() {
            let mut size = 0u64;
            let fits = |i: &&usize| {
                size = size.saturating_add(self.entries[**i].size);
                size <= BATCH_BYTES
            };
            let count = entries.iter().take(BATCH).take_while(fits).count().max(1);
            let (batch, rest) = entries.split_at(count);
            batches.push(batch);
            entries = rest;
        }
        batches
    }

    fn ahead(&self, reader: &mut Reader, batch: &[usize]) -> Result<(), Fault> {
        reader
            .ahead(batch.iter().map(|i| self.entries[*i].place))
            .map_err(|e| unreadable(&self.name, &e))
    }

    /// A reader that nobody uses, for as long as this takes.
    fn with_reader<R>(&self, work: impl FnOnce(&mut Reader) -> R) -> R {
        work(Borrowed::of(self).parts().0)
    }

    /// One entry in portions, its bytes inflated beside whoever takes them.
    fn copy_beside(
        &self,
        i: usize,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<EntryFacts, Fault> {
        let place = self.entries[i].place;
        thread::scope(|scope| {
            let (give, get) = sync_channel::<Vec<u8>>(WAITING);
            let inflate = move || {
                self.with_reader(|reader| {
                    let mut portion = Vec::with_capacity(PORTION);
                    let read = reader.read(place, |bytes| {
                        portion.extend_from_slice(bytes);
                        // Nobody takes them any more after an error.
                        if portion.len() + bytes.len() > PORTION {
                            give.send(std::mem::replace(&mut portion, Vec::with_capacity(PORTION)))
                                .map_err(drop)?;
                        }
                        Ok(())
                    });
                    match read {
                        Ok(()) => give.send(portion).map_err(|_| UnreadBytes::Stopped(())),
                        Err(e) => Err(e),
                    }
                })
            };
            let Ok(beside) = thread::Builder::new().spawn_scoped(scope, inflate) else {
                // Where there is no thread to be had, this one does it all.
                return self.with_reader(|reader| self.read(reader, i, take));
            };
            let mut taken = Taking::of(self, i);
            let took = get
                .iter()
                .try_for_each(|portion| taken.portion(&portion, take));
            drop(get);
            let read = match beside.join() {
                Ok(read) => read,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            took?;
            match read {
                Ok(()) | Err(UnreadBytes::Stopped(())) => taken.end(),
                Err(UnreadBytes::Damaged(why)) => Err(taken.damaged(&why)),
                Err(UnreadBytes::Io(e)) => Err(taken.unread(&e)),
            }
        })
    }

    /// One entry in portions.
    fn read(
        &self,
        reader: &mut Reader,
        i: usize,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<EntryFacts, Fault> {
        let mut taken = Taking::of(self, i);
        let read = reader.read(self.entries[i].place, |portion| {
            taken.portion(portion, take)
        });
        match read {
            Ok(()) => taken.end(),
            Err(UnreadBytes::Stopped(fault)) => Err(fault),
            Err(UnreadBytes::Damaged(why)) => Err(taken.damaged(&why)),
            Err(UnreadBytes::Io(e)) => Err(taken.unread(&e)),
        }
    }

    fn free_readers(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_entry(&self, code: Code, entry: &str, why: &str) -> Fault {
        let why = format!("its entry {} {why}", Named(entry));
        Fault::Refused(vec![refused(code, &self.name, &why)])
    }
}

/// What comes of one entry, counted, hashed and compared on the way.
struct Taking<'a> {
    archive: &'a Archive,
    i: usize,
    size: u64,
    hash: Sha256,
}

impl<'a> Taking<'a> {
    fn of(archive: &'a Archive, i: usize) -> Taking<'a> {
        Taking {
            archive,
            i,
            size: 0,
            hash: Sha256::new(),
        }
    }

    fn entry(&self) -> &'a ArchiveEntry {
        &self.archive.entries[self.i]
    }

    fn refuse(&self, why: &str) -> Fault {
        self.archive
            .refuse_entry(Code::ARCHIVE_DAMAGED, &self.entry().name, why)
    }

    fn damaged(&self, why: &str) -> Fault {
        self.refuse(&format!("is damaged: {why}"))
    }

    fn unread(&self, e: &io::Error) -> Fault {
        match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file ends before it"),
            _ => unreadable(&self.archive.name, e),
        }
    }

    fn portion(
        &mut self,
        bytes: &[u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.size += bytes.len() as u64;
        let all = self.archive.inflated.count(self.i, self.size);
        if all > self.archive.unpacked_most {
            return Err(self.archive.refuse_entry(
                Code::ARCHIVE_TOO_LARGE,
                &self.entry().name,
                "unpacks to more than the limit (unpacked_mib under [limits] in the profile)",
            ));
        }
        if self.size > self.entry().size {
            return Err(self.refuse("unpacks to more than it says"));
        }
        self.hash.update(bytes);
        take(bytes)
    }

    fn end(self) -> Result<EntryFacts, Fault> {
        let entry = self.entry();
        if self.size != entry.size {
            return Err(self.refuse("unpacks to less than it says"));
        }
        let copied = EntryFacts {
            size: self.size,
            sha256: Digest::of_bytes(self.hash.finalize().into()),
            owner: entry.owner.map(usize::from),
        };
        let known = entry.sha256.get_or_init(|| copied.sha256.clone());
        if *known == copied.sha256 {
            return Ok(copied);
        }
        let why = match self.archive.metadata.holdfast.is_some() {
            true => "is not what the manifest says: it was changed after the backup was made",
            false => "changes while it is read",
        };
        Err(self
            .archive
            .refuse_entry(Code::ARCHIVE_DAMAGED, &entry.name, why))
    }
}

/// A reader of an archive's, and room for a small entry; it goes back when this is dropped.
struct Borrowed<'a> {
    archive: &'a Archive,
    reader: Option<Reader>,
    bytes: Vec<u8>,
}

impl<'a> Borrowed<'a> {
    fn of(archive: &'a Archive) -> Borrowed<'a> {
        Borrowed {
            archive,
            reader: archive.free_readers().pop(),
            bytes: Vec::new(),
        }
    }

    fn parts(&mut self) -> (&mut Reader, &mut Vec<u8>) {
        let archive = self.archive;
        let new = || Reader::new(archive.file.clone(), archive.size);
        (self.reader.get_or_insert_with(new), &mut self.bytes)
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let mut free = self.archive.free_readers();
        free.extend(self.reader.take());
    }
}

/// Takes what fits and notes the rest: an entry that is too long must not take memory first.
struct Bounded {
    bytes: Vec<u8>,
    most: u64,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.bytes.len() + bytes.len()) as u64 > self.most {
            self.over = true;
            return Err(io::Error::other("over the limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
