//! What is shown of a command that a config runs, and of what a program said: as it is, with whatever may be a secret
//! blanked; but whoever agrees to a command sees it whole. Must not be used on anything that is run.

const BLANK: &str = "(hidden)";
/// What stands before a secret, as `name=secret`, `name: secret` or `name secret`.
const NAMES: [&str; 11] = [
    "bearer",
    "basic",
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api-key",
    "apikey",
    "private-key",
    "preshared-key",
];

/// A command without its secrets, as a program's standard error repeats it: without keys of WireGuard, what follows a word
/// that announces one, a password in an address. Only arguments and values are blanked, never the name of a command.
fn command(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    let mut announced = false;
    while !rest.is_empty() {
        let (gap, after) = rest.split_at(rest.find(|c| !is_break(c)).unwrap_or(rest.len()));
        let (word, after) = after.split_at(after.find(is_break).unwrap_or(after.len()));
        rest = after;
        shown.push_str(gap);
        announced &= leads_on(gap);
        if word.is_empty() {
            continue;
        }
        let password = (gap == ":" && !word.starts_with("//"))
            .then(|| word.rsplit_once('@'))
            .flatten();
        match password {
            _ if announced || is_key(word, rest) => shown.push_str(BLANK),
            Some((_, host)) => {
                shown.push_str(BLANK);
                shown.push('@');
                shown.push_str(host);
            }
            None => shown.push_str(word),
        }
        // In a header the scheme comes first.
        announced = announces(word) && (!announced || is_scheme(word));
    }
    shown
}

/// What WireGuard is given a secret key by, in a command and in a config.
const GIVEN_BY: [&str; 4] = ["private-key", "preshared-key", "PrivateKey", "PresharedKey"];

/// A command as whoever agrees to it must see it: whole. Only a key that WireGuard is given by name is blanked, from its
/// fifth character on: what has no more than the shape of a key can be a path, or a command for `base64 -d | sh`.
pub fn keys(command: &str) -> String {
    let mut shown = String::with_capacity(command.len());
    let mut rest = command;
    while let Some(start) = rest.find(is_base64) {
        let end = rest[start..]
            .find(|c| !is_base64(c))
            .map_or(rest.len(), |n| start + n);
        let (word, behind) = (&rest[start..end], &rest[end..]);
        shown.push_str(&rest[..start]);
        let before = &command[..command.len() - rest.len() + start];
        if is_key(word, behind) && is_given(before, &behind[1..]) {
            shown.push_str(&word[..4]);
            shown.push_str("(key)");
        } else {
            shown.push_str(word);
        }
        rest = behind;
    }
    shown + rest
}

/// Whether WireGuard is given what stands between these: behind a name and a blank or `=`, or as `name <(echo KEY)`.
fn is_given(before: &str, behind: &str) -> bool {
    const BLANKS: [char; 2] = [' ', '\t'];
    const QUOTES: [char; 2] = ['"', '\''];
    if behind.starts_with(|c: char| c.is_ascii_alphanumeric() || "+/=".contains(c)) {
        return false;
    }
    let named = |text: &str| GIVEN_BY.iter().any(|name| text.ends_with(name));
    let before = before.strip_suffix(QUOTES).unwrap_or(before);
    let bare = before.trim_end_matches(BLANKS);
    let apart = bare.len() < before.len();
    if let Some(name) = bare.strip_suffix('=') {
        // `PrivateKey=KEY` is a variable of the shell, and `PrivateKey= KEY` runs KEY.
        let variable = name.ends_with("Key");
        return !variable && named(name.trim_end_matches(BLANKS));
    }
    let printed = ["echo", "printf"].iter().find_map(|p| bare.strip_suffix(p));
    match printed.and_then(|p| p.trim_end_matches(BLANKS).strip_suffix("<(")) {
        Some(name) => {
            let behind = behind.strip_prefix(QUOTES).unwrap_or(behind);
            // Or something else reads what is printed.
            let alone = behind.trim_start_matches(BLANKS).starts_with(')');
            apart && alone && named(name.trim_end_matches(BLANKS))
        }
        None => apart && named(bare),
    }
}

