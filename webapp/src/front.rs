//! The front: takes connections from the network, and gives Rocket only those on which a request came in time. Understands
//! of HTTP what ends a head and how long a body is, and nothing of what they ask for.
//!
//! Rocket waits for a request as long as the other side likes, so whoever opens connections and says nothing takes every
//! place there is. Here each is bounded: a head must be whole in [`Limits::head_within`]; what is being sent, either way,
//! must not fall below [`Limits::rate`] for longer than [`Limits::patience`]; places are counted. When all are taken, the
//! connection that kept this side waiting longest makes way for the new one, but for those that have moved more than a
//! stranger can ([`ESTABLISHED`]): an upload or a download is not pushed out by a flood.
//!
//! A connection is for one request: what comes in after it has no reader, and no idle connection lies between requests.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rocket::fairing::{Fairing, Info, Kind};
use rocket::tokio::io::{AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::tcp::{ReadHalf, WriteHalf};
use rocket::tokio::net::{TcpListener, TcpStream};
use rocket::tokio::sync::Notify;
use rocket::tokio::time::{sleep, timeout};
use rocket::tokio::{select, spawn};
use rocket::{Orbit, Rocket, Shutdown};

use crate::address::Connected;

/// What a connection may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrontLimits {
    /// Connections at once. One that is served takes four descriptors: both sides here, Rocket's, and one to the agent.
    pub connections: usize,
    /// How long a request's head may take from the first moment on.
    pub head_within: Duration,
    /// The least rate of a body, bytes a second, either way.
    pub rate: u64,
    /// How long it may be below that.
    pub patience: Duration,
}

impl Default for FrontLimits {
    fn default() -> Self {
        Self {
            connections: 200,
            head_within: Duration::from_secs(10),
            rate: 10_000,
            patience: Duration::from_secs(60),
        }
    }
}

/// The longest head.
const HEAD: usize = 16 << 10;
/// Header lines of a request; Rocket's own parser takes as many.
const LINES: usize = 100;
/// Bytes that move at once.
const PART: usize = 8 << 10;
/// More than any form of this page, and more than any answer to who is not signed in.
const ESTABLISHED: u64 = 64 << 10;
/// How long what nobody reads any more is taken in after an answer, so that it arrives before the connection breaks.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a listener once Rocket hears on its inner port.
pub struct Front {
    listener: Mutex<Option<TcpListener>>,
    limits: FrontLimits,
    connected: Connected,
}

impl Front {
    /// For this listener. Whose connections there are is noted.
    pub fn new(
        listener: std::net::TcpListener,
        limits: FrontLimits,
        connected: Connected,
    ) -> io::Result<Front> {
        listener.set_nonblocking(true)?;
        Ok(Front {
            listener: Mutex::new(Some(TcpListener::from_std(listener)?)),
            limits,
            connected,
        })
    }
}

#[rocket::async_trait]
impl Fairing for Front {
    fn info(&self) -> Info {
        Info {
            name: "front",
            kind: Kind::Liftoff,
        }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        let inner = SocketAddr::new(rocket.config().address, rocket.config().port);
        if let Some(listener) = locked(&self.listener).take() {
            let inner = Inner {
                address: inner,
                connected: self.connected.clone(),
            };
            spawn(let_in(listener, inner, self.limits, rocket.shutdown()));
        }
    }
}

/// Where Rocket hears, and who is told whose a connection is.
#[derive(Clone)]
struct Inner {
    address: SocketAddr,
    connected: Connected,
}

async fn let_in(listener: TcpListener, inner: Inner, limits: FrontLimits, mut shutdown: Shutdown) {
    let places = Arc::new(Places {
        most: limits.connections,
        inside: Mutex::default(),
    });
    loop {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => return,
        };
        let Ok((client, _)) = accepted else {
            // No descriptor is left, say.
            places.make_way();
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        if let Some((place, waited_for)) = Places::take(&places) {
            let inner = inner.clone();
            spawn(async move {
                select! {
                    // That one of the two sides broke off, or was too slow, is no news here.
                    _ = pass(client, inner, &limits, &place, waited_for) => {}
                    () = place.way.notified() => {}
                }
            });
        }
    }
}

