#![allow(clippy::unwrap_used)]
use journal_format::{Change, FileFacts};

use super::*;
use crate::archive;
use crate::archive::manifest::{EntryFacts, Manifest};
use crate::archive::verify::{CheckedDatabase, FileInBackup};
use crate::gateway::database::{Client, Origin};
use crate::gateway::parts::PartFate;
use crate::gateway::profile::DatabaseKind;

fn fenced(allowed: &[&str]) -> Vec<String> {
    let prefixes = allowed.iter().map(|p| Prefix::parse(p).unwrap()).collect();
    let networks = BTreeMap::from([("wg0".to_owned(), prefixes)]);
    let networks = networks
        .iter()
        .map(|(n, p): (&String, &Vec<Prefix>)| (n.as_str(), &p[..]));
    let wg0 = [Tunnel {
        name: "wg0".into(),
        config: "wg0.conf".into(),
    }];
    fence((&wg0, &[], &[]), networks, std::iter::empty()).networks
}

#[test]
fn the_fence_spares_the_networks_of_tunnels_that_stay_and_is_no_wider_for_it() {
    let tunnel = |name: &str| Tunnel {
        name: name.into(),
        config: format!("{name}.conf"),
    };
    let both = [tunnel("goes"), tunnel("stays")];
    let prefix = |text: &str| Prefix::parse(text).unwrap();
    let fenced = |goes: &[&str], stays: &[&str]| {
        let (goes, stays): (Vec<Prefix>, Vec<Prefix>) = (
            goes.iter().map(|p| prefix(p)).collect(),
            stays.iter().map(|p| prefix(p)).collect(),
        );
        let networks = [("goes", &goes[..]), ("stays", &stays[..])];
        let rules = fence(
            (&both, &both, &["stays".to_owned()]),
            networks.into_iter(),
            std::iter::empty(),
        );
        assert_eq!(rules.interfaces, ["goes"]);
        rules.networks
    };
    // Equal: that of the tunnel that stays. Nested: the longer prefix, on either side.
    assert_eq!(fenced(&["10.2.0.0/16"], &["10.2.0.0/16"]), [""; 0]);
    assert_eq!(fenced(&["10.2.7.0/24"], &["10.2.0.0/16"]), ["10.2.7.0/24"]);
    assert_eq!(fenced(&["10.2.6.0/23"], &["10.2.7.0/24"]), ["10.2.6.0/24"]);
    // What is too wide to be fenced is not fenced in pieces.
    assert_eq!(fenced(&["0.0.0.0/0"], &["10.2.7.0/24"]), [""; 0]);
}

#[test]
fn a_way_out_is_never_fenced_also_in_halves_and_a_sites_own_networks_are() {
    for way_out in [
        &["0.0.0.0/0", "::/0"][..],
        &["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"],
        &["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/1", "2000::/3"],
    ] {
        assert!(fenced(way_out).is_empty(), "{way_out:?}");
        let with_site = [way_out, &["10.1.2.3/24", "10.0.0.0/8", "fd00:1::/32"]].concat();
        assert!(fenced(&with_site).contains(&"10.0.0.0/8".to_owned()));
        assert!(fenced(&with_site).contains(&"fd00:1::/32".to_owned()));
    }
    assert_eq!(fenced(&["10.1.2.3/24", "10.1.3.0/24"]), ["10.1.2.0/23"]);
    assert_eq!(fenced(&["10.1.1.0/24", "10.1.2.0/24"]).len(), 2);
}

pub(in crate::plan::planner) fn survey(configs: BTreeMap<String, FileFacts>) -> Survey {
    Survey {
        boot: journal_format::BootId::new("b").unwrap(),
        facts: crate::gateway::kernel_facts::Facts::default(),
        as_configured: BTreeSet::new(),
        configs,
        wireguard: BTreeMap::new(),
        databases: BTreeMap::new(),
        no_files: BTreeSet::new(),
        kept: Vec::new(),
        kept_at: BTreeMap::new(),
        clients: None,
        users: BTreeMap::new(),
        mail: BTreeMap::new(),
        links: BTreeSet::new(),
        owner: (8, 9),
        exposure: Default::default(),
        warnings: Vec::new(),
    }
}

pub(in crate::plan::planner) fn meta(uid: u32, mode: u32) -> crate::host::Meta {
    crate::host::Meta {
        kind: crate::host::Kind::File,
        id: None,
        dev: 1,
        size: 1,
        uid,
        gid: 9,
        mode,
        changed_ns: 0,
    }
}

