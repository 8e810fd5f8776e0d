//! Closes what is open to others: the one change of the gateway that belongs to no restore, and so needs no permit. Touches
//! nothing but the very objects that were looked at.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use nix::fcntl::OFlag;

use super::{Exposed, ExposedKind};
use crate::error::{Problem, cannot, cause};
use crate::files::open::open_without_links;
use crate::gateway::database::side_files;

/// Whether this is a file that SQLite keeps beside a database which is closed as well.
fn is_beside(one: &Exposed, exposed: &[Exposed]) -> bool {
    let mut databases = exposed.iter().map(|e| side_files(&e.path));
    databases.any(|beside| beside.contains(&one.path))
}

/// Closes what was found; `done` is told of each that was. What is not the very object that was looked at is left alone.
pub fn close(exposed: &[Exposed], mut done: impl FnMut(String)) -> Result<(), Problem> {
    for one in exposed {
        let failed = |e: io::Error| {
            cannot(
                cause(&e),
                format!("close {}: {e}", one.path.display()),
                format!("by hand: chmod {:o} {}", one.closed, one.path.display()),
            )
        };
        let kind = match one.kind {
            ExposedKind::Folder => OFlag::O_DIRECTORY,
            ExposedKind::File => OFlag::O_NONBLOCK,
        };
        let file = match open_without_links(&one.path, OFlag::O_RDONLY | kind) {
            Ok(file) => file,
            // Side files of a database come and go.
            Err(e) if e.kind() == io::ErrorKind::NotFound && one.kind == ExposedKind::File => {
                continue;
            }
            Err(e) => return Err(failed(e)),
        };
        let meta = file.metadata().map_err(failed)?;
        let plain = one.kind == ExposedKind::Folder || meta.is_file() && meta.nlink() == 1;
        let same = ((meta.dev(), meta.ino()), meta.mode() & 0o7777) == (one.object, one.mode);
        if !same && is_beside(one, exposed) && meta.is_file() && meta.nlink() == 1 {
            // Another one by now. One that was made after its database was closed has that mode; one from before has not.
            if meta.mode() & 0o7777 & !one.closed != 0 {
                file.set_permissions(PermissionsExt::from_mode(one.closed))
                    .map_err(failed)?;
                done(one.change());
            }
            continue;
        }
        if !plain || !same {
            return Err(failed(io::Error::other("somebody changed it meanwhile")));
        }
        // Given away first: cut off in between it is still open, and closed the next time.
        if let Some((uid, gid)) = one.given_to {
            fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        file.set_permissions(PermissionsExt::from_mode(one.closed))
            .map_err(failed)?;
        done(one.change());
    }
    Ok(())
}
