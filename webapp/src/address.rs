//! Where browsers are. The front knows who connected to it, and Rocket sees the front alone: the front notes here which of its
//! connections is whose. Believes no header but that of a proxy which the settings name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rocket::request::Request;

/// What a proxy says of where a browser is; each further proxy adds to its end.
const FORWARDED_FOR: &str = "X-Forwarded-For";

/// The addresses of those who are connected, by the front's own connections to Rocket.
#[derive(Clone, Default)]
pub struct Connected(Arc<Mutex<HashMap<SocketAddr, IpAddr>>>);

/// As long as this is there the connection is known.
pub struct ConnectedHere {
    connected: Connected,
    inner: SocketAddr,
}

impl Connected {
    /// The front's connection from this address is for this client.
    pub fn note(&self, inner: SocketAddr, client: SocketAddr) -> ConnectedHere {
        self.with(|all| all.insert(inner, client.ip().to_canonical()));
        ConnectedHere {
            connected: self.clone(),
            inner,
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut HashMap<SocketAddr, IpAddr>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for ConnectedHere {
    fn drop(&mut self) {
        self.connected.with(|all| all.remove(&self.inner));
    }
}

/// The proxies that are believed.
pub struct TrustedProxies(pub Vec<IpAddr>);

/// Where the browser of a request is; none where it came past the front.
pub fn of(request: &Request<'_>) -> Option<IpAddr> {
    let connected = request.rocket().state::<Connected>()?;
    let inner = request.remote()?;
    let peer = connected.with(|all| all.get(&inner).copied())?;
    let proxies = request.rocket().state::<TrustedProxies>();
    let trusted = proxies.map_or(&[][..], |proxies| &proxies.0);
    let said: Vec<&str> = request.headers().get(FORWARDED_FOR).collect();
    Some(behind(peer, trusted, &said))
}

/// Where the browser is, as the nearest proxy says that is believed. What stands before the first address that no such proxy has
/// could be anybody's word.
fn behind(peer: IpAddr, trusted: &[IpAddr], said: &[&str]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|t| t.to_canonical() == *address);
    if !is_trusted(&peer) {
        return peer;
    }
    let mut nearest = peer;
    for hop in said.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Ok(hop) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        nearest = hop.to_canonical();
        if !is_trusted(&nearest) {
            break;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_header_counts_as_far_as_proxies_that_are_trusted_vouch_for_it() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let trusted = [ip("127.0.0.1"), ip("::ffff:10.0.0.2")];
        for (peer, said, is) in [
            ("10.0.0.7", &["6.6.6.6"][..], "10.0.0.7"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["10.0.0.7"], "10.0.0.7"),
            ("127.0.0.1", &["6.6.6.6, 10.0.0.7"], "10.0.0.7"),
            ("127.0.0.1", &["6.6.6.6", "10.0.0.7,10.0.0.2"], "10.0.0.7"),
            ("127.0.0.1", &["6.6.6.6, nonsense"], "127.0.0.1"),
            ("127.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("127.0.0.1", &["::ffff:10.0.0.7"], "10.0.0.7"),
            ("127.0.0.1", &["10.0.0.7, 10.0.0.2, 10.0.0.2"], "10.0.0.7"),
        ] {
            let found = behind(ip(peer), &trusted, said);
            assert_eq!(found, ip(is), "{peer} {said:?}");
            assert_eq!(behind(ip(peer), &[], said), ip(peer));
        }
    }

    #[test]
    fn a_connection_is_known_as_long_as_it_is_there() {
        let connected = Connected::default();
        let inner: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        let client = "[::ffff:10.0.0.7]:5000".parse().unwrap();
        let here = connected.note(inner, client);
        let known = || connected.with(|all| all.get(&inner).copied());
        assert_eq!(known(), "10.0.0.7".parse().ok());
        drop(here);
        assert_eq!(known(), None);
    }
}
