//! Measures a command: how long it took, the processor time that it and its children used, and the most memory that one
//! of them held. A small child does it, so that entering a namespace and this program itself are not in the figures.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use fixtures::{Finished, Place, Result, Trouble};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

/// One run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Once {
    pub took: Duration,
    /// Processor time, user and system, of it and of the children that it waited for.
    pub cpu: Duration,
    /// Peak of resident memory; of a program with children, the largest of them.
    pub peak_kib: u64,
}

/// Several runs of the same.
#[derive(Debug, Clone, Default)]
pub struct Series(pub Vec<Once>);

impl Series {
    pub fn median_ms(&self) -> f64 {
        median(self.0.iter().map(|o| ms(o.took)))
    }

    pub fn median_cpu_ms(&self) -> f64 {
        median(self.0.iter().map(|o| ms(o.cpu)))
    }

    pub fn least_ms(&self) -> f64 {
        self.0.iter().map(|o| ms(o.took)).fold(f64::MAX, f64::min)
    }

    pub fn most_ms(&self) -> f64 {
        self.0.iter().map(|o| ms(o.took)).fold(0.0, f64::max)
    }

    pub fn peak_kib(&self) -> u64 {
        self.0.iter().map(|o| o.peak_kib).max().unwrap_or(0)
    }
}

pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The middle one; of an even number, the middle of the two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(one), 1) => *one,
        (Some(upper), _) => (values[middle - 1] + upper) / 2.0,
    }
}

/// Runs a command there to its end.
pub fn run(place: Place, argv: &[&str]) -> Result<(Once, Finished)> {
    let this = std::env::current_exe()?;
    let told = tempfile::NamedTempFile::new()?;
    let (this, to) = (this.to_string_lossy(), told.path().to_string_lossy());
    let finished = place.run(&[&[&*this, "--measured", &*to], argv].concat())?;
    let text = std::fs::read(told.path())?;
    if text.is_empty() {
        return Err(Trouble::new(format!("measure: {finished}")));
    }
    let told: Value = serde_json::from_slice(&text)?;
    let number = |key: &str| told.get(key).and_then(Value::as_u64).unwrap_or_default();
    Ok((
        Once {
            took: Duration::from_micros(number("took_us")),
            cpu: Duration::from_micros(number("cpu_us")),
            peak_kib: number("peak_kib"),
        },
        finished,
    ))
}

/// Ours and theirs in turn, so many times, after one of each that does not count.
pub fn alternate(
    runs: usize,
    mut ours: impl FnMut() -> Result<Once>,
    mut theirs: impl FnMut() -> Result<Once>,
) -> Result<(Series, Series)> {
    let (mut a, mut b) = (Series::default(), Series::default());
    for run in 0..=runs {
        let (one, other) = (ours()?, theirs()?);
        if run > 0 {
            a.0.push(one);
            b.0.push(other);
        }
    }
    Ok((a, b))
}

/// The child: runs the command, and writes what it measured to a file.
pub fn child(to: &str, argv: &[&str]) -> ExitCode {
    match measured(argv).and_then(|(told, code)| {
        std::fs::write(to, serde_json::to_vec(&told)?)?;
        Ok(code)
    }) {
        Ok(code) => ExitCode::from(code),
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

fn measured(argv: &[&str]) -> Result<(Value, u8)> {
    let [program, arguments @ ..] = argv else {
        return Err(Trouble::new("there is nothing to measure"));
    };
    let began = Instant::now();
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(Trouble::at(format!("run {program}")))?;
    let took = began.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = (usage.user_time() + usage.system_time()).num_microseconds();
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok((
        json!({ "took_us": took.as_micros() as u64, "cpu_us": cpu, "peak_kib": usage.max_rss() }),
        code.unwrap_or(u8::MAX),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([].into_iter()), 0.0);
    }
}
