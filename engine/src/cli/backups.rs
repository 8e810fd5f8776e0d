//! `holdfast backups`: the backups in the profile's folder, a line each, and what is wrong with one beneath it. Changes nothing.

use journal_format::{ago, size, utc, visible};
use serde_json::{Value, json};

use super::{Context, print_json};
use crate::archive::catalog::{self, About, ListedBackup, Summary};
use crate::error::Fault;
use crate::files::space;
use crate::gateway::parts;
use crate::host::this_box;
use crate::text::wording::{counted, in_a_line, names};

pub(super) fn run(context: &Context) -> Result<u8, Fault> {
    let profile = &context.profile;
    let all = catalog::list(profile)?;
    let latest = catalog::good(profile, &all)?
        .first()
        .map(|b| b.name.clone());
    if context.json {
        let list: Vec<Value> = all.iter().map(|b| as_json(context, b, &latest)).collect();
        print_json(&json!({ "backups": list }));
        return Ok(0);
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let here = this_box::host_name();
    for line in table(&all, now_ms, here.as_deref()) {
        say!("{}", visible(&line));
    }
    let dir = profile.backups_dir();
    let of_all = all.iter().map(|b| b.size).sum();
    let free = match space::free(&dir) {
        Ok(free) if dir.exists() => format!("; {} are free there", size(free)),
        Ok(_) | Err(_) => String::new(),
    };
    let count = counted(all.len(), "backup");
    say!(
        "{}",
        visible(&format!(
            "{count} in {}, {}{free}",
            dir.display(),
            size(of_all)
        ))
    );
    match latest {
        Some(name) => say!("latest: {}", visible(&name)),
        None => say!(
            "latest: none (those that restores make do not count); `holdfast backup` makes one"
        ),
    }
    Ok(0)
}

fn as_json(context: &Context, backup: &ListedBackup, latest: &Option<String>) -> Value {
    let mut value = json!(backup);
    if let Value::Object(all) = &mut value {
        let path = context.profile.backups_dir().join(&backup.name);
        all.insert("path".into(), path.display().to_string().into());
        all.insert("made".into(), json!(backup.made_ms.map(utc)));
        all.insert("verified".into(), json!(backup.verified_ms.map(utc)));
        all.insert(
            "latest".into(),
            (latest.as_ref() == Some(&backup.name)).into(),
        );
    }
    value
}

/// A header and a line for each, in columns; beneath a line what is wrong with that backup.
fn table(all: &[ListedBackup], now_ms: i64, here: Option<&str>) -> Vec<String> {
    let header = ["NAME", "MADE", "SIZE", "KIND", "CONTENTS", "VERIFIED"].map(str::to_owned);
    let rows: Vec<[String; 6]> = all.iter().map(|b| row(b, now_ms)).collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows
            .iter()
            .chain([&header])
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    });
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line.join("  ").trim_end().to_owned()
    };
    let mut lines = Vec::new();
    if !all.is_empty() {
        lines.push(line(&header));
    }
    for (backup, row) in all.iter().zip(&rows) {
        lines.push(line(row));
        lines.extend(beneath(backup, here).map(|text| format!("  {text}")));
    }
    lines
}

fn row(backup: &ListedBackup, now_ms: i64) -> [String; 6] {
    let unknown = || "-".to_owned();
    let when = |ms: Option<i64>| ms.map_or_else(unknown, |ms| ago(ms, now_ms));
    let contents = match &backup.about {
        About::Backup(summary) => contents(summary),
        About::Unreadable(_) => unknown(),
    };
    [
        backup.name.clone(),
        when(backup.made_ms),
        size(backup.size),
        backup
            .kind
            .map_or_else(unknown, |kind| kind.name().to_owned()),
        contents,
        when(backup.verified_ms),
    ]
}

fn contents(summary: &Summary) -> String {
    let mut all = vec![
        counted(summary.configs, "config"),
        counted(summary.databases.len(), "database"),
    ];
    all.extend(summary.rules.then(|| "rules".to_owned()));
    all.join(", ")
}

/// What is wrong with it, or strange: where it does not come from here, and what it lacks.
fn beneath(backup: &ListedBackup, here: Option<&str>) -> impl Iterator<Item = String> {
    let summary = match &backup.about {
        About::Backup(summary) => summary,
        About::Unreadable(problem) => return vec![in_a_line(problem)].into_iter(),
    };
    let mut lines = Vec::new();
    if !backup.made_here {
        let by = &summary.made_by;
        lines.push(match summary.host.as_deref() {
            Some(host) if Some(host) != here => {
                format!("not made here: by {by} on the host {host}")
            }
            Some(_) | None => format!("not made here: by {by}"),
        });
    }
    if backup.pinned {
        lines.push("pinned".to_owned());
    }
    if !summary.unread.is_empty() {
        let unread = names(&summary.unread);
        lines.push(format!(
            "SQLite could not read {unread}: its bytes were saved"
        ));
    }
    if !summary.lacks.is_empty() {
        lines.push(parts::incomplete(&summary.lacks));
    }
    lines.into_iter()
}
