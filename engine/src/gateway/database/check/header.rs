//! What the first hundred bytes of a database promise. Must not believe them.

use super::Why;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What the first 100 bytes promise must be so: a page count of millions in a small file costs before it fails.
pub(super) fn header(path: &Path) -> Result<(), Why> {
    let failed = |e: std::io::Error| Why::Failed(format!("it cannot be read: {e}"));
    let mut bytes = [0u8; 100];
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    match file.read_exact(&mut bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => return Err(failed(e)),
        Err(_) => {
            return Err(Why::Unfit(vec![format!(
                "with {size} bytes it is too short for a SQLite database"
            )]));
        }
        Ok(()) => {}
    }
    promises(&bytes, size).map_err(|why| Why::Unfit(vec![why]))
}

pub(super) fn promises(bytes: &[u8; 100], size: u64) -> Result<(), String> {
    if &bytes[..16] != b"SQLite format 3\0" {
        return Err("it is not a SQLite database".into());
    }
    let page = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        n if n >= 512 && n.is_power_of_two() => u64::from(n),
        n => return Err(format!("its header gives a page size of {n}")),
    };
    if !matches!(bytes[18..20], [1 | 2, 1 | 2]) {
        return Err("its header gives a file format that SQLite does not have".into());
    }
    let pages = u64::from(u32::from_be_bytes([
        bytes[28], bytes[29], bytes[30], bytes[31],
    ]));
    let counted = bytes[24..28] == bytes[92..96];
    if !size.is_multiple_of(page) || (counted && pages != size / page) {
        return Err(format!(
            "its header gives {pages} pages of {page} bytes, but it has {size} bytes"
        ));
    }
    Ok(())
}
