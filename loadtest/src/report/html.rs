//! The HTML page: a summary, then each row with its tables and plots; nothing from elsewhere.

use std::fmt::Write;

use super::{
    Figure, NamedLatency, Report, Row, Sample, number,
    plot::{Line, Scale, escape, plot, range},
};
use crate::meter::Holding;

const STYLE: &str = concat!(include_str!("plot.css"), include_str!("page.css"));

/// The whole page.
pub fn page(report: &Report) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\"><title>imcore: {}</title>\
         <style>{STYLE}</style><h1>imcore load report</h1><p><code>{}</code></p>\
         <p class=soft>{} cores \u{b7} {} \u{b7} {} GiB \u{b7} Linux {} \u{b7} Redis {}</p>",
        escape(&report.tool),
        escape(&report.command),
        machine.cores,
        escape(&machine.processor),
        machine.memory_gib,
        escape(&machine.kernel),
        escape(&machine.redis)
    );
    summary(&mut out, report);
    report.rows.iter().for_each(|row| section(&mut out, row));
    out.push_str("</html>\n");
    out
}

fn summary(out: &mut String, report: &Report) {
    let met_in = |row: &Row| -> Vec<bool> {
        let sound = row.is_sound();
        row.figures.iter().filter_map(Figure::met).map(|met| met && sound).collect()
    };
    let verdicts: Vec<bool> = report.rows.iter().flat_map(met_in).collect();
    let met = verdicts.iter().filter(|met| **met).count();
    let accounts: Vec<_> = report.rows.iter().filter_map(|row| row.account.as_ref()).collect();
    let sum = |count: fn(&crate::account::Account) -> u64| -> u64 {
        accounts.iter().map(|account| count(account)).sum()
    };
    let wrong = sum(|account| account.faults().iter().map(|(_, count)| count).sum());
    let count = |count| grouped(&sum(count).to_string());
    let (balance, class) = match report.is_sound() {
        true => ("every account balances", ""),
        false => ("NOT BALANCED", " class=missed"),
    };
    let cells = [
        (count(|account| account.offered), "messages offered to sockets".to_owned(), ""),
        (count(|account| account.delivered), "delivered".to_owned(), ""),
        (
            grouped(&wrong.to_string()),
            format!("at the wrong client, lost, doubled, changed or out of order; {balance}"),
            class,
        ),
        (format!("{met} of {}", verdicts.len()), "targets met".to_owned(), ""),
    ];
    let cells = &cells[..cells.len() - usize::from(verdicts.is_empty())];
    out.push_str("<div class=summary>");
    for (value, name, class) in cells {
        let _ = write!(out, "<div{class}><b>{value}</b><span>{name}</span></div>");
    }
    out.push_str("</div>");
}

fn section(out: &mut String, row: &Row) {
    let _ = write!(out, "<section><h2>{}</h2><div class=settings>", escape(&row.name));
    for (name, value) in &row.settings {
        let _ = write!(out, "<span>{} {}</span>", escape(name), escape(value));
    }
    out.push_str("</div>");
    figures(out, row);
    latencies(out, &row.latencies);
    for note in &row.notes {
        let _ = write!(out, "<p class=note>{}</p>", escape(note));
    }
    for fault in &row.faults {
        let _ = write!(
            out,
            "<p class=account><span class=\"badge missed\">fault</span> {}</p>",
            escape(fault)
        );
    }
    if let Some(account) = &row.account {
        let class = if account.balances() { "met" } else { "missed" };
        let _ = write!(
            out,
            "<p class=account><span class=\"badge {class}\">{}</span> {}</p>",
            account.verdict(),
            escape(&account.to_string())
        );
    }
    out.push_str("<div class=plots>");
    plots(out, row);
    out.push_str("</div></section>");
}

