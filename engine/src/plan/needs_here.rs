//! What a restored gateway needs of this machine, besides what keeps single tunnels down: the interfaces that its rules and commands
//! name, a default route and time for the start of its services. Looks and says; decides nothing, but for which LAN the gateway's
//! own rules are of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use journal_format::{Code, Note};

use crate::archive::verify::Checked;
use crate::error::Problem;
use crate::gateway::profile::{Profile, ServiceProfile};
use crate::gateway::route;
use crate::host::{Look, Query};
use crate::plan::planner::said::BothRules;
use crate::survey::Survey;
use crate::text::iptables::{Family, Naming, Rules, interfaces};
use crate::text::wording::{counted, name, names};

/// What the gateway's start takes for each active client, measured.
const START_OF_ONE: Duration = Duration::from_millis(35);

/// The interfaces of this gateway, and which leads to its LAN.
pub struct InterfacesHere {
    /// Those that are here, and those of the tunnels.
    known: BTreeSet<String>,
    tunnels: BTreeSet<String>,
    /// That of the default route, as the gateway's start finds it.
    lan: Option<String>,
}

impl InterfacesHere {
    /// Looks.
    pub fn look(
        host: &dyn Look,
        survey: &Survey,
        checked: &Checked,
    ) -> Result<InterfacesHere, Problem> {
        let routes = host.ask(&Query::Routes, "")?.expect_ok(
            Code::QUERY_FAILED,
            "list the routes of this gateway",
            "install iproute2",
        )?;
        let in_backup = checked.configs.iter().filter(|(_, c)| c.can_be_a_tunnel);
        let in_backup = in_backup.filter_map(|(file, _)| file.strip_suffix(".conf"));
        let in_backup = in_backup.map(str::to_owned);
        let here = survey.facts.tunnels.iter().cloned();
        let tunnels: BTreeSet<String> = here.chain(in_backup).collect();
        let mut out = routes.lines().filter_map(route::way_out);
        let known = survey.links.union(&tunnels).cloned();
        Ok(InterfacesHere {
            known: known.chain(["lo".to_owned()]).collect(),
            lan: out.find(|i| !tunnels.contains(*i)).map(str::to_owned),
            tunnels,
        })
    }

    /// Whether a name that a rule may have is one of them: with `+` behind it stands for all that begin so.
    fn has(&self, interface: &str) -> bool {
        match interface.strip_suffix('+') {
            Some(begin) => self.known.iter().any(|known| known.starts_with(begin)),
            None => self.known.contains(interface),
        }
    }

    /// Makes the rules that the gateway's own start adds those of this LAN: that start adds them here in any case, and takes none
    /// away. Rules that stand `now` stay as they are: their interface is only away.
    pub fn fit(&self, rules: &mut Rules, now: &Rules) -> Option<Note> {
        let lan = self.lan.as_ref()?;
        let tunnels = self.tunnels.iter().map(String::as_str).collect();
        let changed = rules.for_lan(lan, now, &tunnels, |i| self.has(i));
        let count = changed.values().sum();
        let text = || {
            format!(
                "{} of the gateway's own in the backup {} {}, which this gateway lacks: the restore loads {} for {}, the interface of \
                 its default route",
                counted(count, "firewall rule"),
                if count == 1 { "names" } else { "name" },
                names(changed.keys()),
                if count == 1 { "it" } else { "them" },
                name(lan)
            )
        };
        (count > 0).then(|| Note::known(Code::RULES_FOR_THIS_LAN, text()))
    }

