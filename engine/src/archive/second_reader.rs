//! The structure of a backup as another zip reader sees it, so that nobody is shown another backup than was checked. Reads
//! no contents.

use std::fs::File;
use std::sync::Arc;

use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipResult;

use super::ArchiveEntry;
use super::cursor::Cursor;

/// Reads the structure with another reader. Whether that sees the very same entries at the very same places.
pub(super) fn second_opinion(
    file: &Arc<File>,
    size: u64,
    entries: &[ArchiveEntry],
) -> ZipResult<bool> {
    let config = Config {
        archive_offset: ArchiveOffset::Known(0),
    };
    let mut zip = ZipArchive::with_config(config, Cursor::new(file.clone(), size))?;
    zip.validate_header_consistency()?;
    for entry in entries {
        let index = entry.index as usize;
        if zip.index_for_name_raw(entry.name.as_bytes()) != Some(index) {
            return Ok(false);
        }
        let seen = zip.by_index_raw(index)?;
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
            return Ok(false);
        }
    }
    Ok(true)
}
