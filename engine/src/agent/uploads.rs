//! Uploaded archives in the spool: received within the limit, kept for an hour to be confirmed once, gone after that. A
//! client's file name is for people alone; a file is named by its id.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_protocol::{Chunk, MAX_CHUNK, Preview, Refusal, RequestId, UploadId, Wire, WireError};
use journal_format::{BootId, Problem, RestoreId};
use serde::{Deserialize, Serialize};

use super::{keep, locked, now_ms};
use crate::error::cannot;
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
    /// Its process; none until that was started.
    pub process: Option<RestoreProcess>,
}

/// A process, so that its number alone is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreProcess {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot.
    pub started_ticks: u64,
    /// The boot.
    pub boot: BootId,
}

pub struct Uploads {
    spool: PathBuf,
    limit_mib: u64,
    /// One at a time changes what lies in the spool.
    changing: Mutex<()>,
    incoming: AtomicUsize,
}

/// A place for an upload that comes in; given back when dropped.
pub struct Incoming<'a>(&'a AtomicUsize);

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
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
        if let Err(e) = std::fs::remove_file(&self.path)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {}: {e}", self.path.display());
        }
    }
}

impl Fresh {
    /// The archive, opened once.
    pub fn open(&self) -> Result<File, Problem> {
        File::open(&self.path).map_err(|e| spool_problem("read the upload", &e))
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
            "find this upload: it was thrown away, or waited for more than an hour",
            "upload it again",
        ),
    }
}

