//! Uploaded archives in the spool: received within the limit, kept for an hour to be confirmed once, gone after that. A
//! client's file name is for people alone; a file is named by its id.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use agent_protocol::{Chunk, MAX_CHUNK, Preview, Refusal, RequestId, UploadId, Wire, WireError};
use journal_format::{Problem, RestoreId};
use serde::{Deserialize, Serialize};

use super::refusal::Unanswered;
use super::slot::Slot;
use super::{keep, locked, now_ms, removed, warned};
use crate::error::{Code, OrCannot, cannot, cause};
use crate::files::space;
use crate::gateway::profile::Profile;

/// How long an upload waits to be confirmed, milliseconds.
const WAITS: i64 = 60 * 60 * 1000;
/// Uploads that wait at once; the oldest goes first.
const MOST: usize = 3;
/// Uploads that come in at once.
const INCOMING: usize = 2;
/// How often, in bytes, the free space is looked at while an upload comes in.
const LOOK_EVERY: u64 = 4 << 20;

/// An upload as it lies in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUpload {
    /// What the admin was shown.
    pub preview: Preview,
    /// What it was used for.
    #[serde(default)]
    pub used: Option<UsedBy>,
}

/// The confirmation that used an upload, and the restore that it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedBy {
    /// The confirmation.
    pub request: RequestId,
    /// The restore.
    pub restore: RestoreId,
}

pub struct Uploads {
    spool: PathBuf,
    limit_mib: u64,
    /// One at a time changes what lies in the spool.
    changing: Mutex<()>,
    incoming: AtomicUsize,
}

/// An upload that is not yet known to be whole and sound; gone when dropped.
pub struct Fresh {
    /// Its id.
    pub id: UploadId,
    /// Bytes.
    pub size: u64,
    path: PathBuf,
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Gone already, if it was kept.
        removed(&self.path, self.path.display());
    }
}

impl Fresh {
    /// The archive, opened once.
    pub fn open(&self) -> Result<File, Problem> {
        File::open(&self.path).map_err(in_spool("read the upload"))
    }
}

/// Whether an upload has some of its hour left. One that has more than it ever gets came in while the clock was wrong.
fn waits(kept: &StoredUpload) -> bool {
    let left = kept.preview.until_ms.saturating_sub(now_ms());
    (1..=2 * WAITS).contains(&left)
}

fn gone() -> Refusal {
    Refusal::Gone {
        problem: cannot(
            Code::NOT_THERE,
            "find this upload: it was discarded, or waited for more than an hour",
            "upload it again",
        ),
    }
}

fn in_spool(what: &str) -> impl FnOnce(std::io::Error) -> Problem {
    move |e| {
        cannot(
            cause(&e),
            format!("{what} in the spool of state_dir: {e}"),
            "check with `df -h` whether the disk is full, then upload it again",
        )
    }
}

impl Uploads {
    /// Removes what an ended agent left half received.
    pub fn open(profile: &Profile) -> Result<Uploads, Problem> {
        let uploads = Uploads {
            spool: profile.spool_dir(),
            limit_mib: profile.limits.upload_mib,
            changing: Mutex::new(()),
            incoming: AtomicUsize::new(0),
        };
        for name in uploads.names()? {
            if name.ends_with(".part") {
                uploads.remove(&name);
            }
        }
        uploads.expire();
        Ok(uploads)
    }

    /// The largest upload, MiB.
    pub fn limit_mib(&self) -> u64 {
        self.limit_mib
    }

    /// A place for one more upload, before a byte of it is asked for.
    pub fn place(&self) -> Result<Slot<&AtomicUsize>, Refusal> {
        let Some(place) = Slot::take(&self.incoming, INCOMING) else {
            return Err(Refusal::busy(cannot(
                Code::BUSY,
                format!("take this upload: {INCOMING} others are coming in"),
                "wait for their end, then upload it again",
            )));
        };
        self.check_space()?;
        Ok(place)
    }

