//! Journals of newer versions: all is read, and nothing that is not known is acted on.

use super::*;

/// A journal as the program of the next minor version writes it: line by line, whatever it holds.
struct Quill {
    bytes: Vec<u8>,
    last: [u8; 32],
}

impl Quill {
    fn line(&mut self, json: &str) {
        let hash = blake3::hash(&[&self.last[..], json.as_bytes()].concat());
        self.bytes
            .extend_from_slice(format!("{} {json}\n", hash.to_hex()).as_bytes());
        self.last = *hash.as_bytes();
    }

    /// These records, with a header of the next minor version.
    fn newer(records: &[Value]) -> Quill {
        let mut quill = Quill {
            bytes: Vec::new(),
            last: [0; 32],
        };
        for (n, record) in records.iter().enumerate() {
            let mut record = record.clone();
            if n == 0 {
                record["entry"]["header"]["format"]["minor"] = NEXT.minor.into();
            }
            quill.line(&record.to_string());
        }
        quill
    }
}

const NEXT: Format = Format {
    major: Format::CURRENT.major,
    minor: Format::CURRENT.minor + 1,
};

fn values(pen: &Pen) -> Vec<Value> {
    let values = pen.records.iter().map(serde_json::to_value);
    values.collect::<Result<_, _>>().unwrap()
}

