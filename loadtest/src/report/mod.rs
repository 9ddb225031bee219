//! The result of a run: what was measured, against which target, on which machine. JSON and HTML.

mod html;
mod plot;

use std::{collections::BTreeMap, fs, path::Path};

use serde::Serialize;

use crate::{
    account::Account,
    histogram::{Latencies, Percentiles},
    meter::{Holding, Machine},
    pace::Pace,
};
pub use plot::Line;
use plot::Scale;

/// Everything that one invocation measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub tool: String,
    pub command: String,
    pub machine: Machine,
    pub rows: Vec<Row>,
}

/// One measured thing with its figures.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    pub name: String,
    pub settings: BTreeMap<String, String>,
    pub figures: Vec<Figure>,
    pub latencies: Vec<NamedLatency>,
    pub series: Vec<Sample>,
    pub curves: Vec<Curves>,
    pub account: Option<Account>,
    pub notes: Vec<String>,
    /// What went wrong besides the account; with one of these, or an account that does not balance, no
    /// target counts as met.
    pub faults: Vec<String>,
}

/// One number over all runs.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub target: Option<f64>,
    /// Whether more is better.
    pub at_least: bool,
    /// NaN, as the next two, if it was not measured.
    pub min: f64,
    pub median: f64,
    pub max: f64,
    pub runs: Vec<f64>,
}

#[derive(Debug, Serialize)]
pub struct NamedLatency {
    pub name: String,
    pub microseconds: Percentiles,
    pub curve: Vec<(f64, f64)>,
}

/// How costs grow with a size, for one plot.
#[derive(Debug, Serialize)]
pub struct Curves {
    pub title: String,
    /// Name and points of each line.
    pub lines: Vec<Line>,
}

/// One look at the deployment while it works.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    pub second: f64,
    /// Cores that the nodes use.
    pub server_cores: f64,
    pub redis_cores: f64,
    pub rss_mib: f64,
    pub deliveries_per_second: f64,
    pub connections: f64,
    /// Each node by itself.
    pub nodes: Vec<Holding>,
}

impl Curves {
    fn plot(&self) -> String {
        plot::plot(&self.title, (Scale::Log, Scale::Linear), &self.lines)
    }

    /// An SVG file of its own.
    pub fn svg(&self) -> String {
        plot::standalone(&self.plot())
    }
}

impl Figure {
    /// Whether the target is met; `None` without one, and when nothing was measured.
    pub fn met(&self) -> Option<bool> {
        let target = self.target.filter(|_| self.is_measured())?;
        Some(if self.at_least { self.median >= target } else { self.median <= target })
    }

    pub fn is_measured(&self) -> bool {
        !self.median.is_nan()
    }

    fn line(&self, trusted: bool) -> String {
        let Figure { name, unit, min, median, max, .. } = self;
        if !self.is_measured() {
            return format!("  {name:<52} not measured");
        }
        let verdict = match (self.target, self.met()) {
            (Some(target), Some(met)) => {
                let sign = if self.at_least { ">=" } else { "<=" };
                let verdict = match (trusted, met) {
                    (false, _) => "not judged",
                    (true, true) => "met",
                    (true, false) => "MISSED",
                };
                format!("  target {sign} {target}: {verdict}")
            }
            _ => String::new(),
        };
        let [min, median, max] = [min, median, max].map(|value| number(*value));
        format!("  {name:<52} {min:>9} {median:>9} {max:>9} {unit}{verdict}")
    }
}

/// Four significant digits are all that a measurement here is good for.
pub fn number(value: f64) -> String {
    if value.is_nan() {
        return "not measured".into();
    }
    let size = value.abs();
    let digits =
        if size >= 1000.0 { 0 } else { 3 - (size.max(0.001).log10().floor() as i32).clamp(0, 3) };
    format!("{value:.*}", digits as usize)
}

