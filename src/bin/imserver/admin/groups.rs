//! Groups of readers of events as an operator sees them: for the page, and as metrics. Pure.

use std::{fmt::Write as _, time::Duration};

use imcore::broker::EventGroup;
use serde_json::{Value, json};

/// Readers of a group that are shown.
const READERS: usize = 20;

/// A figure of each group: its name, what it is, and how it is read off.
type Figure = (&'static str, &'static str, fn(&EventGroup, f64) -> f64);

const FIGURES: [Figure; 5] = [
    ("waiting", "Events that the group was not given yet.", |group, _| group.waiting as f64),
    ("unacknowledged", "Events that the group was given and has not acknowledged.", |group, _| {
        group.unacknowledged as f64
    }),
    (
        "missed",
        "Events that were trimmed unread, and that nobody has acknowledged as missed.",
        |group, _| group.missed as f64,
    ),
    (
        "oldest_seconds",
        "Age of the oldest event that waits or is not acknowledged; 0 if there is none.",
        age,
    ),
    ("readers", "Who reads in the name of the group.", |group, _| group.readers.len() as f64),
];

/// Seconds since the oldest event that the group has not done with; `now` in seconds since 1970.
fn age(group: &EventGroup, now: f64) -> f64 {
    group.oldest.map_or(0.0, |oldest| (now - oldest as f64 / 1000.0).max(0.0))
}

/// In the text exposition format of Prometheus.
pub(super) fn prometheus(groups: &[EventGroup], now: f64) -> String {
    let mut page = String::new();
    for (name, help, read) in FIGURES.into_iter().filter(|_| !groups.is_empty()) {
        let _ = writeln!(page, "# HELP imcore_event_group_{name} {help}");
        let _ = writeln!(page, "# TYPE imcore_event_group_{name} gauge");
        for group in groups {
            let label = label(&group.name);
            let _ = writeln!(
                page,
                "imcore_event_group_{name}{{group=\"{label}\"}} {}",
                read(group, now)
            );
        }
    }
    page
}

/// A text as the value of a label.
pub(super) fn label(name: &str) -> String {
    name.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// For the page.
pub(super) fn json(groups: &[EventGroup], now: f64) -> Value {
    let group = |group: &EventGroup| {
        let idle = |idle: Duration| idle.as_secs_f64();
        let reader = |reader: &imcore::broker::EventConsumer| json!({ "name": reader.name, "unacknowledged": reader.unacknowledged, "idle_seconds": idle(reader.idle) });
        let readers: Vec<_> = group.readers.iter().take(READERS).map(reader).collect();
        json!({
            "name": group.name,
            "waiting": group.waiting,
            "unacknowledged": group.unacknowledged,
            "missed": group.missed,
            "oldest_seconds": group.oldest.map(|_| age(group, now)),
            "readers": readers,
            "readers_count": group.readers.len(),
        })
    };
    groups.iter().map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_told_of_whatever_it_is_called() {
        let mut group = EventGroup::default();
        (group.name, group.waiting, group.oldest) = ("a\"b\\c\nd".into(), 7, Some(90_000));
        let page = prometheus(&[group], 100.0);
        let line = |name: &str, value: &str| {
            format!("imcore_event_group_{name}{{group=\"a\\\"b\\\\c\\nd\"}} {value}\n")
        };
        assert!(page.contains(&line("waiting", "7")), "{page}");
        assert!(page.contains(&line("oldest_seconds", "10")), "{page}");
        assert_eq!(prometheus(&[], 100.0), "");
    }
}
