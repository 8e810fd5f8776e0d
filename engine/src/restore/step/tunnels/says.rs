//! What `wg-quick` prints when it fails, read for the reason. Pure.

use crate::host::Output;

/// Why `wg-quick` failed, by its standard error: its last command before those that take away again what it had made, and the last
/// that this said; a hook may say nothing. What was said of commands that `wg-quick` went on behind is no reason.
pub(super) fn what_it_says(stderr: &str) -> Option<String> {
    let mut commands: Vec<(Option<&str>, Option<&str>)> = vec![(None, None)];
    for line in stderr.lines() {
        if let Some(command) = line.strip_prefix("[#] ") {
            commands.push((Some(command), None));
        } else if let Some((command, said)) = commands.last_mut()
            && is_said(line, *command)
        {
            *said = Some(line);
        }
    }
    let takes_away = |command: &str| TAKES_AWAY.iter().any(|way| command.starts_with(way));
    let failed = commands.iter().rev();
    let failed = failed.skip_while(|(command, _)| command.is_some_and(takes_away));
    match failed.copied().next()? {
        (Some(command), None) => Some(format!("this command failed: {command}")),
        (Some(command), Some(said)) => {
            Some(format!("this command failed: {command}; it says: {said}"))
        }
        (None, said) => said.map(|line| format!("wg-quick says: {line}")),
    }
}

/// How the commands begin with which `wg-quick` takes away what it had made of a tunnel that does not come up.
const TAKES_AWAY: [&str; 4] = [
    "ip link delete dev ",
    "ip -4 rule delete table ",
    "ip -6 rule delete table ",
    "resolvconf -d ",
];

/// What is printed where the kernel has no WireGuard, for every tunnel, also for one that comes up in userspace.
const NO_WIREGUARD: [&str; 2] = [
    "Error: Unknown device type.",
    "Unable to access interface: Protocol not supported",
];

/// Whether a line is what a command says of its failure. wireguard-go draws a box.
fn is_said(line: &str, command: Option<&str>) -> bool {
    let of_wg_quick = ["[!] ", "[+] "].iter().any(|p| line.starts_with(p));
    let makes_it = command.is_some_and(|c| c.starts_with("ip link add "));
    let is_noise = !makes_it && NO_WIREGUARD.contains(&line.trim());
    !of_wg_quick && !is_noise && !line.trim().is_empty() && !line.starts_with(['┌', '│', '└'])
}

/// The endpoint that `wg` could not resolve, as it quotes it.
pub(super) fn unresolved_name(out: &Output) -> Option<String> {
    let line = out.stderr.lines().rev().find(|l| {
        [
            "name resolution",
            "Name or service not known",
            "No address associated",
            "nodename nor servname",
        ]
        .iter()
        .any(|w| l.contains(w))
    })?;
    let quoted = &line[line.find('`')? + 1..];
    Some(quoted[..quoted.find('\'')?].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_that_does_not_come_up_says_what_failed_and_not_what_was_drawn_or_taken_away() {
        let box_drawn = "┌──────┐\n│ Running wireguard-go is not required │\n└──────┘\n";
        let hook = "[#] ip link add wg0 type wireguard\n[#] test -e /nowhere\n[#] ip link delete dev wg0\n";
        let said = what_it_says(&format!("{box_drawn}{hook}"));
        assert_eq!(
            said.as_deref(),
            Some("this command failed: test -e /nowhere")
        );
        let loud = "[#] cat /nowhere\ncat: /nowhere: No such file or directory\n[#] ip link delete dev wg0\n";
        let said = what_it_says(&format!("{box_drawn}{loud}"));
        assert_eq!(
            said.as_deref(),
            Some(
                "this command failed: cat /nowhere; it says: cat: /nowhere: No such file or directory"
            )
        );
        assert_eq!(what_it_says(""), None);
        let before = what_it_says("wg-quick: `wg0' already exists\n");
        assert_eq!(
            before.as_deref(),
            Some("wg-quick says: wg-quick: `wg0' already exists")
        );
    }

    #[test]
    fn where_wireguard_runs_in_userspace_a_hook_that_fails_is_the_reason_and_not_the_kernel_that_has_no_wireguard()
     {
        let without = "[#] ip link add wg0 type wireguard\nError: Unknown device type.\n";
        let userspace = "[!] Missing WireGuard kernel module. Falling back to slow userspace implementation.\n\
                         [#] wireguard-go wg0\n┌──────┐\n│ Running wireguard-go is not required │\n└──────┘\n\
                         [#] wg setconf wg0 /dev/fd/63\n[#] ip link set mtu 1420 up dev wg0\n\
                         [#] resolvconf -a tun.wg0 -m 0 -x\nToo few arguments.\n";
        let away = "[#] resolvconf -d tun.wg0 -f\n[#] ip -4 rule delete table 51820\n[#] ip link delete dev wg0\n\
                    Unable to access interface: Protocol not supported\n";
        let silent = format!("{without}{userspace}[#] test -e /nowhere\n{away}");
        assert_eq!(
            what_it_says(&silent).as_deref(),
            Some("this command failed: test -e /nowhere")
        );
        let noisy = "[#] wg show wg0; ls /nowhere\nls: no /nowhere\nUnable to access interface: Protocol not supported\n";
        assert_eq!(
            what_it_says(&format!("{without}{userspace}{noisy}{away}")).as_deref(),
            Some("this command failed: wg show wg0; ls /nowhere; it says: ls: no /nowhere")
        );
        // There is nothing to fall back to.
        assert_eq!(
            what_it_says(without).as_deref(),
            Some(
                "this command failed: ip link add wg0 type wireguard; it says: Error: Unknown device type."
            )
        );
    }
}
