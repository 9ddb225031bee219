//! `--slot-table WHAT`: which node serves which slot, for people and for proxies, what a change of the nodes would come to, and
//! draining one or giving it another weight; without a node: it asks the broker.

use std::fmt::Write;

use imcore::{Error, ErrorKind, ImClient, MOST_WEIGHT, SlotPlan, SlotTable, WhatIf};

/// What is asked for where nothing is said.
pub(crate) const DEFAULT: &str = "status";

const USAGE: &str = "expected status, nginx, haproxy, caddy, drain NAME, stay NAME, weight NAME N (or own: as its --weight \
                     says), plan with join=NAME, weight=N behind it, drain=NAME and lose=NAME, or begin N A,B,C with the nodes \
                     of a fixed list";

/// Carries out what `words` say; what there is to print. Nodes send on so many clients a second as `pace` says.
///
/// # Errors
/// The broker's; [`Config`](ErrorKind::Config) if there is no table, or the words say nothing.
pub(crate) fn run(
    words: &[String],
    im: &ImClient,
    pace: usize,
    is_shared: bool,
) -> Result<String, Error> {
    if !is_shared {
        let detail = "without Redis a node is alone and serves all slots; give --redis";
        return Err(mistake(detail));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["status"] => status(im, &table(im)?),
        ["nginx"] => map(&table(im)?, ";"),
        ["haproxy" | "caddy"] => map(&table(im)?, ""),
        ["drain", node] => set_draining(im, node, true),
        ["stay", node] => set_draining(im, node, false),
        ["weight", node, "own"] => set_weight(im, node, None),
        ["weight", node, weight] => set_weight(im, node, Some(read_weight(weight)?)),
        ["begin", count, list] => begin(im, count, list),
        ["plan", ref changes @ ..] if !changes.is_empty() => {
            let changes = what_if(changes)?;
            let plan = im.plan_slots(&changes).map_err(|error| match error.kind() {
                ErrorKind::Argument => mistake(error.to_string()),
                _ => error,
            })?;
            Ok(planned(&table(im)?, &plan.ok_or_else(no_table)?, pace))
        }
        _ => Err(mistake(USAGE)),
    }
}

fn mistake(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, detail).with_setting("--slot-table")
}

fn no_table() -> Error {
    mistake(
        "there is no table of slots at this --redis and --prefix: nodes make it that are started with --slots N",
    )
}

fn table(im: &ImClient) -> Result<SlotTable, Error> {
    im.slot_table()?.ok_or_else(no_table)
}

/// Lines of columns, each as wide as its widest text.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn status(im: &ImClient, table: &SlotTable) -> Result<String, Error> {
    let heard = im.nodes()?;
    let mut rows = vec![
        ["node", "slots", "leaving", "weight", "clients", "state", "address"].map(str::to_owned),
    ];
    for (name, node) in table.nodes() {
        let statuses = heard.iter().filter(|heard| heard.name == name);
        let clients: Vec<u64> =
            statuses.filter_map(|heard| Some(heard.status.as_ref()?.connections)).collect();
        let state = match (clients.is_empty(), node.draining, node.joining) {
            _ if node.listed => "listed",
            (true, ..) => "silent",
            (_, true, _) => "drains",
            (_, _, true) => "joins",
            _ => "serves",
        };
        rows.push([
            name.to_owned(),
            table.slots_of(name).count().to_string(),
            table.leaving(name).count().to_string(),
            match table.ordered_weight(name) {
                // It does not know of it yet, or is of a version that knows of no orders.
                Some(ordered) if ordered != node.weight => format!("{} ({ordered})", node.weight),
                Some(ordered) => format!("{ordered} ordered"),
                None => node.weight.to_string(),
            },
            if clients.is_empty() { "-".into() } else { clients.iter().sum::<u64>().to_string() },
            state.to_owned(),
            node.address.clone(),
        ]);
    }
    let mut text =
        format!("{} slots, version {}\n{}", table.count(), table.version, columns(&rows));
    text.push_str(&changes(im, table)?);
    Ok(text)
}

