//! What of the page's requests goes into the audit log, and how often. Whoever is no admin, and whatever is refused, could be told
//! without end: of one kind the first is told at once, and then one line a minute with the count. Owns that; the log is
//! `state_dir/audit`'s.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use agent_protocol::{Ask, Refusal, Request};
use journal_format::{AskedBy, Code};

use super::locked;
use super::refusal::Unanswered;
use crate::gateway::profile::Profile;
use crate::state_dir::audit::entry::{AuditResult, Audited, AuditedDeed};
use crate::state_dir::audit::note;

/// For so long what is like the last one is only counted.
const COUNTED: Duration = Duration::from_secs(60);
/// So many kinds are told apart by their users and addresses; of the others only what was done and what came of it.
const KINDS: usize = 16;

/// What a request does, as the log says it; none for a request that only looks.
pub fn deed(ask: &Ask) -> Option<AuditedDeed> {
    match ask {
        Ask::Overview
        | Ask::Status
        | Ask::Preview { .. }
        | Ask::Restore { .. }
        | Ask::Events { .. } => None,
        Ask::MakeBackup => Some(AuditedDeed::Backup),
        Ask::GiveBackup { .. } => Some(AuditedDeed::Download),
        Ask::Upload { .. } | Ask::Again { .. } => Some(AuditedDeed::Plan),
        Ask::Discard { .. } => Some(AuditedDeed::Discard),
        Ask::Start { .. } => Some(AuditedDeed::RestoreAsked),
        Ask::Recover { .. } => Some(AuditedDeed::RecoveryAsked),
    }
}

/// One request, as it will be told: filled in as more of it is known.
pub struct Tale {
    what: Option<AuditedDeed>,
    user: Option<String>,
    admin: bool,
    from: Option<IpAddr>,
    subject: Option<String>,
    /// Why it was not done, where the answer does not say that.
    failed: Option<Code>,
}

impl Tale {
    /// Of this request, of which nothing is known yet.
    pub fn of(request: &Request) -> Tale {
        let (what, from, subject) = match request {
            Request::SignIn { from, .. } => (Some(AuditedDeed::SignIn), from, None),
            // Where there is no session nothing ends.
            Request::SignOut { from, .. } => (None, from, None),
            Request::Who { from, .. } => (None, from, None),
            Request::Admin { from, ask, .. } => (deed(ask), from, subject(ask)),
        };
        Tale {
            what,
            user: None,
            admin: false,
            from: *from,
            subject,
            failed: None,
        }
    }

    /// This user asks.
    pub fn by(&mut self, user: &str, admin: bool) {
        self.user = Some(user.into());
        self.admin = admin;
    }

    /// It does this.
    pub fn does(&mut self, what: AuditedDeed) {
        self.what = Some(what);
    }

    /// It is about this.
    pub fn about(&mut self, subject: impl Into<String>) {
        self.subject = Some(subject.into());
    }

    /// It was not done, whatever was answered.
    pub fn failed(&mut self, code: Code) {
        self.failed = Some(code);
    }

    /// Who asks.
    pub fn who(&self) -> AskedBy {
        AskedBy::on_page(self.user.as_deref(), self.admin, self.from)
    }

    /// What of it goes into the log.
    fn told(&self, answered: &Result<(), Unanswered>) -> Option<Audited> {
        let failed = self.failed.clone().or_else(|| match answered {
            Ok(()) => None,
            Err(Unanswered::Refused(refusal)) => Some(code(refusal)),
            Err(Unanswered::Lost(_)) => Some(Code::INTERRUPTED),
        });
        let shut_out = |code: &Code| [Code::NOT_SIGNED_IN, Code::NOT_ADMIN].contains(code);
        let what = match &failed {
            Some(code) if shut_out(code) => self.what.unwrap_or(AuditedDeed::Access),
            Some(_) | None => self.what?,
        };
        let result = failed.map_or(AuditResult::Done, AuditResult::Not);
        Some(Audited::new(
            self.who(),
            what,
            self.subject.as_deref(),
            result,
        ))
    }
}

