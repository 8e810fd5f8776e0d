//! The structure of a backup as another zip reader sees it, so that nobody is shown another backup than was checked. Reads
//! no contents.

use std::fs::File;
use std::sync::Arc;

use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};

use super::ArchiveEntry;
use super::cursor::Cursor;

/// What a second pair of eyes sees on the same bytes.
pub(super) enum PassedBytes {
    Otherwise,
    Damaged(zip::result::ZipError),
}

/// Reads the structure with another reader, which must see the very same entries at the very same places.
pub(super) fn second_opinion(
    file: &Arc<File>,
    size: u64,
    entries: &[ArchiveEntry],
) -> Result<(), PassedBytes> {
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut zip = ZipArchive::with_config(config, Cursor::new(file.clone(), size))
        .map_err(PassedBytes::Damaged)?;
    zip.validate_header_consistency()
        .map_err(PassedBytes::Damaged)?;
    for entry in entries {
        let index = entry.index as usize;
        if zip.index_for_name_raw(entry.name.as_bytes()) != Some(index) {
            return Err(PassedBytes::Otherwise);
        }
        let seen = zip.by_index_raw(index).map_err(PassedBytes::Damaged)?;
        let method = match entry.place.deflated {
            true => zip::CompressionMethod::Deflated,
            false => zip::CompressionMethod::Stored,
        };
        let same = seen.data_start() == Some(entry.place.at)
            && seen.compressed_size() == entry.place.packed
            && seen.size() == entry.size
            && seen.crc32() == entry.place.crc
            && seen.compression() == method;
        if !same {
            return Err(PassedBytes::Otherwise);
        }
    }
    Ok(())
}
