//! How cost grows with rooms, messages and connections: rows at several sizes, as plots.

use std::{fs, path::Path};

use super::{Bench, connect, room};
use crate::{
    args::{ConnectArgs, FanoutArgs},
    report::{Curves, Line, Row},
};

/// CPU per delivery as the room and as the message grows, and per connect as there are more: one row, and a file of
/// each plot in `folder`, if one is given.
pub fn plots(bench: &Bench, quick: bool, folder: Option<&Path>) -> Result<Row, String> {
    let part = |whole: usize| if quick { whole.div_ceil(20) } else { whole };
    let mut row = Row::new("how cost grows");
    let deliveries = |row: &mut Row, members: usize, size: usize| {
        let messages = part(200_000).div_ceil(members).max(part(40)) as u32;
        let args = FanoutArgs {
            members,
            rooms: 1,
            in_flight: 1,
            messages,
            size,
            rate: None,
            seconds: 0.0,
        };
        bench.progress.say(&format!("room of {members}, {size} bytes"));
        let measured = room::fanout(bench, &args)?;
        take(row, measured, &format!("room of {members}, {size} bytes"))
    };
    let rooms = [100, 1000, 5000, 15_000].map(part);
    let rooms = curve(&rooms, |members| deliveries(&mut row, members, 128))?;
    let sizes =
        curve(&[80, 256, 1024, 8192, 65_536], |size| deliveries(&mut row, part(1000), size))?;
    let connects = curve(&[1000, 4000, 16_000].map(part), |clients| {
        bench.progress.say(&format!("{clients} connects"));
        let measured = connect::ramp(bench, &ConnectArgs { clients, rate: None, window: 256 })?;
        take(&mut row, measured, &format!("{clients} connections"))
    })?;
    for (file, title, lines) in [
        ("room", "CPU per delivery, us, over members", rooms),
        ("size", "CPU per delivery, us, over bytes of a message", sizes),
        ("connect", "CPU per connect, us, over connections", connects),
    ] {
        let curves = Curves { title: title.into(), lines };
        if let Some(folder) = folder {
            let path = folder.join(format!("growth-{file}.svg"));
            fs::write(&path, curves.svg())
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        row.curves.push(curves);
    }
    Ok(row)
}

/// The server's cost and, if there is one, the floor's, for each size.
fn curve(
    sizes: &[usize],
    mut measure: impl FnMut(usize) -> Result<[Option<f64>; 2], String>,
) -> Result<Vec<Line>, String> {
    let mut lines = ["imserver", "floor"].map(|name| (name.to_owned(), Vec::new()));
    for size in sizes {
        for ((_, points), cost) in lines.iter_mut().zip(measure(*size)?) {
            points.extend(cost.map(|cost| (*size as f64, cost)));
        }
    }
    Ok(lines.into_iter().filter(|(_, points)| !points.is_empty()).collect())
}

/// Takes the costs of a row over into `row`, with its account; the medians.
fn take(row: &mut Row, measured: Row, name: &str) -> Result<[Option<f64>; 2], String> {
    if let Some(account) = &measured.account {
        row.add_account(account);
    }
    row.faults.extend(measured.faults);
    let figures = measured.figures;
    let of = |beginning: &str| {
        let figure = figures.iter().find(|figure| figure.name.starts_with(beginning));
        figure.map(|figure| (figure.runs.clone(), figure.median))
    };
    let costs = [("server", of("server CPU per ")), ("floor", of("plain floor CPU per "))];
    for (whose, cost) in &costs {
        if let Some((runs, _)) = cost {
            row.figure(&format!("{whose} CPU, {name}"), "us", None, runs.clone());
        }
    }
    Ok(costs.map(|(_, cost)| cost.map(|(_, median)| median)))
}