fn spool_problem(what: &str, e: &std::io::Error) -> Problem {
    cannot(
        format!("{what} in the spool of state_dir: {e}"),
        "see whether that disk is full, then upload it again",
    )
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
    pub fn place(&self) -> Result<Incoming<'_>, Refusal> {
        let place = Incoming(&self.incoming);
        if self.incoming.fetch_add(1, Ordering::SeqCst) >= INCOMING {
            return Err(Refusal::Busy {
                problem: cannot(
                    format!("take this upload: {INCOMING} others are coming in"),
                    "wait for their end, then upload it again",
                ),
                restore: None,
            });
        }
        self.check_space()
            .map_err(|problem| Refusal::Failed { problem })?;
        Ok(place)
    }

    /// An upload may be far below the limit, so it is not the limit that must be free, but the reserve at any time.
    fn check_space(&self) -> Result<(), Problem> {
        let free = space::free(&self.spool)?;
        if free >= space::RESERVE + LOOK_EVERY {
            return Ok(());
        }
        Err(cannot(
            format!(
                "take the upload: {} MiB are free in the spool of state_dir, of which {} stay in reserve",
                free >> 20,
                space::RESERVE >> 20
            ),
            "make room on that disk, then upload it again",
        ))
    }

    fn names(&self) -> Result<Vec<String>, Problem> {
        let entries =
            std::fs::read_dir(&self.spool).map_err(|e| spool_problem("list what lies", &e))?;
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        Ok(names.filter(|n| n.starts_with("upload-")).collect())
    }

    fn file(&self, id: &UploadId, kind: &str) -> PathBuf {
        self.spool.join(format!("upload-{id}.{kind}"))
    }

    fn remove(&self, name: &str) {
        if let Err(e) = std::fs::remove_file(self.spool.join(name))
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove {name} from the spool: {e}");
        }
    }

    /// Takes an archive in. One that breaks off, or is over the limit, leaves nothing behind.
    pub fn receive<S: Read + Write>(&self, wire: &mut Wire<S>) -> Result<Fresh, UploadError> {
        let id = UploadId::random()
            .map_err(|e| failed(cannot(e.to_string(), "see that /dev/urandom is there")))?;
        let path = self.file(&id, "part");
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let mut file = file.map_err(|e| failed(spool_problem("make room for the upload", &e)))?;
        let mut fresh = Fresh { id, size: 0, path };
        let mut buffer = Box::new([0; MAX_CHUNK]);
        let mut looked = 0;
        loop {
            match wire.receive_bytes(&mut buffer) {
                Ok(Chunk::Bytes(n)) => {
                    fresh.size += n as u64;
                    if fresh.size > self.limit_mib << 20 {
                        return Err(UploadError::Refused(Refusal::TooLarge {
                            limit_mib: self.limit_mib,
                        }));
                    }
                    if fresh.size - looked >= LOOK_EVERY {
                        self.check_space().map_err(failed)?;
                        looked = fresh.size;
                    }
                    file.write_all(&buffer[..n])
                        .map_err(|e| failed(spool_problem("write the upload", &e)))?;
                }
                Ok(Chunk::End) => {
                    file.sync_all()
                        .map_err(|e| failed(spool_problem("write the upload", &e)))?;
                    return Ok(fresh);
                }
                Ok(Chunk::Aborted) => return Err(UploadError::BrokenOff(WireError::BrokenOff)),
                Err(e) => return Err(UploadError::BrokenOff(e)),
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
            .map_err(|e| spool_problem("keep the upload", &e))?;
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
        let bytes = serde_json::to_vec(kept).map_err(|e| {
            cannot(
                format!("write down an upload: {e}"),
                "this is a fault in holdfast; report it",
            )
        })?;
        keep(&self.file(&kept.preview.upload, "json"), &bytes)
    }

    fn make_room(&self) {
        let mut waiting: Vec<StoredUpload> = self
            .all()
            .into_iter()
            .filter(|k| k.used.is_none())
            .collect();
        waiting.sort_by_key(|k| k.preview.until_ms);
        while waiting.len() >= MOST {
            let oldest = waiting.remove(0);
            self.throw_away(&oldest.preview.upload);
        }
    }

    fn all(&self) -> Vec<StoredUpload> {
        let names = self.names().unwrap_or_else(|problem| {
            tracing::warn!("{problem}");
            Vec::new()
        });
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
        File::open(self.archive(id)).map_err(|e| spool_problem("read the upload", &e))
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
        self.write(&kept)
            .map_err(|problem| Refusal::Failed { problem })?;
        Ok(kept.preview)
    }

    /// Where the archive lies.
    pub fn archive(&self, id: &UploadId) -> PathBuf {
        self.file(id, "zip")
    }

    /// Notes which restore an upload is used for, before that is started; and again with its process.
    pub fn use_for(&self, id: &UploadId, used: UsedBy) -> Result<(), Refusal> {
        let _one = locked(&self.changing);
        let mut kept = self.find(id)?;
        kept.used = Some(used);
        self.write(&kept)
            .map_err(|problem| Refusal::Failed { problem })
    }

    /// Takes back that an upload was used for a restore that never began. What it was used for since then stays.
    pub fn free(&self, id: &UploadId, restore: &RestoreId) -> Result<(), Refusal> {
        let _one = locked(&self.changing);
        let mut kept = self.find(id)?;
        if kept.used.as_ref().is_none_or(|u| u.restore != *restore) {
            return Ok(());
        }
        kept.used = None;
        self.write(&kept)
            .map_err(|problem| Refusal::Failed { problem })
    }

    /// Throws an upload away.
    pub fn discard(&self, id: &UploadId) {
        let _one = locked(&self.changing);
        self.throw_away(id);
    }

    fn throw_away(&self, id: &UploadId) {
        for kind in ["zip", "json", "log"] {
            self.remove(&format!("upload-{id}.{kind}"));
        }
    }

    /// Removes the archive of a restore that ended; that it was used stays known for its hour.
    pub fn spent(&self, id: &UploadId) {
        let _one = locked(&self.changing);
        self.remove(&format!("upload-{id}.zip"));
    }

    /// Where what the restore's process says goes.
    pub fn log(&self, id: &UploadId) -> PathBuf {
        self.file(id, "log")
    }

    /// Removes what waited too long, and what has lost its other half.
    pub fn expire(&self) {
        let _one = locked(&self.changing);
        let good: Vec<String> = self
            .all()
            .into_iter()
            .filter(waits)
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

/// Why an upload was not taken in.
pub enum UploadError {
    /// The agent says no.
    Refused(Refusal),
    /// The other side is gone, or gave up: nobody is left to be told.
    BrokenOff(WireError),
}

fn failed(problem: Problem) -> UploadError {
    UploadError::Refused(Refusal::Failed { problem })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use journal_format::Digest;

    use super::*;

    fn uploads(folder: &tempfile::TempDir, limit_mib: u64) -> Uploads {
        let mut profile = Profile {
            state_dir: folder.path().into(),
            ..Profile::default()
        };
        profile.limits.upload_mib = limit_mib;
        std::fs::create_dir_all(profile.spool_dir()).unwrap();
        Uploads::open(&profile).unwrap()
    }

    fn spool(folder: &tempfile::TempDir) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder.path().join("spool"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn send(
        uploads: &Uploads,
        bytes: &[u8],
        end: fn(Wire<UnixStream>),
    ) -> Result<Fresh, UploadError> {
        let (a, b) = UnixStream::pair().unwrap();
        let bytes = bytes.to_vec();
        let sender = std::thread::spawn(move || {
            let mut wire = Wire::new(a);
            if wire.send_bytes(&bytes).is_ok() {
                end(wire);
            }
        });
        let result = uploads.receive(&mut Wire::new(b));
        sender.join().unwrap();
        result
    }

    fn preview(id: &UploadId, until_ms: i64) -> Preview {
        Preview {
            upload: id.clone(),
            gateway: "gw".into(),
            name: "a.zip".into(),
            size: 1,
            created_at: String::new(),
            host: None,
            made_by: String::new(),
            lost: Vec::new(),
            commands: agent_protocol::RootCommands::Shown(Vec::new()),
            changes: vec![],
            left_out: vec![],
            warnings: vec![],
            plan: Digest::new("0".repeat(64)).unwrap(),
            needs_keep_going: false,
            has_open_folders: false,
            unsaved: vec![],
            until_ms,
        }
    }

    fn whole(mut wire: Wire<UnixStream>) {
        wire.end_bytes().unwrap();
    }

    #[test]
    fn an_upload_that_is_kept_is_private_and_waits_under_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let fresh = send(&uploads, b"zip", whole).ok().unwrap();
        let id = fresh.id.clone();
        uploads.keep(fresh, |until| preview(&id, until)).unwrap();
        assert_eq!(
            spool(&folder),
            [format!("upload-{id}.json"), format!("upload-{id}.zip")]
        );
        let mode = uploads
            .archive(&id)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read(uploads.archive(&id)).unwrap(), b"zip");
        assert_eq!(uploads.find(&id).unwrap().used, None);
        uploads.discard(&id);
        assert!(matches!(uploads.find(&id), Err(Refusal::Gone { .. })));
        assert!(spool(&folder).is_empty());
    }

    #[test]
    fn what_breaks_off_or_is_given_up_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        for end in [drop as fn(Wire<UnixStream>), |mut wire| {
            wire.abort_bytes().unwrap()
        }] {
            assert!(matches!(
                send(&uploads, b"half of a zip", end),
                Err(UploadError::BrokenOff(_))
            ));
            assert!(spool(&folder).is_empty());
        }
    }

    #[test]
    fn the_limit_is_kept_while_the_bytes_come_in() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let refused = send(&uploads, &vec![0; (1 << 20) + 1], |_| ());
        assert!(matches!(
            refused,
            Err(UploadError::Refused(Refusal::TooLarge { limit_mib: 1 }))
        ));
        assert!(spool(&folder).is_empty());
        assert!(send(&uploads, &vec![0; 1 << 20], whole).is_ok());
    }

    #[test]
    fn an_agent_that_starts_again_keeps_what_waits_and_removes_halves() {
        let folder = tempfile::tempdir().unwrap();
        let first = uploads(&folder, 1);
        let fresh = send(&first, b"zip", whole).ok().unwrap();
        let id = fresh.id.clone();
        first.keep(fresh, |until| preview(&id, until)).unwrap();
        for left in ["upload-x.part", "upload-x.zip", "work-kept"] {
            std::fs::write(folder.path().join("spool").join(left), "x").unwrap();
        }
        let again = uploads(&folder, 1);
        assert!(again.find(&id).is_ok());
        assert_eq!(
            spool(&folder),
            [
                format!("upload-{id}.json"),
                format!("upload-{id}.zip"),
                "work-kept".into()
            ]
        );
    }

    #[test]
    fn what_is_not_confirmed_within_its_hour_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let fresh = send(&uploads, b"zip", whole).ok().unwrap();
        let id = fresh.id.clone();
        uploads.keep(fresh, |_| preview(&id, now_ms() - 1)).unwrap();
        assert!(matches!(uploads.find(&id), Err(Refusal::Gone { .. })));
        uploads.expire();
        assert!(spool(&folder).is_empty());
    }

    #[test]
    fn what_came_in_while_the_clock_stood_in_the_future_does_not_wait_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let ten_years = 10 * 365 * 24 * WAITS;
        let fresh = send(&uploads, b"zip", whole).ok().unwrap();
        let id = fresh.id.clone();
        uploads
            .keep(fresh, |until| preview(&id, until + ten_years))
            .unwrap();
        assert!(matches!(uploads.find(&id), Err(Refusal::Gone { .. })));
        uploads.expire();
        assert!(spool(&folder).is_empty());
        // A clock that is set back a little takes nothing away.
        let fresh = send(&uploads, b"zip", whole).ok().unwrap();
        let id = fresh.id.clone();
        uploads
            .keep(fresh, |until| preview(&id, until + WAITS / 2))
            .unwrap();
        uploads.expire();
        assert!(uploads.find(&id).is_ok());
    }

    #[test]
    fn an_upload_is_found_by_the_restore_that_was_started_from_it_while_its_archive_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let fresh = send(&uploads, b"zip", whole).ok().unwrap();
        let id = fresh.id.clone();
        let first = uploads.keep(fresh, |until| preview(&id, until)).unwrap();
        let restore = RestoreId::new("20261122T185220Z-0a1b2c3d").unwrap();
        assert!(uploads.of_restore(&restore).is_err());
        let used = UsedBy {
            request: RequestId::random().unwrap(),
            restore: restore.clone(),
            process: None,
        };
        uploads.use_for(&id, used.clone()).unwrap();
        let shown = Preview {
            warnings: vec!["anew".into()],
            ..preview(&id, 0)
        };
        let renewed = uploads.renew(shown).unwrap();
        assert_eq!(renewed.until_ms, first.until_ms);
        let kept = uploads.of_restore(&restore).unwrap();
        assert_eq!((kept.preview, kept.used), (renewed, Some(used)));
        uploads.spent(&id);
        assert!(uploads.of_restore(&restore).is_err());
    }

    #[test]
    fn uploads_that_nobody_confirms_do_not_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let mut ids = Vec::new();
        for i in 0..5 {
            let fresh = send(&uploads, b"zip", whole).ok().unwrap();
            let id = fresh.id.clone();
            uploads
                .keep(fresh, |until| preview(&id, until + i))
                .unwrap();
            ids.push(id);
        }
        let found: Vec<bool> = ids.iter().map(|id| uploads.find(id).is_ok()).collect();
        assert_eq!(found, [false, false, true, true, true]);
    }

    #[test]
    fn only_a_few_uploads_come_in_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let mut places: Vec<_> = (0..INCOMING)
            .map(|_| uploads.place().ok().unwrap())
            .collect();
        assert!(matches!(uploads.place(), Err(Refusal::Busy { .. })));
        places.pop();
        assert!(uploads.place().is_ok());
    }

    #[test]
    fn a_use_is_taken_back_only_by_the_restore_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = uploads(&folder, 1);
        let fresh = send(&uploads, b"zip", whole).ok().unwrap();
        let id = fresh.id.clone();
        uploads.keep(fresh, |until| preview(&id, until)).unwrap();
        let restore = |n: u8| RestoreId::new(format!("20261122T185220Z-0a1b2c3{n}")).unwrap();
        let used = UsedBy {
            request: RequestId::random().unwrap(),
            restore: restore(1),
            process: None,
        };
        uploads.use_for(&id, used.clone()).unwrap();
        uploads.free(&id, &restore(2)).unwrap();
        assert_eq!(uploads.find(&id).unwrap().used, Some(used));
        uploads.free(&id, &restore(1)).unwrap();
        assert_eq!(uploads.find(&id).unwrap().used, None);
    }
}
