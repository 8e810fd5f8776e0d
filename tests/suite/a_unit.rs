//! A gateway whose service is a unit, with a manager of units that does as systemd does, in a sandbox that has none.

use fixtures::program;

use crate::on_a_gateway::{Gateway, path, stand_in};

/// `systemctl` for one unit, which is the sample's service: it keeps the conditions that it has read, and starts one at a time. It
/// refuses a start where `start-limit-hit` lies, as after five starts in ten seconds. Where `dies` lies, each run ends a second after
/// its start, and the next one begins before anybody can look. What it says of the unit besides lies in `unit`.
const SYSTEMCTL: &str = r#"#!/bin/sh
service() { BIN "$1" ROOT; }
read=ROOT/settings-read
conditions() { cat $read/* 2>/dev/null | sed -n 's/^ConditionPathExists=|//p'; }
is_held() {
    [ -n "$(conditions)" ] || return 1
    for path in $(conditions); do
        case $path in
            !*) [ -e "${path#!}" ] || return 1 ;;
            *) [ ! -e "$path" ] || return 1 ;;
        esac
    done
}
begin() { service active || { service start && echo run >> ROOT/runs; }; }
[ "$1" != --no-ask-password ] || shift
exec 9>>ROOT/starts
case $1 in
    is-active) flock 9; service active ;;
    show)
        case $2 in
            *Environment*) cat ROOT/unit 2>/dev/null; true ;;
            *DropInPaths*) ls $read/* 2>/dev/null; true ;;
            *=InvocationID*) grep -c run ROOT/runs; true ;;
            *=ActiveState) if service active; then echo active; else echo inactive; fi ;;
        esac ;;
    stop)
        [ ! -e ROOT/holder ] || kill $(cat ROOT/holder)
        flock 9
        service stop 9>&- ;;
    reset-failed) rm -f ROOT/start-limit-hit ;;
    start)
        flock 9
        if [ -e ROOT/start-limit-hit ]; then
            echo "Start request repeated too quickly." >&2
            exit 1
        fi
        if is_held; then echo held >> ROOT/held; else begin 9>&-; fi
        [ ! -e ROOT/dies ] || setsid "$0" dies >/dev/null 2>&1 9>&- & ;;
    dies)
        while sleep 1; do
            flock 9
            service active && [ -e ROOT/dies ] || exit 0
            service stop 9>&-
            begin 9>&-
            flock -u 9
        done ;;
    daemon-reload)
        rm -rf $read
        cp -r /run/systemd/system/sample.service.d $read 2>/dev/null; true ;;
esac
"#;

/// A gateway whose service is a unit, and a manager of units.
pub fn with_a_unit() -> Option<Gateway> {
    let gateway = Gateway::small()?;
    let sample = gateway.sample();
    let profile = std::fs::read_to_string(sample.profile()).unwrap();
    let (before, service) = profile.split_once("name = \"sample-gateway\"\n").unwrap();
    let rest = &service[service.find("\n\n").unwrap()..];
    let text = format!("{before}unit = \"sample.service\"{rest}");
    std::fs::write(sample.profile(), text).unwrap();
    let program = program("sample-gateway-service").unwrap();
    let text = SYSTEMCTL.replace("BIN", path(&program));
    let text = text.replace("ROOT", path(sample.root()));
    stand_in(&gateway, "systemctl", &text);
    gateway.run(&["mkdir", "-p", "/run/systemd/system"]);
    Some(gateway)
}
