use super::*;

fn of(weight: Weight, code: Code, n: usize) -> impl Iterator<Item = Note> {
    (0..n).map(move |i| Note {
        weight,
        ..Note::known(code.clone(), format!("the config c{i} can never come up"))
            .about(format!("c{i}"))
    })
}

#[test]
fn one_lost_client_is_the_first_line_of_five_thousand_notes() {
    let mut notes: Vec<Note> = of(Weight::Known, Code::TUNNEL_UNFIT, 5_000).collect();
    let lost = "1 client is not in the backup and will be gone: branch-9";
    notes.push(Note::lost(Code::CLIENTS_GONE, lost).naming(["branch-9"]));
    let lines = note_lines(&notes, Detail::Brief);
    insta::assert_snapshot!(lines.join("\n"), @"
    lost: 1 client is not in the backup and will be gone: branch-9
    warning: the config c0 can never come up (and 4999 more of this kind, as for c1, c2, c3, c4, c5, c6, c7, c8, c9, c10; --verbose lists all)
    ");
    let whole = note_lines(&notes, Detail::Whole);
    assert_eq!((whole.len(), &whole[0]), (5_001, &lines[0]));
}

#[test]
fn of_a_thousand_lost_clients_the_number_comes_first_then_as_many_names_as_there_is_room_for() {
    let names: Vec<String> = (0..1000).map(|i| format!("client{i:04}")).collect();
    let text = format!(
        "1000 clients are not in the backup and will be gone: {} and 990 more",
        names[..10].join(", ")
    );
    let lost = Note::lost(Code::CLIENTS_GONE, text).naming(&names);
    let lines = note_lines(std::slice::from_ref(&lost), Detail::Brief);
    assert!(lines[0].starts_with("lost: 1000 clients are not in the backup"));
    assert!(
        lines[1].starts_with("    client0010, client0011"),
        "{lines:?}"
    );
    assert!(
        lines
            .last()
            .is_some_and(|l| l.ends_with("more (--verbose names all)")),
        "{lines:?}"
    );
    assert!(lines.len() <= most(Weight::Lost));
    let whole = note_lines(&[lost], Detail::Whole).join("\n");
    assert!(names.iter().all(|name| whole.contains(name)));
}

#[test]
fn any_number_of_notes_of_any_number_of_kinds_takes_so_many_lines() {
    let mut notes = Vec::new();
    for weight in [Weight::Known, Weight::Down, Weight::Lost] {
        for known in Code::KNOWN {
            notes.extend(of(weight, known.code.clone(), 300));
        }
    }
    let lines = note_lines(&notes, Detail::Brief);
    assert_eq!(lines.len(), 12 + 6 + 12);
    assert!(
        lines[11].contains("of other kinds (--verbose lists all)"),
        "{}",
        lines[11]
    );
    assert!(lines[0].starts_with("lost: ") && lines[12].starts_with("does not work: "));
}

#[test]
fn a_few_of_a_kind_are_told_each_and_of_more_the_first_their_number_and_names() {
    let lines = |n| {
        note_lines(
            &of(Weight::Down, Code::TUNNEL_STAYS_DOWN, n).collect::<Vec<_>>(),
            Detail::Brief,
        )
    };
    assert_eq!(lines(4).len(), 4);
    assert_eq!(
        lines(5),
        [
            "does not work: the config c0 can never come up (and 4 more of this kind, for c1, c2, c3, c4; --verbose lists all)"
        ]
    );
    assert!(note_lines(&[], Detail::Brief).is_empty());
}

#[test]
fn losses_of_one_kind_are_told_each_as_long_as_there_is_room() {
    let lost = |n: usize| -> Vec<Note> {
        let tables = (0..n).map(|i| format!("the backup has no table t{i}, which is here now"));
        tables
            .map(|text| Note::lost(Code::ROWS_LOST, text))
            .collect()
    };
    assert_eq!(note_lines(&lost(5), Detail::Brief).len(), 5);
    let lines = note_lines(&lost(400), Detail::Brief);
    assert_eq!(lines.len(), most(Weight::Lost));
    assert!(
        lines[11]
            .ends_with("t11, which is here now (and 388 more of this kind; --verbose lists all)"),
        "{lines:?}"
    );
}
