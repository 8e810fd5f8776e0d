//! The socket: who may connect, how many at once, how long either side may be silent. Understands no message.

use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use journal_format::Problem;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, UnixAddr, getsockopt,
    sockopt::PeerCredentials,
};
use nix::unistd::{Uid, User};

use super::slot::Slot;
use super::{spawn, warned};
use crate::error::{Code, Fault, OrCannot, cannot, cause};
use crate::gateway::profile::Profile;

/// Connections at once; each is a thread. Those who are not signed in hold little more than half of them (`queue`,
/// `sign_in`).
const CONNECTIONS: usize = 256;
/// How long the other side may be silent, or take nothing, in the middle of something.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Door {
    listener: UnixListener,
    /// The user who may connect, besides root.
    web: Option<Uid>,
}

impl Door {
    /// Listens. A socket that an ended agent left is removed; one on which an agent answers is not.
    #[expect(
        clippy::disallowed_methods,
        reason = "the socket is the agent's own, in a folder of its own"
    )]
    pub fn open(profile: &Profile, socket: &Path) -> Result<Door, Problem> {
        let failed = |e: std::io::Error| {
            cannot(
                cause(&e),
                format!("listen on {}: {e}", socket.display()),
                "name another place with --socket, or make its folder",
            )
        };
        remove_stale(socket)?;
        let web = web_user(profile)?;
        let open = || -> std::io::Result<UnixListener> {
            let listener = bound(socket)?;
            if let Some(uid) = web {
                std::os::unix::fs::chown(socket, Some(uid.as_raw()), None)?;
            }
            std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
            nix::sys::socket::listen(&listener, Backlog::MAXCONN)?;
            Ok(listener)
        };
        let listener = open().map_err(failed)?;
        Ok(Door { listener, web })
    }

    /// Lets connections in, each on a thread of its own, as long as the process lives.
    pub fn let_in(self, serve: impl Fn(UnixStream) + Send + Clone + 'static) -> Result<(), Fault> {
        let inside = Arc::new(AtomicUsize::new(0));
        for stream in self.listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(e) => {
                    tracing::warn!("cannot take a connection: {e}");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if let Err(why) = self.check(&stream) {
                tracing::warn!("a connection is refused: {why}");
                continue;
            }
            let place = Slot::take(inside.clone(), CONNECTIONS);
            if place.is_none() {
                tracing::warn!("a connection is refused: {CONNECTIONS} are open");
                continue;
            }
            let serve = serve.clone();
            warned(spawn("connection", move || {
                let _place = place;
                serve(stream);
            }));
        }
        Ok(())
    }

    fn check(&self, stream: &UnixStream) -> Result<(), String> {
        let peer = getsockopt(stream, PeerCredentials)
            .map_err(|e| format!("the kernel does not say whose it is: {e}"))?;
        let uid = Uid::from_raw(peer.uid());
        if !uid.is_root() && Some(uid) != self.web {
            return Err(format!(
                "user {uid} is neither root nor the user of [web] in the profile"
            ));
        }
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .map_err(|e| format!("its time limits cannot be set: {e}"))
    }
}

/// A socket that is there and does not listen: nobody can connect before it is set who may. A mask for its mode would be that
/// of all threads, and of whatever they make meanwhile.
fn bound(socket: &Path) -> std::io::Result<UnixListener> {
    let listener = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None::<SockProtocol>,
    )?;
    nix::sys::socket::bind(listener.as_raw_fd(), &UnixAddr::new(socket)?)?;
    Ok(listener.into())
}

fn remove_stale(socket: &Path) -> Result<(), Problem> {
    let Ok(there) = std::fs::symlink_metadata(socket) else {
        return Ok(());
    };
    let shown = socket.display();
    if !there.file_type().is_socket() {
        return Err(cannot(
            Code::WRONG_KIND,
            format!("listen on {shown}: something that is no socket is there"),
            "remove the file (`ls -l` shows what it is), or name another place with --socket",
        ));
    }
    if UnixStream::connect(socket).is_ok() {
        return Err(cannot(
            Code::BUSY,
            format!("listen on {shown}: an agent answers there already"),
            "stop that one first; one agent is enough for a gateway",
        ));
    }
    std::fs::remove_file(socket).or_cannot(
        Code::IO,
        format_args!("remove the old socket {shown}"),
        "remove it by hand",
    )
}

/// The user of the profile; none where the box does not have it, and then only root may connect.
fn web_user(profile: &Profile) -> Result<Option<Uid>, Problem> {
    let name = &profile.web.user;
    if let Ok(uid) = name.parse() {
        return Ok(Some(Uid::from_raw(uid)));
    }
    let user = User::from_name(name).or_cannot(
        Code::UNFIT_SYSTEM,
        format_args!("look up the user {name}"),
        "let root read /etc/passwd: `ls -l /etc/passwd`",
    )?;
    if user.is_none() {
        tracing::warn!(
            "there is no user {name}, as [web] in the profile names it: only root can connect"
        );
    }
    Ok(user.map(|u| u.uid))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    fn in_folder() -> (tempfile::TempDir, PathBuf, Profile) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent.sock");
        let mut profile = Profile::default();
        profile.web.user = Uid::current().to_string();
        (folder, socket, profile)
    }

    #[test]
    fn a_socket_that_an_ended_agent_left_is_taken_over_and_one_in_use_is_not() {
        let (_folder, socket, profile) = in_folder();
        let first = Door::open(&profile, &socket).unwrap();
        let busy = Door::open(&profile, &socket).err().unwrap();
        assert!(busy.is(&Code::BUSY), "{busy}");
        drop(first);
        assert!(socket.exists());
        Door::open(&profile, &socket).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_never_removed() {
        let (_folder, socket, profile) = in_folder();
        std::fs::write(&socket, "precious").unwrap();
        assert!(Door::open(&profile, &socket).is_err());
        assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    }

    #[test]
    fn what_other_threads_make_while_a_socket_is_opened_has_the_mode_that_they_asked_for() {
        let (folder, _, profile) = in_folder();
        std::thread::scope(|scope| {
            let opens = scope.spawn(|| {
                for n in 0..300 {
                    Door::open(&profile, &folder.path().join(format!("{n}.sock"))).unwrap();
                }
            });
            let mut made = 0;
            while !opens.is_finished() || made == 0 {
                let room = crate::files::spool::Room::new(&folder.path().join("spool")).unwrap();
                let mode = std::fs::metadata(room.file("")).unwrap().permissions();
                assert_eq!(mode.mode() & 0o777, 0o700);
                made += 1;
            }
        });
    }

    #[test]
    fn only_its_owner_can_open_the_socket() {
        let (_folder, socket, profile) = in_folder();
        let _door = Door::open(&profile, &socket).unwrap();
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn places_run_out_and_come_back() {
        let inside = Arc::new(AtomicUsize::new(0));
        let mut taken: Vec<_> = (0..CONNECTIONS)
            .map(|_| Slot::take(inside.clone(), CONNECTIONS).unwrap())
            .collect();
        assert!(Slot::take(inside.clone(), CONNECTIONS).is_none());
        taken.pop();
        assert!(Slot::take(inside.clone(), CONNECTIONS).is_some());
    }
}
