//! What runs as root because of a restore, for whoever agrees to it: each hook of the backup's configs that is not in force
//! for that very tunnel today, whole, grouped by what it runs. Must not cut, fold or blank any of it, but a key
//! that WireGuard is given by name; must not be kept in a journal.

use std::collections::HashMap;

use agent_protocol::{RootCommand, RootCommands};
use journal_format::{Code, Digest, Note, visible};

use crate::text::redact;
use crate::text::wording::{counted, name};

/// Bytes that are shown on a page, with the names of tunnels; who runs more at once reads it at the command line.
const MOST_ON_A_PAGE: usize = 32 << 10;

/// Bytes of all of it in a message.
const MOST_IN_A_MESSAGE: usize = 250 << 10;

pub use crate::text::wg_config::Hook;

/// A config of which nobody can say what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// Its tunnel.
    pub tunnel: String,
    /// The entry of the backup that holds it.
    pub entry: String,
    /// Why it cannot be vetted.
    pub why: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    pub sha256: Digest,
}

/// Commands that run as root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consent {
    groups: Vec<Group>,
    in_force: usize,
}

/// Tunnels that are named of many, where their names are no part of what runs.
const TUNNELS: usize = 10;

/// One command and the tunnels that run it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Group {
    key: String,
    command: String,
    tunnels: Vec<String>,
}

impl Group {
    /// Whether the name of its tunnel can become part of the command: `wg-quick` puts it in the place of `%i`, and runs the
    /// command in a shell that has it in a variable. Then each name is as much a command as the rest.
    fn runs_names(&self) -> bool {
        self.command.contains("%i") || self.command.contains('$')
    }

    /// The tunnels as they are named, and how many more there are.
    fn named(&self) -> (Vec<String>, usize) {
        let all = &self.tunnels;
        if self.runs_names() {
            return (all.iter().map(|t| visible(t)).collect(), 0);
        }
        let first = all.iter().take(TUNNELS).map(|t| name(t)).collect();
        (first, all.len().saturating_sub(TUNNELS))
    }
}

impl Consent {
    /// The hooks of a backup, by the stem of their config, less those that `now` says are in force for that tunnel.
    pub fn new<'h>(
        hooks: impl IntoIterator<Item = (&'h str, &'h [Hook])>,
        mut now: impl FnMut(&str) -> Vec<Hook>,
    ) -> Consent {
        let mut in_force = 0;
        let mut found: Vec<Group> = Vec::new();
        let mut places: HashMap<(String, String), usize> = HashMap::new();
        for (tunnel, hooks) in hooks.into_iter().filter(|(_, hooks)| !hooks.is_empty()) {
            let mut now = now(tunnel);
            for (key, command) in hooks {
                if let Some(at) = now.iter().position(|(k, c)| (k, c) == (key, command)) {
                    now.swap_remove(at);
                    in_force += 1;
                    continue;
                }
                let (key, command) = readable(key, command);
                let general = without_name(&command, tunnel);
                let place = *places
                    .entry((key.clone(), general.clone()))
                    .or_insert(found.len());
                match found.get_mut(place) {
                    None => found.push(Group {
                        key,
                        command,
                        tunnels: vec![tunnel.to_owned()],
                    }),
                    Some(group) => {
                        // As it stands, as long as it stands so in all of them.
                        if group.command != command {
                            group.command = general;
                        }
                        if group.tunnels.last().is_none_or(|t| t != tunnel) {
                            group.tunnels.push(tunnel.to_owned());
                        }
                    }
                }
            }
        }
        let groups = found.into_iter().map(|group| Group {
            command: visible(&redact::keys(&group.command)),
            ..group
        });
        Consent {
            groups: groups.collect(),
            in_force,
        }
    }

    /// And these, each of which may run anything.
    pub fn with_opaque(mut self, opaque: impl IntoIterator<Item = Opaque>) -> Consent {
        self.groups.extend(opaque.into_iter().map(|o| Group {
            key: "anything".into(),
            command: visible(&format!(
                "cannot be vetted: {} ({}, {} bytes, SHA-256 {})",
                o.why, o.entry, o.size, o.sha256
            )),
            tunnels: vec![o.tunnel],
        }));
        self
    }

    /// What a plan says of it, without any command: a plan stays in the journal. The digest binds what is approved to what
    /// was shown.
    pub fn notes(&self) -> Vec<Note> {
        let mut said = Vec::new();
        if !self.groups.is_empty() {
            let digest = Digest::of_json(&self.groups);
            let count = self.groups.len();
            said.push(format!(
                "the backup's configs run {} as root that the current configs do not run (digest of what is shown: {digest})",
                counted(count, "command")
            ));
        }
        if self.in_force > 0 {
            let same = match self.in_force {
                1 => "one",
                _ => "ones",
            };
            said.push(format!(
                "the backup's configs run {} as root. The current configs run the same {same}",
                counted(self.in_force, "command")
            ));
        }
        let note = |said| Note::known(Code::RUNS_AS_ROOT, said);
        said.into_iter().map(note).collect()
    }

    /// Each command, whole, and the tunnels that run it.
    pub fn lines(&self) -> Vec<(String, String)> {
        let line = |group: &Group| {
            let tunnels = match group.named() {
                (named, 0) => named.join(", "),
                (named, more) => format!("{} and {more} more", named.join(", ")),
            };
            (format!("{} = {}", group.key, group.command), tunnels)
        };
        self.groups.iter().map(line).collect()
    }

    /// As a page shows it.
    pub fn for_a_page(&self) -> RootCommands {
        let shown = |group: &Group| {
            let (tunnels, more) = group.named();
            RootCommand {
                key: group.key.clone(),
                command: group.command.clone(),
                tunnels,
                more: u64::try_from(more).unwrap_or(u64::MAX),
            }
        };
        let shown: Vec<RootCommand> = self.groups.iter().map(shown).collect();
        let bytes = |c: &RootCommand| {
            let names: usize = c.tunnels.iter().map(|t| t.len() + ", ".len()).sum();
            c.key.len() + c.command.len() + names
        };
        let fits = shown.iter().map(bytes).sum::<usize>() <= MOST_ON_A_PAGE;
        let size =
            |shown: &[RootCommand]| serde_json::to_vec(shown).map_or(usize::MAX, |j| j.len());
        if fits && size(&shown) <= MOST_IN_A_MESSAGE {
            return RootCommands::Shown(shown);
        }
        RootCommands::TooMany {
            count: u64::try_from(self.groups.len()).unwrap_or(u64::MAX),
        }
    }
}