/// The places for connections, and which of them wait for the other side.
struct Places {
    most: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    taken: usize,
    counted: u64,
    /// Those that can be asked to make way, the one first that keeps this side waiting longest.
    waited_for: BTreeMap<u64, Arc<Notify>>,
}

/// One of the places; given back when dropped.
struct ConnectionPlace {
    places: Arc<Places>,
    way: Arc<Notify>,
}

/// As long as this is there the other side is waited for.
struct WaitedFor {
    places: Arc<Places>,
    since: u64,
}

impl Places {
    /// A place for a connection whose request is waited for from now on.
    fn take(places: &Arc<Places>) -> Option<(ConnectionPlace, WaitedFor)> {
        let mut inside = locked(&places.inside);
        if inside.taken >= places.most {
            inside.waited_for.pop_first()?.1.notify_one();
        }
        inside.taken += 1;
        drop(inside);
        let place = ConnectionPlace {
            places: places.clone(),
            way: Arc::default(),
        };
        let waited_for = place.waited_for();
        Some((place, waited_for))
    }

    fn make_way(&self) {
        if let Some((_, way)) = locked(&self.inside).waited_for.pop_first() {
            way.notify_one();
        }
    }
}

impl ConnectionPlace {
    fn waited_for(&self) -> WaitedFor {
        let mut inside = locked(&self.places.inside);
        inside.counted += 1;
        let since = inside.counted;
        inside.waited_for.insert(since, self.way.clone());
        WaitedFor {
            places: self.places.clone(),
            since,
        }
    }
}

impl Drop for WaitedFor {
    fn drop(&mut self) {
        locked(&self.places.inside).waited_for.remove(&self.since);
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        locked(&self.places.inside).taken -= 1;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the other side may still be waited for: waiting takes from it, bytes at the least rate give it back.
struct ClientPatience {
    left: Duration,
    most: Duration,
    rate: u64,
}

impl ClientPatience {
    fn new(limits: &FrontLimits) -> ClientPatience {
        ClientPatience {
            left: limits.patience,
            most: limits.patience,
            rate: limits.rate.max(1),
        }
    }

    async fn wait_for<T>(&mut self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let began = Instant::now();
        let done = timeout(self.left, work).await?;
        self.left = self.left.saturating_sub(began.elapsed());
        done
    }

    fn moved(&mut self, bytes: usize) {
        let bought = Duration::from_micros(bytes as u64 * 1_000_000 / self.rate);
        self.left = (self.left + bought).min(self.most);
    }
}

/// A request's head, and what of its body came with it.
struct Head {
    bytes: Vec<u8>,
    /// How much of the body is still to come.
    rest: u64,
}

/// One connection, from its first byte to its end.
async fn pass(
    mut client: TcpStream,
    inner: Inner,
    limits: &FrontLimits,
    place: &ConnectionPlace,
    waited_for: WaitedFor,
) -> io::Result<()> {
    let head = match timeout(limits.head_within, head(&mut client)).await? {
        Ok(head) => head,
        Err(NoHead::Refused(answer)) => {
            client.write_all(answer.as_bytes()).await?;
            return end(client).await;
        }
        Err(NoHead::Gone(e)) => return Err(e),
    };
    let mut server = TcpStream::connect(inner.address).await?;
    // Given up before the connection is, whose address may then be another's.
    let _here = inner
        .connected
        .note(server.local_addr()?, client.peer_addr()?);
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    server.write_all(&head.bytes).await?;
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let request = request(from_client, to_server, head.rest, limits, waited_for);
        select! {
            never = request => return never,
            answered = answer(from_server, to_client, limits, place) => answered?,
        }
    }
    let _waited_for = place.waited_for();
    end(client).await
}

enum NoHead {
    /// What is answered instead.
    Refused(String),
    Gone(io::Error),
}

async fn head(client: &mut TcpStream) -> Result<Head, NoHead> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        match client.read_buf(&mut bytes).await {
            Ok(0) => return Err(NoHead::Gone(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(e) => return Err(NoHead::Gone(e)),
        }
        let mut lines = [httparse::EMPTY_HEADER; LINES];
        let mut request = httparse::Request::new(&mut lines);
        match request.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) => {
                let body = body(request.headers).map_err(NoHead::Refused)?;
                let rest = body.saturating_sub((bytes.len() - length) as u64);
                return Ok(Head { bytes, rest });
            }
            Ok(httparse::Status::Partial) if bytes.len() < HEAD => {}
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(NoHead::Refused(refused(
                    "431 Request Header Fields Too Large",
                )));
            }
            Err(_) => return Err(NoHead::Refused(refused("400 Bad Request"))),
        }
    }
}