    /// An upload may be far below the limit, so it is not the limit that must be free, but the reserve at any time.
    fn check_space(&self) -> Result<(), Problem> {
        let free = space::free(&self.spool)?;
        if free >= space::RESERVE + LOOK_EVERY {
            return Ok(());
        }
        Err(cannot(
            Code::NO_SPACE,
            format!(
                "take the upload: not enough space in {}: {}",
                self.spool.display(),
                space::lacking(LOOK_EVERY, free)
            ),
            format!("{}; then upload it again", space::make_room(&self.spool)),
        ))
    }

    fn names(&self) -> Result<Vec<String>, Problem> {
        let entries = std::fs::read_dir(&self.spool).map_err(in_spool("list what lies"))?;
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        Ok(names.filter(|n| n.starts_with("upload-")).collect())
    }

    fn file(&self, id: &UploadId, kind: &str) -> PathBuf {
        self.spool.join(format!("upload-{id}.{kind}"))
    }

    fn remove(&self, name: &str) {
        let shown = format_args!("{name} from the spool");
        removed(&self.spool.join(name), shown);
    }

    /// Takes an archive in. One that breaks off, or is over the limit, leaves nothing behind.
    pub fn receive<S: Read + Write>(&self, wire: &mut Wire<S>) -> Result<Fresh, Unanswered> {
        let id = UploadId::random().map_err(|e| {
            cannot(
                Code::UNFIT_SYSTEM,
                e.to_string(),
                "mount /dev: `ls -l /dev/urandom` shows whether the file is there",
            )
        })?;
        let path = self.file(&id, "part");
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let mut file = file.map_err(in_spool("make room for the upload"))?;
        let mut fresh = Fresh { id, size: 0, path };
        let mut buffer = Box::new([0; MAX_CHUNK]);
        let mut looked = 0;
        loop {
            match wire.receive_bytes(&mut buffer)? {
                Chunk::Bytes(n) => {
                    fresh.size += n as u64;
                    if fresh.size > self.limit_mib << 20 {
                        let limit_mib = self.limit_mib;
                        return Err(Refusal::TooLarge { limit_mib }.into());
                    }
                    if fresh.size - looked >= LOOK_EVERY {
                        self.check_space()?;
                        looked = fresh.size;
                    }
                    file.write_all(&buffer[..n])
                        .map_err(in_spool("write the upload"))?;
                }
                Chunk::End => {
                    file.sync_all().map_err(in_spool("write the upload"))?;
                    return Ok(fresh);
                }
                Chunk::Aborted => return Err(WireError::BrokenOff.into()),
            }
        }
    }

    /// Keeps an upload that was found to be sound, to be confirmed.
    pub fn keep(
        &self,
        fresh: Fresh,
        preview: impl FnOnce(i64) -> Preview,
    ) -> Result<Preview, Problem> {
        let _one = locked(&self.changing);
        self.make_room();
        let preview = preview(now_ms() + WAITS);
        // The archive first, and durable: what is known of an upload must not outlive it.
        std::fs::rename(&fresh.path, self.file(&fresh.id, "zip"))
            .and_then(|()| File::open(&self.spool)?.sync_all())
            .map_err(in_spool("keep the upload"))?;
        let written = self.write(&StoredUpload {
            preview: preview.clone(),
            used: None,
        });
        if written.is_err() {
            self.throw_away(&fresh.id);
        }
        written.map(|()| preview)
    }