/// Whether so much base64 stands together in it that it may be a key.
pub fn may_be_a_key(value: &str) -> bool {
    let padded = |c: char| is_base64(c) || c == '=';
    value.split(|c| !padded(c)).any(|run| run.len() >= 40)
}

/// What a program said: `wg-quick` prints every hook that it runs, behind `[#] `, and hooks may hold secrets of any kind.
pub fn said(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix("[#] ") {
        Some(hook) => format!("[#] {}", command(hook)),
        None => line.to_owned(),
    };
    let lines: Vec<String> = text.split('\n').map(line).collect();
    blank_keys(&lines.join("\n"))
}

/// `wg` repeats a line that it does not understand, key and all: what looks like one is blanked, also where a character
/// or two are missing.
fn blank_keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_base64) {
        let run = rest[start..]
            .find(|c| !is_base64(c))
            .map_or(rest.len(), |n| start + n);
        out.push_str(&rest[..start]);
        let word = &rest[start..run];
        let padded = rest[run..].starts_with('=');
        // Without its padding it could be a path, or a digest, which has no capitals.
        let mixed = |kind: fn(&char) -> bool| word.chars().any(|c| kind(&c));
        let looks_like_one = mixed(char::is_ascii_uppercase)
            && mixed(char::is_ascii_lowercase)
            && mixed(char::is_ascii_digit);
        if word.len() >= 40 && padded || (40..=44).contains(&word.len()) && looks_like_one {
            out.push_str("[key]");
            rest = &rest[run + usize::from(padded)..];
        } else {
            out.push_str(word);
            rest = &rest[run..];
        }
    }
    out + rest
}

fn is_break(c: char) -> bool {
    c.is_whitespace() || "=:'\",;&|<>()?`".contains(c)
}

/// Whether what stands behind this belongs to the word before it: not to another command, and not to the one that an
/// empty `name= ` stands before.
fn leads_on(gap: &str) -> bool {
    let ends = |c: char| ";&|<>()?`\n".contains(c);
    let empty_value = gap.contains('=') && gap.contains(char::is_whitespace);
    !gap.contains(ends) && !empty_value
}

/// 32 bytes as base64, whose last sign is always `=`.
fn is_key(word: &str, behind: &str) -> bool {
    word.len() == 43 && behind.starts_with('=') && word.chars().all(is_base64)
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '+' || c == '/'
}

fn announces(word: &str) -> bool {
    let plain = word
        .trim_start_matches(['-', '$', '{'])
        .to_ascii_lowercase()
        .replace('_', "-");
    NAMES.iter().any(|name| plain.ends_with(name))
}

fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "token"].contains(&word.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_hook_is_shown_as_it_is() {
        for plain in [
            "iptables -A FORWARD -i %i -j ACCEPT; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
            "/usr/local/bin/notify --up '%i' 2>/dev/null || true",
            "ip -6 route add fd00::/64 dev %i metric 50",
            "",
        ] {
            assert_eq!(command(plain), plain);
        }
    }

    #[test]
    fn what_may_be_a_secret_is_blanked_wherever_it_stands() {
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        for (with, without) in [
            (
                format!("wg set %i peer {key} allowed-ips 0.0.0.0/0"),
                "wg set %i peer (hidden)= allowed-ips 0.0.0.0/0",
            ),
            (
                format!("wg set %i private-key <(echo {key})"),
                "wg set %i private-key <(echo (hidden)=)",
            ),
            (
                "wg set %i peer x preshared-key /etc/wireguard/psk".into(),
                "wg set %i peer x preshared-key (hidden)",
            ),
            (
                "curl -H 'Authorization: Bearer abc.def' https://x/".into(),
                "curl -H 'Authorization: Bearer (hidden)' https://x/",
            ),
            (
                "curl https://x/?token=abc&user=me".into(),
                "curl https://x/?token=(hidden)&user=me",
            ),
            (
                "mount --password=hunter2 PASSWORD=\"hunter2\" x".into(),
                "mount --password=(hidden) PASSWORD=\"(hidden)\" x",
            ),
            ("login --api_key hunter2".into(), "login --api_key (hidden)"),
            (
                "curl https://me:hunter2@host/".into(),
                "curl https://me:(hidden)@host/",
            ),
            (
                "API_TOKEN: Bearer hunter2".into(),
                "API_TOKEN: (hidden) (hidden)",
            ),
        ] {
            assert_eq!(command(&with), without);
        }
    }

    #[test]
    fn whoever_agrees_to_a_command_sees_all_of_it_but_keys_given_by_name() {
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        for given in [
            "wg set %i private-key KEY",
            "wg set %i peer KEY preshared-key <(echo \"KEY\") x",
            "wg set %i private-key <( printf 'KEY' )",
            "echo -e \"[Interface]\\nPrivateKey = KEY\\n\" >x",
            "x --preshared-key=KEY",
        ] {
            // Only the last is given by name.
            let at = given.rfind("KEY").unwrap_or_default();
            let (front, back) = (given[..at].replace("KEY", key), &given[at + 3..]);
            let shown = keys(&format!("{front}{key}{back}"));
            assert_eq!(shown, format!("{front}yAnz(key)={back}"), "{given}");
        }
        for whole in [
            "echo KEY|base64 -d|sh",
            "wg set %i peer KEY",
            "private-key <(echo KEY|base64 -d|sh)",
            "private-key <(KEY)",
            "private-key;KEY",
            "private-key KEYKEY",
            "PrivateKey=KEY; echo $PrivateKey|base64 -d|sh",
            "PrivateKey= KEY",
            "x--privateKEY",
        ] {
            let whole = whole.replace("KEY", key);
            assert_eq!(keys(&whole), whole);
        }
    }

    #[test]
    fn no_command_hides_behind_a_word_that_announces_a_secret() {
        for plain in [
            "true password; evil",
            "true token && evil",
            "password= evil",
            "echo secret | evil",
            "echo token $(evil)",
            "echo token `evil`",
            "ssh root@host evil",
            "evil/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa x",
        ] {
            assert!(command(plain).contains("evil"), "{plain}");
        }
    }

    #[test]
    fn a_key_in_what_a_program_says_is_blanked() {
        let said = "Key is not the correct length or format: `wLdxCV8WsZeh7fhCOlE80aZfZE0XGIOKkk1+1pvYq2U='\nLine 3";
        assert_eq!(
            blank_keys(said),
            "Key is not the correct length or format: `[key]'\nLine 3"
        );
        assert_eq!(
            blank_keys("PrivateKey=wLdxCV8WsZeh7fhCOlE80aZfZE0XGIOKkk1+1pvYq2U="),
            "PrivateKey=[key]"
        );
        assert_eq!(blank_keys("no key here = 1"), "no key here = 1");
        for cut in [
            "wLdxCV8WsZeh7fhCOlE80aZfZE0XGIOKkk1+1pvYq2U",
            "LdxCV8WsZeh7fhCOlE80aZfZE0XGIOKkk1+1pvYq2U=",
        ] {
            assert_eq!(blank_keys(&format!("Line `{cut}'")), "Line `[key]'");
        }
        let digest = "0".repeat(40) + "deadbeef";
        assert_eq!(blank_keys(&digest), digest);
    }

    #[test]
    fn a_secret_in_a_hook_that_a_tunnel_runs_is_blanked() {
        let said = "[#] ip link add c0\n[#] curl -H 'Authorization: Bearer abc123' https://a.example\nRTNETLINK answers";
        let shown = super::said(said);
        assert!(!shown.contains("abc123"), "{shown}");
        assert!(
            shown.starts_with("[#] ip link add c0\n[#] curl -H ")
                && shown.ends_with("\nRTNETLINK answers")
        );
    }
}