/// How long the body is. Browsers say it; without it nobody could tell a body that trickles from one that is whole.
fn body(headers: &[httparse::Header<'_>]) -> Result<u64, String> {
    let of = |name: &str| headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    if of("Transfer-Encoding").is_some() {
        return Err(refused("411 Length Required"));
    }
    // What is no number is refused by Rocket.
    Ok(of("Content-Length")
        .and_then(|h| std::str::from_utf8(h.value).ok()?.trim().parse().ok())
        .unwrap_or(0))
}

fn refused(status: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: \
         nosniff\r\nContent-Length: {}\r\n\r\n{status}\n",
        status.len() + 1
    )
}

/// Passes the rest of a request on, and then waits for the other side to go away. Never ends well: the answer does.
async fn request(
    mut client: ReadHalf<'_>,
    mut server: WriteHalf<'_>,
    mut rest: u64,
    limits: &FrontLimits,
    waited_for: WaitedFor,
) -> io::Result<()> {
    let mut part = vec![0; PART];
    let mut patience = ClientPatience::new(limits);
    let mut moved = 0;
    let mut waited_for = Some(waited_for);
    while rest > 0 {
        let n = patience.wait_for(client.read(&mut part)).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        patience.moved(n);
        // What Rocket does not want it has answered already.
        if server.write_all(&part[..n]).await.is_err() {
            break;
        }
        rest = rest.saturating_sub(n as u64);
        moved += n as u64;
        if moved > ESTABLISHED {
            waited_for = None;
        }
    }
    drop(waited_for);
    let mut beyond = 0;
    while beyond <= ESTABLISHED || rest > 0 {
        match client.read(&mut part).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                beyond += n as u64;
                rest = rest.saturating_sub(n as u64);
            }
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Passes an answer on, up to its end.
async fn answer(
    mut server: ReadHalf<'_>,
    mut client: WriteHalf<'_>,
    limits: &FrontLimits,
    place: &ConnectionPlace,
) -> io::Result<()> {
    let mut part = vec![0; PART];
    let mut patience = ClientPatience::new(limits);
    let mut moved = 0;
    loop {
        let n = match server.read(&mut part).await {
            Ok(0) => return client.shutdown().await,
            Ok(n) => n,
            // It left bytes of the request unread.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return client.shutdown().await,
            Err(e) => return Err(e),
        };
        let _waited_for = (moved <= ESTABLISHED).then(|| place.waited_for());
        patience.wait_for(client.write_all(&part[..n])).await?;
        patience.moved(n);
        moved += n as u64;
    }
}

/// Closes a connection so that what was answered arrives: bytes that nobody read would break it off.
async fn end(mut client: TcpStream) -> io::Result<()> {
    client.shutdown().await?;
    let mut part = [0; 1024];
    timeout(LINGER, async {
        while client.read(&mut part).await? > 0 {}
        Ok(())
    })
    .await?
}
