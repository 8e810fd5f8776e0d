#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::io::{Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::text::iptables::Family;

const DATABASES: [&str; 3] = ["configs.db", "wireguard.db", "app.db"];
const CONFIG: &[u8] = b"[Interface]\nPrivateKey = x\n\n[Peer]\nPublicKey = y\n";

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(7.min(bytes.len() as u64)))
        .unwrap();
    file
}

fn open_with(bytes: &[u8], limits: &Limits) -> Result<Archive, Fault> {
    Archive::open(file(bytes), "test.zip", limits, &DATABASES)
}

fn open(bytes: &[u8]) -> Result<Archive, Fault> {
    open_with(bytes, &Limits::default())
}

/// Opens and copies every entry, as `verify` does.
fn open_all(bytes: &[u8]) -> Result<Vec<Copied>, Fault> {
    let archive = open(bytes)?;
    let names = archive.entries().iter().map(|e| e.name.clone());
    let names: Vec<Box<str>> = names.collect();
    names
        .iter()
        .map(|n| archive.copy(n, &mut io::sink()))
        .collect()
}

/// What the refusal says; panics if it is not refused.
fn refusal(bytes: &[u8]) -> String {
    match open_all(bytes) {
        Err(Fault::Refused(problems)) => problems
            .iter()
            .map(|p| p.what.clone())
            .collect::<Vec<_>>()
            .join("\n"),
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn assert_refused(bytes: &[u8], says: &str) {
    let said = refusal(bytes);
    assert!(said.contains(says), "{said:?} does not contain {says:?}");
}

fn metadata(databases: &[&str], configs: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20.618214+00:00",
        "contents": { "databases": databases, "configs": configs, "iptables_rules": [] },
    }))
    .unwrap()
}

/// One entry to be written byte by byte, with what a hostile writer may set.
#[derive(Clone)]
struct Raw {
    name: Vec<u8>,
    local_name: Option<Vec<u8>>,
    data: Vec<u8>,
    flags: u16,
    local_flags: Option<u16>,
    method: u16,
    mode: u32,
    declared: Option<u32>,
    local_declared: Option<u32>,
    offset: Option<u32>,
    extra: Vec<u8>,
    local_extra: Vec<u8>,
    /// Checksum, packed size and size in its own header.
    local_sizes: Option<[u32; 3]>,
    /// What stands behind its bytes.
    behind: Vec<u8>,
}

impl Raw {
    fn new(name: impl AsRef<[u8]>, data: &[u8]) -> Raw {
        let name = name.as_ref().to_vec();
        Raw {
            flags: if name.is_ascii() { 0 } else { 1 << 11 },
            name,
            local_name: None,
            data: data.to_vec(),
            local_flags: None,
            method: 0,
            mode: 0o100_600,
            declared: None,
            local_declared: None,
            offset: None,
            extra: Vec::new(),
            local_extra: Vec::new(),
            local_sizes: None,
            behind: Vec::new(),
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| {
            if c & 1 == 1 {
                c >> 1 ^ 0xEDB8_8320
            } else {
                c >> 1
            }
        })
    })
}

struct Built {
    bytes: Vec<u8>,
    directory: usize,
    end: usize,
}