/// What moves, is to move, or is served by nobody.
fn changes(im: &ImClient, table: &SlotTable) -> Result<String, Error> {
    let mut text = String::new();
    for slot in 0..table.count() {
        let owner = table.owner(slot);
        match (table.moving_from(slot), owner) {
            (Some(from), Some(to)) => drop(writeln!(text, "slot {slot} moves: {from} -> {to}")),
            (_, None) => drop(writeln!(text, "slot {slot} is served by nobody")),
            _ => {}
        }
    }
    let plan = im.plan_slots(&[])?;
    if let Some(unserved) = plan.as_ref().map(|plan| plan.unserved.len()).filter(|count| *count > 0)
    {
        let slots = many(unserved as u64, "slot");
        let _ = writeln!(
            text,
            "nobody serves {slots}, and nobody takes any: start a node, or have one that drains stay"
        );
    }
    let to_come = plan.map_or(0, |plan| plan.moves.len());
    let moving = (0..table.count()).filter(|slot| table.moving_from(*slot).is_some()).count();
    let listed: Vec<_> = table.listed().collect();
    let _ = match to_come + moving {
        _ if !listed.is_empty() => writeln!(
            text,
            "nothing moves before these are started anew with --slots {}: {}; then {to_come}",
            table.count(),
            listed.join(", ")
        ),
        0 => writeln!(text, "nothing moves"),
        _ => writeln!(text, "{moving} moving, {to_come} to come"),
    };
    Ok(text)
}

/// The name of each slot, as .NET helpers have it (`s07`) and as `{index}` has it (`s7`), and the address of the node that owns it: as
/// the map of a proxy, whose lines end with `end`.
fn map(table: &SlotTable, end: &str) -> Result<String, Error> {
    let mut text = format!("# {} slots, version {}\n", table.count(), table.version);
    for slot in 0..table.count() {
        let Some(owner) = table.owner(slot) else { continue };
        let address = table.node(owner).map_or(owner, |node| &node.address);
        // It is to become a part of somebody's configuration.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".:-_[]".contains(c);
        if !address.chars().all(is_plain) {
            return Err(mistake(format!(
                "node {owner} has the address {address:?}, which is no host and port"
            )));
        }
        let (name, short) = (table.slot_name(slot), format!("s{slot}"));
        let _ = writeln!(text, "{name} {address}{end}");
        if short != name {
            let _ = writeln!(text, "{short} {address}{end}");
        }
    }
    Ok(text)
}

/// The first table, of a fixed list.
fn begin(im: &ImClient, count: &str, list: &str) -> Result<String, Error> {
    let slots = count.parse().map_err(|_| mistake(format!("{count} is no number of slots")))?;
    let servers: Vec<&str> = list.split(',').collect();
    let begun = im.begin_slots(slots, &servers).map_err(|error| match error.kind() {
        ErrorKind::Config => mistake(error.detail().to_string()),
        _ => error,
    })?;
    if !begun {
        return Err(mistake(
            "there is a table already; without words behind it the command shows it",
        ));
    }
    Ok(format!(
        "{slots} slots, each of the node that has its clients now. Start each node anew with --slots {slots} in place of \
         --servers, one after the other; nothing moves before all of them are\n"
    ))
}

fn set_draining(im: &ImClient, node: &str, draining: bool) -> Result<String, Error> {
    let table = table(im)?;
    if table.node(node).is_none() {
        return Err(mistake(format!("no node {node:?} stands in the table")));
    }
    im.set_draining(node, draining)?;
    Ok(match draining {
        true => format!(
            "{node} gives its {} slots away, and goes on running\n",
            table.slots_of(node).count()
        ),
        false => format!("{node} takes its share\n"),
    })
}

