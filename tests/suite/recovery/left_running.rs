//! What a crash left running, and what died with it: what a finished move left stays, and what died is brought back.

use fixtures::Finished;

use super::*;
use crate::crash::{crash, small as with_hooks};

/// The moment right after the outcome of the move that made the last effect of this name.
fn once_done(effects: &str, name: &str) -> String {
    let effects: Vec<&str> = effects.lines().collect();
    let last = effects.iter().rposition(|e| *e == name).expect(name);
    let outcome = effects[last..]
        .iter()
        .position(|e| *e == "append an outcome");
    // Effects count from 1.
    format!("before:{}", last + outcome.expect("an outcome") + 2)
}

/// A restore that died with its files exchanged, and what a recovery back from there does, effect by effect.
struct Left {
    two: TwoStates,
    there: String,
    back: Finished,
}

impl Left {
    fn make(two: TwoStates) -> Left {
        let restore =
            |two: &TwoStates, moment: &str| crash(two, moment, &["restore", &two.other()]);
        let way = restore(&two, "never").ok().unwrap();
        let mine = two.backups[two.at].display().to_string();
        crash(&two, "never", &["restore", &mine]).ok().unwrap();
        let there = once_done(&way.stdout, "exchange");
        restore(&two, &there);
        let back = crash(&two, "never", &["recover", "roll-back"]);
        assert_eq!(back.code(), 4, "{back}");
        Left { two, there, back }
    }

    /// The restore dies again, and so does its recovery, once the move is done that made the last effect of this name.
    fn dies_back_after(&self, name: &str) {
        crash(&self.two, &self.there, &["restore", &self.two.other()]);
        let moment = once_done(&self.back.stdout, name);
        crash(&self.two, &moment, &["recover", "roll-back"]);
    }

    /// The process that wrote its number there, if it lives.
    fn living(&self, pid_file: &str) -> Option<String> {
        let is_there =
            format!("cat {pid_file} && grep -q '^State:.[SR]' /proc/$(cat {pid_file})/status");
        let asked = self.two.sandbox().run(&["sh", "-c", &is_there]).unwrap();
        asked.status.success().then_some(asked.stdout)
    }
}

#[test]
fn a_tunnel_that_died_with_the_driver_on_the_way_back_is_brought_up_again() {
    let Some(two) = TwoStates::make(&with_hooks()) else {
        return;
    };
    let mut left = Left::make(two);
    // Once the services run, nothing brings it up but the recovery.
    for last in ["tunnel up", "service start"] {
        let began = left.two.restores();
        left.dies_back_after(last);
        let tunnel = left.two.sample().active().unwrap().remove(0);
        let sandbox = left.two.sandbox();
        let found = sandbox.run(&["pgrep", "-f", &format!("wireguard-go {tunnel}")]);
        let pid = found.unwrap().ok().unwrap().stdout;
        let killed = sandbox.run(&["kill", "-KILL", pid.trim()]);
        killed.unwrap().ok().unwrap();
        let recovered = left.two.holdfast(&["recover"]);
        let verdict = left.two.is_settled(&began, &recovered, last);
        assert_eq!(verdict, Some(Verdict::RolledBack), "{last}");
    }
}

#[test]
fn what_a_hook_left_running_lives_on_after_a_crash_and_its_recovery() {
    let Some(mut two) = TwoStates::make(&small()) else {
        return;
    };
    let tunnel = two.sample().active().unwrap().remove(0);
    let hook = "PostUp = sleep 98765 & echo $! > /run/helper.pid";
    for path in [
        two.sample().config(&tunnel),
        two.sample().configs_dir().join(format!("{tunnel}.conf")),
    ] {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replacen("[Interface]", &format!("[Interface]\n{hook}"), 1);
        std::fs::write(&path, text).unwrap();
    }
    let dir = two.sample().state_dir().join("backups");
    let made = two.holdfast(&["backup", "--output", dir.to_str().unwrap()]);
    two.backups[0] = PathBuf::from(made.ok().unwrap().stdout.trim());
    let mine = two.backups[1].display().to_string();
    two.holdfast(&["restore", &mine, "--yes"]).ok().unwrap();

    let dry = crash(&two, "never", &["restore", &two.other()])
        .ok()
        .unwrap();
    two.holdfast(&["restore", &mine, "--yes"]).ok().unwrap();
    let began = two.restores();
    crash(
        &two,
        &once_done(&dry.stdout, "load rules"),
        &["restore", &two.other()],
    );
    let journal = two.journal(&two.fresh(&began).unwrap());
    assert_eq!(state(&journal).phase, Phase::Forward);
    let left = Left {
        two,
        there: String::new(),
        back: dry,
    };
    let helper = left.living("/run/helper.pid");
    assert!(helper.is_some(), "the hook left nothing running");
    let recovered = left.two.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 0, "{recovered}");
    assert_eq!(state(&journal).verdict(), Some(Verdict::Restored));
    assert_eq!(left.living("/run/helper.pid"), helper, "{recovered}");
}

#[test]
fn a_daemon_of_a_service_that_stays_in_the_drivers_session_lives_on() {
    let Some(two) = TwoStates::make(&small()) else {
        return;
    };
    // Its start leaves a second process running, which takes no session of its own.
    let sample = two.sample();
    let service = program("sample-gateway-service").unwrap();
    let script = sample.root().join("run/in-the-session.sh");
    let text = format!(
        "#!/bin/sh\npid=/run/daemon.pid\nroot={}\nservice={}\n\
         lives() {{ grep -q '^State:.[SR]' \"/proc/$(cat $pid)/status\"; }}\n\
         case $1 in\n\
         start) $service start $root || exit 1\n lives || {{ sleep 98765 > /dev/null 2>&1 & echo $! > $pid; }} ;;\n\
         stop) kill $(cat $pid); rm -f $pid; $service stop $root ;;\n\
         active) lives && $service active $root ;;\n\
         esac\n",
        sample.root().display(),
        service.display()
    );
    std::fs::write(&script, text).unwrap();
    let profile = std::fs::read_to_string(sample.profile()).unwrap();
    let quoted = format!("{:?}", service.display().to_string());
    let ours = format!("\"/bin/sh\", {:?}", script.display().to_string());
    assert_eq!(profile.matches(&quoted).count(), 3);
    std::fs::write(sample.profile(), profile.replace(&quoted, &ours)).unwrap();
    let start = [path(Path::new("/bin/sh")), path(&script), "start"];
    two.sandbox().run(&start).unwrap().ok().unwrap();

    let left = Left::make(two);
    let before = Picture::take(left.two.sandbox()).unwrap();
    left.dies_back_after("service start");
    let daemon = left.living("/run/daemon.pid");
    assert!(daemon.is_some(), "its start left nothing running");
    let recovered = left.two.holdfast(&["recover"]);
    assert_eq!(recovered.code(), 4, "{recovered}");
    let now = Picture::take(left.two.sandbox()).unwrap();
    assert_eq!(before.diff(&now), Vec::<String>::new(), "{recovered}");
    assert_eq!(left.living("/run/daemon.pid"), daemon, "{recovered}");
}