fn build(entries: &[Raw]) -> Built {
    let mut out = Vec::new();
    let mut central = Vec::new();
    for e in entries {
        let offset = e.offset.unwrap_or(out.len() as u32);
        let fields = |flags: u16, size: u32| {
            let mut b = Vec::new();
            b.extend_from_slice(&20u16.to_le_bytes());
            b.extend_from_slice(&flags.to_le_bytes());
            b.extend_from_slice(&e.method.to_le_bytes());
            b.extend_from_slice(&[0, 0, 33, 0]);
            b.extend_from_slice(&crc32(&e.data).to_le_bytes());
            b.extend_from_slice(&(e.data.len() as u32).to_le_bytes());
            b.extend_from_slice(&size.to_le_bytes());
            b
        };
        let size = e.declared.unwrap_or(e.data.len() as u32);
        let local_name = e.local_name.as_ref().unwrap_or(&e.name);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend(fields(
            e.local_flags.unwrap_or(e.flags),
            e.local_declared.unwrap_or(size),
        ));
        if let Some(sizes) = e.local_sizes {
            out.truncate(out.len() - 12);
            out.extend(sizes.map(u32::to_le_bytes).concat());
        }
        out.extend_from_slice(&(local_name.len() as u16).to_le_bytes());
        out.extend_from_slice(&(e.local_extra.len() as u16).to_le_bytes());
        out.extend_from_slice(local_name);
        out.extend_from_slice(&e.local_extra);
        out.extend_from_slice(&e.data);
        out.extend_from_slice(&e.behind);
        central.extend_from_slice(b"PK\x01\x02\x14\x03");
        central.extend(fields(e.flags, size));
        central.extend_from_slice(&(e.name.len() as u16).to_le_bytes());
        central.extend_from_slice(&(e.extra.len() as u16).to_le_bytes());
        central.extend_from_slice(&[0; 6]);
        central.extend_from_slice(&(e.mode << 16).to_le_bytes());
        central.extend_from_slice(&offset.to_le_bytes());
        central.extend_from_slice(&e.name);
        central.extend_from_slice(&e.extra);
    }
    let directory = out.len();
    out.extend_from_slice(&central);
    let end = out.len();
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    out.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    out.extend_from_slice(&(central.len() as u32).to_le_bytes());
    out.extend_from_slice(&(directory as u32).to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    Built {
        bytes: out,
        directory,
        end,
    }
}

/// A good backup of one config, with these entries after it.
fn with(more: &[Raw]) -> Built {
    let mut entries = vec![
        Raw::new("backup_metadata.json", &metadata(&[], &["a.conf"])),
        Raw::new("configs/a.conf", CONFIG),
    ];
    entries.extend_from_slice(more);
    build(&entries)
}

fn deflated(name: &str, data: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
    zip.start_file("backup_metadata.json", SimpleFileOptions::default())
        .unwrap();
    zip.write_all(&metadata(&[], &["a.conf"])).unwrap();
    zip.start_file(name, SimpleFileOptions::default()).unwrap();
    zip.write_all(data).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn a_plain_backup_opens_and_gives_its_entries() {
    let archive = open(&with(&[]).bytes).unwrap();
    assert_eq!(archive.read_small("configs/a.conf", 1000).unwrap(), CONFIG);
    let copied = archive.copy("configs/a.conf", &mut io::sink()).unwrap();
    assert_eq!(copied.size, CONFIG.len() as u64);
    assert_eq!(
        copied.sha256,
        Digest::of_bytes(Sha256::digest(CONFIG).into())
    );
    assert_eq!(
        archive.entry("configs/a.conf").unwrap().part(),
        EntryKind::Config("a.conf")
    );
    assert_eq!(archive.metadata().made_by(), "gateway");
    assert!(archive.read_small("configs/a.conf", 3).is_err());
    assert!(archive.copy("configs/b.conf", &mut io::sink()).is_err());
}

#[test]
fn the_digest_is_that_of_the_whole_file() {
    let bytes = with(&[]).bytes;
    let mut archive = open(&bytes).unwrap();
    assert_eq!(
        archive.sha256().unwrap(),
        Digest::of_bytes(Sha256::digest(&bytes).into())
    );
    assert_eq!(archive.size(), bytes.len() as u64);
}

#[test]
fn folders_of_configs_may_be_entries() {
    let mut folder = Raw::new("configs/", b"");
    folder.mode = 0o040_755;
    let archive = open(&with(&[folder]).bytes).unwrap();
    assert_eq!(archive.entries().len(), 2);
}

#[test]
fn a_folder_with_content_is_refused() {
    assert_refused(
        &with(&[Raw::new("configs/", b"x")]).bytes,
        "named like a folder",
    );
}

#[test]
fn names_that_lead_out_or_are_not_plain_are_refused() {
    for name in [
        "../evil.conf",
        "/etc/passwd",
        "configs/../../evil.conf",
        "configs/a/b.conf",
        "configs/..",
        "configs/.",
        "configs//a.conf",
        "configs\\b.conf",
        "configs/b\\c.conf",
        "C:\\evil.conf",
        "C:evil.conf",
        "",
        ".",
        "configs/b\0.conf",
        "configs/b\n.conf",
        "configs/b\u{9b}.conf",
        "configs/b.conf.",
        "configs/b.conf/",
        "configs/.conf",
        "wireguard/../b.conf",
        "./configs/b.conf",
        "configs.db/",
        "inner.zip",
        "other.db",
        "../configs.db",
        "instance/configs.db",
        "configs/b.txt",
    ] {
        let said = refusal(&with(&[Raw::new(name, b"x")]).bytes);
        assert!(said.contains("its entry"), "{name:?}: {said}");
        assert!(
            !said.contains('\0') && !said.contains('\u{9b}'),
            "{name:?} is shown raw"
        );
    }
}

#[test]
fn names_that_are_not_utf8_or_not_marked_so_are_refused() {
    let mut latin = Raw::new(b"configs/m\xfcnchen.conf", b"x");
    assert_refused(&with(&[latin.clone()]).bytes, "not UTF-8");
    latin.name = "configs/münchen.conf".into();
    latin.flags = 0;
    let marked = Raw::new("configs/mⁿnchen.conf", b"x");
    assert_refused(&with(&[latin, marked]).bytes, "not marked as UTF-8");
}

#[test]
fn a_database_that_the_profile_does_not_know_is_taken_only_where_the_metadata_list_it() {
    let backup = |name: &str, listed: &[&str]| {
        build(&[
            Raw::new("backup_metadata.json", &metadata(listed, &["a.conf"])),
            Raw::new("configs/a.conf", CONFIG),
            Raw::new(name, b"x"),
        ])
        .bytes
    };
    let archive = open(&backup("other.db", &["other.db"])).unwrap();
    assert_eq!(archive.unknown_databases(), ["other.db"]);
    assert_refused(&backup("other.db", &[]), "the profile does not know");
    // What stands below holdfast/raw only a manifest can list.
    let raw = "holdfast/raw/databases/other.db";
    assert_refused(&backup(raw, &[raw]), "the profile does not know");
    for name in [
        "../other.db",
        ".db",
        "sub/other.db",
        "other.db-wal",
        "a\nb.db",
    ] {
        assert_refused(&backup(name, &[name]), "has no place in a backup");
    }
}

#[test]
fn over_long_names_are_refused() {
    let name = format!("configs/{}.conf", "n".repeat(251));
    assert_refused(&with(&[Raw::new(name, b"x")]).bytes, "the limit is 255");
}

#[test]
fn links_devices_fifos_and_set_id_entries_are_refused() {
    for mode in [
        0o120_777, 0o060_600, 0o020_600, 0o010_600, 0o140_600, 0o040_755, 0o104_755, 0o102_755,
        0o101_777,
    ] {
        let mut entry = Raw::new("configs/b.conf", b"/etc/shadow");
        entry.mode = mode;
        let said = refusal(&with(&[entry]).bytes);
        assert!(
            said.contains("regular file") || said.contains("set-id"),
            "{mode:o}: {said}"
        );
    }
}

#[test]
fn the_very_same_name_twice_is_refused_and_names_that_differ_in_case_are_two_files() {
    for name in [
        "configs/a.conf",
        "backup_metadata.json",
        "configs/\u{f6}.conf",
    ] {
        let twice = [Raw::new(name, CONFIG), Raw::new(name, CONFIG)];
        assert_refused(&with(&twice).bytes, "two entries named");
    }
    let names = [
        "a.conf",
        "A.conf",
        "\u{f6}.conf",
        "\u{d6}.conf",
        "o\u{308}.conf",
    ];
    let mut entries = vec![Raw::new("backup_metadata.json", &metadata(&[], &names))];
    entries.extend(names.map(|n| Raw::new(format!("configs/{n}"), n.as_bytes())));
    let archive = open(&build(&entries).bytes).unwrap();
    for name in names {
        let read = archive.read_small(&format!("configs/{name}"), 100).unwrap();
        assert_eq!(read, name.as_bytes());
    }
}

#[test]
fn overlapping_entries_are_refused() {
    let mut entry = Raw::new("configs/a2.conf", CONFIG);
    entry.offset = Some(0);
    assert_refused(&with(&[entry]).bytes, "overlap");
}

#[test]
fn a_gap_that_may_hide_an_entry_is_refused() {
    let mut built = with(&[]);
    let insert = b"PK\x03\x04 hidden";
    built
        .bytes
        .splice(built.directory..built.directory, insert.iter().copied());
    let end = built.end + insert.len();
    let offset = (built.directory + insert.len()) as u32;
    built.bytes[end + 16..end + 20].copy_from_slice(&offset.to_le_bytes());
    assert_refused(&built.bytes, "hidden between");
}

#[test]
fn headers_that_disagree_are_refused() {
    let mut name = Raw::new("configs/b.conf", CONFIG);
    name.local_name = Some(b"configs/c.conf".to_vec());
    let mut size = Raw::new("configs/b.conf", CONFIG);
    size.local_declared = Some(3);
    let mut flags = Raw::new("configs/b.conf", CONFIG);
    flags.local_flags = Some(1);
    for entry in [name, size, flags] {
        assert_refused(&with(&[entry]).bytes, "described in two ways");
    }
}

#[test]
fn what_info_zip_packs_into_a_pipe_is_taken_and_what_stands_behind_it_still_has_to_be_true() {
    let size = CONFIG.len() as u32;
    // Its own header says a size and nothing else, and behind its bytes stands this checksum.
    let packed = |said: u32, crc: u32, streamed: u16| {
        let mut config = Raw::new("configs/a.conf", CONFIG);
        config.flags = streamed;
        config.local_sizes = Some([0, 0, said]);
        config.behind = [0x0807_4b50, crc, size, size]
            .map(u32::to_le_bytes)
            .concat();
        let metadata = Raw::new("backup_metadata.json", &metadata(&[], &["a.conf"]));
        build(&[config, metadata]).bytes
    };
    let crc = crc32(CONFIG);
    for said in [size, 0] {
        assert_eq!(open_all(&packed(said, crc, 8)).unwrap().len(), 2);
    }
    assert_refused(&packed(size + 1, crc, 8), "two ways, by its own header");
    assert_refused(&packed(size, crc, 0), "two ways, by its own header");
    assert_refused(&packed(size, crc ^ 1, 8), "two ways, behind its bytes");
}

#[test]
fn a_second_name_in_an_extra_field_is_refused() {
    let mut entry = Raw::new("configs/b.conf", CONFIG);
    entry.extra = b"\x75\x70\x09\0\x01\0\0\0\0evil".to_vec();
    assert_refused(&with(&[entry]).bytes, "second name");
}

#[test]
fn data_before_and_after_two_ends_and_comments_are_refused() {
    let good = with(&[]).bytes;
    assert!(open(&good).is_ok());
    assert_refused(&[&good[..], b"x"].concat(), "after its end");
    assert_refused(
        &[&good[..], &good[good.len() - 22..]].concat(),
        "does not end where",
    );
    assert_refused(&[&good[..], &good].concat(), "does not end where");
    assert_refused(&[b"#!/bin/sh\n", &good[..]].concat(), "does not end where");
    let mut comment = good.clone();
    let n = comment.len();
    comment[n - 2..].copy_from_slice(&40_000u16.to_le_bytes());
    comment.extend(std::iter::repeat_n(b'c', 40_000));
    assert_refused(&comment, "comment");
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let good = with(&[]).bytes;
    for n in 0..good.len() {
        refusal(&good[..n]);
    }
}

#[test]
fn lying_zip64_records_are_refused() {
    let built = with(&[]);
    let mut wide = built.bytes.clone();
    wide[built.end + 10..built.end + 12].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_refused(&wide, "zip64");
    // A zip64 record that counts more entries than the directory has.
    let mut lying = built.bytes[..built.end].to_vec();
    let at = lying.len() as u64;
    lying.extend_from_slice(b"PK\x06\x06");
    lying.extend_from_slice(&44u64.to_le_bytes());
    lying.extend_from_slice(&[45, 0, 45, 0]);
    lying.extend_from_slice(&[0; 8]);
    for n in [
        100_000u64,
        100_000,
        (built.end - built.directory) as u64,
        built.directory as u64,
    ] {
        lying.extend_from_slice(&n.to_le_bytes());
    }
    lying.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    lying.extend_from_slice(&at.to_le_bytes());
    lying.extend_from_slice(&1u32.to_le_bytes());
    let mut end = built.bytes[built.end..].to_vec();
    assert_refused(&[&lying[..], &end].concat(), "do not agree");
    end[8..12].copy_from_slice(&[0xff; 4]);
    assert_refused(&[&lying[..], &end].concat(), "fewer entries");
}

#[test]
fn more_entries_than_the_limit_are_refused_before_they_are_read() {
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let Err(Fault::Refused(problems)) = open_with(&with(&[]).bytes, &limits) else {
        panic!("not refused")
    };
    assert!(
        problems[0].what.contains("2 entries, and the limit is 1"),
        "{}",
        problems[0]
    );
}

#[test]
fn huge_declared_sizes_are_refused_and_nothing_is_allocated_for_them() {
    let mut entry = Raw::new("configs/b.conf", CONFIG);
    entry.declared = Some(u32::MAX - 1);
    assert_refused(
        &with(&[entry.clone(), entry]).bytes,
        "the limit is 4096 MiB",
    );
}

#[test]
fn a_bomb_is_refused_by_the_bytes_that_really_come() {
    let bomb = deflated("configs/a.conf", &vec![0u8; 3 << 20]);
    let limits = Limits {
        unpacked_mib: 1,
        ..Limits::default()
    };
    assert!(
        matches!(open_with(&bomb, &limits), Err(Fault::Refused(_))),
        "the declared size is over the limit"
    );
    // The same, declaring a size that is allowed.
    let mut lying = bomb;
    let small = 1000u32.to_le_bytes();
    let honest = (3u32 << 20).to_le_bytes();
    let places: Vec<usize> = lying
        .windows(4)
        .enumerate()
        .filter(|(_, w)| *w == honest)
        .map(|(i, _)| i)
        .collect();
    assert_eq!(places.len(), 2, "one in each header");
    for at in places {
        lying[at..at + 4].copy_from_slice(&small);
    }
    let archive = open_with(&lying, &limits).unwrap();
    let Err(Fault::Refused(problems)) = archive.copy("configs/a.conf", &mut io::sink()) else {
        panic!("not refused")
    };
    assert!(
        problems[0].what.contains("unpacks to more than it says"),
        "{}",
        problems[0]
    );
    assert!(
        archive.inflated.all.load(Ordering::Relaxed) < 1 << 20,
        "it stopped early"
    );
}

#[test]
fn copying_twice_costs_the_limit_once() {
    let zip = deflated("configs/a.conf", &vec![b'#'; 700 << 10]);
    let archive = open_with(
        &zip,
        &Limits {
            unpacked_mib: 1,
            ..Limits::default()
        },
    )
    .unwrap();
    for _ in 0..3 {
        archive.copy("configs/a.conf", &mut io::sink()).unwrap();
    }
}

#[test]
fn encrypted_entries_and_odd_methods_are_refused() {
    for flags in [1, 1 << 6 | 1, 1 << 13] {
        let mut entry = Raw::new("configs/b.conf", CONFIG);
        entry.flags = flags;
        assert_refused(&with(&[entry]).bytes, "encrypted");
    }
    for method in [1, 6, 9, 12, 14, 93, 95, 99, 1234] {
        let mut entry = Raw::new("configs/b.conf", CONFIG);
        entry.method = method;
        assert_refused(&with(&[entry]).bytes, "method");
    }
}

#[test]
fn a_flipped_bit_in_any_entry_is_found() {
    let good = deflated("configs/a.conf", CONFIG);
    assert!(open_all(&good).is_ok());
    let start = good
        .windows(14)
        .position(|w| w == b"configs/a.conf")
        .unwrap()
        + 14;
    for i in start..start + 20 {
        let mut bad = good.clone();
        bad[i] ^= 0x10;
        refusal(&bad);
    }
}

#[test]
fn what_the_metadata_list_must_be_there_and_the_other_way_round() {
    let missing = build(&[Raw::new(
        "backup_metadata.json",
        &metadata(&["configs.db"], &["a.conf"]),
    )])
    .bytes;
    assert_refused(&missing, "list configs.db, which is not in it");
    assert_refused(&missing, "list configs/a.conf, which is not in it");
    assert_refused(
        &with(&[Raw::new("configs/b.conf", CONFIG)]).bytes,
        "do not list its entry configs/b.conf",
    );
    assert_refused(
        &with(&[Raw::new("wireguard/a.conf", CONFIG)]).bytes,
        "do not list its entry wireguard/a.conf",
    );
    assert_refused(
        &build(&[Raw::new("configs/a.conf", CONFIG)]).bytes,
        "no backup_metadata.json",
    );
}

#[test]
fn another_version_is_refused_and_named() {
    let newer = String::from_utf8(metadata(&[], &[]))
        .unwrap()
        .replace("\"1.0\"", "\"2.0\"");
    assert_refused(
        &build(&[Raw::new("backup_metadata.json", newer.as_bytes())]).bytes,
        "its version is \"2.0\"",
    );
}

/// A backup with a manifest that says `sha256` of the one config.
fn with_manifest(sha256: &Digest, size: usize) -> Vec<u8> {
    let metadata = serde_json::json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20Z",
        "contents": { "databases": [], "configs": ["a.conf"] },
        "holdfast": {
            "format": 1, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": true, "tunnels_up": [],
            "owners": [], "entries": { "configs/a.conf": { "size": size, "sha256": sha256 } },
            "wireguard": {},
        },
    });
    build(&[
        Raw::new(
            "backup_metadata.json",
            &serde_json::to_vec(&metadata).unwrap(),
        ),
        Raw::new("configs/a.conf", CONFIG),
    ])
    .bytes
}

