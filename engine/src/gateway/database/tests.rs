//! Databases as the gateway leaves them, in a folder with an odd name; the parts go by what is done with one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accepting;
pub(crate) mod content;
mod contents;
mod copying;
mod reading;
mod settling;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::gateway::profile::DatabaseKind;
use content::{content, same_content};

fn patience() -> Patience {
    Patience::of(BUSY)
}

fn snapshot(live: &Path, dest: &Path) -> Result<Vec<String>, Trouble> {
    super::snapshot(live, dest, patience())
}

fn clients(path: &Path) -> Result<Vec<Client>, Problem> {
    Ok(read_clients(path, OpenMode::Live(patience()))?)
}

fn users(path: &Path) -> Result<Vec<User>, Problem> {
    Ok(read_users(path, OpenMode::Live(patience()))?)
}

const CLIENTS: &str = "CREATE TABLE clients (id TEXT PRIMARY KEY, name TEXT NOT NULL, config_path TEXT NOT NULL, \
    subnet TEXT NOT NULL, public_key TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'inactive');
    CREATE TABLE test_history (id INTEGER PRIMARY KEY AUTOINCREMENT, client_id TEXT NOT NULL REFERENCES clients (id), latency_ms INTEGER);
    INSERT INTO clients VALUES ('1', 'beta', '/etc/wireguard/beta.conf', '10.2.0.0/24', 'k', 'active');
    INSERT INTO clients VALUES (NULL, 'alpha', '/etc/wireguard/alpha.conf', '10.3.0.0/24', 'k', 'inactive');
    INSERT INTO test_history (client_id, latency_ms) VALUES ('1', 5);";
const USERS: &str = "CREATE TABLE user (id INTEGER PRIMARY KEY, username VARCHAR(80) UNIQUE NOT NULL, \
    password VARCHAR(255) NOT NULL, active BOOLEAN);
    INSERT INTO user VALUES (1, 'admin', 'sha256$a$00', 1), (2, 'guest', 'sha256$a$01', 0), (3, 'nobody', 'sha256$a$02', NULL);";

/// A folder whose name has all that a URI could take for something else.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a?mode=memory&b#c%20d é'\"");
    std::fs::create_dir(&odd).unwrap();
    (dir, odd)
}

fn made(path: &Path, sql: &str) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.execute_batch(sql).unwrap();
    conn
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = dir
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn refusals(path: &Path, kind: DatabaseKind) -> String {
    let NotTaken::Unfit(problems) = check(path, "a.db", kind, Origin::Elsewhere).unwrap_err()
    else {
        panic!("it failed")
    };
    problems
        .iter()
        .map(|p| p.what.clone())
        .collect::<Vec<_>>()
        .join("\n")
}
