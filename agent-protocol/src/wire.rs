//! Frames on a byte stream: control messages as JSON with a length before them, bodies as chunks that end with an
//! explicit mark, so that one that broke off is never taken for a whole one. Knows no message.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest control message.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The largest chunk of a body.
pub const MAX_CHUNK: usize = 64 << 10;

const END: u32 = 0;
const ABORT: u32 = u32::MAX;

/// Why nothing could be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side closed the connection between two messages.
    #[error("the other side closed the connection")]
    Closed,
    /// The connection ended inside a message or a body.
    #[error("the connection broke off in the middle of a message")]
    BrokenOff,
    /// Nothing came, or nothing was taken, within the time limit.
    #[error("the other side did not answer in time")]
    TimedOut,
    /// A length over the limit; nothing was read or sent of it.
    #[error("a message of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Bytes that are no message of this version. What they were is left out: it may be a secret.
    #[error(
        "the other side sent something that is not understood (line {line}, column {column} of its message)"
    )]
    NotUnderstood {
        /// Line in the JSON.
        line: usize,
        /// Column in the JSON.
        column: usize,
    },
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Stream(io::Error),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => WireError::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => WireError::BrokenOff,
            _ => WireError::Stream(error),
        }
    }
}

impl From<serde_json::Error> for WireError {
    fn from(error: serde_json::Error) -> Self {
        WireError::NotUnderstood {
            line: error.line(),
            column: error.column(),
        }
    }
}

fn within(length: usize, limit: usize) -> Result<(), WireError> {
    match length <= limit {
        true => Ok(()),
        false => Err(WireError::TooLong { length, limit }),
    }
}

/// What came next of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// This many bytes, at the front of the buffer.
    Bytes(usize),
    /// The body is whole.
    End,
    /// The sender gave up; what came before is to be thrown away.
    Aborted,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Wire<S> {
    stream: S,
}

impl<S> Wire<S> {
    /// Frames on this stream.
    pub fn new(stream: S) -> Self {
        Self { stream }
    }
    /// The stream below, for its time limits.
    pub fn stream(&self) -> &S {
        &self.stream
    }
}

impl<S: Read + Write> Wire<S> {
    /// Sends one message.
    pub fn send<T: Serialize>(&mut self, message: &T) -> Result<(), WireError> {
        let mut frame = vec![0; 4];
        serde_json::to_writer(&mut frame, message)?;
        let length = frame.len() - 4;
        within(length, MAX_MESSAGE)?;
        // MAX_MESSAGE fits into 32 bits.
        frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
        self.stream.write_all(&frame)?;
        Ok(self.stream.flush()?)
    }

