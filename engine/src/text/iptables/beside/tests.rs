#![allow(clippy::unwrap_used)]
use std::collections::{BTreeMap, BTreeSet};

use super::super::{Rules, chain_of};
use super::{COMPARED, Mine};

/// One table, with these rules in one chain of the kernel's.
fn chain(rules: &[String]) -> Rules {
    let lines: String = rules.iter().map(|r| format!("{r}\n")).collect();
    Rules::parse(&format!("*filter\n:INPUT ACCEPT [0:0]\n{lines}COMMIT\n")).unwrap()
}

fn rule(name: char) -> String {
    format!("-A INPUT -j {name}")
}

/// What `iptables-restore --noflush` makes of a table by these lines.
fn edited(now: &Rules, edits: &str) -> Rules {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut policies = BTreeMap::new();
    for line in now.text().lines() {
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split(' ');
            let name = words.next().unwrap().to_owned();
            policies.insert(name.clone(), words.next().unwrap().to_owned());
            chains.entry(name).or_default();
        } else if line.starts_with("-A") {
            let of = chain_of(line).to_owned();
            chains.entry(of).or_default().push(line.to_owned());
        }
    }
    for line in edits.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let rest = |from: usize| format!("-A {} {}", words[1], words[from..].join(" "));
        match words[0] {
            "-A" => chains.get_mut(words[1]).unwrap().push(line.to_owned()),
            "-I" => {
                let at: usize = words[2].parse().unwrap();
                chains.get_mut(words[1]).unwrap().insert(at - 1, rest(3));
            }
            "-D" => {
                let of = chains.get_mut(words[1]).unwrap();
                let at = of.iter().position(|r| *r == rest(2)).unwrap();
                of.remove(at);
            }
            "-F" => chains.get_mut(words[1]).unwrap().clear(),
            "-X" => {
                assert!(chains.remove(words[1]).unwrap().is_empty());
                policies.remove(words[1]);
            }
            "*filter" | "COMMIT" => {}
            declared => {
                let name = declared.strip_prefix(':').unwrap().to_owned();
                chains.insert(name.clone(), chains.get(&name).cloned().unwrap_or_default());
                policies.insert(name, words[1].to_owned());
            }
        }
    }
    let mut text = "*filter\n".to_owned();
    for (name, policy) in &policies {
        text.push_str(&format!(":{name} {policy} [0:0]\n"));
    }
    for rule in chains.values().flatten() {
        text.push_str(&format!("{rule}\n"));
    }
    Rules::parse(&(text + "COMMIT\n")).unwrap()
}

/// Every list of these rules up to this length.
fn lists(of: &[char], most: usize) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut last = all.clone();
    for _ in 0..most {
        let longer = |list: &Vec<String>| -> Vec<Vec<String>> {
            let with = |name: &char| [list.clone(), vec![rule(*name)]].concat();
            of.iter().map(with).collect()
        };
        last = last.iter().flat_map(longer).collect();
        all.extend(last.clone());
    }
    all
}

#[test]
fn whatever_stands_the_edits_leave_the_wanted_rules_once_each_and_those_of_others_as_they_were() {
    // A and B are wanted or not, C stood before, X and Y are others'.
    let none = BTreeSet::new();
    let before = chain(&[rule('A'), rule('B'), rule('C')]);
    let mut cases = 0;
    for wanted in [
        vec![],
        vec!['A'],
        vec!['A', 'B'],
        vec!['B', 'A'],
        vec!['A', 'B', 'A'],
    ] {
        let wanted = chain(&wanted.into_iter().map(rule).collect::<Vec<_>>());
        let mine = Mine::of(&[&before, &wanted], &none);
        for loaded in lists(&['A', 'B', 'C', 'X', 'Y'], 5) {
            let now = chain(&loaded);
            let all = wanted.beside_others(&now, &mine);
            let after = edited(&now, &all.edits(&now));
            let said = format!("{} beside {}", wanted.text(), now.text());
            assert!(after.same_as(&all), "{said}: {}", after.text());
            assert_eq!(
                wanted.beside_others(&after, &mine).edits(&after),
                "",
                "{said}"
            );
            let others = |text: String| -> Vec<String> {
                let is_others = |l: &&str| l.ends_with("-j X") || l.ends_with("-j Y");
                text.lines().filter(is_others).map(str::to_owned).collect()
            };
            assert_eq!(others(after.text()), others(now.text()), "{said}");
            let own: Vec<String> = after
                .text()
                .lines()
                .filter(|l| !others(after.text()).contains(&(*l).to_owned()))
                .map(str::to_owned)
                .collect();
            assert_eq!(own.join("\n") + "\n", wanted.text(), "{said}");
            cases += 1;
        }
    }
    assert!(cases > 10_000);
}

