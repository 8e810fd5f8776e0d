//! Which worlds are one and the same to whoever takes them up: the enumeration runs each once, and counts it once. Owns
//! what makes no difference (what the clock said, and numbers that come of it); where in doubt, two worlds are two.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::world::World;

/// The clocks in a record, with the hash of the line, which follows from them and from what is hashed here.
const CLOCKS: [&str; 3] = ["\"at_ms\":", "\"up_ms\":", "\"started_ticks\":"];
const HASH_CHARS: usize = 65;

impl World {
    /// Two worlds with the same number go on in the same way. `own` is Holdfast's folder, in which no object counts.
    pub fn fingerprint(&self, own: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.disk.tell(&mut hasher, |path, bytes| {
            let is_own = path.starts_with(own);
            (plain(path, bytes, is_own), !is_own)
        });
        self.kernel.hash(&mut hasher);
        self.boot.hash(&mut hasher);
        self.unwritten.hash(&mut hasher);
        self.actor.hash(&mut hasher);
        self.start.hash(&mut hasher);
        self.not_up.hash(&mut hasher);
        self.called_inactive.hash(&mut hasher);
        // When it comes counts from now.
        for (at, due) in &self.due {
            (at.saturating_sub(self.clock), due).hash(&mut hasher);
        }
        format!("{:?} {:?}", self.under_way, self.orphaned).hash(&mut hasher);
        self.broken.hash(&mut hasher);
        hasher.finish()
    }
}

fn plain(path: &str, bytes: &[u8], is_own: bool) -> Vec<u8> {
    if is_own && path.contains("/journal") {
        return bytes
            .split_inclusive(|b| *b == b'\n')
            .flat_map(record)
            .collect();
    }
    if path.contains(".db") {
        let text = String::from_utf8_lossy(bytes);
        let live = |line: &str| line.starts_with("live ");
        return text
            .split_inclusive('\n')
            .map(|line| if live(line) { "live\n" } else { line })
            .collect::<String>()
            .into_bytes();
    }
    bytes.to_vec()
}

/// A record without its clocks. A line with damage in it, or none yet, is taken as it is.
fn record(line: &[u8]) -> Vec<u8> {
    let whole = line.ends_with(b"\n") && !line.contains(&0) && line.len() > HASH_CHARS;
    let Some(mut text) = whole
        .then(|| String::from_utf8(line[HASH_CHARS..].to_vec()).ok())
        .flatten()
    else {
        return line.to_vec();
    };
    for clock in CLOCKS {
        if let Some(at) = text.find(clock) {
            let digits = at + clock.len();
            let end = text[digits..]
                .find(|c: char| !c.is_ascii_digit())
                .map_or(text.len(), |n| digits + n);
            text.replace_range(digits..end, "");
        }
    }
    text.into_bytes()
}
