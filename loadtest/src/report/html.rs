//! The HTML page: tables and inline SVG plots, nothing from elsewhere.

use std::fmt::Write;

use super::{Report, Row, Sample, number};
use crate::meter::Holding;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:right;\
border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}.met{color:#17692b}\
.missed{color:#a3261b;font-weight:600}svg{margin:.6em 1em .6em 0}svg text{font:11px system-ui,sans-serif;\
fill:#555}code{font-size:90%}";
const COLOURS: [&str; 6] = ["#1f5fa8", "#c2571a", "#2f7d32", "#7b3fa0", "#8a6d00", "#555555"];
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 32.0;
const TOP: f64 = 24.0;

/// One line of a plot.
type Line<'a> = (String, Vec<(f64, f64)>);

/// The whole page.
pub fn page(report: &Report) -> String {
    let machine = &report.machine;
    let mut out = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>imcore: {}</title>\
         <style>{STYLE}</style><h1>imcore load test</h1><p><code>{}</code><br>{} cores, {}, {} GiB, \
         Linux {}, Redis {}</p>",
        escape(&report.tool),
        escape(&report.command),
        machine.cores,
        escape(&machine.processor),
        machine.memory_gib,
        escape(&machine.kernel),
        escape(&machine.redis)
    );
    report.rows.iter().for_each(|row| section(&mut out, row));
    out.push_str("</html>\n");
    out
}

fn section(out: &mut String, row: &Row) {
    let _ = write!(out, "<h2>{}</h2><p>", escape(&row.name));
    for (name, value) in &row.settings {
        let _ = write!(out, "{} <code>{}</code> &nbsp; ", escape(name), escape(value));
    }
    out.push_str("</p>");
    figures(out, row);
    for note in &row.notes {
        let _ = write!(out, "<p>{}</p>", escape(note));
    }
    if let Some(account) = &row.account {
        let class = if account.balances() { "met" } else { "missed" };
        let _ = write!(out, "<p class={class}>{}</p>", escape(&account.to_string()));
    }
    let curves: Vec<Line> =
        row.latencies.iter().map(|l| (l.name.clone(), log_latency(&l.curve))).collect();
    if !curves.is_empty() {
        out.push_str(&plot("Latency: microseconds (log10) over nines", &curves));
    }
    if row.series.len() > 1 {
        series(out, &row.series);
    }
    for (name, points) in &row.curves {
        let points = points.iter().map(|(x, y)| (x.max(1.0).log10(), *y)).collect();
        out.push_str(&plot(&format!("{name} over size (log10)"), &[(String::new(), points)]));
    }
}

fn figures(out: &mut String, row: &Row) {
    if row.figures.is_empty() {
        return;
    }
    out.push_str("<table><tr><th><th>min<th>median<th>max<th><th>target");
    for figure in &row.figures {
        let (class, target) = match (figure.met(), figure.target) {
            (Some(met), Some(target)) => {
                let sign = if figure.at_least { "&ge;" } else { "&le;" };
                (if met { "met" } else { "missed" }, format!("{sign} {target}"))
            }
            _ => ("", String::new()),
        };
        let [min, median, max] = [figure.min, figure.median, figure.max].map(number);
        let _ = write!(
            out,
            "<tr><td>{}<td>{min}<td class=\"{class}\">{median}<td>{max}<td>{}<td>{target}",
            escape(&figure.name),
            escape(&figure.unit)
        );
    }
    out.push_str("</table>");
}

fn log_latency(curve: &[(f64, f64)]) -> Vec<(f64, f64)> {
    curve.iter().map(|(nines, value)| (*nines, value.max(1.0).log10())).collect()
}

fn series(out: &mut String, series: &[Sample]) {
    let line = |name: &str, value: fn(&Sample) -> f64| {
        (name.to_owned(), series.iter().map(|s| (s.second, value(s))).collect())
    };
    out.push_str(&plot("Deliveries a second", &[line("", |s| s.deliveries_per_second)]));
    let cpu = [line("nodes", |s| s.server_cores), line("Redis", |s| s.redis_cores)];
    out.push_str(&plot("CPU, cores", &cpu));
    out.push_str(&plot("Resident memory of the nodes, MiB", &[line("", |s| s.rss_mib)]));
    out.push_str(&plot("Connections", &[line("", |s| s.connections)]));
    let each = |value: fn(&Holding) -> f64| {
        let nodes = series.iter().map(|s| s.nodes.len()).min().unwrap_or_default();
        let node = |index| {
            let points = series.iter().map(|s| (s.second, value(&s.nodes[index])));
            (format!("node {index}"), points.collect())
        };
        (0..nodes).map(node).collect::<Vec<Line>>()
    };
    out.push_str(&plot("Resident memory of each node, MiB", &each(|node| node.rss_mib)));
    out.push_str(&plot("Descriptors of each node", &each(|node| node.descriptors as f64)));
    out.push_str(&plot("Threads of each node", &each(|node| node.threads as f64)));
}

/// One SVG plot, y from zero.
fn plot(title: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let most = |value: fn(&(f64, f64)) -> f64| points().map(value).fold(0.0, f64::max);
    let (x_most, y_most) = (most(|p| p.0).max(1e-9), most(|p| p.1).max(1e-9) * 1.05);
    let least = points().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let x_least = if least.is_finite() && least < x_most { least } else { 0.0 };
    let x = |value: f64| LEFT + (value - x_least) / (x_most - x_least) * (WIDTH - LEFT - 12.0);
    let y = |value: f64| HEIGHT - BOTTOM - value / y_most * (HEIGHT - BOTTOM - TOP);
    let mut out = format!(
        "<svg role=img width={WIDTH} height={HEIGHT} viewBox=\"0 0 {WIDTH} {HEIGHT}\">\
         <text x={LEFT} y=14>{}</text>",
        escape(title)
    );
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let (at_y, at_x) = (y(y_most * part), x(x_least + (x_most - x_least) * part));
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {at_y:.1}H{WIDTH}\" stroke=#e4e4e4 />\
             <text x={} y={:.1} text-anchor=end>{}</text>\
             <text x={at_x:.1} y={} text-anchor=middle>{}</text>",
            LEFT - 6.0,
            at_y + 4.0,
            number(y_most * part),
            HEIGHT - BOTTOM + 16.0,
            number(x_least + (x_most - x_least) * part)
        );
    }
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let _ = write!(out, "<path fill=none stroke-width=1.6 stroke={colour} d=\"");
        for (step, (at_x, at_y)) in points.iter().enumerate() {
            let verb = if step == 0 { 'M' } else { 'L' };
            let _ = write!(out, "{verb}{:.1} {:.1}", x(*at_x), y(*at_y));
        }
        let _ = write!(
            out,
            "\"/><text x={} y={} style=\"fill:{colour}\">{}</text>",
            LEFT + 8.0,
            TOP + 14.0 + 13.0 * index as f64,
            escape(name)
        );
    }
    out.push_str("</svg>");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
