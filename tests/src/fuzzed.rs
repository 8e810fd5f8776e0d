//! What must hold of any bytes at all that come from an archive or a disk: one function a reader, which panics where it does
//! not. The fuzzer calls them (`fuzz/`), and a test calls them with the hostile input of the fixtures. Must not: touch
//! anything but memory.

use std::fs::File;
use std::io::{self, Write};

use engine::archive::Archive;
use engine::archive::manifest::Metadata;
use engine::gateway::profile::Limits;
use engine::text::iptables::Rules;
use engine::text::wg_config::{self, Config};
use journal_format::{Soundness, scan};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Reads bytes, and panics where what must hold does not.
pub type Target = fn(&[u8]);

/// Every reader, by the name of its target.
pub const TARGETS: [(&str, Target); 5] = [
    ("archive", archive),
    ("config", config),
    ("rules", rules),
    ("manifest", manifest),
    ("journal", journal),
];

const DATABASES: [&str; 3] = ["configs.db", "wireguard.db", "app.db"];
const UNPACKED_MIB: u64 = 1;

fn in_memory(bytes: &[u8]) -> Option<File> {
    let mut file = File::from(memfd_create(c"fuzzed", MFdFlags::empty()).ok()?);
    file.write_all(bytes).ok()?;
    Some(file)
}

fn opened(bytes: &[u8]) -> Option<Archive> {
    let limits = Limits {
        unpacked_mib: UNPACKED_MIB,
        entries: 1000,
        ..Limits::default()
    };
    let file = in_memory(bytes)?;
    Archive::open(file, "fuzzed.zip", &limits, &DATABASES, &|_| Ok(false)).ok()
}

/// An archive that is accepted has names that stay where they belong, unpacks to what it says and no more than it may, and
/// is not accepted with a byte more or less.
pub fn archive(bytes: &[u8]) {
    let Some(archive) = opened(bytes) else {
        return;
    };
    let entries = archive.entries().to_vec();
    let mut unpacked = 0;
    for entry in &entries {
        let name = &entry.name;
        let folder_or_none = name.rsplit_once('/').map(|(folder, _)| folder);
        assert!(
            matches!(
                folder_or_none,
                None | Some(
                    "configs"
                        | "wireguard"
                        | "holdfast/raw/configs"
                        | "holdfast/raw/wireguard"
                        | "holdfast/raw/databases"
                        | "holdfast/kept"
                )
            ) && !name.contains(['\\', '\0'])
                && !name.split('/').any(|part| matches!(part, "" | "." | "..")),
            "accepted the name {name:?}"
        );
        let same = entries.iter().filter(|e| e.name == *name).count();
        assert_eq!(same, 1, "accepted {name:?} twice");
        if let Ok(copied) = archive.copy(name, &mut io::sink()) {
            assert_eq!(copied.size, entry.size, "{name:?}");
            unpacked += copied.size;
        }
    }
    assert!(unpacked <= UNPACKED_MIB << 20, "unpacked {unpacked} bytes");
    assert!(opened(&[bytes, b"x"].concat()).is_none(), "a byte more");
    assert!(opened(&bytes[..bytes.len() - 1]).is_none(), "a byte less");
}

/// A config that is accepted has every hook that bash would find in it; written again it is the same.
pub fn config(bytes: &[u8]) {
    let Ok(parsed) = wg_config::parse("fuzzed.conf", bytes) else {
        return;
    };
    for hook in hooks_for_bash(bytes) {
        assert!(
            parsed.interface.hooks.contains(&hook),
            "wg-quick would run {hook:?}, which is not among {:?}",
            parsed.interface.hooks
        );
    }
    let kept = wg_config::with_endpoints(bytes, |_, endpoint| Some(endpoint.to_owned()));
    assert_eq!(kept, bytes, "nothing was to be changed");
    let tame = wg_config::without(bytes, &["SaveConfig"]);
    let Ok(again) = wg_config::parse("fuzzed.conf", &tame) else {
        panic!("without SaveConfig it is no config");
    };
    assert!(!again.interface.save_config);
    let plain = |mut config: Config| {
        config.interface.save_config = false;
        // These name lines, which are others now, and what reading them costs.
        config.warnings.clear();
        config.unfit.clear();
        config.slow.clear();
        config
    };
    assert_eq!(plain(again), plain(parsed));
}