    /// What of the rules that will be loaded, and of the commands of configs, names an interface that is not here.
    pub fn said(&self, rules: &[BothRules], survey: &Survey, checked: &Checked) -> Vec<Note> {
        let of_family = |both: &BothRules, naming: Naming| {
            let (count, found) = both.then.naming_foreign(naming, &both.now, |i| self.has(i));
            let rules = counted(count, &format!("{} firewall rule", both.family.name()));
            let named = named(&found, count);
            let (text, advice) = match naming {
                Naming::Meets => (
                    format!(
                        "{rules} of the backup {named}, and this gateway has no such interface: no packet meets such a rule"
                    ),
                    "compare with `ip -br link`; after the restore, add the rules for this gateway's interface",
                ),
                Naming::Spares => (
                    format!(
                        "{rules} of the backup {named} as an exception (`!`), and this gateway has no such interface: such a rule \
                         meets every packet"
                    ),
                    "compare with `ip -br link` before the restore: a rule that drops packets may lock you out; \
                     --keep-going-without-firewall leaves the firewall as it is",
                ),
            };
            (count > 0).then(|| Note::down(Code::INTERFACE_MISSING, text).advising(advice))
        };
        let of_both = |both| [Naming::Spares, Naming::Meets].map(|naming| of_family(both, naming));
        let mut said: Vec<Note> = rules.iter().flat_map(of_both).flatten().collect();
        let changes = |family: &Family| {
            let mut now = survey.kept.iter().filter(|(f, _, _)| f == family);
            let then = checked.kept.get(family);
            then.is_some_and(|then| now.all(|(_, _, now)| now.sha256 != then.facts.sha256))
        };
        let kept = checked.kept_rules.iter();
        said.extend(kept.filter(|(f, _)| changes(f)).filter_map(|(family, rules)| {
            let (count, found) = rules.naming_foreign(Naming::Meets, &Rules::default(), |i| self.has(i));
            let text = format!(
                "{} in the backup's file that keeps {} rules over a reboot {}, and this gateway has no such interface",
                counted(count, "rule"),
                family.name(),
                named(&found, count)
            );
            let advice = "compare with `ip -br link`; after the restore, put this gateway's interface in that file";
            (count > 0).then(|| Note::down(Code::INTERFACE_MISSING_AT_BOOT, text).advising(advice))
        }));
        let (count, found) = self.in_hooks(survey, checked);
        if count > 0 {
            let text = format!(
                "commands in the configs of {} {}, and this gateway has no such interface",
                counted(count, "tunnel"),
                named(&found, 2)
            );
            let advice = "compare with `ip -br link`; after the restore, put this gateway's interface in PreUp, PostUp, PreDown and \
                          PostDown of these configs";
            said.push(Note::down(Code::INTERFACE_MISSING_IN_CONFIGS, text).advising(advice));
        }
        said
    }

    /// How many tunnels have commands that name an interface that is not here, and which; of configs that are not here as they are.
    fn in_hooks(&self, survey: &Survey, checked: &Checked) -> (usize, BTreeMap<String, usize>) {
        let (mut tunnels, mut found) = (0, BTreeMap::new());
        for (file, config) in checked.configs.iter().filter(|(_, c)| c.can_be_a_tunnel) {
            let now = survey.wireguard.get(file).map(|held| &held.sha256);
            let then = config.second.as_ref().map(|file| &file.facts.sha256);
            if now == then {
                continue;
            }
            let mut foreign = BTreeSet::new();
            for (_, command) in config.hooks() {
                foreign.extend(in_command(command).into_iter().filter(|i| !self.has(i)));
            }
            tunnels += usize::from(!foreign.is_empty());
            for interface in foreign {
                *found.entry(interface).or_default() += 1;
            }
        }
        (tunnels, found)
    }

    /// What the start of each unit needs of this gateway and does not find.
    pub fn starts(
        &self,
        host: &dyn Look,
        profile: &Profile,
        survey: &Survey,
        checked: &Checked,
    ) -> Vec<Note> {
        let clients = checked.clients.as_ref().or(survey.clients.as_ref());
        let active = clients
            .into_iter()
            .flatten()
            .filter(|c| c.status == "active");
        let active = active.count();
        let mut said = Vec::new();
        for service in &profile.gateway.service {
            let ServiceProfile::Unit(unit) = service else {
                continue;
            };
            // A unit that cannot be asked is named by the survey, which asks the same.
            let asked = host.ask(&Query::ServiceSettings(unit.unit.clone()), "");
            let asked = asked.ok().filter(|out| out.ok());
            let asked = asked.map(|out| out.stdout).unwrap_or_default();
            said.extend(self.start(profile, &unit.unit, &asked, active));
        }
        said
    }

