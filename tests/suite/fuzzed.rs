//! What the fuzzer asks of each reader holds for the hostile input of the fixtures, for small changes of it, and for every
//! input that a fuzzer ever found.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fixtures::hostile::seeds;
use tests::fuzzed::TARGETS;

/// Changes of each input; a fuzzer makes millions.
const CHANGES: usize = 8;

/// The same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[test]
fn every_reader_holds_against_the_hostile_input_of_the_fixtures_and_changes_of_it() {
    let mut numbers = Numbers(1);
    for (name, target) in TARGETS {
        let seeds = seeds::of(name).unwrap();
        assert!(seeds.len() > 2, "{name}");
        for (_, input) in seeds {
            target(&input);
            for _ in 0..CHANGES {
                let mut changed = input.clone();
                for _ in 0..=numbers.below(3) {
                    change(&mut changed, &mut numbers);
                }
                target(&changed);
            }
        }
    }
}

fn change(input: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(input.len() as u64 + 1) as usize;
    let byte = numbers.below(256) as u8;
    match numbers.below(4) {
        0 => input.insert(at, byte),
        1 => input.truncate(at),
        2 if at < input.len() => input[at] = byte,
        _ => {
            let end = (at + usize::from(byte)).min(input.len());
            input.drain(at..end);
        }
    }
}

#[test]
fn what_a_fuzzer_found_stays_mended() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    for (name, target) in TARGETS {
        for file in crate::on_a_gateway::files_below(&found.join(name)) {
            target(&std::fs::read(file).unwrap());
        }
    }
}

#[test]
fn every_reader_has_a_program_for_the_fuzzer() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let source = fuzz.join(format!("fuzz_targets/{name}.rs"));
        let source = std::fs::read_to_string(source).unwrap();
        assert!(
            source.contains(&format!("tests::fuzzed::{name}(")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn the_fuzzer_is_built_of_what_the_product_is_built_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let lock = read("fuzz/Cargo.lock");
    let mut blocks = lock.split("[[package]]\n");
    let locked = blocks
        .find(|b| b.starts_with("name = \"engine\"\n"))
        .unwrap();
    let manifest = read("engine/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
    for line in dependencies.lines().take_while(|l| !l.starts_with('[')) {
        let Some((name, _)) = line.split_once('.') else {
            continue;
        };
        // With its version where there are several.
        let there = [format!(" \"{name}\""), format!(" \"{name} ")];
        assert!(
            there.iter().any(|n| locked.contains(n.as_str())),
            "{name}: cp Cargo.lock fuzz/Cargo.lock, then cargo metadata in fuzz/"
        );
    }
}
