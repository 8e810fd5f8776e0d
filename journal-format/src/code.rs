//! The codes of problems and of notes: one for each cause, whatever it befell. Owns their spelling and what each means; the object
//! stands in the text. Must not hold advice: that depends on the object, and is written where the problem or the note is.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{BadWord, as_text};

/// The stable name of a cause, as `no-space`: lower-case words with hyphens.
///
/// No closed set: a program keeps a code that a newer one wrote, and writes it again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Code(Cow<'static, str>);

impl Code {
    /// Checks the form and keeps the text.
    pub fn new(text: impl Into<String>) -> Result<Code, BadWord> {
        let text = text.into();
        let word = |w: &str| {
            !w.is_empty()
                && w.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        match text.len() <= 64 && text.split('-').all(word) {
            true => Ok(Code(text.into())),
            false => Err(BadWord { kind: "code", text }),
        }
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

as_text!(Code, BadWord, |code| code.0.into_owned());

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a code.
#[derive(Debug)]
pub struct KnownCode {
    /// The code.
    pub code: Code,
    /// What it means.
    pub means: &'static str,
    /// Where to look.
    pub look: &'static str,
}

/// Makes the constants, and the list of all, from one table.
macro_rules! codes {
    (#[doc = $all:literal] $list:ident; $(#[doc = $means:literal] $name:ident = $slug:literal, $look:literal;)*) => {
        impl Code {
            $(#[doc = $means] pub const $name: Code = Code(Cow::Borrowed($slug));)*

            #[doc = $all]
            pub const $list: &[KnownCode] = &[
                $(KnownCode { code: Code::$name, means: $means, look: $look },)*
            ];
        }
    };
}

codes! {
    /// Every cause of a problem that this program writes.
    KNOWN;
    /// A file or folder cannot be read, written or synced, for a reason that has no code of its own.
    IO = "io", "the reason in the message";
    /// A filesystem has too little free space.
    NO_SPACE = "no-space", "`df -h` of the folder that is named";
    /// A filesystem is mounted read-only.
    READ_ONLY = "read-only", "`findmnt` of the path, `dmesg`";
    /// The disk reports an error.
    DISK_FAILS = "disk-fails", "`dmesg`, `smartctl`";
    /// Holdfast lacks rights: it does not run as root, or a file is immutable.
    NO_RIGHTS = "no-rights", "`id`, `lsattr` of the path";
    /// A file, folder, archive or restore is not there.
    NOT_THERE = "not-there", "`ls -l` of the path, `holdfast journal list`";
    /// A link, folder or device stands where a plain file or a real folder is needed.
    WRONG_KIND = "wrong-kind", "`ls -ld` of the path";
    /// Accounts other than root and the gateway's own may read or write what only these may.
    OPEN_TO_OTHERS = "open-to-others", "`holdfast secure --dry-run`";
    /// A filesystem cannot do what a safe exchange of files needs.
    UNFIT_FILESYSTEM = "unfit-filesystem", "`findmnt` of the path";
    /// A program is not installed, or does not run at all.
    MISSING_PROGRAM = "missing-program", "the packages that the message names";
    /// The system lacks something besides programs: `/proc`, random bytes, threads, open files, user ids, namespaces.
    UNFIT_SYSTEM = "unfit-system", "limits of the container or unit, `ulimit -a`";
    /// A command that only asks about the gateway failed.
    QUERY_FAILED = "query-failed", "the command and its output in the message";
    /// The profile cannot be read, or does not fit this gateway.
    BAD_PROFILE = "bad-profile", "the profile, and its keys in the README";
    /// A request is not one that can be carried out as it was asked.
    BAD_REQUEST = "bad-request", "`holdfast help`";
    /// What was asked is too long for the page.
    COMMAND_LINE_ONLY = "command-line-only", "the command in the message";
    /// Another Holdfast works on this gateway, or as much as is allowed at once is under way.
    BUSY = "busy", "`holdfast status`";
    /// A restore is open and must be recovered first.
    RESTORE_OPEN = "restore-open", "`holdfast status`, then `holdfast recover`";
    /// A restore was under way whose journal is not in this `state_dir`.
    RESTORE_LOST = "restore-lost", "`findmnt` of `state_dir`, the profile, `nft list table inet holdfast`";
    /// None of the databases and configs that the profile names is there.
    NOTHING_TO_BACK_UP = "nothing-to-back-up", "`holdfast survey`";
    /// The program that `on_backup` of the profile names did not end well.
    ON_BACKUP_FAILED = "on-backup-failed", "what the program said, `[schedule]` in the profile";
    /// A service does not run before a restore. The restore starts it only if the last restore stopped it.
    SERVICE_IS_DOWN = "service-is-down", "the service's log, then `systemctl start`";
    /// A backup was made, and lacks parts.
    BACKUP_INCOMPLETE = "backup-incomplete", "`holdfast backups`, and what the backup said";
    /// No backup, or more than one, is what was asked for.
    NO_SUCH_BACKUP = "no-such-backup", "`holdfast backups`";
    /// No restore, or more than one, is what was asked for.
    NO_SUCH_RESTORE = "no-such-restore", "`holdfast journal list`";
    /// A backup that was just written cannot be read back.
    BACKUP_UNREADABLE = "backup-unreadable", "`dmesg`, memory and disk of this box";
    /// A backup is cut off, damaged, or says of itself what is not so.
    ARCHIVE_DAMAGED = "archive-damaged", "`holdfast verify`, and the file's checksum where it came from";
    /// A backup was repacked or changed by an ordinary tool.
    ARCHIVE_REPACKED = "archive-repacked", "the command in the message";
    /// A backup is over a limit of the profile.
    ARCHIVE_TOO_LARGE = "archive-too-large", "`[limits]` in the profile";
    /// A backup has a version that this program does not know.
    ARCHIVE_VERSION = "archive-version", "the version of the Holdfast that made it";
    /// A backup holds nothing that this profile can restore.
    ARCHIVE_UNFIT = "archive-unfit", "`gateway.database` in the profile";
    /// A database of a backup is damaged, or is not one of the gateway's.
    DATABASE_REFUSED = "database-refused", "`holdfast verify`";
    /// A database of the gateway cannot be read: it is damaged, or not what the profile calls it.
    DATABASE_UNREADABLE = "database-unreadable", "`sqlite3 FILE 'PRAGMA integrity_check'`";
    /// A process keeps a database locked or open.
    DATABASE_HELD = "database-held", "`fuser -v FILE`";
    /// Somebody writes to a database that must be still.
    DATABASE_WRITTEN = "database-written", "`fuser -v FILE`, and services that the profile does not name";
    /// The account of the gateway's service cannot get at a database, or files beside it are somebody else's.
    DATABASE_OUT_OF_REACH = "database-out-of-reach", "`ls -l` of the database and of each folder above it";
    /// Files beside a place belong to a database that is gone.
    SIDE_FILES_LEFT = "side-files-left", "`ls -l FILE*`";
    /// Users cannot be told: their database has none, is not named, or a stored password has a form that is not known.
    NO_USERS = "no-users", "the gateway's users, `[web]` in the profile";
    /// Too many try to sign in with one name.
    SIGN_IN_HELD = "sign-in-held", "the agent's log";
    /// The user or the password is wrong, or the user is not active.
    WRONG_PASSWORD = "wrong-password", "`holdfast audit show`";
    /// The gateway wants another password of the user before anything else.
    MUST_CHANGE_PASSWORD = "must-change-password", "the gateway's own page";
    /// There is no session, or no longer.
    NOT_SIGNED_IN = "not-signed-in", "the page's sign-in";
    /// The user is no admin of the page.
    NOT_ADMIN = "not-admin", "`admins` under `[web]` in the profile";
    /// A user made as many backups on the page within an hour as the profile allows.
    BACKUP_LIMIT = "backup-limit", "`backups_an_hour` under `[limits]` in the profile";
    /// The audit log was changed.
    AUDIT_UNSOUND = "audit-unsound", "`holdfast audit verify`";
    /// A part of the gateway of now (tunnels, peers, rules, configs) cannot be read whole, and so could not be put back.
    GATEWAY_UNREADABLE = "gateway-unreadable", "`wg show`, `iptables-save`, `nft list ruleset`";
    /// Firewall rules or a config have a form that Holdfast does not know.
    NOT_UNDERSTOOD = "not-understood", "the line that the message names";
    /// The gateway or the backup is no longer as it was when the plan was made.
    PLAN_DRIFTED = "plan-drifted", "who works on the gateway meanwhile";
    /// An interface or a config on this box has a name that the backup needs, and is not the gateway's.
    NAME_TAKEN = "name-taken", "`ip link`, `ls -l` of the config folders";
    /// Two tunnels want one port, key or network, or a config needs what this box lacks.
    TUNNEL_UNFIT = "tunnel-unfit", "the tunnel's config, `wg show`";
    /// A file would belong to an account that is no part of the gateway.
    FOREIGN_OWNER = "foreign-owner", "`owner` in the profile, `ls -l` of the present files";
    /// The kernel does not take firewall rules.
    RULES_REFUSED = "rules-refused", "the line that `iptables-restore` names";
    /// Firewall rules of a backup cannot be tried on this box.
    RULES_UNTRIED = "rules-untried", "namespaces and IPv6 of this box";
    /// The safety backup could not bring back what the restore replaces.
    SAFETY_BACKUP_LACKS = "safety-backup-lacks", "the parts that are named; `holdfast backup`";
    /// A mount point is to be exchanged.
    MOUNT_POINT = "mount-point", "`findmnt`";
    /// A file cannot be moved from one mount to another, which may be of the same filesystem.
    CROSSES_MOUNTS = "crosses-mounts", "`findmnt`";
    /// A file or folder is immutable or append-only: not even root can replace it.
    FIXED_IN_PLACE = "fixed-in-place", "`lsattr -d` of the paths that are named";
    /// It cannot be told whether a service runs.
    SERVICE_UNKNOWN = "service-unknown", "`systemctl status`, `gateway.service` in the profile";
    /// A service does not stop.
    SERVICE_DOES_NOT_STOP = "service-does-not-stop", "`systemctl status`, the service's log";
    /// Something starts a service again and again that must be down.
    SERVICE_STARTED_AGAIN = "service-started-again", "`ps -fp PID` of the program that is named; supervisors, cron jobs, loops";
    /// A service does not start, or does not stay up.
    SERVICE_DOES_NOT_START = "service-does-not-start", "`journalctl -u UNIT`";
    /// A tunnel does not go down.
    TUNNEL_DOES_NOT_GO_DOWN = "tunnel-does-not-go-down", "`wg-quick down CONFIG`";
    /// A tunnel does not come up.
    TUNNEL_DOES_NOT_COME_UP = "tunnel-does-not-come-up", "`wg-quick up CONFIG`";
    /// A tunnel does not take its peers.
    PEERS_REFUSED = "peers-refused", "`wg show`";
    /// The fence cannot be closed or lifted.
    FENCE_REFUSED = "fence-refused", "`nft list table inet holdfast`";
    /// After a step the gateway is not as that step leaves it.
    NOT_AS_EXPECTED = "not-as-expected", "what else changes the gateway";
    /// At a target lies neither the old nor the new file.
    OBJECT_REPLACED = "object-replaced", "who replaced it; `originals/` of the restore";
    /// Processes of a dead restore cannot be ended.
    LEFT_RUNNING = "left-running", "`ps` of the processes that are named";
    /// The operator asked for the way back.
    ASKED_TO_ROLL_BACK = "asked-to-roll-back", "who sent the signal";
    /// The restore was cut off half way.
    INTERRUPTED = "interrupted", "power, kills, `dmesg`";
    /// What the restore should do next cannot be decided without the operator.
    UNDECIDED = "undecided", "`holdfast journal show`, then `holdfast recover`";
    /// A journal is damaged, gone, or of a newer version.
    JOURNAL_UNUSABLE = "journal-unusable", "`holdfast journal verify`";
    /// The barrier is gone, or does not name its restore.
    BARRIER_UNUSABLE = "barrier-unusable", "the barrier's first line, `holdfast journal list`";
    /// A file in the restore's folder is not the one that the journal names.
    FACTS_CHANGED = "facts-changed", "who changed the restore's folder";
    /// The clean-up failed too often.
    CLEAN_UP_FAILS = "clean-up-fails", "`holdfast journal show`";
    /// A fault in Holdfast itself.
    INTERNAL = "internal", "report it, with the output of `holdfast journal show`";
}

codes! {
    /// Every code that this program writes in notes alone; a note may have the code of a problem, too.
    OF_NOTES;
    /// The firewall rules of the backup are not loaded: somebody chose to continue without them.
    RULES_NOT_LOADED = "rules-not-loaded", "the reason in the note";
    /// A command of a tunnel's config failed, and the tunnel went down all the same.
    HOOK_FAILED = "hook-failed", "the commands in the tunnel's config";
    /// Host names of a tunnel's peers do not resolve.
    UNRESOLVED = "unresolved", "`getent hosts NAME`";
    /// The clean-up left something behind.
    LEFT_OVER = "left-over", "`holdfast recover`";
    /// Users of the gateway are not in the backup.
    USERS_GONE = "users-gone", "the gateway's users; a backup that has them";
    /// Clients of the gateway are not in the backup.
    CLIENTS_GONE = "clients-gone", "the gateway's clients; a backup that has them";
    /// The gateway wrote to its databases since the backup was made.
    HISTORY_GONE = "history-gone", "the safety backup of the restore: `holdfast undo`";
    /// Chains or rules of the firewall are not in the backup.
    RULES_GONE = "rules-gone", "`iptables-save`, `ip6tables-save`";
    /// Something is in the backup, or was there when it was made, and does not come back.
    NOT_PUT_BACK = "not-put-back", "the reason in the note";
    /// Rows or tables of a database have no place on this gateway, or no counterpart in the backup.
    ROWS_LOST = "rows-lost", "`holdfast verify`";
    /// A tunnel belongs up and cannot be brought up.
    TUNNEL_STAYS_DOWN = "tunnel-stays-down", "the tunnel's config";
    /// A tunnel that could not be brought up is up all the same: something else brought it up.
    TUNNEL_IS_UP = "tunnel-is-up", "nothing is to be done";
    /// A recovery that tried again what a restore lacks was cut off.
    RECOVERY_CUT_OFF = "recovery-cut-off", "`holdfast recover`";
    /// A tunnel that a restore lacked was deleted since.
    TUNNEL_IS_GONE = "tunnel-is-gone", "the gateway's page: the client is not there any more";
    /// A tunnel went down before the restore touched any tunnel, and is left so.
    TUNNEL_WAS_DOWN = "tunnel-was-down", "`wg-quick up` of the tunnel, if it should be up";
    /// A service that ran before could not be started again on the way back: it is stopped, and everything else is put right.
    SERVICE_STAYS_DOWN = "service-stays-down", "the service's log, then `systemctl start`";
    /// The start of the services called clients inactive; they are active again.
    STATUS_PUT_RIGHT = "status-put-right", "the service's log: why it could not bring them up";
    /// Which clients were active before the start of the services was not kept: Holdfast will not notice those that it calls inactive.
    STATUS_UNKNOWN = "status-unknown", "the clients' status in the gateway's own page";
    /// The start of the services may have called clients inactive, and Holdfast could not set them active again.
    STATUS_STAYS_CHANGED = "status-stays-changed", "`holdfast recover`; the clients' status in the gateway's own page";
    /// The start of the services took a tunnel down, and its `SaveConfig` wrote over the config: the config is back.
    CONFIG_PUT_BACK = "config-put-back", "the service's log: why it took the tunnel down; `found/` of the restore";
    /// Configs that say `SaveConfig` were not kept before the start of the services: Holdfast will not notice if that writes over one.
    CONFIG_NOT_KEPT = "config-not-kept", "the tunnels' configs, and their copies in the backup";
    /// A process has a database open that is not in its place any more: what it writes there, nobody reads.
    OLD_DATABASE_HELD = "old-database-held", "`fuser -v FILE`; end the process, or restart what it belongs to";
    /// Others changed what lay in the place of a file: it is kept in `found/` of the restore.
    FOUND_KEPT = "found-kept", "`found/` of the restore";
    /// A file is replaced, and not every extended attribute of it is on the new one as it was.
    ATTRIBUTES_NOT_KEPT = "attributes-not-kept", "`getfacl`, `getfattr -d -m -` of the file and of its original";
    /// The operator ended a restore where it stood: what is in place.
    LEFT_AS_IT_IS = "left-as-it-is", "the restore's `originals/`, and its safety backup";
    /// Others replaced or removed a file before the restore exchanged it: it is left as it is.
    LEFT_TO_OTHERS = "left-to-others", "`ls -l` of the file";
    /// The original of a file is gone, and what somebody put in its place is not that, or nobody can tell.
    NOT_THE_ORIGINAL = "not-the-original", "the file, and its copy in the safety backup of the restore";
    /// A tunnel's config here is left alone.
    TUNNEL_LEFT_ALONE = "tunnel-left-alone", "`ls -l` of the config folders";
    /// The backup's rules let nobody in by SSH, or to the page.
    LOCKED_OUT = "locked-out", "the INPUT rules of the backup";
    /// A tunnel of the backup takes a network that this box, or the admin, is in.
    NETWORK_TAKEN = "network-taken", "`AllowedIPs` of the config, `ip route`";
    /// Firewall rules of the backup name network interfaces that this gateway lacks.
    INTERFACE_MISSING = "interface-missing", "`ip -br link`, `iptables-save`";
    /// Rules that the backup has each boot load name network interfaces that this gateway lacks.
    INTERFACE_MISSING_AT_BOOT = "interface-missing-at-boot", "`ip -br link`, the file that keeps the rules";
    /// Commands of the backup's configs name network interfaces that this gateway lacks.
    INTERFACE_MISSING_IN_CONFIGS = "interface-missing-in-configs", "`ip -br link`, `PostUp` of the configs";
    /// Rules that the gateway adds itself are loaded for the interface of this gateway's LAN.
    RULES_FOR_THIS_LAN = "rules-for-this-lan", "`ip route show default`";
    /// This gateway has no default route, which the start of its service needs.
    NO_DEFAULT_ROUTE = "no-default-route", "`ip route show default`";
    /// The start of a service takes longer than it may.
    START_TOO_SLOW = "start-too-slow", "`systemctl show -p TimeoutStartUSec UNIT`; `service_seconds` of the profile";
    /// It is not known where the admin connects from.
    ADMIN_UNKNOWN = "admin-unknown", "the INPUT rules of the backup";
    /// Configs of the backup run commands as root.
    RUNS_AS_ROOT = "runs-as-root", "the commands that are shown";
    /// The backup was made on another host.
    MADE_ELSEWHERE = "made-elsewhere", "where the backup came from";
    /// The backup is old.
    BACKUP_OLD = "backup-old", "whether there is a newer one";
    /// The date of the backup lies in the future.
    DATE_IN_FUTURE = "date-in-future", "`date` on both hosts";
    /// Users come back, or are new.
    USERS_BACK = "users-back", "the users that are named";
    /// Users get the passwords of the backup.
    PASSWORDS_CHANGE = "passwords-change", "the users that are named";
    /// Users become admins of the gateway.
    ADMINS_MADE = "admins-made", "the users that are named";
    /// Users who are switched off may sign in again.
    USERS_SWITCHED_ON = "users-switched-on", "the users that are named";
    /// Users get other ids, so that an open session becomes another user's.
    USER_IDS_CHANGE = "user-ids-change", "the users that are named";
    /// Clients come back, or are new.
    CLIENTS_BACK = "clients-back", "the clients that are named";
    /// The gateway's mail goes another way.
    MAIL_CHANGES = "mail-changes", "the mail settings of the gateway";
    /// The rules that each boot loads become others.
    KEPT_RULES_CHANGE = "kept-rules-change", "the file that is named";
    /// The backup's rules let more through than those of now.
    RULES_OPEN = "rules-open", "`iptables-save` of the gateway that made it";
    /// The backup's rules hand packets to somebody else.
    PACKETS_COPIED = "packets-copied", "the rules that are named";
    /// A part that the gateway has is not in the backup.
    NOT_IN_BACKUP = "not-in-backup", "a backup that has it";
    /// The backup has no manifest of Holdfast's, so that nothing vouches for what is in it.
    NO_MANIFEST = "no-manifest", "where the backup came from";
    /// Something was said when the backup was made.
    SAID_WHEN_MADE = "said-when-made", "the gateway that made it";
    /// Something on the gateway is in no backup.
    NOT_SAVED = "not-saved", "the reason in the note";
    /// Something changed while Holdfast read it: what belongs together may not match.
    NOT_OF_ONE_MOMENT = "not-of-one-moment", "who works on the gateway meanwhile";
    /// A database has in it what the gateway does not make, or is changed so that the gateway can use it.
    DATABASE_ODD = "database-odd", "`holdfast verify`";
    /// A client shares its name, has a name that no file can have, or has no config where one belongs.
    CLIENT_ODD = "client-odd", "the row of the client, `ls -l` of the config folders";
    /// A config has a setting that reaches beyond its tunnel, or one that is not understood.
    CONFIG_ODD = "config-odd", "the setting that is named";
    /// A tunnel takes all traffic, or that of the box with itself.
    TRAFFIC_TAKEN = "traffic-taken", "`AllowedIPs` of the configs";
    /// A tunnel runs, or ran, with other peers than those of its config.
    PEERS_BEYOND_CONFIG = "peers-beyond-config", "`wg show`, the tunnel's config";
    /// A tunnel runs with an address, MTU, port or route that its config lacks, or could not be given it again.
    SET_BY_HAND = "set-by-hand", "`ip address`, `ip route show table all`, `wg show`, the tunnel's config";
    /// The owner of a file in the backup is not known here.
    OWNER_UNKNOWN = "owner-unknown", "`getent passwd`, `getent group`";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_known_code_has_the_form_of_one_and_none_stands_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for known in Code::KNOWN.iter().chain(Code::OF_NOTES) {
            assert_eq!(Code::new(known.code.as_str()).as_ref(), Ok(&known.code));
            assert!(seen.insert(&known.code), "{}", known.code);
        }
        assert!(seen.len() >= 45);
    }

    #[test]
    fn a_code_that_is_not_known_is_kept_and_a_text_that_is_none_is_refused() {
        let newer: Code = serde_json::from_str(r#""moon-is-full-2""#).unwrap();
        assert_eq!(
            serde_json::to_string(&newer).unwrap(),
            r#""moon-is-full-2""#
        );
        for bad in [
            "",
            "-",
            "no--space",
            "No-Space",
            "no space",
            "no-space-",
            "ä",
        ] {
            assert!(Code::new(bad).is_err(), "{bad}");
        }
        assert!(Code::new("a".repeat(65)).is_err());
    }

    /// The documentation says no other than the code: `HOLDFAST_CODES=write` writes it anew.
    #[test]
    fn the_page_about_troubles_has_every_code() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md");
        let mut text = String::from(
            "# Troubleshooting\n\n\
             Every problem has a code. The page shows it beside the message; `--json` and journals have it in the field `code`. The same\n\
             cause has the same code. The message names the object and says what to do. A test keeps this table as the source says.\n\n\
             | code | what it means | where to look |\n|---|---|---|\n",
        );
        let table = |known: &[KnownCode]| -> String {
            let line = |k: &KnownCode| format!("| `{}` |{} | {} |\n", k.code, k.means, k.look);
            known.iter().map(line).collect()
        };
        text += &table(Code::KNOWN);
        text += "\n## Notes\n\n\
             A note tells what to know of a restore or a backup. It has a weight: `lost`, something of yours will be gone; `down`, something\n\
             will not work; `known`, good to know. A note may also have a code of the table above: then that stands in the way of\n\
             something, but not of the whole.\n\n\
             | code | what it means | where to look |\n|---|---|---|\n";
        text += &table(Code::OF_NOTES);
        if std::env::var_os("HOLDFAST_CODES").is_some_and(|v| v == "write") {
            std::fs::write(page, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(page).unwrap(), text);
    }
}
