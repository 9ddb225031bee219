//! SVG: plots with labelled axes, and the range of one figure against its target. Pure.
//!
//! Colours are classes that plot.css styles, so that they follow a light or dark theme.

use std::fmt::Write;

use super::Figure;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 26.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;

/// Most points of a line.
const POINTS: usize = 180;

/// Colours that lines take turns with.
const COLOURS: usize = 6;

const RANGE_WIDTH: f64 = 180.0;
const RANGE_HEIGHT: f64 = 16.0;

/// One line: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// How an axis maps values to places, and how it writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Plain numbers.
    Linear,
    /// Powers of ten.
    Log,
    /// Powers of ten of a microsecond.
    Time,
    /// Percentiles: 1 is 90 %, 2 is 99 %, ...
    Nines,
}

impl Scale {
    fn is_log(self) -> bool {
        matches!(self, Scale::Log | Scale::Time)
    }

    fn place(self, value: f64) -> f64 {
        if self.is_log() { value.max(1.0).log10() } else { value }
    }

    fn text(self, value: f64) -> String {
        match self {
            Scale::Linear | Scale::Log => short(value),
            Scale::Time if value >= 1e6 => format!("{} s", short(value / 1e6)),
            Scale::Time if value >= 1e3 => format!("{} ms", short(value / 1e3)),
            Scale::Time => format!("{} \u{b5}s", short(value)),
            Scale::Nines => {
                let share = 100.0 - 10f64.powf(2.0 - value);
                format!("{:.*} %", (value as usize).saturating_sub(2), share)
            }
        }
    }
}

/// The part of a scale that a plot shows.
struct Axis {
    scale: Scale,
    /// In places, not values.
    from: f64,
    to: f64,
}

impl Axis {
    /// Covers the values; a linear axis begins at `floor` if that is given.
    fn over(scale: Scale, values: impl Iterator<Item = f64>, floor: Option<f64>) -> Axis {
        let places = values.map(|value| scale.place(value));
        let (mut from, mut to) = places
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p), high.max(p)));
        if scale.is_log() {
            (from, to) = (from.floor(), to.ceil());
        }
        if let Some(floor) = floor.filter(|_| scale == Scale::Linear) {
            (from, to) = (floor, to * 1.08);
        }
        if !from.is_finite() || !to.is_finite() || to - from < 1e-9 {
            let start = if from.is_finite() { from } else { 0.0 };
            (from, to) = (start, start + 1.0);
        }
        Axis { scale, from, to }
    }

    /// Where a value lies between the ends: 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (self.scale.place(value) - self.from) / (self.to - self.from)
    }

    /// Round values to be written at the axis.
    fn ticks(&self) -> Vec<f64> {
        let step = match self.scale {
            Scale::Linear => step(self.to - self.from),
            Scale::Log | Scale::Time | Scale::Nines => 1.0,
        };
        let first = (self.from / step).ceil() as i64;
        let places = (first..).map(|n| n as f64 * step).take_while(|p| *p <= self.to + 1e-9);
        places.map(|p| if self.scale.is_log() { 10f64.powf(p) } else { p }).collect()
    }
}

