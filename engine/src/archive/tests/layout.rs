//! The bytes of the zip format: headers, the central directory and the end must tell of the same entries.

use super::*;

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
    assert_refused(&[&good[..], b"x"].concat(), "behind its end");
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
