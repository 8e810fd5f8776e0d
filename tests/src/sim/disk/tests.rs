//! What is left of a disk after a power cut, and what it refuses.
#![allow(clippy::unwrap_used)]

use super::*;

fn names(disk: &Disk) -> Vec<String> {
    disk.files().into_keys().collect()
}

fn disk() -> Disk {
    let mut disk = Disk::new(&["/data"]);
    disk.put("/etc/a", b"old", 0o640);
    disk.sync_all();
    disk
}

#[test]
fn a_synced_file_without_a_synced_folder_has_no_name_after_a_power_cut() {
    let mut disk = disk();
    let object = disk.create(Path::new("/etc/b")).unwrap();
    disk.rewrite(Path::new("/etc/b"), b"new".to_vec()).unwrap();
    disk.sync_object(object);
    assert_eq!(names(&disk.images(9, &[])[0].1), ["/etc/a"]);
    disk.sync_dir(Path::new("/etc")).unwrap();
    let lost = &disk.images(9, &[])[0].1;
    assert_eq!(&*lost.read(Path::new("/etc/b")).unwrap(), b"new");
}

#[test]
fn an_exchange_between_folders_needs_both_synced() {
    let mut disk = disk();
    disk.put("/var/b", b"new", 0o640);
    disk.sync_all();
    let (a, b) = (Path::new("/etc/a"), Path::new("/var/b"));
    disk.exchange(a, b).unwrap();
    disk.sync_dir(Path::new("/etc")).unwrap();
    assert_eq!(&*disk.images(9, &[])[0].1.read(a).unwrap(), b"old");
    assert_eq!(&*disk.images(9, &[])[1].1.read(a).unwrap(), b"new");
    disk.sync_dir(Path::new("/var")).unwrap();
    assert_eq!(&*disk.images(9, &[])[0].1.read(a).unwrap(), b"new");
    assert_eq!(disk.unsynced(), 0);
}

#[test]
fn a_number_is_used_again_and_a_rename_does_not_cross_filesystems() {
    let mut disk = disk();
    let number = |disk: &Disk, path: &str| disk.get(Path::new(path)).unwrap().number;
    disk.put("/etc/b", b"", 0o600);
    let first = number(&disk, "/etc/b");
    disk.sync_all();
    disk.remove(Path::new("/etc/b")).unwrap();
    disk.sync_all();
    disk.put("/etc/c", b"", 0o600);
    assert_eq!(number(&disk, "/etc/c"), first);
    assert!(
        disk.rename(Path::new("/etc/c"), Path::new("/data/c"))
            .is_err()
    );
}

#[test]
fn a_torn_write_is_cut_or_zeros() {
    let mut disk = disk();
    disk.rewrite(Path::new("/etc/a"), b"old+more".to_vec())
        .unwrap();
    let read = |n: usize| {
        disk.images(9, &[])[n]
            .1
            .read(Path::new("/etc/a"))
            .unwrap()
            .to_vec()
    };
    assert_eq!(read(0), b"old");
    assert_eq!(read(1), b"old+more");
    assert_eq!(read(2), b"old+m");
    assert_eq!(read(3), b"old\0\0\0\0\0");
}