fn set_weight(im: &ImClient, node: &str, weight: Option<u32>) -> Result<String, Error> {
    let table = table(im)?;
    if table.node(node).is_none() && (weight.is_some() || table.ordered_weight(node).is_none()) {
        return Err(mistake(format!("no node {node:?} stands in the table")));
    }
    im.set_weight(node, weight)?;
    Ok(match weight {
        Some(weight) => format!("{node} has the weight {weight} from now on\n"),
        None => format!("{node} has the weight of its own setting again\n"),
    })
}

fn read_weight(text: &str) -> Result<u32, Error> {
    let weight = text.parse().ok().filter(|weight| *weight <= MOST_WEIGHT);
    weight.ok_or_else(|| {
        mistake(format!("{text} is no weight: expected a whole number from 0 to {MOST_WEIGHT}"))
    })
}

/// The changes that `words` name: `join=NAME`, behind which `weight=N` may stand, `drain=NAME` and `lose=NAME`.
fn what_if(words: &[&str]) -> Result<Vec<WhatIf>, Error> {
    let mut changes = Vec::new();
    for word in words {
        let (what, said) = word.split_once('=').unwrap_or((word, ""));
        let node = said.to_owned();
        let change = match (what, changes.last_mut()) {
            (_, _) if said.is_empty() => None,
            ("join", _) => Some(WhatIf::Joins { node, weight: 1 }),
            ("drain", _) => Some(WhatIf::Drains { node }),
            ("lose", _) => Some(WhatIf::Dies { node }),
            ("weight", Some(WhatIf::Joins { weight, .. })) => {
                *weight = read_weight(said)?;
                continue;
            }
            _ => None,
        };
        changes.push(change.ok_or_else(|| mistake(format!("{word}: {USAGE}")))?);
    }
    Ok(changes)
}

fn planned(now: &SlotTable, plan: &SlotPlan, pace: usize) -> String {
    let mut rows = vec![["node", "slots", "then"].map(str::to_owned)];
    rows.extend(plan.table.nodes().map(|(name, _)| {
        [name.to_owned(), now.slots_of(name).count().to_string(), plan.slots_of(name).to_string()]
    }));
    let givers = now.nodes().map(|(name, _)| {
        let of_it = plan.moves.iter().filter(|moved| moved.from.as_deref() == Some(name));
        of_it.map(|moved| moved.clients).sum::<u64>()
    });
    let longest = givers.max().unwrap_or(0).div_ceil(pace.max(1) as u64);
    let share = plan.moves.len() as f64 * 100.0 / now.count() as f64;
    let mut text = columns(&rows);
    let _ = writeln!(
        text,
        "{} and about {} would move, {share:.1} % of the slots: {longest} s where each node sends on {pace} clients a second",
        many(plan.moves.len() as u64, "slot"),
        many(plan.clients(), "client"),
    );
    if !plan.unserved.is_empty() {
        let _ = writeln!(text, "nobody would serve {}", many(plan.unserved.len() as u64, "slot"));
    }
    text
}

fn many(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read() {
        let read = |words: &[&str]| what_if(words).map_err(|error| error.to_string());
        let joins = |node: &str, weight| WhatIf::Joins { node: node.into(), weight };
        assert_eq!(
            read(&["join=10.0.0.5:6001", "weight=2", "drain=a", "join=b=c", "lose=d"]),
            Ok(vec![
                joins("10.0.0.5:6001", 2),
                WhatIf::Drains { node: "a".into() },
                joins("b=c", 1),
                WhatIf::Dies { node: "d".into() },
            ])
        );
        for words in
            [&["join"][..], &["join="], &["weight=2"], &["drain=a", "weight=2"], &["grow=a"]]
        {
            assert!(read(words).unwrap_err().contains("--slot-table"), "{words:?}");
        }
        assert!(read(&["join=a", "weight=-1"]).unwrap_err().contains("no weight"));
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [["node", "n"], ["a-long-name", "12"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "node         n\na-long-name  12\n");
    }
}