#[test]
fn an_entry_that_is_not_what_the_manifest_says_is_refused() {
    let right = Digest::of_bytes(Sha256::digest(CONFIG).into());
    assert!(open_all(&with_manifest(&right, CONFIG.len())).is_ok());
    let wrong = Digest::of_bytes([0; 32]);
    assert_refused(
        &with_manifest(&wrong, CONFIG.len()),
        "changed after the backup was made",
    );
    assert_refused(
        &with_manifest(&right, CONFIG.len() + 1),
        "and its manifest says",
    );
}

#[test]
fn an_archive_replaced_under_its_name_stays_the_one_that_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.zip");
    std::fs::write(&path, with(&[]).bytes).unwrap();
    let archive = Archive::open(
        File::open(&path).unwrap(),
        "b.zip",
        &Limits::default(),
        &DATABASES,
    )
    .unwrap();
    std::fs::write(dir.path().join("c.zip"), b"other").unwrap();
    std::fs::rename(dir.path().join("c.zip"), &path).unwrap();
    assert_eq!(archive.read_small("configs/a.conf", 1000).unwrap(), CONFIG);
}

/// A backup with a manifest, and these entries, which the manifest lists.
fn with_raw(more: &[(&str, &[u8])]) -> Vec<u8> {
    let facts = |bytes: &[u8]| {
        let sha256 = Digest::of_bytes(Sha256::digest(bytes).into());
        serde_json::json!({ "size": bytes.len(), "sha256": sha256 })
    };
    let mut listed = serde_json::json!({ "configs/a.conf": facts(CONFIG) });
    for (name, bytes) in more {
        listed[*name] = facts(bytes);
    }
    let mut metadata: serde_json::Value =
        serde_json::from_slice(&metadata(&[], &["a.conf"])).unwrap();
    metadata["holdfast"] = serde_json::json!({
        "format": 2, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": true, "tunnels_up": [],
        "owners": [], "entries": listed, "wireguard": {},
    });
    let mut entries = vec![
        Raw::new(
            "backup_metadata.json",
            &serde_json::to_vec(&metadata).unwrap(),
        ),
        Raw::new("configs/a.conf", CONFIG),
    ];
    entries.extend(more.iter().map(|(name, bytes)| Raw::new(name, bytes)));
    build(&entries).bytes
}