fn figures(out: &mut String, row: &Row) {
    if row.figures.is_empty() {
        return;
    }
    // Columns that would be empty or say the same three times are left out.
    let repeated = row.figures.iter().any(|figure| figure.runs.len() > 1);
    let targets = row.figures.iter().any(|figure| figure.target.is_some());
    let values = if repeated { "<th>least<th>median<th>most" } else { "<th>value" };
    let target = if targets { "<th>target<th><th>" } else { "" };
    let _ = write!(out, "<div class=scroll><table><tr><th>{values}<th class=unit>unit{target}");
    for figure in &row.figures {
        let [min, median, max] =
            [figure.min, figure.median, figure.max].map(|value| grouped(&number(value)));
        let values = match repeated {
            true => format!("<td>{min}<td class=median>{median}<td>{max}"),
            false => format!("<td class=median>{median}"),
        };
        let _ = write!(
            out,
            "<tr><td>{}{values}<td class=unit>{}{}",
            escape(&figure.name),
            escape(&figure.unit),
            if targets { target_cells(figure, row.is_sound()) } else { String::new() }
        );
    }
    out.push_str("</table></div>");
}

fn target_cells(figure: &Figure, sound: bool) -> String {
    let (Some(met), Some(target)) = (figure.met(), figure.target) else {
        return "<td><td><td>".into();
    };
    let sign = if figure.at_least { "\u{2265}" } else { "\u{2264}" };
    let class = if met && sound { "met" } else { "missed" };
    format!(
        "<td>{sign} {}<td>{}<td><span class=\"badge {class}\">{class}</span>",
        grouped(&target.to_string()),
        range(figure)
    )
}

fn latencies(out: &mut String, latencies: &[NamedLatency]) {
    if latencies.is_empty() {
        return;
    }
    out.push_str(
        "<div class=scroll><table><tr><th>latency, \u{b5}s<th>50 %<th>90 %<th>99 %<th>99.9 %<th>most\
         <th>count",
    );
    for NamedLatency { name, microseconds: p, .. } in latencies {
        let _ = write!(out, "<tr><td>{}", escape(name));
        for value in [p.p50, p.p90, p.p99, p.p999, p.max] {
            let _ = write!(out, "<td>{}", grouped(&number(value)));
        }
        let _ = write!(out, "<td class=unit>{}", grouped(&p.count.to_string()));
    }
    out.push_str("</table></div>");
}

fn plots(out: &mut String, row: &Row) {
    let curves: Vec<Line> =
        row.latencies.iter().map(|l| (l.name.clone(), l.curve.clone())).collect();
    if !curves.is_empty() {
        out.push_str(&plot("Latency by percentile", (Scale::Nines, Scale::Time), &curves));
    }
    if row.series.len() > 1 {
        series(out, &row.series);
    }
    for curve in &row.curves {
        out.push_str(&curve.plot());
    }
}

fn series(out: &mut String, series: &[Sample]) {
    let line = |name: &str, value: fn(&Sample) -> f64| {
        (name.to_owned(), series.iter().map(|s| (s.second, value(s))).collect())
    };
    let mut over_seconds = |title: &str, lines: &[Line]| {
        let measured = |line: &&Line| line.1.iter().all(|(_, value)| !value.is_nan());
        let lines: Vec<Line> = lines.iter().filter(measured).cloned().collect();
        if !lines.is_empty() {
            out.push_str(&plot(title, (Scale::Linear, Scale::Linear), &lines));
        }
    };
    over_seconds("Deliveries a second, over seconds", &[line("", |s| s.deliveries_per_second)]);
    let cpu = [line("nodes", |s| s.server_cores), line("Redis", |s| s.redis_cores)];
    over_seconds("CPU, cores", &cpu);
    over_seconds("Connections", &[line("", |s| s.connections)]);
    let nodes = series.iter().map(|s| s.nodes.len()).min().unwrap_or_default();
    let each = |value: fn(&Holding) -> f64| {
        let node = |index| {
            let points = series.iter().map(|s| (s.second, value(&s.nodes[index])));
            (format!("node {index}"), points.collect())
        };
        (0..nodes).map(node).collect::<Vec<Line>>()
    };
    over_seconds("Resident memory of each node, MiB", &each(|node| node.rss_mib));
    over_seconds("Descriptors of each node", &each(|node| node.descriptors as f64));
    over_seconds("Threads of each node", &each(|node| node.threads as f64));
}

/// A number with a separator between thousands.
fn grouped(number: &str) -> String {
    let (whole, fraction) = number.split_at(number.find('.').unwrap_or(number.len()));
    let groups: Vec<_> = whole.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",") + fraction
}
