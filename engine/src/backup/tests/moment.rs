//! Rows and files are of one moment, or named.

use super::*;

/// Adds and removes clients as the gateway's application does, row first, until it is dropped.
fn uploads(
    gateway: &Gateway,
    pause: Duration,
) -> (Arc<AtomicBool>, std::thread::JoinHandle<usize>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let connection = gateway.open("configs.db");
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    let folders = [
        gateway.profile.gateway.configs_dir.clone(),
        gateway.profile.gateway.wireguard_dir.clone(),
    ];
    let prefix = format!("up{}", pause.as_millis());
    let work = move || {
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            n += 1;
            let name = format!("{prefix}_{n:08x}");
            let row = "INSERT INTO clients (id, name, config_path, subnet, public_key) VALUES (?1, ?1, 'p', 's', ?1)";
            connection.execute(row, [&name]).unwrap();
            for folder in &folders {
                std::thread::sleep(Duration::from_millis(2));
                std::fs::write(folder.join(format!("{name}.conf")), config(2000)).unwrap();
            }
            if n > 3 && n % 3 == 0 {
                let gone = format!("{prefix}_{:08x}", n - 3);
                connection
                    .execute("DELETE FROM clients WHERE name = ?1", [&gone])
                    .unwrap();
                for folder in &folders {
                    std::fs::remove_file(folder.join(format!("{gone}.conf"))).unwrap();
                }
            }
            std::thread::sleep(pause);
        }
        n
    };
    (stop, std::thread::spawn(work))
}

#[test]
fn rows_and_files_of_a_gateway_that_is_written_to_are_of_one_moment_or_named() {
    let gateway = Gateway::new();
    for pause in [3, 300] {
        let (stop, thread) = uploads(&gateway, Duration::from_millis(pause));
        let mut named = 0;
        for _ in 0..5 {
            let made = gateway.make().unwrap();
            let unpaired = manifest_of(&made.path).unpaired;
            named += usize::from(!unpaired.is_empty());
            let file = File::open(&made.path).unwrap();
            let (checked, _) =
                verify::archive(&gateway.profile, &shapes(&gateway.profile), file, "b.zip")
                    .unwrap();
            let clients = checked.clients.unwrap();
            let rows: BTreeSet<String> = clients.into_iter().map(|c| c.name).collect();
            let whole = |c: &verify::CheckedConfig| c.first.is_some() && c.second.is_some();
            let files = checked.configs.iter().filter(|(_, c)| whole(c));
            let files = files.map(|(name, _)| name.strip_suffix(".conf").unwrap().to_owned());
            let files: BTreeSet<String> = files.collect();
            let differ = rows.symmetric_difference(&files);
            let silent: Vec<&String> = differ.filter(|n| !unpaired.contains(*n)).collect();
            assert_eq!(silent, Vec::<&String>::new(), "{unpaired:?}");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(thread.join().unwrap() > 3);
        // At three a second some one is caught now and then; at a hundred all of the time.
        assert!(pause < 100 || named <= 3, "{named}");
    }
}

#[test]
fn what_the_gateway_writes_all_the_time_pairs_as_it_is() {
    let gateway = Gateway::new();
    let connection = gateway.open("configs.db");
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let writes = "UPDATE clients SET status = 'inactive', updated_at = CURRENT_TIMESTAMP;
                INSERT INTO monitoring_logs (event_type, message) VALUES ('x', 'y');";
            connection.execute_batch(writes).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    for _ in 0..3 {
        let made = gateway.make().unwrap();
        assert_eq!(manifest_of(&made.path).unpaired, BTreeSet::new());
        assert_eq!(made.warnings, []);
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}

#[test]
fn configs_that_may_be_of_clients_are_named_where_nobody_can_tell_which_clients_there_are() {
    let gateway = Gateway::new();
    gateway.write("wireguard", "c_00000003", &config(11));
    gateway
        .open("configs.db")
        .execute_batch("DROP TABLE clients")
        .unwrap();
    let made = gateway.make().unwrap();
    let [lack] = made.lacks.as_slice() else {
        panic!("{:?}", made.lacks)
    };
    assert_eq!(lack.part, Part::Configs);
    assert!(lack.why.contains("c_00000003.conf"), "{}", lack.why);
    assert_eq!(made.unread, BTreeSet::from(["c_00000003.conf".into()]));
    let manifest = manifest_of(&made.path);
    assert!(manifest.left_out.contains("c_00000003.conf"));
}

#[test]
fn where_the_clients_cannot_be_read_what_changes_meanwhile_is_named() {
    let gateway = Gateway::new();
    gateway
        .open("configs.db")
        .execute_batch("DROP TABLE clients")
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let file = gateway.profile.gateway.configs_dir.join("a_00000001.conf");
    let thread = std::thread::spawn(move || {
        let mut port = 1;
        while !stopped.load(Ordering::Relaxed) {
            port += 1;
            std::fs::write(&file, config(port % 1000)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let made = gateway.make().unwrap();
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let unpaired = manifest_of(&made.path).unpaired;
    assert!(unpaired.contains("a_00000001"), "{unpaired:?}");
    for code in [Code::NOT_OF_ONE_MOMENT, Code::DATABASE_ODD] {
        let said = made.warnings.iter().any(|note| note.is(&code));
        assert!(said, "{code}: {:?}", made.warnings);
    }
}

#[test]
fn a_row_whose_files_are_still_to_come_is_named() {
    let gateway = Gateway::new();
    let sql = "INSERT INTO clients (id, name, config_path, subnet, public_key, status) VALUES ('z','z_1','p','s','k','active')";
    gateway.open("configs.db").execute_batch(sql).unwrap();
    let made = gateway.make().unwrap();
    let unpaired = manifest_of(&made.path).unpaired;
    assert!(unpaired.contains("z_1"), "{unpaired:?}");
}

#[test]
fn a_row_whose_name_no_file_can_have_leads_to_none_and_stops_nothing() {
    let gateway = Gateway::new();
    let outside = gateway.dir.path().join("outside");
    std::fs::write(outside.with_extension("conf"), config(12)).unwrap();
    let database = gateway.open("configs.db");
    let long = "e".repeat(300);
    for name in [
        outside.to_str().unwrap(),
        "../outside",
        &long,
        "a\0b",
        "a_00000001.conf/x",
    ] {
        let sql = "INSERT INTO clients (id, name, config_path, subnet, public_key) VALUES (?1, ?1, 'p', 's', 'k')";
        database.execute(sql, [name]).unwrap();
    }
    let made = gateway.make().unwrap();
    assert_eq!(made.lacks, []);
    let manifest = manifest_of(&made.path);
    let strange = |entry: &&String| entry.contains("outside") || entry.starts_with("holdfast/raw/");
    assert_eq!(manifest.entries.keys().find(strange), None);
    let told = made.warnings.iter().find(|note| note.is(&Code::CLIENT_ODD));
    assert!(told.unwrap().text.starts_with("5 clients"), "{told:?}");
}