#[test]
fn what_the_gateways_own_reader_would_not_take_stands_below_raw_with_its_name_escaped() {
    let archive = open(&with_raw(&[
        ("holdfast/raw/configs/%FC.conf", b"\xfc"),
        ("holdfast/raw/wireguard/b.conf", b"\xfc"),
        ("holdfast/kept/rules.v6", b""),
    ]))
    .unwrap();
    let part = |name: &str| archive.entry(name).unwrap().part();
    assert_eq!(
        part("holdfast/raw/configs/%FC.conf"),
        EntryKind::RawConfig(b"\xfc.conf".to_vec())
    );
    assert_eq!(
        part("holdfast/raw/wireguard/b.conf"),
        EntryKind::RawSecondCopy(b"b.conf".to_vec())
    );
    assert_eq!(part("holdfast/kept/rules.v6"), EntryKind::Kept(Family::V6));
}

#[test]
fn raw_entries_have_names_of_files_escaped_in_one_way_and_no_others() {
    for name in [
        "configs/%2E%2E%2Fevil.conf",
        "configs/..%2Fevil.conf",
        "configs/%66.conf",
        "configs/a/b.conf",
        "configs/a%00.conf",
        "configs/a.txt",
        "configs/",
        "wireguard/a b.conf",
        "databases/other.db",
        "databases/configs.db-old",
        "databases/../configs.db",
        "x/configs.db",
        "configs.db",
        "../kept/rules.v4",
    ] {
        let said = refusal(&with_raw(&[(&format!("holdfast/raw/{name}"), b"x")]));
        assert!(said.contains("its entry"), "{name:?}: {said}");
    }
    let long = format!("holdfast/raw/configs/{}.conf", "n".repeat(251));
    assert_refused(&with_raw(&[(&long, b"x")]), "not that of a file, escaped");
    for name in ["holdfast/kept/rules.v5", "holdfast/x", "holdfast/kept/v4/x"] {
        assert_refused(&with_raw(&[(name, b"x")]), "has no place");
    }
}