    fn write(&self, kept: &StoredUpload) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(kept).or_cannot(
            Code::INTERNAL,
            "write down an upload",
            "this is a fault in holdfast; report it",
        )?;
        keep(&self.file(&kept.preview.upload, "json"), &bytes)
    }

    fn make_room(&self) {
        let mut waiting = self.all();
        waiting.retain(|k| k.used.is_none());
        waiting.sort_by_key(|k| k.preview.until_ms);
        while waiting.len() >= MOST {
            let oldest = waiting.remove(0);
            self.throw_away(&oldest.preview.upload);
        }
    }

    fn all(&self) -> Vec<StoredUpload> {
        let names = warned(self.names()).unwrap_or_default();
        let ids = names
            .iter()
            .filter_map(|n| n.strip_prefix("upload-")?.strip_suffix(".json"));
        ids.filter_map(|id| self.read(&UploadId::new(id).ok()?))
            .collect()
    }

    fn read(&self, id: &UploadId) -> Option<StoredUpload> {
        let bytes = std::fs::read(self.file(id, "json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// An upload that waits, or was used not long ago.
    pub fn find(&self, id: &UploadId) -> Result<StoredUpload, Refusal> {
        self.read(id).filter(waits).ok_or_else(gone)
    }

    /// The upload that a restore was started from, if it and its archive are still there.
    pub fn of_restore(&self, restore: &RestoreId) -> Result<StoredUpload, Refusal> {
        let mut all = self.all().into_iter();
        let of = |k: &StoredUpload| k.used.as_ref().is_some_and(|u| u.restore == *restore);
        let kept = all.find(|k| of(k) && waits(k) && self.archive(&k.preview.upload).exists());
        kept.ok_or_else(gone)
    }

    /// Its archive once more.
    pub fn reopen(&self, id: &UploadId) -> Result<File, Problem> {
        File::open(self.archive(id)).map_err(in_spool("read the upload"))
    }

    /// What the admin is shown of an upload from now on; until when it waits stays as it was.
    pub fn renew(&self, preview: Preview) -> Result<Preview, Refusal> {
        let _one = locked(&self.changing);
        let mut kept = self.find(&preview.upload)?;
        let until_ms = kept.preview.until_ms;
        kept.preview = Preview {
            until_ms,
            ..preview
        };
        self.write(&kept)?;
        Ok(kept.preview)
    }

    /// Where the archive lies.
    pub fn archive(&self, id: &UploadId) -> PathBuf {
        self.file(id, "zip")
    }

    /// Notes which restore an upload is used for, before that is started.
    pub fn use_for(&self, id: &UploadId, used: UsedBy) -> Result<(), Refusal> {
        let _one = locked(&self.changing);
        let mut kept = self.find(id)?;
        kept.used = Some(used);
        Ok(self.write(&kept)?)
    }

    /// Takes back that an upload was used for a restore that never began. What it was used for since then stays.
    pub fn free(&self, id: &UploadId, restore: &RestoreId) -> Result<(), Refusal> {
        let _one = locked(&self.changing);
        let mut kept = self.find(id)?;
        if kept.used.as_ref().is_none_or(|u| u.restore != *restore) {
            return Ok(());
        }
        kept.used = None;
        Ok(self.write(&kept)?)
    }

    /// Throws an upload away.
    pub fn discard(&self, id: &UploadId) {
        let _one = locked(&self.changing);
        self.throw_away(id);
    }

    fn throw_away(&self, id: &UploadId) {
        for kind in ["zip", "json"] {
            self.remove(&format!("upload-{id}.{kind}"));
        }
    }

    /// Removes the archive of a restore that ended; that it was used stays known for its hour.
    pub fn spent(&self, id: &UploadId) {
        let _one = locked(&self.changing);
        self.remove(&format!("upload-{id}.zip"));
    }

    /// Removes what waited too long, and what has lost its other half.
    pub fn expire(&self) {
        let _one = locked(&self.changing);
        let good = self.all().into_iter().filter(waits);
        let good: Vec<String> = good
            .map(|k| format!("upload-{}", k.preview.upload))
            .collect();
        for name in self.names().unwrap_or_default() {
            let stem = name.split_once('.').map_or(name.as_str(), |(stem, _)| stem);
            if !name.ends_with(".part") && !good.iter().any(|g| g == stem) {
                self.remove(&name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