    fn start(&self, profile: &Profile, unit: &str, asked: &str, active: usize) -> Vec<Note> {
        let value = |property: &str| {
            let mut values = asked.lines().filter_map(|line| line.split_once('='));
            values
                .find(|(name, _)| *name == property)
                .map(|(_, value)| value)
        };
        if value("LoadState") == Some("not-found") {
            let text = format!(
                "the unit {unit} is not installed on this gateway: the restore brings the tunnels up, and no later boot does"
            );
            let advice = "install the gateway's application first, then restore";
            return vec![
                Note::down(Code::NOT_THERE, text)
                    .about(unit)
                    .advising(advice),
            ];
        }
        let mut said = Vec::new();
        if active == 0 {
            return said;
        }
        let clients = counted(active, "active client");
        if self.lan.is_none() {
            let text = format!(
                "this gateway has no default route: the start of {unit} fails for that, and takes the tunnels of {clients} down"
            );
            let advice = "add a default route first: ip route add default via ADDRESS";
            said.push(
                Note::down(Code::NO_DEFAULT_ROUTE, text)
                    .about(unit)
                    .advising(advice),
            );
        }
        let needs = START_OF_ONE.saturating_mul(u32::try_from(active).unwrap_or(u32::MAX));
        let own = Duration::from_secs(profile.gateway.service_seconds);
        let enough = needs.as_secs() * 2;
        let limits = [
            (
                value("TimeoutStartUSec").and_then(time_span),
                "systemd",
                format!(
                    "run `systemctl edit {unit}`, and set TimeoutStartSec={enough} under [Service]"
                ),
            ),
            (
                Some(own),
                "Holdfast",
                format!("set service_seconds = {enough} under [gateway] in the profile"),
            ),
        ];
        // A start that takes nearly as long may take longer.
        let too_short = |limit: &Duration| needs >= *limit * 3 / 4;
        let (mut ends, mut does) = (Vec::new(), Vec::new());
        for (limit, who, advice) in limits {
            if let Some(limit) = limit.filter(too_short) {
                ends.push(format!("{who} ends it after {} s", limit.as_secs()));
                does.push(advice);
            }
        }
        if !ends.is_empty() {
            let text = format!(
                "the start of {unit} takes about {} s for {clients}, and {}",
                needs.as_secs(),
                ends.join(", and ")
            );
            let note = Note::down(Code::START_TOO_SLOW, text).about(unit);
            said.push(note.advising(does.join("; and ")));
        }
        said
    }
}

/// The interfaces that the `iptables` of a command name; not what `wg-quick` or a shell puts in there, which is not known here.
fn in_command(command: &[u8]) -> BTreeSet<String> {
    let command = String::from_utf8_lossy(command).replace(['"', '\''], " ");
    let mut found = BTreeSet::new();
    for one in command.split([';', '&', '|', '\n']) {
        let words: Vec<String> = one.split_whitespace().map(str::to_owned).collect();
        // To other programs these options mean something else.
        if words.iter().any(|word| word.ends_with("tables")) {
            let plain = |i: &&str| !i.contains(['%', '$', '`', '{']);
            found.extend(
                interfaces(&words, Naming::Meets)
                    .filter(plain)
                    .map(str::to_owned),
            );
        }
    }
    found
}

/// `name eth0`, or `name eth0 (10) and docker0 (2)`.
fn named(found: &BTreeMap<String, usize>, count: usize) -> String {
    let verb = if count == 1 { "names" } else { "name" };
    let shown = found.iter().map(|(interface, count)| match found.len() {
        1 => interface.clone(),
        _ => format!("{interface} ({count})"),
    });
    format!("{verb} {}", names(shown))
}

/// A time as `systemctl show` prints it, as `1min 30s`; none of `infinity`, and of what is not understood.
fn time_span(text: &str) -> Option<Duration> {
    let mut all = Duration::ZERO;
    for word in text.split_whitespace() {
        let digits = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, unit) = word.split_at(digits);
        let one = match unit {
            "us" => 0.000_001,
            "ms" => 0.001,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        let seconds = count.parse::<f64>().ok()? * one;
        all = all.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
    }
    (all > Duration::ZERO).then_some(all)
}

#[cfg(test)]
mod tests;
