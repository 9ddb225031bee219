//! Log lines on standard error: for people, or one JSON object each. Level and format can change while
//! the program runs.
//!
//! A line of JSON has what the message names as members of their own as well (`client`, `reason`, ...), and
//! the node's name, so that lines of many nodes can be filtered.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imcore::{Error, ErrorKind};
use log::{
    LevelFilter, Log, Metadata, Record,
    kv::{self, Key, Value, VisitSource},
};
use serde_json::{Map, json};

use crate::stderr::STDERR;

/// How long the end of the program waits for whoever reads its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
}

impl Format {
    pub(crate) fn parse(text: &str) -> Option<Format> {
        match text {
            "text" => Some(Format::Text),
            "json" => Some(Format::Json),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
        }
    }
}

struct Logger {
    json: AtomicBool,
    node: OnceLock<String>,
}

static LOGGER: Logger = Logger { json: AtomicBool::new(false), node: OnceLock::new() };

/// Starts logging. From here on everything the program says is a log line, also a panic.
pub(crate) fn start(level: LevelFilter, format: Format) -> Result<(), Error> {
    change(level, format);
    STDERR.report_with(|count| {
        let text = format!("{count} log lines are missing here: standard error did not take them");
        line("WARN", "imserver", &text, Map::new())
    });
    log::set_logger(&LOGGER).map_err(|error| {
        Error::new(ErrorKind::Io, "cannot start logging").with_source(error.to_string())
    })?;
    std::panic::set_hook(Box::new(on_panic));
    Ok(())
}

/// Changes level and format.
pub(crate) fn change(level: LevelFilter, format: Format) {
    LOGGER.json.store(format == Format::Json, Ordering::Relaxed);
    log::set_max_level(level);
}

/// Whose lines these are, from now on.
pub(crate) fn name_node(name: &str) {
    let _ = LOGGER.node.set(name.to_owned());
}

/// Prints why the program ends, whatever the level: in the form of the log, once that has started.
pub(crate) fn print_fatal(text: &str) {
    STDERR.write_line_always(match LOGGER.json.load(Ordering::Relaxed) {
        true => line("ERROR", "imserver", text, Map::new()),
        false => format!("imserver: {text}\n").into_bytes(),
    });
    finish();
}

/// Waits a moment for the last lines to be read; the program ends afterwards either way.
pub(crate) fn finish() {
    STDERR.flush(LAST_LINES);
}

/// What is counted here, in the text exposition format of Prometheus.
pub(crate) fn metrics() -> String {
    let name = "imcore_log_lines_dropped_total";
    let help = "Log lines that standard error did not take.";
    format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {}\n", STDERR.dropped())
}

/// The standard hook would write to standard error itself, and wait until that is read.
fn on_panic(panic: &PanicHookInfo<'_>) {
    let mut fields = Map::new();
    let name = thread::current().name().unwrap_or("unnamed").to_owned();
    let mut text = format!("thread {name} {}", panic.to_string().replace('\n', " "));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        match LOGGER.json.load(Ordering::Relaxed) {
            true => drop(fields.insert("backtrace".into(), trace.to_string().into())),
            false => text += &format!("\n{trace}"),
        }
    }
    fields.insert("thread".into(), name.into());
    STDERR.write_line_always(line("ERROR", "panic", &text, fields));
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let mut fields = Fields(Map::new());
            if self.json.load(Ordering::Relaxed) {
                // Collecting them never fails.
                let _ = record.key_values().visit(&mut fields);
            }
            let text = record.args().to_string();
            STDERR.write_line(line(record.level().as_str(), record.target(), &text, fields.0));
        }
    }

    fn flush(&self) {
        finish();
    }
}

/// What a record names besides its text.
struct Fields(Map<String, serde_json::Value>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let value = match (value.to_u64(), value.to_i64(), value.to_bool()) {
            (Some(number), _, _) => number.into(),
            (_, Some(number), _) => number.into(),
            (_, _, Some(truth)) => truth.into(),
            _ => value.to_string().into(),
        };
        self.0.insert(key.as_str().to_owned(), value);
        Ok(())
    }
}

/// A line in the format of the moment; `fields` are for JSON only, since the text has them.
fn line(level: &str, target: &str, text: &str, fields: Map<String, serde_json::Value>) -> Vec<u8> {
    let time = timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let mut line = match LOGGER.json.load(Ordering::Relaxed) {
        false => format!("{time} {level:<5} [{target}] {text}"),
        true => {
            let mut object = fields;
            if let Some(node) = LOGGER.node.get() {
                object.entry("node").or_insert_with(|| json!(node));
            }
            let level = level.to_lowercase();
            for (key, value) in
                [("time", time.as_str()), ("level", &level), ("target", target), ("message", text)]
            {
                object.insert(key.into(), value.into());
            }
            serde_json::Value::Object(object).to_string()
        }
    };
    line.push('\n');
    line.into_bytes()
}

/// A moment in UTC by RFC 3339, to the millisecond.
pub(crate) fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_epoch.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since 1970, by the calendar of eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let at = |seconds| timestamp(Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
    }
}