fn held(uid: u32, mode: u32) -> FileFacts {
    meta(uid, mode).with(sha256(b"as it is"))
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of_blake3(blake3::hash(bytes))
}

/// Owners that files of a backup may have.
const OWNERS: [(u32, u32, u32); 10] = [
    (0, 0, 0o777),
    (8, 9, 0o600),
    (0, 9, 0o4755),
    (8, 9, 0o666),
    (8, 9, 0o644),
    (8, 9, 0o640),
    (7, 9, 0o640),
    (8, 100, 0o640),
    (65534, 65534, 0o640),
    (0, 0, 0o644),
];

pub(in crate::plan::planner) fn backup(configs: &[(&str, FileInBackup)]) -> BackupForPlan {
    let mut checked = Checked::default();
    for (name, file) in configs {
        let config = checked.configs.entry((*name).to_owned()).or_default();
        config.first = Some(file.clone());
    }
    checked.manifest = Some(Manifest::default());
    let owners = OWNERS.into_iter().map(|(uid, gid, mode)| {
        let owner = Owner { uid, gid, mode };
        (owner, format!("u{uid}:g{gid}"))
    });
    BackupForPlan {
        same_rows: BTreeSet::new(),
        archive: ArchiveInfo {
            name: "b.zip".into(),
            sha256: sha256(b"archive"),
            size: 1,
            created_at: "2026-11-22T18:52:20Z".into(),
            host: None,
            made_by: "gateway".into(),
        },
        checked,
        owners: owners.enumerate().collect(),
        rules: BTreeMap::new(),
        peers: None,
        found: Vec::new(),
        said: Vec::new(),
    }
}

impl BackupForPlan {
    pub(in crate::plan::planner) fn manifest(&mut self) -> &mut Manifest {
        self.checked.manifest.get_or_insert_default()
    }

    pub(in crate::plan::planner) fn add_database(&mut self, name: &str, file: FileInBackup) {
        let database = CheckedDatabase {
            kind: DatabaseKind::Clients,
            file,
            beside: None,
            users: Vec::new(),
            mail: None,
        };
        self.checked.databases.insert(name.to_owned(), database);
    }
}

pub(in crate::plan::planner) fn wanted(
    owner: Option<(u32, u32, u32)>,
    bytes: &[u8],
) -> FileInBackup {
    FileInBackup {
        entry: "x".into(),
        facts: EntryFacts {
            sha256: sha256(bytes),
            size: 1,
            owner: owner.map(|owner| OWNERS.iter().position(|known| *known == owner).unwrap()),
        },
    }
}

fn planned(survey: &Survey, backup: &BackupForPlan) -> Result<Plan, Vec<Problem>> {
    let choices = Choices {
        keep_going_without_firewall: false,
        keep_open_folders: false,
        policy: Policy::Auto,
        without_safety_backup_of: BTreeSet::new(),
        keep_going_without_services: false,
        leave_down: BTreeSet::new(),
        full_stop: true,
    };
    let id = RestoreId::new("20261122T185220Z-00000001").unwrap();
    let profile = Profile::default();
    plan(&profile, survey, &BTreeMap::new(), backup, &id, choices)
}

fn placed(survey: &Survey, backup: &BackupForPlan) -> Vec<(u32, u32, u32)> {
    let plan = planned(survey, backup).unwrap();
    let files = plan.databases.iter().chain(&plan.files);
    let new = files.filter_map(|f| f.new.as_ref());
    new.map(|n| (n.uid, n.gid, n.mode)).collect()
}

#[test]
fn a_config_is_never_more_open_than_to_its_group_nor_is_one_that_is_replaced() {
    let now = BTreeMap::from([("a.conf".to_owned(), held(8, 0o666))]);
    for (asked, given) in [
        (Some((0, 0, 0o777)), (0, 0, 0o640)),
        (Some((8, 9, 0o600)), (8, 9, 0o600)),
        (Some((0, 9, 0o4755)), (0, 9, 0o640)),
        (None, (8, 9, 0o640)),
    ] {
        let backup = backup(&[("a.conf", wanted(asked, b"new"))]);
        assert_eq!(placed(&survey(BTreeMap::new()), &backup), [given]);
        assert_eq!(placed(&survey(now.clone()), &backup), [given]);
    }
}

