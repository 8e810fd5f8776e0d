//! Services that an earlier restore of this boot stopped and did not start again: they count as those that run, or the next restore
//! would end without them and without a word. Reads the last restore's journal; a boot has started them since, where it is older.

use std::collections::BTreeSet;

use journal_format::{Note, Verdict};

use crate::error::Code;
use crate::gateway::profile::{Profile, ServiceProfile};
use crate::host::Look;
use crate::state_dir;
use crate::survey::Survey;

/// Adds them to the services that run. A journal that cannot be read tells of none.
pub fn count_as_running(profile: &Profile, host: &dyn Look, survey: &mut Survey) {
    let down = left_down(profile, host);
    let facts = &mut survey.facts;
    for service in profile.gateway.service.iter().map(ServiceProfile::service) {
        let name = service.name;
        let is_known = facts.services.contains(&name) || facts.unanswered.contains_key(&name);
        if is_known || !down.contains(&name) {
            continue;
        }
        let text = format!(
            "{name} does not run now, because the last restore stopped it and did not start it again; this restore starts it"
        );
        survey
            .warnings
            .push(Note::known(Code::SERVICE_IS_DOWN, text).about(&name));
        facts.services.push(name);
    }
}

/// The services that the last restore left down, by name.
fn left_down(profile: &Profile, host: &dyn Look) -> BTreeSet<String> {
    let last = state_dir::last_with_effect(profile).ok().flatten();
    let boot = host.boot().ok();
    let in_this_boot = last.filter(|state| state.driver.as_ref().map(|d| &d.boot) == boot.as_ref());
    let Some(state) = in_this_boot else {
        return BTreeSet::new();
    };
    let (notes, code) = match state.verdict() {
        Some(Verdict::Left) => (state.closing_warnings, Code::LEFT_AS_IT_IS),
        Some(Verdict::Restored | Verdict::RolledBack | Verdict::NothingChanged) | None => {
            (state.lacks(), Code::SERVICE_STAYS_DOWN)
        }
    };
    let of_services = notes.into_iter().filter(|note| note.is(&code));
    of_services.filter_map(|note| note.name).collect()
}