fn subject(ask: &Ask) -> Option<String> {
    match ask {
        Ask::Upload { name } => Some(name.clone()),
        Ask::Again { id } | Ask::Recover { id, .. } => Some(id.to_string()),
        Ask::Overview
        | Ask::Status
        | Ask::MakeBackup
        | Ask::GiveBackup { .. }
        | Ask::Preview { .. }
        | Ask::Discard { .. }
        | Ask::Start { .. }
        | Ask::Restore { .. }
        | Ask::Events { .. } => None,
    }
}

/// The cause of a refusal.
pub fn code(refusal: &Refusal) -> Code {
    let of = |problem: &journal_format::Problem| problem.code.clone().unwrap_or(Code::IO);
    match refusal {
        Refusal::WrongPassword => Code::WRONG_PASSWORD,
        Refusal::MustChangePassword => Code::MUST_CHANGE_PASSWORD,
        Refusal::NotSignedIn => Code::NOT_SIGNED_IN,
        Refusal::NotAdmin => Code::NOT_ADMIN,
        Refusal::TooLarge { .. } => Code::ARCHIVE_TOO_LARGE,
        Refusal::Used { .. } => Code::BAD_REQUEST,
        Refusal::Unacceptable { problems } => problems.first().map_or(Code::BAD_REQUEST, of),
        Refusal::Busy { problem, .. } | Refusal::Gone { problem } | Refusal::Failed { problem } => {
            of(problem)
        }
    }
}

/// Entries that are like each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DeedKind {
    what: AuditedDeed,
    result: AuditResult,
    who: Option<(Option<String>, Option<IpAddr>)>,
}

impl DeedKind {
    fn of(audited: &Audited) -> DeedKind {
        let who = match &audited.who {
            AskedBy::Page { user, address, .. } => Some((user.clone(), address.map(network))),
            AskedBy::CommandLine { .. } | AskedBy::Boot | AskedBy::Agent => None,
        };
        DeedKind {
            what: audited.what,
            result: audited.result.clone(),
            who,
        }
    }
}

/// The network of an address: whoever has one address of it may have all.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (!0 << 8)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (!0 << 72)).into(),
    }
}

struct Counted {
    since: Instant,
    more: u64,
    /// The last one.
    last: Audited,
}

/// What was told within the last minute, by kind.
#[derive(Default)]
pub struct Trail {
    counts: Mutex<BTreeMap<DeedKind, Counted>>,
}

impl Trail {
    /// Tells of a request that was answered so.
    pub fn tell(&self, profile: &Profile, tale: &Tale, answered: &Result<(), Unanswered>) {
        if let Some(audited) = tale.told(answered) {
            let told = self.due(audited, tale.admin, Instant::now());
            told.into_iter().for_each(|it| note(profile, it));
        }
    }

    /// Tells at once what was done besides what a tale will tell.
    pub fn tell_done(&self, profile: &Profile, tale: &Tale, what: AuditedDeed, subject: &str) {
        note(
            profile,
            Audited::new(tale.who(), what, Some(subject), AuditResult::Done),
        );
    }

    /// Tells how much was only counted so far. To be called every minute.
    pub fn sum_up(&self, profile: &Profile) {
        let due = self.counted(Instant::now());
        due.into_iter().for_each(|it| note(profile, it));
    }

    /// What is to be told now that this happened.
    fn due(&self, audited: Audited, admin: bool, now: Instant) -> Option<Audited> {
        if admin && audited.result == AuditResult::Done {
            return Some(audited);
        }
        let mut counts = locked(&self.counts);
        let mut kind = DeedKind::of(&audited);
        if counts.len() >= KINDS && !counts.contains_key(&kind) {
            kind.who = None;
        }
        match counts.get_mut(&kind) {
            Some(counted) => {
                counted.more += 1;
                counted.last = audited;
                None
            }
            None => {
                let counted = Counted {
                    since: now,
                    more: 0,
                    last: audited.clone(),
                };
                counts.insert(kind, counted);
                Some(audited)
            }
        }
    }