#[test]
fn a_database_is_never_open_to_everybody() {
    let mut backup = backup(&[]);
    let database = wanted(Some((8, 9, 0o666)), b"new");
    backup.add_database("configs.db", database);
    let mut survey = survey(BTreeMap::new());
    assert_eq!(placed(&survey, &backup), [(8, 9, 0o660)]);
    survey.databases.insert("configs.db".into(), meta(8, 0o666));
    assert_eq!(placed(&survey, &backup), [(8, 9, 0o660)]);
    backup.add_database("configs.db", wanted(None, b"new"));
    assert_eq!(placed(&survey, &backup), [(8, 9, 0o660)]);
}

#[test]
fn a_config_stays_where_its_row_stays_or_may_be_there() {
    let removed = |change: &dyn Fn(&mut Survey, &mut BackupForPlan)| {
        let now = BTreeMap::from([("a.conf".to_owned(), held(8, 0o640))]);
        let mut survey = survey(now);
        let database = meta(8, 0o640);
        survey.databases.insert("configs.db".into(), database);
        survey.clients = Some(Vec::new());
        let mut backup = backup(&[("b.conf", wanted(None, b"new"))]);
        change(&mut survey, &mut backup);
        let plan = planned(&survey, &backup).unwrap();
        let mut files = plan.files.into_iter();
        files.any(|f| f.change == Change::Remove && f.path.ends_with("/a.conf"))
    };
    let client = || Client {
        name: "a".into(),
        config_path: String::new(),
        subnet: String::new(),
        status: "active".into(),
    };
    // No row names it, and none will.
    assert!(removed(&|_, _| ()));
    assert!(!removed(&|survey, _| survey.clients = Some(vec![client()])));
    // Rows that cannot be read are not none.
    assert!(!removed(&|survey, _| survey.clients = None));
    // One of bytes alone does not come from elsewhere: the rows of here stay.
    assert!(!removed(&|survey, backup| {
        survey.clients = Some(vec![client()]);
        let part = Part::Database("configs.db".into());
        let why = "file is not a database".into();
        let parts = &mut backup.manifest().parts;
        parts.insert(part, PartFate::SavedRaw { why });
    }));
}

#[test]
fn a_file_of_kept_rules_is_known_again_by_its_entry_whatever_name_a_link_gives_it() {
    for (family, change, path) in [
        (Family::V4, Change::Replace, "/etc/fw/rules.conf"),
        (Family::V4, Change::Replace, "/etc/fw/other.v6"),
        (Family::V6, Change::Remove, "/etc/fw/rules.v4"),
    ] {
        let mut survey = survey(BTreeMap::new());
        survey.kept = vec![(family, path.into(), held(0, 0o640))];
        survey.kept_at = BTreeMap::from([(family, path.into())]);
        let mut backup = backup(&[]);
        if change == Change::Replace {
            let mut wanted = wanted(None, b"new");
            wanted.entry = archive::kept(family).into();
            backup.checked.kept.insert(family, wanted);
        } else {
            backup.checked.origin = Origin::Here;
            let parts = &mut backup.manifest().parts;
            parts.insert(Part::Kept(family), PartFate::NotThere);
        }
        let plan = planned(&survey, &backup).unwrap();
        let changes: Vec<Change> = plan.files.iter().map(|f| f.change).collect();
        assert_eq!(changes, [change]);
        let parts = [
            Part::Configs,
            Part::Kept(Family::V4),
            Part::Kept(Family::V6),
        ];
        survey.facts.unread = parts.into_iter().map(|p| (p, String::new())).collect();
        let unsaved = crate::plan::replaced::unsaved(&plan, &survey.facts).into_iter();
        let unsaved: Vec<Part> = unsaved.map(|lack| lack.part).collect();
        assert_eq!(unsaved, [Part::Kept(family)], "{path}");
    }
}

