//! Everything that crosses a crate, one module a claim.

mod browser;
mod budgets;
mod commands_agree;
mod counted;
mod crash;
mod damaged_gateway;
mod databases_as_they_are;
mod decisions_obey_the_grammar;
mod enumeration;
mod evidence;
mod failing_backup;
mod fuzzed;
mod hostile;
mod hosts_agree;
mod incomplete_backup;
mod journal_says;
mod kept_rules;
mod kernel_state;
mod laws;
mod looks;
mod looks_that_fail;
mod newer_journal;
mod odd_configs;
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "only tests use it")]
mod on_a_gateway;
mod open_folders;
mod planted_journal;
mod random_gateways;
mod recovery;
mod refused_beforehand;
mod repacked;
mod restore_asked;
mod restore_failures;
mod restore_flow;
mod sample_gateway;
mod secrets;
#[allow(clippy::expect_used, reason = "only tests use it")]
mod seeded;
mod system_calls;
mod threats;
mod told;
mod two_states;
mod unresolved_endpoint;
mod web_restore;
mod web_stage;
mod what_the_gateways_reader_takes;