    /// What was counted for a minute. What did not come again in that time will be told at once.
    fn counted(&self, now: Instant) -> Vec<Audited> {
        let mut told = Vec::new();
        locked(&self.counts).retain(|_, counted| {
            if now.duration_since(counted.since) < COUNTED {
                return true;
            }
            let more = std::mem::take(&mut counted.more);
            counted.since = now;
            told.extend((more > 0).then(|| Audited {
                times: Some(more),
                ..counted.last.clone()
            }));
            more > 0
        });
        told
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(n: u32, user: Option<&str>) -> Audited {
        let address = IpAddr::from(Ipv4Addr::from_bits(n << 8 | 7));
        let who = AskedBy::on_page(user, false, Some(address));
        let result = AuditResult::Not(Code::WRONG_PASSWORD);
        Audited::new(who, AuditedDeed::SignIn, None, result)
    }

    #[test]
    fn of_a_flood_the_first_is_told_at_once_and_then_one_line_a_minute_with_the_count() {
        let trail = Trail::default();
        let begin = Instant::now();
        let flood = |n: u32, at| {
            let told = (0..n).map(|_| trail.due(refused(1, Some("anna")), false, at));
            told.flatten().count()
        };
        assert_eq!(flood(1000, begin), 1);
        assert!(trail.counted(begin + COUNTED / 2).is_empty());
        assert_eq!(flood(1000, begin + COUNTED / 2), 0);
        let summed = trail.counted(begin + COUNTED);
        assert_eq!(summed.len(), 1);
        assert_eq!(summed[0].times, Some(1999));
        assert_eq!(flood(5, begin + COUNTED), 0, "it goes on");
        assert_eq!(trail.counted(begin + 2 * COUNTED)[0].times, Some(5));
        assert!(trail.counted(begin + 3 * COUNTED).is_empty(), "it is over");
        assert_eq!(flood(1, begin + 3 * COUNTED), 1, "and told at once again");
    }

    #[test]
    fn a_flood_from_everywhere_with_every_name_takes_bounded_memory_and_bounded_lines() {
        let trail = Trail::default();
        let now = Instant::now();
        let each = |n: u32| {
            let user = format!("user-{n}");
            trail.due(refused(n, Some(&user)), false, now)
        };
        let told = (0..5000).filter_map(each).count();
        assert_eq!(told, KINDS + 1);
        assert_eq!(locked(&trail.counts).len(), KINDS + 1);
        let summed = trail.counted(now + COUNTED);
        let counted: u64 = summed.iter().filter_map(|it| it.times).sum();
        assert_eq!(counted as usize + told, 5000);
    }

    #[test]
    fn what_an_admin_does_is_told_each_time_and_what_is_like_it_of_others_is_counted() {
        let trail = Trail::default();
        let done = |user: &str, admin| {
            let who = AskedBy::on_page(Some(user), admin, None);
            let audited = Audited::new(who, AuditedDeed::SignIn, None, AuditResult::Done);
            let told = (0..5).filter_map(|_| trail.due(audited.clone(), admin, Instant::now()));
            told.count()
        };
        assert_eq!((done("anna", true), done("bert", false)), (5, 1));
    }

    #[test]
    fn one_network_is_one_kind_and_another_user_is_another() {
        let trail = Trail::default();
        let now = Instant::now();
        let from = |address: &str, user: Option<&str>| {
            let who = AskedBy::on_page(user, false, address.parse().ok());
            let result = AuditResult::Not(Code::NOT_SIGNED_IN);
            let audited = Audited::new(who, AuditedDeed::Access, None, result);
            trail.due(audited, false, now).is_some()
        };
        assert!(from("10.0.0.7", None) && !from("10.0.0.8", None));
        assert!(from("10.0.1.7", None) && from("10.0.0.7", Some("anna")));
        assert!(from("2001:db8::1", None) && !from("2001:db8::ff:2", None));
        assert!(from("2001:db8:1::1", None));
    }
}
