//! The first words on a connection: which version each side speaks. The two programs are installed together; where
//! only one was renewed they part here, with a sentence that says which one is old.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::{Wire, WireError};

/// The version of the messages. Raised with every change that the other side must know of.
pub const PROTOCOL: u32 = 7;

/// What each side says first. Its form never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The version that it speaks.
    pub protocol: u32,
    /// The program, as `holdfast-web 0.1.0`.
    pub program: String,
}

/// The two sides do not understand each other.
#[derive(Debug, thiserror::Error)]
pub enum NoGreeting {
    /// They speak different versions.
    #[error(
        "{theirs} speaks version {their_protocol} of the agent's protocol and {ours} version {PROTOCOL}: \
         install the same version of holdfast and holdfast-web, then restart both"
    )]
    OtherVersion {
        /// This side's program.
        ours: String,
        /// The other side's program.
        theirs: String,
        /// The other side's version.
        their_protocol: u32,
    },
    /// The connection did not last.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Greets: both sides send first and read second, so that both can say why they part.
pub fn greet<S: Read + Write>(wire: &mut Wire<S>, program: &str) -> Result<Hello, NoGreeting> {
    wire.send(&Hello {
        protocol: PROTOCOL,
        program: program.into(),
    })?;
    let theirs: Hello = wire.receive()?;
    if theirs.protocol != PROTOCOL {
        return Err(NoGreeting::OtherVersion {
            ours: program.into(),
            theirs: theirs.program,
            their_protocol: theirs.protocol,
        });
    }
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_newer_agent_and_an_older_web_part_with_a_sentence_that_names_both() {
        let (web, agent) = UnixStream::pair().unwrap();
        let (mut web, mut agent) = (Wire::new(web), Wire::new(agent));
        agent
            .send(&Hello {
                protocol: PROTOCOL + 1,
                program: "holdfast 9.0.0".into(),
            })
            .unwrap();
        let error = greet(&mut web, "holdfast-web 0.1.0").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "holdfast 9.0.0 speaks version {} of the agent's protocol and holdfast-web 0.1.0 version {PROTOCOL}: \
                 install the same version of holdfast and holdfast-web, then restart both",
                PROTOCOL + 1
            )
        );
    }

    #[test]
    fn equal_versions_greet_and_go_on() {
        let (web, agent) = UnixStream::pair().unwrap();
        let (mut web, mut agent) = (Wire::new(web), Wire::new(agent));
        let other =
            std::thread::spawn(move || greet(&mut agent, "holdfast 0.1.0").unwrap().program);
        assert_eq!(
            greet(&mut web, "holdfast-web 0.1.0").unwrap().program,
            "holdfast 0.1.0"
        );
        assert_eq!(other.join().unwrap(), "holdfast-web 0.1.0");
    }
}
