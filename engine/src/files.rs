//! Files, folders and disks of any Linux: opened without following links, who may write them, what they have beside bytes, private
//! ones, room for more, written whole. Knows nothing of a gateway, and asks no program.

pub mod access;
pub mod attributes;
pub mod open;
pub mod space;
pub mod spool;
pub mod whole;

/// What is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Dir,
    Other,
}

impl Kind {
    pub(crate) fn of(meta: &std::fs::Metadata) -> Kind {
        match () {
            () if meta.is_file() => Kind::File,
            () if meta.is_dir() => Kind::Dir,
            () => Kind::Other,
        }
    }
}