/// A hook as text. Where bytes of it are no UTF-8 they stand as `\xfc`, and its key says so: a command with those four letters
/// is another one.
fn readable(key: &str, command: &[u8]) -> (String, String) {
    if let Ok(text) = std::str::from_utf8(command) {
        return (key.to_owned(), text.to_owned());
    }
    let mut shown = String::with_capacity(command.len());
    for chunk in command.utf8_chunks() {
        shown.push_str(chunk.valid());
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    (format!("{key} (\\x: bytes that are not UTF-8)"), shown)
}

/// The command with `%i`, which `wg-quick` replaces by the tunnel's name, in the place of that name.
fn without_name(command: &str, tunnel: &str) -> String {
    let belongs = |c: char| c.is_alphanumeric() || "_=+.-".contains(c);
    let mut out = String::with_capacity(command.len());
    let mut at = 0;
    for (start, found) in command.match_indices(tunnel) {
        let end = start + found.len();
        let alone = !command[..start].ends_with(belongs) && !command[end..].starts_with(belongs);
        if alone && !tunnel.is_empty() {
            out.push_str(&command[at..start]);
            out.push_str("%i");
            at = end;
        }
    }
    out + &command[at..]
}

/// Of two copies of a config that may both be used, every hook that either has.
pub fn either(mut first: Vec<Hook>, second: &[Hook]) -> Vec<Hook> {
    let mut left = first.clone();
    for hook in second {
        match left.iter().position(|h| h == hook) {
            Some(at) => drop(left.swap_remove(at)),
            None => first.push(hook.clone()),
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(key: &str, command: &str) -> Hook {
        (key.into(), command.as_bytes().to_vec())
    }

    fn consent(then: &[(&str, Vec<Hook>)], now: &[(&str, Vec<Hook>)]) -> Consent {
        Consent::new(then.iter().map(|(t, h)| (*t, h.as_slice())), |tunnel| {
            let found = now.iter().find(|(t, _)| *t == tunnel);
            found.map_or_else(Vec::new, |(_, h)| h.clone())
        })
    }

    #[test]
    fn only_what_that_very_tunnel_does_not_run_under_that_very_key_today_is_shown() {
        let a = || vec![hook("PostUp", "a")];
        let found = consent(
            &[("c0", a()), ("c1", a()), ("c2", vec![hook("PreUp", "a")])],
            &[("c0", a()), ("c2", a())],
        );
        assert_eq!(
            found.lines(),
            [
                ("PostUp = a".to_owned(), "c1".to_owned()),
                ("PreUp = a".to_owned(), "c2".to_owned())
            ]
        );
        assert!(found.notes()[1].text.starts_with(
            "the backup's configs run 1 command as root. The current configs run the same one"
        ));
        let twice = consent(&[("c0", [a(), a()].concat())], &[("c0", a())]);
        assert_eq!(twice.lines().len(), 1, "once more than today");
    }

    #[test]
    fn a_command_that_is_the_same_in_many_tunnels_is_shown_once_and_with_the_names_that_it_runs() {
        let names: Vec<String> = (0..12).map(|i| format!("c{i}")).collect();
        let then: Vec<(&str, Vec<Hook>)> = names
            .iter()
            .map(|n| {
                (
                    n.as_str(),
                    vec![hook(
                        "PostUp",
                        &format!("ip route add x dev {n}; echo {n}x"),
                    )],
                )
            })
            .collect();
        let found = consent(&then[..1], &[]);
        assert_eq!(
            found.lines()[0].0,
            "PostUp = ip route add x dev c0; echo c0x"
        );
        let same: Vec<(&str, Vec<Hook>)> = names
            .iter()
            .map(|n| {
                (
                    n.as_str(),
                    vec![hook("PostUp", &format!("ip route add x dev {n}"))],
                )
            })
            .collect();
        let found = consent(&same, &[]);
        assert_eq!(found.lines().len(), 1);
        assert_eq!(found.lines()[0].0, "PostUp = ip route add x dev %i");
        assert_eq!(found.lines()[0].1, names.join(", "));
        let plain: Vec<(&str, Vec<Hook>)> = names
            .iter()
            .map(|n| (n.as_str(), vec![hook("PostUp", "true")]))
            .collect();
        assert!(consent(&plain, &[]).lines()[0].1.ends_with("c9 and 2 more"));
        assert_eq!(
            consent(&then, &[]).lines().len(),
            12,
            "`c1x` is no name of a tunnel"
        );
    }

    #[test]
    fn no_command_hides_in_the_names_of_tunnels() {
        let mut names: Vec<String> = (0..10).map(|i| format!("c{i}")).collect();
        names.push("reboot".into());
        for command in ["%i", "x=1 re%i", "$INTERFACE", "\"${!INTER*}\""] {
            let then: Vec<(&str, Vec<Hook>)> = names
                .iter()
                .map(|n| (n.as_str(), vec![hook("PostUp", command)]))
                .collect();
            let found = consent(&then, &[]);
            assert!(found.lines()[0].1.ends_with("c9, reboot"), "{command}");
            let RootCommands::Shown(shown) = found.for_a_page() else {
                panic!("{command}")
            };
            assert_eq!((&shown[0].tunnels, shown[0].more), (&names, 0), "{command}");
        }
        let long = "x".repeat(200);
        let found = consent(&[(&long, vec![hook("PostUp", "%i")])], &[]);
        assert_eq!(found.lines()[0].1, long, "not cut");
    }

    #[test]
    fn names_that_run_count_in_what_fits_on_a_page() {
        let names: Vec<String> = (0..4000).map(|i| format!("client{i:04}")).collect();
        let of = |command: &str| {
            let then: Vec<(&str, Vec<Hook>)> = names
                .iter()
                .map(|n| (n.as_str(), vec![hook("PostUp", command)]))
                .collect();
            consent(&then, &[]).for_a_page()
        };
        assert_eq!(of("ip link show %i"), RootCommands::TooMany { count: 1 });
        assert!(matches!(of("true"), RootCommands::Shown(_)));
    }

    #[test]
    fn nothing_of_a_command_is_cut_or_blanked_but_a_key_given_by_name() {
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        let long = format!("true {}; evil", "x".repeat(2000));
        let then = [(
            "c0",
            vec![
                hook("PostUp", "exec -a token /tmp/evil --password=hunter2"),
                hook("PostUp", &long),
                hook(
                    "PostUp",
                    &format!("wg set %i peer {key} preshared-key <(echo {key})"),
                ),
                hook("PostUp", "a\u{202e}b"),
            ],
        )];
        let lines = consent(&then, &[]).lines();
        assert_eq!(
            lines[0].0,
            "PostUp = exec -a token /tmp/evil --password=hunter2"
        );
        assert_eq!(lines[1].0, format!("PostUp = {long}"));
        assert_eq!(
            lines[2].0,
            format!("PostUp = wg set %i peer {key} preshared-key <(echo yAnz(key)=)")
        );
        assert_eq!(lines[3].0, "PostUp = a\\u{202e}b");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown_whole_and_are_not_the_letters_that_stand_for_them() {
        let bytes = |command: &[u8]| ("PostUp".to_owned(), command.to_vec());
        let shown = |command: &[u8]| consent(&[("c0", vec![bytes(command)])], &[]).lines();
        assert_eq!(
            shown(b"echo L\xfcbeck; \xff\xe2\x80 evil \xc3\xa9")[0].0,
            "PostUp (\\x: bytes that are not UTF-8) = echo L\\xfcbeck; \\xff\\xe2\\x80 evil é"
        );
        assert_ne!(shown(b"\xfc"), shown(b"\\xfc"));
        // In force today are the very bytes, and no others.
        let then = [("c0", vec![bytes(b"\xfc")])];
        assert!(consent(&then, &then).lines().is_empty());
        for now in [&b"\xfd"[..], b"\\xfc", "\u{fc}".as_bytes()] {
            assert_eq!(consent(&then, &[("c0", vec![bytes(now)])]).lines().len(), 1);
        }
        let RootCommands::Shown(page) = consent(&then, &[]).for_a_page() else {
            panic!("not shown")
        };
        assert_eq!(page[0].command, "\\xfc");
    }

    #[test]
    fn a_config_that_cannot_be_vetted_is_shown_with_size_and_digest_and_is_agreed_to_by_them() {
        let opaque = |byte: u8| Opaque {
            tunnel: "c0".into(),
            entry: "holdfast/raw/configs/c0.conf".into(),
            why: "line 3 holds a NUL byte".into(),
            size: 42,
            sha256: Digest::of_bytes([byte; 32]),
        };
        let of = |byte| consent(&[], &[]).with_opaque([opaque(byte)]);
        let (shown, tunnels) = of(1).lines().remove(0);
        assert!(
            shown.starts_with(
                "anything = cannot be vetted: line 3 holds a NUL byte (holdfast/raw/configs/c0.conf, 42 bytes, SHA-256 0101"
            ),
            "{shown}"
        );
        assert_eq!(tunnels, "c0");
        assert_ne!(of(1).notes(), of(2).notes());
    }

    #[test]
    fn another_command_tunnel_or_key_is_another_sentence_and_no_sentence_has_a_command() {
        let one =
            |t: &'static str, k: &str, c: &str| consent(&[(t, vec![hook(k, c)])], &[]).notes();
        let first = one("c0", "PostUp", "secret-a");
        for other in [
            one("c1", "PostUp", "secret-a"),
            one("c0", "PreUp", "secret-a"),
            one("c0", "PostUp", "secret-b"),
        ] {
            assert_ne!(first, other);
        }
        assert!(!format!("{first:?}").contains("secret"));
        assert!(consent(&[("c0", vec![])], &[]).notes().is_empty());
    }

    #[test]
    fn what_does_not_fit_on_a_page_is_not_shown_in_part() {
        let many = |n: usize| vec![hook("PostUp", &"x".repeat(n))];
        let fits = consent(&[("c0", many(32_000))], &[]).for_a_page();
        assert!(matches!(fits, RootCommands::Shown(shown) if shown[0].command.len() == 32_000));
        let not = consent(&[("c0", many(33_000))], &[]).for_a_page();
        assert_eq!(not, RootCommands::TooMany { count: 1 });
    }

    #[test]
    fn hooks_of_either_copy_count_and_those_of_both_once() {
        let (a, b) = (hook("PostUp", "a"), hook("PostUp", "b"));
        let both = either(vec![a.clone()], &[a.clone(), b.clone(), b.clone()]);
        assert_eq!(both, [a, b.clone(), b]);
    }
}