    /// Receives one message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        let length = self.length()? as usize;
        within(length, MAX_MESSAGE)?;
        let mut json = vec![0; length];
        self.stream.read_exact(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    /// Sends a part of a body, in as many chunks as it needs.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        for part in bytes.chunks(MAX_CHUNK) {
            // MAX_CHUNK fits into 32 bits.
            let length = part.len() as u32;
            self.stream.write_all(&length.to_be_bytes())?;
            self.stream.write_all(part)?;
        }
        Ok(())
    }

    /// Says that the body is whole.
    pub fn end_bytes(&mut self) -> Result<(), WireError> {
        self.mark(END)
    }

    /// Says that the body will not be whole.
    pub fn abort_bytes(&mut self) -> Result<(), WireError> {
        self.mark(ABORT)
    }

    /// Receives the next part of a body. A connection that ends before the mark is [`WireError::BrokenOff`].
    pub fn receive_bytes(&mut self, buffer: &mut [u8; MAX_CHUNK]) -> Result<Chunk, WireError> {
        let length = self.length().map_err(|e| match e {
            WireError::Closed => WireError::BrokenOff,
            other => other,
        })?;
        match length {
            END => Ok(Chunk::End),
            ABORT => Ok(Chunk::Aborted),
            _ => {
                let length = length as usize;
                within(length, MAX_CHUNK)?;
                self.stream.read_exact(&mut buffer[..length])?;
                Ok(Chunk::Bytes(length))
            }
        }
    }

    fn mark(&mut self, mark: u32) -> Result<(), WireError> {
        self.stream.write_all(&mark.to_be_bytes())?;
        Ok(self.stream.flush()?)
    }

    /// The length before a frame; nothing at all there means that the other side closed.
    fn length(&mut self) -> Result<u32, WireError> {
        let mut prefix = [0; 4];
        let mut have = 0;
        while have < prefix.len() {
            match self.stream.read(&mut prefix[have..]) {
                Ok(0) if have == 0 => return Err(WireError::Closed),
                Ok(0) => return Err(WireError::BrokenOff),
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset && have == 0 => {
                    return Err(WireError::Closed);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(u32::from_be_bytes(prefix))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    fn pair() -> (Wire<UnixStream>, Wire<UnixStream>) {
        let (a, b) = UnixStream::pair().unwrap();
        (Wire::new(a), Wire::new(b))
    }

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        let (mut a, mut b) = pair();
        a.send(&vec!["Zürich", "", "\u{0}"]).unwrap();
        assert_eq!(b.receive::<Vec<String>>().unwrap(), ["Zürich", "", "\u{0}"]);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_allocated_or_sent() {
        let (mut a, mut b) = pair();
        assert!(matches!(
            a.send(&"x".repeat(MAX_MESSAGE)),
            Err(WireError::TooLong { .. })
        ));
        a.stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(matches!(
            b.receive::<String>(),
            Err(WireError::TooLong { .. })
        ));
        a.stream
            .write_all(&(MAX_CHUNK as u32 + 1).to_be_bytes())
            .unwrap();
        assert!(matches!(
            b.receive_bytes(&mut [0; MAX_CHUNK]),
            Err(WireError::TooLong { .. })
        ));
    }

    #[test]
    fn a_body_that_ends_without_its_mark_is_broken_off_at_every_byte() {
        let whole: Vec<u8> = [&5u32.to_be_bytes()[..], b"hello", &END.to_be_bytes()].concat();
        for cut in 0..whole.len() {
            let (mut a, mut b) = pair();
            a.stream.write_all(&whole[..cut]).unwrap();
            drop(a);
            let mut buffer = [0; MAX_CHUNK];
            let end = loop {
                match b.receive_bytes(&mut buffer) {
                    Ok(Chunk::Bytes(_)) => {}
                    other => break other,
                }
            };
            assert!(
                matches!(end, Err(WireError::BrokenOff)),
                "cut at {cut}: {end:?}"
            );
        }
    }

    #[test]
    fn a_body_arrives_whole_and_an_aborted_one_says_so() {
        let (mut a, mut b) = pair();
        let sent: Vec<u8> = (0..MAX_CHUNK + 7).map(|i| i as u8).collect();
        let copy = sent.clone();
        let sender = std::thread::spawn(move || {
            a.send_bytes(&copy).unwrap();
            a.end_bytes().unwrap();
            a.send_bytes(b"more").unwrap();
            a.abort_bytes().unwrap();
            a
        });
        let mut buffer = [0; MAX_CHUNK];
        let mut got = Vec::new();
        while let Chunk::Bytes(n) = b.receive_bytes(&mut buffer).unwrap() {
            got.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(got, sent);
        assert_eq!(b.receive_bytes(&mut buffer).unwrap(), Chunk::Bytes(4));
        assert_eq!(b.receive_bytes(&mut buffer).unwrap(), Chunk::Aborted);
        sender.join().unwrap();
    }

    #[test]
    fn silence_ends_with_timed_out_and_closing_with_closed() {
        let (a, mut b) = pair();
        b.stream
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        assert!(matches!(b.receive::<String>(), Err(WireError::TimedOut)));
        drop(a);
        assert!(matches!(b.receive::<String>(), Err(WireError::Closed)));
    }

    #[test]
    fn what_is_not_understood_is_not_repeated_in_the_error() {
        let (mut a, mut b) = pair();
        a.send(&"hunter2").unwrap();
        let error = b.receive::<u32>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
