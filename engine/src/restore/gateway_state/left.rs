//! What is still so of a restore that an operator left as it is: files and databases of two sets, and what is down since. Owns when that
//! is over; looks at nothing itself.

use journal_format::{Code, Note, Service, State};

use super::{SetInPlace, StateOfGateway, UpAndDown};
use crate::restore::leaving::RULES;
use crate::text::wording::{names, quoted_path, start_command};

impl StateOfGateway {
    /// What still differs or is down, a note each. What is down counts in the boot in which it was left: the next boot starts what the
    /// gateway has. Nothing at all: it is done with.
    pub(super) fn say_what_is_left(
        &mut self,
        state: &State,
        services: &[Service],
        this_boot: bool,
    ) {
        self.lacks = self.two_sets().into_iter().collect();
        if this_boot {
            let mut down: Vec<Note> = self.tunnels_down().into_iter().collect();
            down.extend(self.not_seen());
            let stopped: Vec<&Service> = services.iter().filter(|s| self.is_down(s)).collect();
            let differs = !self.lacks.is_empty() || !down.is_empty() || !stopped.is_empty();
            // No look compares the rules: what was found when it was left is said as long as something else differs.
            if differs {
                let rules = state.closing_warnings.iter();
                let rules = rules.filter(|n| n.name.as_deref() == Some(RULES));
                let rules: Vec<Note> = rules.map(|note| self.rules_left(note)).collect();
                self.lacks.extend(rules);
            }
            // Whoever follows the advice from its top restores first: what starts before that adds rules to those of two sets.
            let restores_first = !self.lacks.is_empty();
            self.lacks.extend(down);
            let stopped = stopped.into_iter();
            self.lacks
                .extend(stopped.map(|service| stopped_note(service, restores_first)));
        }
        self.is_idle_without_lacks();
    }

    /// Some things are as before the restore, and some as the backup says. What others put there since is theirs.
    fn two_sets(&self) -> Option<Note> {
        let sides = [&self.files, &self.databases].map(|set| match set {
            SetInPlace::NotReplaced => (false, false),
            SetInPlace::Before(_) => (true, false),
            SetInPlace::After(_) => (false, true),
            SetInPlace::Mixed { before, after, .. } => (before.count > 0, after.count > 0),
            SetInPlace::Unknown { .. } => (false, false),
        });
        if let Some(why) = [&self.files, &self.databases]
            .iter()
            .find_map(|set| match set {
                SetInPlace::Unknown { why } => Some(why),
                SetInPlace::NotReplaced
                | SetInPlace::Before(_)
                | SetInPlace::After(_)
                | SetInPlace::Mixed { .. } => None,
            })
        {
            let text = format!(
                "Holdfast does not know whether files and databases belong together: {why}"
            );
            return Some(Note::known(Code::LEFT_AS_IT_IS, text).advising(self.restores_all()));
        }
        let [files, databases] = sides;
        if !(files.0 || databases.0) || !(files.1 || databases.1) {
            return None;
        }
        let text = "some files and databases are old, the others are from the backup";
        Some(Note::known(Code::LEFT_AS_IT_IS, text).advising(self.restores_all()))
    }

    fn restores_all(&self) -> String {
        let then = match &self.safety_backup {
            Some(_) => "as before the restore",
            None => "as that backup says",
        };
        let path = self.safety_backup.as_deref();
        let backup = path.map_or_else(|| "BACKUP".into(), quoted_path);
        format!("run `holdfast restore {backup}`: all files, databases and rules are then {then}")
    }

    /// What was said of the rules as it was left. Where files and databases are of two sets, what leads on is said already.
    fn rules_left(&self, note: &Note) -> Note {
        let text = format!("when it was left, {}", note.text);
        let advice = match self.lacks.is_empty() {
            true => Some(self.restores_all()),
            false => None,
        };
        Note {
            text,
            advice,
            ..note.clone()
        }
    }

    fn is_down(&self, service: &Service) -> bool {
        match &self.services {
            // More names may be down than are kept.
            UpAndDown::Seen { down, .. } => {
                down.count > down.first.len() || down.first.contains(&service.name)
            }
            UpAndDown::Unknown { .. } => false,
        }
    }

    /// What could not be asked.
    fn not_seen(&self) -> Vec<Note> {
        let asked = [
            ("services run", &self.services),
            ("tunnels are up", &self.tunnels),
        ];
        let unknown = asked.into_iter().filter_map(|(what, seen)| match seen {
            UpAndDown::Unknown { why } => Some(format!("whether the {what} cannot be told: {why}")),
            UpAndDown::Seen { .. } => None,
        });
        unknown
            .map(|text| Note::known(Code::LEFT_AS_IT_IS, text))
            .collect()
    }

    fn tunnels_down(&self) -> Option<Note> {
        let UpAndDown::Seen { down: gone, .. } = &self.tunnels else {
            return None;
        };
        let text = match gone.count {
            1 => format!("the tunnel {} is down", names(&gone.first)),
            n => format!("{n} tunnels are down ({})", names(&gone.first)),
        };
        let advice = "`wg-quick up NAME` brings up each that should be up";
        (gone.count > 0).then(|| down(text).advising(advice))
    }
}

fn stopped_note(service: &Service, restores_first: bool) -> Note {
    let text = format!("the service {} does not run", service.name);
    let start = start_command(&service.control);
    let advice = match restores_first {
        true => format!("that restore also starts {} again", service.name),
        false => format!("`{start}`"),
    };
    down(text).about(&service.name).advising(advice)
}

fn down(text: String) -> Note {
    Note::down(Code::LEFT_AS_IT_IS, text)
}