/// The hooks that `wg-quick` finds: their keys as leniently as bash in any locale could read them, what they run as it
/// reads it in its own.
fn hooks_for_bash(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    // Bash drops NULs.
    let bytes: Vec<u8> = bytes.iter().copied().filter(|b| *b != 0).collect();
    let mut in_interface = false;
    let mut found = Vec::new();
    for line in bytes.split(|b| *b == b'\n') {
        let stripped = line.split(|b| *b == b'#').next().unwrap_or_default();
        let mut halves = stripped.splitn(2, |b| *b == b'=');
        let key = halves.next().unwrap_or_default();
        let value = halves.next().unwrap_or(key);
        let key = String::from_utf8_lossy(key);
        let key = key.trim_matches(|c: char| c.is_whitespace() || c == '\u{fffd}');
        if key.starts_with('[') {
            in_interface = key.eq_ignore_ascii_case("[Interface]");
        }
        let space = |b: &u8| matches!(b, b' ' | 9 | 11 | 12 | 13);
        let from = value.iter().position(|b| !space(b)).unwrap_or(value.len());
        let to = value
            .iter()
            .rposition(|b| !space(b))
            .map_or(from, |at| at + 1);
        let value = value[from..to].to_vec();
        let hooks = ["PreUp", "PostUp", "PreDown", "PostDown"];
        if let Some(hook) = hooks.iter().find(|h| h.eq_ignore_ascii_case(key))
            && in_interface
        {
            found.push(((*hook).to_owned(), value));
        }
    }
    found
}

/// Rules that are accepted are the same after they were written and read, and hold nothing but chains and appended rules.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(parsed) = Rules::parse(text) else {
        return;
    };
    let written = parsed.text();
    for line in written.lines() {
        let known = ["*", ":", "-A "].iter().any(|b| line.starts_with(b)) || line == "COMMIT";
        assert!(known, "wrote {line:?}");
    }
    match Rules::parse(&written) {
        Ok(again) => {
            assert_eq!(again, parsed);
            assert_eq!(again.text(), written);
            assert!(again.same_as(&parsed) && again.missing_in(&parsed).is_empty());
        }
        Err(bad) => panic!("cannot read what it wrote: {bad}"),
    }
}

/// Metadata that are accepted are the same after they were written and read.
pub fn manifest(bytes: &[u8]) {
    let Ok(parsed) = Metadata::parse(bytes, 1000) else {
        return;
    };
    let Ok(written) = serde_json::to_vec(&parsed) else {
        panic!("they cannot be written");
    };
    match Metadata::parse(&written, 1000) {
        Ok(again) => assert_eq!(again, parsed),
        Err(problems) => panic!("cannot read what it wrote: {problems:?}"),
    }
}

const SOUND: &[u8] = include_bytes!("../../journal-format/golden/1.0/restored.journal");

/// Any bytes can be scanned. A sound journal that these bytes change is not called sound, but where they cut whole records
/// off its end.
pub fn journal(bytes: &[u8]) {
    let found = scan(bytes);
    assert!(found.valid_len <= bytes.len());
    let changed = changed(bytes);
    let whole_records = SOUND.starts_with(&changed) && changed.ends_with(b"\n");
    if whole_records {
        return;
    }
    let soundness = scan(&changed).soundness();
    assert!(
        !matches!(soundness, Soundness::Closed(_) | Soundness::Open),
        "a changed journal is called {soundness:?}"
    );
}

/// The sound journal, where each four bytes change a place: its number, what is done there, a byte.
fn changed(edits: &[u8]) -> Vec<u8> {
    let mut journal = SOUND.to_vec();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) * 2 % (journal.len() + 1);
        match edit[2] % 5 {
            0 => journal.insert(at, edit[3]),
            1 => journal.truncate(at),
            2 if at < journal.len() => journal[at] ^= edit[3],
            3 if at < journal.len() => drop(journal.remove(at)),
            _ => {
                // A piece is there once more.
                let end = (at + usize::from(edit[3])).min(journal.len());
                let piece = journal[at..end].to_vec();
                journal.splice(at..at, piece);
            }
        }
    }
    journal
}