#[test]
fn no_raw_entry_is_taken_without_a_manifest_or_beside_a_plain_one_of_the_same_file() {
    for name in [
        "holdfast/raw/configs/b.conf",
        "holdfast/raw/wireguard/b.conf",
        "holdfast/raw/databases/configs.db",
        "holdfast/kept/rules.v4",
    ] {
        assert_refused(
            &with(&[Raw::new(name, b"x")]).bytes,
            "do not list its entry",
        );
    }
    assert_refused(
        &with_raw(&[("holdfast/raw/configs/a.conf", b"x")]),
        "once more",
    );
}

#[test]
fn a_config_with_the_longest_name_that_a_file_can_have_is_an_entry() {
    let name = format!("{}.conf", "n".repeat(250));
    assert_eq!(
        crate::text::wg_config::plain_config_name(name.as_bytes()),
        Some(name.as_str())
    );
    let entry = format!("configs/{name}");
    let bytes = build(&[
        Raw::new("backup_metadata.json", &metadata(&[], &[&name])),
        Raw::new(&entry, CONFIG),
    ])
    .bytes;
    assert!(open(&bytes).unwrap().entry(&entry).is_some());
}

#[test]
fn folders_of_raw_entries_may_be_entries() {
    let folders = [
        "holdfast/",
        "holdfast/raw/",
        "holdfast/raw/configs/",
        "holdfast/kept/",
    ];
    let folders = folders.map(|name| {
        let mut folder = Raw::new(name, b"");
        folder.mode = 0o040_755;
        folder
    });
    assert_eq!(open(&with(&folders).bytes).unwrap().entries().len(), 2);
}

