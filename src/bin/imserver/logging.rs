//! Log lines on standard error: for people, or one JSON object each. Level and format can change while
//! the program runs.

use std::{
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imcore::{Error, ErrorKind};
use log::{LevelFilter, Log, Metadata, Record};

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
}

struct Logger {
    json: AtomicBool,
}

static LOGGER: Logger = Logger { json: AtomicBool::new(false) };

/// Starts logging. From here on everything the program says is a log line, also a panic.
pub(crate) fn start(level: LevelFilter, format: Format) -> Result<(), Error> {
    change(level, format);
    log::set_logger(&LOGGER).map_err(|error| {
        Error::new(ErrorKind::Io, "cannot start logging").with_source(error.to_string())
    })?;
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match LOGGER.json.load(Ordering::Relaxed) {
        // A program that reads the lines must not stumble over a text of several.
        true => say("ERROR", "panic", &panic.to_string(), true),
        false => default(panic),
    }));
    Ok(())
}

/// Changes level and format.
pub(crate) fn change(level: LevelFilter, format: Format) {
    LOGGER.json.store(format == Format::Json, Ordering::Relaxed);
    log::set_max_level(level);
}

/// Says why the program ends, whatever the level: in the form of the log, once that has started.
pub(crate) fn last_words(text: &str) {
    match LOGGER.json.load(Ordering::Relaxed) {
        true => say("ERROR", "imserver", text, true),
        false => eprintln!("imserver: {text}"),
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            let json = self.json.load(Ordering::Relaxed);
            say(record.level().as_str(), record.target(), &text, json);
        }
    }

    fn flush(&self) {}
}

fn say(level: &str, target: &str, text: &str, json: bool) {
    let time = timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let mut line = match json {
        false => format!("{time} {level:<5} [{target}] {text}"),
        true => {
            let level = level.to_lowercase();
            serde_json::json!({ "time": time, "level": level, "target": target, "message": text })
                .to_string()
        }
    };
    line.push('\n');
    // One write, so that lines of several threads do not mix. There is nobody to tell of a failure.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// A moment in UTC by RFC 3339, to the millisecond.
fn timestamp(since_epoch: Duration) -> String {
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