/// A round distance between ticks of an axis of this length, for about four of them.
fn step(length: f64) -> f64 {
    let rough = length / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn short(value: f64) -> String {
    let (value, unit) = match value {
        v if v >= 1e6 => (v / 1e6, "M"),
        v if v >= 1e4 => (v / 1e3, "k"),
        v => (v, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// A plot of lines; y starts at zero unless it is logarithmic.
pub fn plot(title: &str, (x_scale, y_scale): (Scale, Scale), lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let x = Axis::over(x_scale, points().map(|p| p.0), None);
    let y = Axis::over(y_scale, points().map(|p| p.1), Some(0.0));
    let at_x = |value: f64| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - y.share(value) * (HEIGHT - BOTTOM - TOP);
    let mut out = format!(
        "<svg class=\"plot\" role=\"img\" viewBox=\"0 0 {WIDTH} {HEIGHT}\"><title>{0}</title>\
         <text class=\"title\" x=\"0\" y=\"12\">{0}</text>",
        escape(title)
    );
    for tick in y.ticks() {
        let place = at_y(tick);
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {place:.1}H{}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            place + 4.0,
            y_scale.text(tick)
        );
    }
    for tick in x.ticks() {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            at_x(tick),
            HEIGHT - BOTTOM + 18.0,
            x_scale.text(tick)
        );
    }
    for ((_, points), colour) in lines.iter().zip((0..COLOURS).cycle()) {
        let points = thinned(points);
        let places: Vec<_> =
            points.iter().map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
        let _ = write!(out, "<polyline class=\"line{colour}\" points=\"{}\"/>", places.join(" "));
    }
    legend(&mut out, lines);
    out.push_str("</svg>");
    out
}

/// A plot as a file of its own, with its style and a background.
pub fn standalone(plot: &str) -> String {
    let style = include_str!("plot.css");
    const HEAD: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" font-family=\"system-ui, sans-serif\" \
                        style=\"background: var(--card)\" ";
    let plot = plot.replacen("<svg ", HEAD, 1);
    let margin = format!("viewBox=\"-10 -8 {} {}\"", WIDTH + 20.0, HEIGHT + 16.0);
    let plot = plot.replacen(&format!("viewBox=\"0 0 {WIDTH} {HEIGHT}\""), &margin, 1);
    plot.replacen("<title>", &format!("<style>{style}</style><title>"), 1) + "\n"
}

/// So few points that a line does not become a band: each the mean of some that follow each other.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |part: &[(f64, f64)]| {
        let (x, y) = part.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / part.len() as f64, y / part.len() as f64)
    };
    points.chunks(points.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

/// Names of the lines, at the upper right; a line alone is named by the title.
fn legend(out: &mut String, lines: &[Line]) {
    if lines.len() < 2 {
        return;
    }
    out.push_str(&format!("<text x=\"{}\" y=\"12\" text-anchor=\"end\">", WIDTH - RIGHT));
    for ((name, _), colour) in lines.iter().zip((0..COLOURS).cycle()) {
        let _ = write!(out, "<tspan class=\"name{colour}\" dx=\"10\">{}</tspan>", escape(name));
    }
    out.push_str("</text>");
}

/// The figure's runs as a bar from least to most with a dot at the median, and a mark at the target.
pub fn range(figure: &Figure) -> String {
    let Some(target) = figure.target else { return String::new() };
    let most = figure.max.max(target) * 1.12;
    if !most.is_finite() || most <= 0.0 {
        return String::new();
    }
    let at = |value: f64| (value / most).clamp(0.0, 1.0) * (RANGE_WIDTH - 8.0) + 4.0;
    let middle = RANGE_HEIGHT / 2.0;
    let class = if figure.met() == Some(true) { "met" } else { "missed" };
    format!(
        "<svg class=\"range {class}\" width={RANGE_WIDTH} height={RANGE_HEIGHT} aria-hidden=true>\
         <path class=grid d=\"M4 {middle}H{}\"/><path class=bar d=\"M{:.1} {middle}H{:.1}\"/>\
         <circle cx={:.1} cy={middle} r=4 /><path class=target d=\"M{:.1} 1V{}\"/></svg>",
        RANGE_WIDTH - 4.0,
        at(figure.min),
        at(figure.max),
        at(figure.median),
        at(target),
        RANGE_HEIGHT - 1.0
    )
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_written_in_their_own_terms() {
        let texts = |axis: Axis| -> Vec<String> {
            axis.ticks().into_iter().map(|tick| axis.scale.text(tick)).collect()
        };
        let time = Axis::over(Scale::Time, [40.0, 30_000.0].into_iter(), None);
        assert_eq!(texts(time), ["10 \u{b5}s", "100 \u{b5}s", "1 ms", "10 ms", "100 ms"]);
        let nines = Axis::over(Scale::Nines, [0.0, 4.2].into_iter(), None);
        assert_eq!(texts(nines), ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        let linear = Axis::over(Scale::Linear, [3.0, 17_000.0].into_iter(), Some(0.0));
        assert_eq!(texts(linear), ["0", "5000", "10k", "15k"]);
    }

    #[test]
    fn a_file_of_its_own_is_xml() {
        let line = |name: &str| (name.to_owned(), vec![(1.0, 2.0), (100.0, 3.0)]);
        let lines = [line("a & b"), line("c")];
        let svg = standalone(&plot("cost < price", (Scale::Log, Scale::Linear), &lines));
        assert!(
            svg.starts_with("<svg xmlns=") && svg.contains("<style>") && svg.contains(".line0")
        );
        assert!(svg.contains("a &amp; b") && svg.contains("cost &lt; price"));
        for tag in svg.split('<').skip(1).filter_map(|part| part.split('>').next()) {
            let values: Vec<_> = tag.split('=').skip(1).collect();
            assert!(values.iter().all(|value| value.starts_with('"')), "<{tag}>");
        }
    }

    #[test]
    fn long_lines_are_means() {
        let points: Vec<_> = (0..360).map(|n| (f64::from(n), f64::from(n % 2))).collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), POINTS);
        assert_eq!((thin[0], thin[POINTS - 1]), ((0.5, 0.5), (358.5, 0.5)));
        assert_eq!(thinned(&points[..POINTS]), points[..POINTS]);
        assert_eq!(thinned(&[]), []);
    }

    #[test]
    fn nothing_and_a_single_point_are_drawn_too() {
        for points in [vec![], vec![(3.0, 0.0)], vec![(0.0, 5.0), (0.0, 5.0)]] {
            let svg = plot("x", (Scale::Linear, Scale::Linear), &[(String::new(), points)]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
