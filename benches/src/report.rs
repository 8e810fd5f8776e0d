//! What was measured, as text for people and as JSON for programs.

use std::fmt;

use serde_json::{Value, json};

use crate::measure::Series;
use crate::options::Options;

/// Most memory that a command may take.
const MEMORY_KIB: u64 = 64 << 10;

/// Everything that was measured.
pub struct Report {
    setting: Value,
    compared: Vec<Compared>,
    alone: Vec<Alone>,
    memory: Vec<Memory>,
    files: Vec<Files>,
    steps: Vec<(String, Vec<(String, u64)>)>,
}

struct Compared {
    work: String,
    gateway: String,
    ours: Series,
    than: String,
    theirs: Series,
    goal: Option<f64>,
}

struct Alone {
    work: String,
    gateway: String,
    ours: Series,
    goal_ms: f64,
}

struct Memory {
    command: String,
    gateway: String,
    peak_kib: u64,
    most_kib: u64,
}

struct Files {
    changed: usize,
    clients: usize,
    made: usize,
}

impl Report {
    pub fn new(options: &Options) -> Report {
        Report {
            setting: json!({
                "runs": options.runs,
                "tunnels": options.tunnels,
                "processors": std::thread::available_parallelism().map_or(0, usize::from),
            }),
            compared: Vec::new(),
            alone: Vec::new(),
            memory: Vec::new(),
            files: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Ours beside theirs; the goal is a ratio.
    pub fn compare(
        &mut self,
        (work, gateway): (&str, &str),
        ours: Series,
        (than, theirs): (&str, Series),
        goal: Option<f64>,
    ) {
        let compared = Compared {
            work: work.into(),
            gateway: gateway.into(),
            ours,
            than: than.into(),
            theirs,
            goal,
        };
        eprintln!("{}", compared.line());
        self.compared.push(compared);
    }

    /// Ours against a time.
    pub fn alone(&mut self, work: &str, gateway: &str, ours: Series, goal_ms: f64) {
        self.alone.push(Alone {
            work: work.into(),
            gateway: gateway.into(),
            ours,
            goal_ms,
        });
    }

    pub fn memory(&mut self, command: &str, gateway: &str, peak_kib: u64) {
        self.memory_within(command, gateway, peak_kib, MEMORY_KIB);
    }

    /// The same with a limit of its own.
    pub fn memory_within(&mut self, command: &str, gateway: &str, peak_kib: u64, most_kib: u64) {
        eprintln!("{command}, {gateway}: {} MiB", peak_kib / 1024);
        self.memory.push(Memory {
            command: command.into(),
            gateway: gateway.into(),
            peak_kib,
            most_kib,
        });
    }

    /// How many files a restore made that changed so many configs of so many.
    pub fn files(&mut self, changed: usize, clients: usize, made: usize) {
        self.files.push(Files {
            changed,
            clients,
            made,
        });
    }

    /// Where the time of one restore went.
    pub fn steps(&mut self, restore: &str, steps: Vec<(String, u64)>) {
        self.steps.push((restore.into(), steps));
    }

    pub fn json(&self) -> Value {
        let series = |s: &Series| {
            json!({
                "median_ms": s.median_ms(), "least_ms": s.least_ms(), "most_ms": s.most_ms(),
                "cpu_ms": s.median_cpu_ms(), "peak_kib": s.peak_kib(), "runs": s.0.len(),
            })
        };
        json!({
            "setting": self.setting,
            "compared": self.compared.iter().map(|c| json!({
                "work": c.work, "gateway": c.gateway, "than": c.than, "ours": series(&c.ours), "theirs": series(&c.theirs),
                "ratio": c.ratio(), "cpu_ratio": c.cpu_ratio(), "goal": c.goal,
            })).collect::<Vec<_>>(),
            "alone": self.alone.iter().map(|a| json!({
                "work": a.work, "gateway": a.gateway, "ours": series(&a.ours), "goal_ms": a.goal_ms,
            })).collect::<Vec<_>>(),
            "memory": self.memory.iter().map(|m| json!({
                "command": m.command, "gateway": m.gateway, "peak_kib": m.peak_kib, "most_kib": m.most_kib,
            })).collect::<Vec<_>>(),
            "files": self.files.iter().map(|f| json!({
                "changed": f.changed, "clients": f.clients, "made": f.made,
            })).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(|(restore, steps)| json!({
                "restore": restore,
                "took_ms": steps.iter().map(|(step, ms)| json!([step, ms])).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    }
}

impl Compared {
    fn ratio(&self) -> f64 {
        self.ours.median_ms() / self.theirs.median_ms().max(f64::MIN_POSITIVE)
    }

    /// The same of processor time: of use where other work on the machine or its disk is in the way.
    fn cpu_ratio(&self) -> Option<f64> {
        let (ours, theirs) = (self.ours.median_cpu_ms(), self.theirs.median_cpu_ms());
        (ours > 0.0 && theirs > 0.0).then(|| ours / theirs)
    }

    fn line(&self) -> String {
        format!(
            "{:<30} {:>13} {:>26} {:>26} {:>6.2} {:>6} {:>5}  {}",
            self.work,
            self.gateway,
            spread(&self.ours),
            spread(&self.theirs),
            self.ratio(),
            self.cpu_ratio()
                .map_or(String::new(), |r| format!("{r:.2}")),
            self.goal.map_or(String::new(), |goal| format!("{goal}")),
            self.than
        )
    }
}

/// Median, least and most.
fn spread(series: &Series) -> String {
    let digits = if series.median_ms() < 10.0 { 2 } else { 0 };
    format!(
        "{:.digits$} ms [{:.digits$}..{:.digits$}]",
        series.median_ms(),
        series.least_ms(),
        series.most_ms()
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.compared.is_empty() {
            writeln!(
                f,
                "{:<30} {:>13} {:>26} {:>26} {:>6} {:>6} {:>5}  than",
                "work", "gateway", "ours", "theirs", "ratio", "of cpu", "goal"
            )?;
            for compared in &self.compared {
                writeln!(f, "{}", compared.line())?;
            }
            writeln!(
                f,
                "Median [least..most]. For reference, the gateway's own application at 10,000 clients: backup 5.1 s, restore 34 s.\n"
            )?;
        }
        for alone in &self.alone {
            writeln!(
                f,
                "{:<30} {:>13} {:>26}, goal {} ms",
                alone.work,
                alone.gateway,
                spread(&alone.ours),
                alone.goal_ms
            )?;
        }
        if !self.memory.is_empty() {
            writeln!(
                f,
                "\n{:<30} {:>13} {:>10}",
                "command", "gateway", "peak MiB"
            )?;
            for memory in &self.memory {
                let Memory {
                    command,
                    gateway,
                    peak_kib,
                    most_kib,
                } = memory;
                let over = match peak_kib > most_kib {
                    true => format!("  over the limit of {}", most_kib / 1024),
                    false => String::new(),
                };
                writeln!(
                    f,
                    "{command:<30} {gateway:>13} {:>10.1}{over}",
                    *peak_kib as f64 / 1024.0,
                )?;
            }
        }
        if !self.files.is_empty() {
            writeln!(
                f,
                "\n{:>16} {:>10} {:>12}",
                "configs changed", "clients", "files made"
            )?;
            for files in &self.files {
                writeln!(
                    f,
                    "{:>16} {:>10} {:>12}",
                    files.changed, files.clients, files.made
                )?;
            }
        }
        for (restore, steps) in &self.steps {
            writeln!(f, "\n{restore}: where its time went, ms")?;
            for (step, took) in steps {
                writeln!(f, "{step:<30} {took:>6}")?;
            }
        }
        Ok(())
    }
}