#[test]
fn configs_go_where_the_backup_says_that_there_were_none_and_stay_where_anything_in_it_says_otherwise()
 {
    let fate = |fate: &str| match fate {
        "saved" => Some(PartFate::Saved),
        "not there" => Some(PartFate::NotThere),
        "not saved" => Some(PartFate::NotSaved {
            why: "the folder cannot be read".into(),
        }),
        _ => None,
    };
    // Its list of configs is there; how many clients its database has, if that is there; what it says became of the configs.
    for (lists, clients, says, goes) in [
        (true, Some(0), "saved", true),
        (true, Some(0), "not there", true),
        (true, Some(0), "", true),
        (true, Some(0), "not saved", false),
        (true, Some(1), "saved", false),
        (true, Some(1), "not there", false),
        (true, Some(1), "", false),
        (true, None, "saved", false),
        (true, None, "", false),
        (false, Some(0), "saved", false),
        (false, Some(0), "", false),
    ] {
        let shown = (lists, clients, says);
        let now = BTreeMap::from([("a.conf".to_owned(), held(8, 0o640))]);
        let mut survey = survey(now.clone());
        survey.wireguard = now;
        survey.clients = Some(Vec::new());
        survey.facts.tunnels = vec!["a".into()];
        let mut backup = backup(&[]);
        backup.checked.lists_configs = lists;
        backup.checked.clients = clients.map(|n| {
            let client = Client {
                name: "b".into(),
                config_path: String::new(),
                subnet: String::new(),
                status: "active".into(),
            };
            vec![client; n]
        });
        let parts = &mut backup.manifest().parts;
        parts.extend(fate(says).map(|f| (Part::Configs, f)));
        let after = |backup: &BackupForPlan| {
            let plan = planned(&survey, backup).unwrap();
            let removed = plan.files.iter().any(|f| f.change == Change::Remove);
            (removed, plan.tunnels_up.iter().any(|t| t.name == "a"))
        };
        assert_eq!(after(&backup), (goes, !goes), "{shown:?}");
        // One that could not be taken was there.
        backup.manifest().left_out.insert("a.conf".into());
        assert_eq!(after(&backup), (false, true), "{shown:?}");
    }
}

#[test]
fn a_file_that_only_stands_open_is_no_change() {
    let same = |now: u32, asked: u32| {
        let now = BTreeMap::from([("a.conf".to_owned(), held(8, now))]);
        let backup = backup(&[("a.conf", wanted(Some((8, 9, asked)), b"as it is"))]);
        placed(&survey(now), &backup).is_empty()
    };
    assert!(same(0o644, 0o644) && same(0o666, 0o640));
    assert!(!same(0o600, 0o644));
}

#[test]
fn an_owner_or_a_group_without_a_part_in_the_gateway_is_refused_by_name() {
    let of_seven = BTreeMap::from([("a.conf".to_owned(), held(7, 0o640))]);
    let backup = |uid, gid| {
        let wanted = wanted(Some((uid, gid, 0o640)), b"new");
        backup(&[("a.conf", wanted.clone()), ("b.conf", wanted)])
    };
    for (uid, gid) in [(7, 9), (8, 100), (65534, 65534)] {
        let problems = planned(&survey(BTreeMap::new()), &backup(uid, gid)).unwrap_err();
        let [problem] = &problems[..] else {
            panic!("{problems:?}")
        };
        let first = "instance/configs/a.conf and 1 more in place";
        assert!(problem.what.contains(first), "{problem}");
        let who = format!("it belongs to u{uid}:g{gid}, ");
        assert!(problem.what.contains(&who), "{problem}");
    }
    // Whose the present file is may have it again; the other file is no longer his.
    let problems = planned(&survey(of_seven), &backup(7, 9)).unwrap_err();
    assert!(problems[0].what.contains("b.conf in place"), "{problems:?}");
}

#[test]
fn what_was_set_by_hand_of_a_tunnel_that_goes_down_is_a_loss_unless_the_backup_brings_its_like() {
    let tunnel = |name: &str| Tunnel {
        name: name.into(),
        config: format!("/etc/wireguard/{name}.conf"),
    };
    let down = [tunnel("wg0"), tunnel("wg1")];
    let mut checked = Checked::default();
    checked.peers.insert("wg1".into(), Default::default());
    let weight = |code: &Code, name: &str| {
        let note = Note::known(code.clone(), "x").about(name);
        goes_with_its_tunnel(&note, &down, &checked).weight
    };
    let (peers, link) = (Code::PEERS_BEYOND_CONFIG, Code::SET_BY_HAND);
    assert_eq!(weight(&peers, "wg0"), Weight::Lost);
    assert_eq!(
        weight(&peers, "wg1"),
        Weight::Known,
        "the backup has peers of it"
    );
    assert_eq!(weight(&peers, "wg9"), Weight::Known, "it stays up");
    assert_eq!(weight(&link, "wg1"), Weight::Lost);
    assert_eq!(weight(&Code::CLIENT_ODD, "wg0"), Weight::Known);
}