/// A backup whose manifest says that the database was saved by its bytes, with these entries.
fn with_raw_database(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let digest = |bytes: &[u8]| Digest::of_bytes(Sha256::digest(bytes).into());
    let facts: serde_json::Map<String, serde_json::Value> = entries
        .iter()
        .chain(&[("configs/a.conf", CONFIG)])
        .map(|(name, bytes)| {
            let facts =
                serde_json::json!({ "size": bytes.len(), "sha256": digest(bytes), "owner": 0 });
            ((*name).to_owned(), facts)
        })
        .collect();
    let databases: Vec<&str> = entries
        .iter()
        .filter_map(|(name, _)| DATABASES.into_iter().find(|d| d == name))
        .collect();
    let metadata = serde_json::json!({
        "backup_version": "1.0",
        "created_at": "2026-11-22T18:52:20.618214+00:00",
        "contents": { "databases": databases, "configs": ["a.conf"], "iptables_rules": [] },
        "holdfast": {
            "format": 2, "program": "holdfast 0.1.0", "host": "gw", "ip_forward": null, "tunnels_up": [],
            "owners": [{ "uid": 1, "gid": 2, "user": "wireguard", "mode": "0640" }],
            "entries": facts, "wireguard": {},
            "parts": { "configs.db": { "is": "saved-raw", "why": "file is not a database" } },
        },
    });
    let mut all = vec![
        Raw::new(
            "backup_metadata.json",
            &serde_json::to_vec(&metadata).unwrap(),
        ),
        Raw::new("configs/a.conf", CONFIG),
    ];
    all.extend(entries.iter().map(|(name, bytes)| Raw::new(name, bytes)));
    build(&all).bytes
}

