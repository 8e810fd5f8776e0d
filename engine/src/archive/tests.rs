//! Archives made byte by byte, as a hostile writer may make them; and what a good one gives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod layout;
mod limits;
mod metadata;
mod names;
mod other_tools;
mod raw;

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
    Archive::open(file(bytes), "test.zip", limits, &DATABASES, &|_| Ok(false))
}

fn open(bytes: &[u8]) -> Result<Archive, Fault> {
    open_with(bytes, &Limits::default())
}

/// Opens and copies every entry, as `verify` does.
fn open_all(bytes: &[u8]) -> Result<Vec<manifest::EntryFacts>, Fault> {
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
fn an_archive_replaced_under_its_name_stays_the_one_that_was_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.zip");
    std::fs::write(&path, with(&[]).bytes).unwrap();
    let archive = Archive::open(
        File::open(&path).unwrap(),
        "b.zip",
        &Limits::default(),
        &DATABASES,
        &|_| Ok(false),
    )
    .unwrap();
    std::fs::write(dir.path().join("c.zip"), b"other").unwrap();
    std::fs::rename(dir.path().join("c.zip"), &path).unwrap();
    assert_eq!(archive.read_small("configs/a.conf", 1000).unwrap(), CONFIG);
}
