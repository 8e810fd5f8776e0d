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
            let down = services.iter().filter(|s| self.is_down(s)).map(|service| {
                let text = format!("the service {} does not run", service.name);
                let start = start_command(&service.control);
                down(text)
                    .about(&service.name)
                    .advising(format!("`{start}`"))
            });
            let down: Vec<Note> = down.collect();
            self.lacks.extend(down);
            self.lacks.extend(self.tunnels_down());
            // No look compares the rules: what was found when it was left counts.
            let rules = state.closing_warnings.iter();
            let rules = rules.filter(|n| n.name.as_deref() == Some(RULES));
            self.lacks.extend(rules.cloned());
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
            SetInPlace::Unknown { .. } => (true, true),
        });
        let [files, databases] = sides;
        if !(files.0 || databases.0) || !(files.1 || databases.1) {
            return None;
        }
        let advice = match &self.safety_backup {
            Some(path) => format!(
                "`holdfast restore {}` puts all of it back as it was before the restore",
                quoted_path(path)
            ),
            None => "`holdfast restore BACKUP` makes all of it one set".into(),
        };
        let text = "files and databases are not of one set";
        Some(Note::known(Code::LEFT_AS_IT_IS, text).advising(advice))
    }

    fn is_down(&self, service: &Service) -> bool {
        match &self.services {
            UpAndDown::Seen { down, .. } => down.first.contains(&service.name),
            UpAndDown::Unknown { .. } => false,
        }
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

fn down(text: String) -> Note {
    Note::down(Code::LEFT_AS_IT_IS, text)
}
