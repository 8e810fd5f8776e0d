//! How many cases a random run takes, and from which seed. Owns the two variables that say so, and nothing of what the
//! cases are.

use proptest::prelude::ProptestConfig;
use proptest::strategy::Strategy;
use proptest::test_runner::{RngSeed, TestCaseError, TestError, TestRunner};

/// The seed of a run that nobody asked more of: whether a change is good must not hang on chance.
const ALWAYS: u64 = 1_790_000_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}

/// Tries this on `quick` cases, the same ones every time; with `HOLDFAST_RANDOM=n` on n fresh ones. Prints what to set
/// to have the same ones again. Panics with the smallest case found that fails, and why.
pub fn each_of<S: Strategy>(
    quick: u32,
    shrink: u32,
    cases: &S,
    one: impl Fn(S::Value) -> Result<(), String>,
) {
    let asked = number("HOLDFAST_RANDOM");
    let fresh = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(since.expect("a clock after 1970").subsec_nanos())
    };
    let seed = number("HOLDFAST_SEED").unwrap_or_else(|| asked.map_or(ALWAYS, |_| fresh()));
    let count = asked.map_or(quick, |n| u32::try_from(n).expect("so many cases"));
    let again = format!("HOLDFAST_SEED={seed} HOLDFAST_RANDOM={count}");
    println!("{again}");
    let config = ProptestConfig {
        cases: count,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: shrink,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(cases, |case| one(case).map_err(TestCaseError::fail));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{again}: {case:#?}\n{why}"),
        Err(TestError::Abort(why)) => panic!("{again}: {why}"),
    }
}
