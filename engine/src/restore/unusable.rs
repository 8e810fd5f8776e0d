//! What is said of a journal that cannot be acted on: that, why, and every way on. Reads nothing.

use journal_format::{RestoreId, Soundness};

use crate::error::{Code, Problem, cannot};
use crate::gateway::profile::Profile;
use crate::state_dir;
use crate::text::wording::quoted_path;

/// The journal of this restore is of this soundness, and nothing can be done by it.
pub fn problem(profile: &Profile, id: &RestoreId, soundness: Soundness) -> Problem {
    let path = state_dir::journal(profile, id);
    let (journal, barrier) = (quoted_path(&path), quoted_path(&profile.barrier()));
    let last = format!(
        "The last way out, if no sound copy of it is to be had: `mv {journal} {journal}.unusable && rm -f {barrier}`, then \
         `holdfast recover`, which names what to run next"
    );
    let (why, advice) = match soundness {
        Soundness::Newer => (
            "a newer Holdfast wrote it",
            format!("run `holdfast recover` of the version that wrote it. {last}"),
        ),
        Soundness::Empty => (
            "it has no record, although the restore marker is there",
            format!(
                "put it back from a backup of this machine, if you have one, then run `holdfast recover`. {last}"
            ),
        ),
        Soundness::Closed(_) | Soundness::Open | Soundness::Torn | Soundness::Corrupt => (
            "it is damaged",
            format!(
                "`holdfast journal verify {id}` says what is wrong with it; put it back from a backup of this machine, if you have one, then run \
                 `holdfast recover`. {last}"
            ),
        ),
    };
    cannot(
        Code::JOURNAL_UNUSABLE,
        format!(
            "use the journal {} of restore {id}: {why}. This command changed nothing",
            path.display()
        ),
        advice,
    )
}

/// The restore marker names this restore, and its journal is gone.
pub fn gone(profile: &Profile, id: &RestoreId) -> Problem {
    let path = state_dir::journal(profile, id);
    let what = format!(
        "use the journal {} of restore {id}: it is gone, although the restore marker is there. This command changed nothing",
        path.display()
    );
    let advice = format!(
        "put the restore's folder back from a backup of this machine, if you have one, then run `holdfast recover`. The last way out, if there is none: `rm -f \
         {}`, then `holdfast recover`, which names what to run next",
        quoted_path(&profile.barrier())
    );
    cannot(Code::JOURNAL_UNUSABLE, what, advice)
}
