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

fn send(uploads: &Uploads, bytes: &[u8], end: fn(Wire<UnixStream>)) -> Result<Fresh, Unanswered> {
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
        commands: agent_protocol::RootCommands::Shown(Vec::new()),
        changes: vec![],
        left_out: vec![],
        notes: vec![],
        plan: Digest::new("0".repeat(64)).unwrap(),
        needs_keep_going: false,
        has_open_folders: false,
        unsaved: vec![],
        unfit: vec![],
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
            Err(Unanswered::Lost(_))
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
        Err(Unanswered::Refused(Refusal::TooLarge { limit_mib: 1 }))
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
    };
    uploads.use_for(&id, used.clone()).unwrap();
    let shown = Preview {
        notes: journal_format::alike(&["anew".into()]),
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
    };
    uploads.use_for(&id, used.clone()).unwrap();
    uploads.free(&id, &restore(2)).unwrap();
    assert_eq!(uploads.find(&id).unwrap().used, Some(used));
    uploads.free(&id, &restore(1)).unwrap();
    assert_eq!(uploads.find(&id).unwrap().used, None);
}