#[test]
fn the_bytes_of_a_database_are_entries_of_their_own_with_those_of_the_files_beside_it() {
    let raw = "holdfast/raw/databases/configs.db";
    let wal = &format!("{raw}-wal");
    let archive = open(&with_raw_database(&[(raw, b"garbage"), (wal, b"")])).unwrap();
    assert_eq!(raw_database("configs.db", "-wal"), *wal);
    assert_eq!(
        archive.entry(wal).unwrap().part(),
        EntryKind::RawDatabase {
            name: "configs.db".into(),
            side: "-wal"
        }
    );
    assert_eq!(archive.read_small(raw, 100).unwrap(), b"garbage");
    for (entries, says) in [
        (
            vec![(wal.as_str(), &b"x"[..])],
            "without the database itself",
        ),
        (
            vec![(raw, b"x"), ("configs.db", b"x")],
            "besides the database",
        ),
        (
            vec![("holdfast/raw/databases/app.db", b"x")],
            "do not list its entry",
        ),
        (
            vec![("holdfast/raw/databases/other.db", b"x")],
            "the profile does not know",
        ),
        (
            vec![("holdfast/raw/databases/configs.db-shm-wal", b"x")],
            "the profile does not know",
        ),
        (
            vec![("holdfast/raw/databases/%63onfigs.db", b"x")],
            "the profile does not know",
        ),
    ] {
        assert_refused(&with_raw_database(&entries), says);
    }
    // A database that was saved so, and that the profile does not name any more.
    let bytes = with_raw_database(&[(raw, b"garbage"), (wal, b"")]);
    let archive = Archive::open(file(&bytes), "b.zip", &Limits::default(), &["app.db"]).unwrap();
    assert_eq!(archive.unknown_databases(), ["configs.db"]);
    for entries in [
        vec![(wal.as_str(), &b"x"[..])],
        vec![(raw, b"x"), ("configs.db", b"x")],
    ] {
        let bytes = with_raw_database(&entries);
        let refused = Archive::open(file(&bytes), "b.zip", &Limits::default(), &["app.db"]);
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("the profile does not know"), "{said}");
    }
    // Only a manifest can say that they are meant.
    assert_refused(&with(&[Raw::new(raw, b"x")]).bytes, "do not list its entry");
}

/// An extra field as Info-ZIP marks a name as UTF-8.
fn unicode_path(of: &[u8], name: &[u8]) -> Vec<u8> {
    let mut field = vec![1];
    field.extend(crc32(of).to_le_bytes());
    field.extend(name);
    let mut extra = b"\x75\x70".to_vec();
    extra.extend((field.len() as u16).to_le_bytes());
    extra.extend(field);
    extra
}

/// A backup with one config of this name, which has this extra field in both its headers and is not marked as UTF-8.
fn named(name: &str, extra: Vec<u8>) -> Vec<u8> {
    let mut entry = Raw::new(format!("configs/{name}"), CONFIG);
    entry.flags = 0;
    entry.local_extra = extra.clone();
    entry.extra = extra;
    let metadata = Raw::new("backup_metadata.json", &metadata(&[], &[name]));
    build(&[metadata, entry]).bytes
}

#[test]
fn a_name_that_info_zip_marks_as_utf8_is_taken_where_it_is_the_very_same_name() {
    let name = "configs/b\u{fc}ro.conf".as_bytes();
    let good = named("b\u{fc}ro.conf", unicode_path(name, name));
    let archive = open(&good).unwrap();
    assert!(archive.entry("configs/b\u{fc}ro.conf").is_some());
    let other = "configs/buro.conf".as_bytes();
    for extra in [
        unicode_path(name, other),
        unicode_path(other, name),
        unicode_path(name, b""),
        [unicode_path(name, name), unicode_path(name, other)].concat(),
    ] {
        assert_refused(&named("b\u{fc}ro.conf", extra), "second name");
    }
    // Nor is one that nothing marks, as long as nothing else is marked.
    assert!(open(&named("b\u{fc}ro.conf", Vec::new())).is_ok());
    // One header says it and the other does not.
    let mut one = Raw::new("configs/b.conf", CONFIG);
    one.extra = unicode_path(&one.name, &one.name);
    assert_refused(&with(&[one.clone()]).bytes, "described in two ways");
    (one.local_extra, one.extra) = (one.extra, Vec::new());
    assert_refused(&with(&[one]).bytes, "described in two ways");
}