#[test]
fn of_a_newer_minor_version_all_is_read_and_nothing_acted_on() {
    let pen = Pen::restored();
    let found = scan(&Quill::newer(&values(&pen)).bytes);
    let readable = Tail::Newer {
        format: NEXT,
        readable: true,
    };
    assert_eq!((&found.tail, &found.chain), (&readable, &None));
    assert_eq!(
        (found.records.len(), found.opaque.len()),
        (pen.records.len(), 0)
    );
    let state = found.state.unwrap();
    assert_eq!(
        (state.stops_at, state.verdict()),
        (None, Some(Verdict::Restored))
    );

    let begun = Pen::begun();
    let mut quill = Quill::newer(&values(&begun));
    let known = quill.bytes.len();
    quill.line(r#"{"seq":3,"at_ms":1,"up_ms":2,"entry":{"paused":{"until":5}}}"#);
    quill.line(r#"{"seq":4,"at_ms":1,"up_ms":2,"entry":"committed"}"#);
    let found = scan(&quill.bytes);
    assert_eq!((&found.tail, &found.chain), (&readable, &None));
    assert_eq!(found.records.len(), 4);
    assert_eq!((found.opaque.len(), found.opaque[0].0), (1, Seq(3)));
    let state = found.state.unwrap();
    assert_eq!((state.seq, state.stops_at), (Seq(2), Some(Seq(3))));
    let mut flipped = quill.bytes.clone();
    flipped[known + 80] ^= 1;
    assert_eq!(soundness(&flipped), Soundness::Corrupt);
    assert_eq!(
        soundness(&quill.bytes[..quill.bytes.len() - 9]),
        Soundness::Newer
    );
}

/// Every object in a record, as the path to it.
fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(path.to_owned());
            for (name, field) in fields {
                objects(field, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{n}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A way to say more in one object than this program knows.
type More = fn(&mut Value);

const MORE: [More; 4] = [
    |object| object["lacks"] = serde_json::json!(["app.db"]),
    |object| object["mood"] = Value::Null,
    |object| object["mood"] = false.into(),
    |object| object["info"] = "not an object".into(),
];

/// Journals that have every kind of record, and every kind of object that may be in one.
fn of_every_kind() -> Vec<Pen> {
    let mut stuck = Pen::armed();
    stuck.write(Entry::Stuck {
        problem: problem("go on"),
    });
    let mut commands = plan();
    commands.services[0].control = crate::Control::Commands {
        stop: vec!["stop".into()],
        start: vec!["start".into()],
        active: vec!["active".into()],
    };
    let mut by_commands = Pen::opened_with(header(&commands));
    by_commands.write(Entry::Plan(commands.into()));
    vec![Pen::restored(), Pen::rolled_back(), stuck, by_commands]
}

#[test]
fn a_field_that_is_not_known_ends_the_fold_of_a_newer_journal_wherever_it_stands() {
    let mut kinds = std::collections::BTreeSet::new();
    for pen in of_every_kind() {
        let written = values(&pen);
        for (n, record) in written.iter().enumerate() {
            let mut places = Vec::new();
            objects(record, "", &mut places);
            for place in places {
                // One of each kind of place will do.
                let entry = record["entry"].as_object().and_then(|e| e.keys().next());
                let kind = format!(
                    "{entry:?} {}",
                    place.replace(|c: char| c.is_ascii_digit(), "N")
                );
                if !kinds.insert(kind) {
                    continue;
                }
                for more in MORE {
                    let mut changed = written.clone();
                    more(changed[n].pointer_mut(&place).unwrap());
                    let found = scan(&Quill::newer(&changed).bytes);
                    let seq = Seq(n as u64);
                    assert!(matches!(found.tail, Tail::Newer { readable: true, .. }));
                    assert_eq!(found.opaque.len(), 1, "{seq}{place}");
                    assert_eq!(found.opaque[0].0, seq, "{place}");
                    match found.state {
                        None => assert_eq!(n, 0, "{place}"),
                        Some(state) => {
                            assert_eq!(state.stops_at, Some(seq), "{place}");
                            assert_eq!(state.seq.next(), seq, "{place}");
                            assert_eq!(state.verdict(), None, "{seq}{place}");
                            assert_eq!(crate::Standing::of(&state), crate::Standing::Unknown);
                        }
                    }
                }
            }
        }
    }
    assert!(kinds.len() > 40, "{kinds:?}");
}

#[test]
fn what_a_newer_journal_says_is_not_known_once_one_word_of_it_is_not() {
    let mut verdict = values(&Pen::restored());
    let closed = verdict.len() - 2;
    for copy in [closed, closed + 1] {
        verdict[copy]["entry"]["closed"]["verdict"] = "left".into();
    }
    let mut step = values(&Pen::armed());
    step[3]["entry"]["intent"]["move"]["step"] = "ask".into();
    for (changed, stops) in [(verdict, closed as u64), (step, 3)] {
        let found = scan(&Quill::newer(&changed).bytes);
        assert_eq!(found.state.unwrap().stops_at, Some(Seq(stops)));
    }
}

#[test]
fn a_restore_that_ended_is_not_said_to_have_when_more_stands_behind_its_end() {
    let mut more = values(&Pen::restored());
    more.push(
        serde_json::json!({ "seq": more.len(), "at_ms": 1, "up_ms": 2, "entry": "reopened" }),
    );
    let state = scan(&Quill::newer(&more).bytes).state.unwrap();
    assert_eq!(state.verdict(), None);
    let view = crate::View::of(&state);
    assert_eq!(view.standing, crate::Standing::Unknown);
    insta::assert_snapshot!(view.headline, @"How it stands is not known: its journal is of format 1.2, and this program understands it only up to record 39. The program that wrote it can tell: holdfast 0.1.0.");
}

#[test]
fn a_field_that_is_not_known_is_corruption_in_a_journal_of_this_version() {
    let written = values(&Pen::armed());
    for n in 0..written.len() {
        let mut places = Vec::new();
        objects(&written[n], "", &mut places);
        for place in places {
            let mut changed = written.clone();
            MORE[0](changed[n].pointer_mut(&place).unwrap());
            let mut quill = Quill::newer(&[]);
            changed.iter().for_each(|r| quill.line(&r.to_string()));
            let found = scan(&quill.bytes);
            assert_eq!(found.soundness(), Soundness::Corrupt, "{n}{place}");
            assert_eq!(found.records.len(), n, "{n}{place}");
        }
    }
}

#[test]
fn what_is_for_people_alone_is_passed_over_beside_the_entry_and_nowhere_else() {
    let pen = Pen::restored();
    let mut told = values(&pen);
    for record in &mut told {
        record["info"] = serde_json::json!({ "asked_by": "anna", "why": ["again"] });
    }
    let newer = scan(&Quill::newer(&told).bytes);
    assert_eq!(newer.state.unwrap().verdict(), Some(Verdict::Restored));
    let mut quill = Quill::newer(&[]);
    told.iter().for_each(|r| quill.line(&r.to_string()));
    let own = scan(&quill.bytes);
    assert_eq!((&own.records, own.tail), (&pen.records, Tail::Clean));
    told[1]["entry"]["plan"]["info"] = serde_json::json!({});
    let state = scan(&Quill::newer(&told).bytes).state.unwrap();
    assert_eq!(state.stops_at, Some(Seq(1)));
}

#[test]
fn a_plan_that_says_what_a_version_does_not_know_has_no_place_in_a_journal_of_it() {
    let mut needs = [plan(), plan(), plan(), plan()];
    needs[0].firewall.ipv6_forward = Some(false);
    needs[1].peers = Some(digest(9));
    needs[2].without_safety_backup_of = vec!["app.db".into()];
    needs[3].left_out = vec![crate::Note::from("the backup has none").of("the database app.db")];
    for plan in needs {
        assert_eq!(plan.format(), Format::V1_1);
        let mut pen = Pen::opened_with(Header {
            format: Format::FIRST,
            ..header(&plan)
        });
        let refused = pen.try_write(Entry::Plan(plan.clone().into())).unwrap_err();
        assert!(refused.why.contains("format 1.0"), "{refused}");
        let mut pen = Pen::opened_with(header(&plan));
        pen.write(Entry::Plan(plan.into()));
        assert_eq!(scan(&pen.bytes).records, pen.records);
    }
    assert_eq!(plan().format(), Format::FIRST);
}

#[test]
fn a_newer_major_version_is_not_read_and_an_older_one_does_not_exist() {
    let json = r#"{"seq":0,"entry":{"header":{"format":{"major":2,"minor":3},"all":"else"}}}"#;
    let seal = |json: &str| {
        let hash = blake3::hash(&[&[0; 32], json.as_bytes()].concat());
        format!("{} {json}\n", hash.to_hex()).into_bytes()
    };
    let found = scan(&[&seal(json)[..], b"whatever it may be\n"].concat());
    assert_eq!(
        found.tail,
        Tail::Newer {
            format: Format { major: 2, minor: 3 },
            readable: false
        }
    );
    assert_eq!((found.records.len(), found.chain), (0, None));
    assert_eq!(
        soundness(&seal(&json.replace("\"major\":2", "\"major\":0"))),
        Soundness::Corrupt
    );
}
