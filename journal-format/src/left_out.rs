//! What a restore left out, by consent or not, and what a rollback could not bring back: for the verdict, which says "as the backup
//! says", or "as it was before", only where it is so. Owns how it is found in a state, an older version's plan among them; decides
//! nothing.

use crate::{Code, Direction, Note, Phase, Plan, State, Step, Verdict};

/// How the warning begins that the step which loads the firewall leaves where the rules of before hold instead.
pub const NOT_LOADED: &str = "the backup's firewall rules are not loaded: ";

/// Things that a headline names; of more it says how many.
const NAMED: usize = 5;

impl State {
    /// What was left out, of a restore that is through; nothing while that is not known.
    pub fn left_out(&self) -> Vec<Note> {
        match self.phase {
            Phase::Committed | Phase::Closed(Verdict::Restored) => {}
            Phase::Opening
            | Phase::Preparing
            | Phase::Forward
            | Phase::Back
            | Phase::Closed(Verdict::RolledBack | Verdict::NothingChanged | Verdict::Left) => {
                return Vec::new();
            }
        }
        let mut left_out = self.plan.as_ref().map_or_else(Vec::new, |p| p.leaves_out());
        let loaded = self.find(Step::LoadFirewall, Direction::Forward);
        let warnings = loaded.iter().flat_map(|m| &m.warnings);
        let why = warnings.filter_map(|w| w.text.strip_prefix(NOT_LOADED));
        left_out.extend(why.map(|why| {
            let why = format!("{why}; the old ones stay, without those of replaced tunnels");
            Note::down(Code::RULES_NOT_LOADED, why).of("the firewall rules")
        }));
        // What others changed between the check of the new files and the last look.
        let looked = self.find(Step::VerifyRunning, Direction::Forward);
        let seen = looked.iter().flat_map(|m| &m.warnings);
        left_out.extend(seen.filter(|w| w.is(&Code::LEFT_TO_OTHERS)).cloned());
        left_out
    }
}

impl State {
    /// What a rollback could not make as it was before, or of which nobody can tell; nothing unless it ended so.
    pub fn not_as_before(&self) -> Vec<Note> {
        let backs = [
            Step::SwapDatabases,
            Step::SwapConfigs,
            Step::TunnelsUp,
            Step::VerifyRunning,
        ];
        let rolled_back = self.phase == Phase::Closed(Verdict::RolledBack);
        let moves = backs.iter().filter(|_| rolled_back);
        let moves = moves.filter_map(|step| self.find(*step, Direction::Back));
        let notes = moves.flat_map(|m| &m.warnings);
        let codes = [
            Code::LEFT_TO_OTHERS,
            Code::NOT_THE_ORIGINAL,
            Code::SET_BY_HAND,
        ];
        let is_other = |w: &&Note| codes.iter().any(|code| w.is(code));
        let mut found: Vec<Note> = Vec::new();
        for note in notes.filter(is_other) {
            // The last look names again what an earlier step could not set either.
            if !note.is(&Code::SET_BY_HAND) || !found.contains(note) {
                found.push(note.clone());
            }
        }
        found
    }
}

/// The codes of what a gateway can lack although its files and rules are one set's: each note of them names its object.
pub const LACKS: [Code; 3] = [
    Code::SERVICE_STAYS_DOWN,
    Code::TUNNEL_STAYS_DOWN,
    Code::STATUS_STAYS_CHANGED,
];

impl Note {
    /// Whether it names what the gateway lacks.
    pub fn is_lack(&self) -> bool {
        LACKS.iter().any(|code| self.is(code))
    }
}

impl State {
    /// The direction in which it goes, or in which it ended.
    pub fn direction(&self) -> Direction {
        match self.phase {
            Phase::Opening
            | Phase::Preparing
            | Phase::Forward
            | Phase::Committed
            | Phase::Closed(Verdict::Restored) => Direction::Forward,
            Phase::Back | Phase::Closed(Verdict::RolledBack | Verdict::NothingChanged) => {
                Direction::Back
            }
            Phase::Closed(Verdict::Left) => match self.turned {
                None => Direction::Forward,
                Some(_) => Direction::Back,
            },
        }
    }

    /// What does not work although everything else is one set's: services that could not be started, and tunnels that could not
    /// be brought up, and clients whose status a start changed for good, in the direction in which it goes or ended.
    pub fn lacks(&self) -> Vec<Note> {
        let of = |step| self.find(step, self.direction());
        let moves = [Step::TunnelsUp, Step::StartServices, Step::CleanUp]
            .into_iter()
            .filter_map(of);
        let lacks = moves.filter_map(|m| m.lacked.as_ref());
        let lacks = lacks.flat_map(|lacked| &lacked.notes);
        // What the last look found up all the same, brought up by a service, say.
        let looked = self.is_last_of(Step::VerifyRunning, &[Step::TunnelsUp, Step::VerifyRunning]);
        let look = of(Step::VerifyRunning).filter(|_| looked);
        let found = look.iter().flat_map(|m| &m.warnings);
        let found: Vec<&Option<String>> = found
            .filter(|w| w.is(&Code::TUNNEL_IS_UP))
            .map(|w| &w.name)
            .collect();
        let is_up = |w: &&Note| w.is(&Code::TUNNEL_STAYS_DOWN) && found.contains(&&w.name);
        lacks.filter(|w| !is_up(w)).cloned().collect()
    }
}

impl Plan {
    /// What it leaves out. Before 1.1 only the warnings said so.
    pub fn leaves_out(&self) -> Vec<Note> {
        if !self.left_out.is_empty() {
            return self.left_out.clone();
        }
        let none = |what: String, why: String| Note::known(Code::NOT_IN_BACKUP, why).of(what);
        let found = |warning: &Note| -> Option<Note> {
            let warning = &warning.text;
            if let Some(refused) = warning.strip_prefix("the backup's ")
                && let Some((what, why)) = refused.split_once(" will not be loaded: ")
            {
                let note = Note::down(Code::RULES_NOT_LOADED, why);
                return Some(note.of(format!("the {what}")));
            }
            if let Some(absent) = warning.strip_prefix("the backup has no ")
                && let Some((what, why)) = absent.split_once(": ")
            {
                let what = match what.trim_end_matches(" to load") {
                    known @ ("configs" | "IPv4 firewall rules" | "IPv6 firewall rules") => {
                        format!("the {known}")
                    }
                    database if database.ends_with(".db") => format!("the database {database}"),
                    _ => return None,
                };
                return Some(none(what, format!("the backup has none: {why}")));
            }
            let (what, why) = warning
                .strip_prefix("the backup does not say ")?
                .split_once(": ")?;
            Some(none(
                what.to_owned(),
                format!("the backup does not say: {why}"),
            ))
        };
        let mut left_out: Vec<Note> = Vec::new();
        for one in self.warnings.iter().filter_map(found) {
            // Of rules that could not be loaded it was also said that the backup has none.
            if !left_out.iter().any(|l| l.name == one.name) {
                left_out.push(one);
            }
        }
        left_out
    }
}

/// What was left out, by name, for one sentence.
pub(crate) fn named(left_out: &[Note]) -> String {
    let name = |note: &'_ Note| note.name.clone().unwrap_or_else(|| note.text.clone());
    let first: Vec<String> = left_out.iter().take(NAMED).map(name).collect();
    match (first.as_slice(), left_out.len().saturating_sub(NAMED)) {
        ([others @ .., last], 0) if !others.is_empty() => {
            format!("{} and {last}", others.join(", "))
        }
        (_, 0) => first.join(", "),
        (_, more) => format!("{} and {more} more", first.join(", ")),
    }
}