/// Every problem with its advice.
fn problems(bytes: &[u8]) -> String {
    match open_all(bytes) {
        Err(Fault::Refused(problems)) => {
            let shown = problems
                .iter()
                .map(|p| format!("{}\n  {}", p.what, p.advice));
            shown.collect::<Vec<_>>().join("\n")
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_a_mac_or_windows_adds_is_passed_over_and_nothing_else_goes_by_its_name() {
    let mut folder = Raw::new("__MACOSX/", b"");
    folder.mode = 0o040_755;
    let more = [
        folder,
        Raw::new("__MACOSX/._configs.db", b"x"),
        Raw::new("__MACOSX/configs/._a.conf", b"x"),
        Raw::new(".DS_Store", b"x"),
        Raw::new("configs/.DS_Store", b"x"),
        Raw::new("configs/Thumbs.db", b"x"),
    ];
    let archive = open(&with(&more).bytes).unwrap();
    assert_eq!((archive.entries().len(), archive.passed_over()), (2, 6));
    let link = |name: &str| {
        let mut link = Raw::new(name, b"/etc");
        link.mode = 0o120_777;
        link
    };
    for entry in [
        Raw::new("__MACOSX/../evil.conf", b"x"),
        Raw::new("__MACOSX/a\\b", b"x"),
        Raw::new("elsewhere/.DS_Store", b"x"),
        link("__MACOSX/link"),
        link(".DS_Store"),
    ] {
        refusal(&with(&[entry]).bytes);
    }
    let twice = [Raw::new(".DS_Store", b"x"), Raw::new(".DS_Store", b"y")];
    assert_refused(&with(&twice).bytes, "two entries named");
}

#[test]
fn what_a_tool_made_of_a_backup_is_refused_once_a_kind_with_what_undoes_it() {
    let extra: Vec<Raw> = (0..5)
        .map(|i| Raw::new(format!("notes-{i}.txt"), b"x"))
        .collect();
    insta::assert_snapshot!(problems(&with(&extra).bytes), @r##"
    accept the backup test.zip: its entry notes-0.txt has no place in a backup of a gateway; so it is with 4 more entries
      if you know that a tool added it, take it out of a copy of the file: zip -d FILE 'notes-0.txt'; or take another backup; nothing was changed
    "##);
    let around = build(&[
        Raw::new("backup/backup_metadata.json", &metadata(&[], &["a.conf"])),
        Raw::new("backup/configs/a.conf", CONFIG),
        Raw::new("__MACOSX/._backup", b"x"),
    ]);
    insta::assert_snapshot!(problems(&around.bytes), @r##"
    accept the backup test.zip: everything in it lies in one folder, backup: a tool packed the folder, and not what is in it
      unpack it, and pack it again from inside that folder: cd FOLDER && zip -r ../again.zip .; or take another backup; nothing was changed
    "##);
    let mut comment = with(&[]).bytes;
    let at = comment.len() - 2;
    comment[at..].copy_from_slice(&5u16.to_le_bytes());
    comment.extend(b"hello");
    insta::assert_snapshot!(problems(&comment), @r##"
    accept the backup test.zip: it has a comment of 5 bytes at its end
      take the comment out of a copy of the file: zip -z FILE < /dev/null; then try again; or take another backup; nothing was changed
    "##);
    let mut unmarked = Raw::new("configs/\u{fc}.conf", CONFIG);
    unmarked.flags = 0;
    let mixed = with(&[unmarked, Raw::new("configs/\u{f6}.conf", CONFIG)]).bytes;
    insta::assert_snapshot!(problems(&mixed), @r##"
    accept the backup test.zip: its entry configs/ü.conf has a name beyond ASCII that is not marked as UTF-8, as another's is
      two tools packed it, and one does not say how names are written; unpack it into an empty folder, and pack it again from inside: cd FOLDER && zip -r ../again.zip .; or take another backup; nothing was changed
    "##);
    let mut odd = Raw::new("configs/b.conf", CONFIG);
    odd.method = 14;
    insta::assert_snapshot!(problems(&with(&[odd]).bytes), @r##"
    accept the backup test.zip: its entry configs/b.conf is packed with method 14, and only stored and deflated are known
      unpack it into an empty folder, and pack it again from inside: cd FOLDER && zip -r ../again.zip .; or take another backup; nothing was changed
    "##);
    insta::assert_snapshot!(problems(&with(&[Raw::new("configs/._a.conf", b"x")]).bytes), @r##"
    accept the backup test.zip: its metadata do not list its entry configs/._a.conf
      it was packed again or changed since it was made; if a tool added what is not listed, take that out of a copy of the file: zip -d FILE ENTRY (a Mac's are '*/._*'); or take another backup; nothing was changed
    "##);
}