impl Row {
    pub fn new(name: &str) -> Self {
        Row { name: name.to_owned(), ..Row::default() }
    }

    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.insert(name.to_owned(), value.to_string());
    }

    /// A row of which only the failure is known.
    pub fn failed(name: &str, fault: String) -> Self {
        Row { name: name.to_owned(), faults: vec![fault], ..Row::default() }
    }

    /// Whether its figures may be believed: every message is accounted for and nothing else went wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty() && self.account.as_ref().is_none_or(Account::balances)
    }

    /// Adds a figure from its runs; without runs there is none, and with one that is NaN it was not measured.
    pub fn figure(&mut self, name: &str, unit: &str, target: Option<f64>, runs: Vec<f64>) {
        let mut sorted = runs.clone();
        if runs.iter().any(|run| run.is_nan()) {
            sorted = vec![f64::NAN];
        }
        sorted.sort_by(f64::total_cmp);
        let Some((min, max)) = sorted.first().copied().zip(sorted.last().copied()) else { return };
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        let (name, unit) = (name.to_owned(), unit.to_owned());
        self.figures.push(Figure { name, unit, target, at_least: false, min, median, max, runs });
    }

    /// The last figure is good when it is large.
    pub fn more_is_better(&mut self) {
        if let Some(last) = self.figures.last_mut() {
            last.at_least = true;
        }
    }

    /// For a run that is too small to be held against them.
    pub fn drop_targets(&mut self) {
        self.figures.iter_mut().for_each(|figure| figure.target = None);
    }

    pub fn latency(&mut self, name: &str, latencies: &Latencies) {
        let (microseconds, curve) = (latencies.percentiles(), latencies.curve());
        self.latencies.push(NamedLatency { name: name.to_owned(), microseconds, curve });
    }

    pub fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    /// Says so, and drops what would be no result, if the generator did not keep its rate.
    pub fn judge_pace(&mut self, paces: &[Pace]) {
        if let Some(excuse) = paces.iter().find_map(Pace::excuse) {
            self.figures.clear();
            self.latencies.clear();
            self.fault(excuse);
        }
    }

    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub fn add_account(&mut self, account: &Account) {
        *self.account.get_or_insert_default() += account;
    }

    /// The row as text.
    pub fn text(&self) -> String {
        let settings: Vec<_> = self.settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut lines = vec![format!("{}  ({})", self.name, settings.join(", "))];
        if !self.figures.is_empty() {
            lines.push(format!("  {:<52} {:>9} {:>9} {:>9}", "", "min", "median", "max"));
        }
        let trusted = self.is_sound();
        lines.extend(self.figures.iter().map(|figure| figure.line(trusted)));
        for NamedLatency { name, microseconds: p, .. } in &self.latencies {
            let [p50, p90, p99, p999, max] = [p.p50, p.p90, p.p99, p.p999, p.max].map(number);
            lines.push(format!(
                "  {name}: p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} us (n {})",
                p.count
            ));
        }
        lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        lines.extend(self.faults.iter().map(|fault| format!("  FAULT: {fault}")));
        let accounts = self.account.iter();
        lines.extend(accounts.map(|sum| format!("  account: {sum}: {}", sum.verdict())));
        lines.join("\n")
    }
}

impl Report {
    pub fn new() -> Self {
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        Report {
            tool: format!("loadtest {}", env!("CARGO_PKG_VERSION")),
            command: format!("loadtest {}", arguments.join(" ")),
            machine: Machine::here(),
            rows: Vec::new(),
        }
    }

    /// Whether every account balances and nothing else went wrong.
    pub fn is_sound(&self) -> bool {
        self.rows.iter().all(Row::is_sound)
    }

    pub fn write(&self, json: Option<&Path>, html: Option<&Path>) -> Result<(), String> {
        let io = |path: &Path, result: std::io::Result<()>| {
            result.map_err(|error| format!("{}: {error}", path.display()))
        };
        if let Some(path) = json {
            let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
            io(path, fs::write(path, text))?;
        }
        if let Some(path) = html {
            io(path, fs::write(path, html::page(self)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_its_median_and_knows_its_target() {
        let mut row = Row::new("x");
        row.figure("ratio", "", Some(1.05), vec![1.2, 1.0, 1.04]);
        row.figure("rate", "/s", Some(12_000.0), vec![13_000.0, 11_000.0]);
        row.more_is_better();
        assert_eq!(row.figures[0].median, 1.04);
        assert_eq!(row.figures[0].met(), Some(true));
        assert_eq!(row.figures[1].met(), Some(true));
        row.figures[1].median = 11_999.0;
        assert!(row.text().contains("MISSED"));
    }

    #[test]
    fn what_was_not_measured_or_went_wrong_meets_no_target() {
        let mut row = Row::new("x");
        row.figure("CPU", "us", Some(50.0), vec![f64::NAN, 1.0]);
        assert_eq!(row.figures[0].met(), None);
        assert!(row.text().contains("not measured") && row.is_sound());
        row.figure("ratio", "", Some(1.05), vec![1.0]);
        assert!(row.text().contains(": met"));
        row.add_account(&Account { misdelivered: 1, ..Account::default() });
        assert!(!row.text().contains(": met") && !row.is_sound());
        let failed = Row::failed("y", "no redis-server".into());
        assert!(!failed.is_sound() && failed.text().contains("FAULT: no redis-server"));
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.123456, 1.0456, 12.345, 123.45, 1234.5].map(number);
        assert_eq!(texts, ["0.000", "0.123", "1.046", "12.35", "123.5", "1234"]);
    }
}