#[test]
fn a_rule_of_others_keeps_its_place_first_last_or_behind_the_rule_that_it_is_behind() {
    let none = BTreeSet::new();
    let of = |names: &str| chain(&names.chars().map(rule).collect::<Vec<_>>());
    let beside = |wanted: &str, now: &str| {
        let (wanted, now) = (of(wanted), of(now));
        let all = wanted.beside_others(&now, &Mine::of(&[&wanted, &of("O")], &none));
        let names = all.text();
        let names = names.lines().filter_map(|l| l.strip_prefix("-A INPUT -j "));
        names.collect::<String>()
    };
    assert_eq!(beside("ABC", "XA"), "XABC");
    assert_eq!(beside("ABC", "AX"), "ABCX");
    assert_eq!(beside("ABC", "AXB"), "AXBC");
    assert_eq!(beside("ABC", "X"), "XABC");
    assert_eq!(beside("ABC", "OXOYA"), "XYABC");
    assert_eq!(beside("ABC", "ABCABCX"), "ABCX");
}

#[test]
fn a_chain_of_others_stays_and_one_that_is_to_go_stays_for_the_rules_of_others_that_need_it() {
    let none = BTreeSet::new();
    let parse = |lines: &str| {
        Rules::parse(&format!(
            "*filter\n:INPUT DROP [0:0]\n:OLD - [0:0]\n{lines}COMMIT\n"
        ))
        .unwrap()
    };
    let before = parse(":BAN - [0:0]\n-A INPUT -j OLD\n-A INPUT -j BAN\n-A OLD -j DROP\n");
    let now = parse(
        ":BAN - [0:0]\n:DOCKER - [0:0]\n-A INPUT -j OLD\n-A INPUT -j BAN\n-A INPUT -j DOCKER\n-A OLD -j DROP\n\
         -A DOCKER -s 10.0.0.1/32 -j ACCEPT\n-A BAN -s 192.0.2.1/32 -j DROP\n",
    );
    let wanted =
        Rules::parse("*filter\n:INPUT ACCEPT [0:0]\n:NEW - [0:0]\n-A INPUT -j NEW\nCOMMIT\n")
            .unwrap();
    let all = wanted.beside_others(&now, &Mine::of(&[&before, &wanted], &none));
    insta::assert_snapshot!(all.edits(&now), @r"
    *filter
    :INPUT ACCEPT [0:0]
    :NEW - [0:0]
    -D INPUT -j OLD
    -D INPUT -j BAN
    -I INPUT 1 -j NEW
    -F OLD
    -X OLD
    COMMIT
    ");
    let after = edited(&now, &all.edits(&now));
    assert!(after.same_as(&all), "{}", after.text());
}

#[test]
fn a_chain_in_which_very_much_goes_is_written_anew_with_what_others_have_in_it() {
    let none = BTreeSet::new();
    let many: Vec<String> = (0..=COMPARED)
        .map(|n| format!("-A INPUT -s 10.0.0.1/32 --dport {n} -j DROP"))
        .collect();
    let before = chain(&many);
    let now = chain(&[&[rule('X')], &many[..]].concat());
    let wanted = chain(&[rule('A')]);
    let all = wanted.beside_others(&now, &Mine::of(&[&before, &wanted], &none));
    let edits = all.edits(&now);
    assert_eq!(
        edits,
        "*filter\n-F INPUT\n-A INPUT -j X\n-A INPUT -j A\nCOMMIT\n"
    );
    // What only comes needs no more than its own lines.
    let all = now.beside_others(&wanted, &Mine::of(&[&wanted, &now], &none));
    assert!(!all.edits(&chain(&[])).contains("-F"));
}
