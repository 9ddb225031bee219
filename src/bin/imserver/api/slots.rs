//! What the operations about slots do: who owns what, what a change would move, draining a node, and its weight.

use imcore::{ErrorKind, SlotMove, SlotNode, SlotTable, WhatIf};
use serde_json::{Value, json};

use super::{
    calls::{Call, Outcome, answer, done},
    input,
    json::{self, Mistake, Object},
    problem::{Code, Problem},
};

/// The table, as it is told here and on the admin page.
pub(crate) fn slot_table(table: &SlotTable) -> Value {
    let entry = |(name, node): (&str, &SlotNode)| {
        json!({
            "server": name,
            "address": node.address,
            "weight": node.weight,
            "ordered_weight": table.ordered_weight(name),
            "draining": node.draining,
            "joining": node.joining,
            "listed": node.listed,
            "slots": table.slots_of(name).collect::<Vec<_>>(),
            "leaving": table.leaving(name).collect::<Vec<_>>(),
        })
    };
    let nodes: Vec<_> = table.nodes().map(entry).collect();
    json!({ "version": table.version, "count": table.count(), "nodes": nodes })
}

pub(super) fn set_draining(call: &Call) -> Outcome {
    let body = call.body(&["server", "draining"])?;
    let server = body.need("server", json::string)?;
    let draining = body.need("draining", json::boolean)?;
    match call.im.set_draining(&server, draining)? {
        true => done(202),
        false => Err(no_slots()),
    }
}

pub(super) fn set_weight(call: &Call) -> Outcome {
    let body = call.body(&["server", "weight"])?;
    let server = body.need("server", json::string)?;
    let weight = body.need("weight", input::weight_or_null)?;
    match call.im.set_weight(&server, weight)? {
        true => done(202),
        false => Err(no_slots()),
    }
}

pub(super) fn get_slots(call: &Call) -> Outcome {
    let table = call.im.slot_table()?.ok_or_else(no_slots)?;
    Ok(answer(200, &slot_table(&table)))
}

pub(super) fn plan_slots(call: &Call) -> Outcome {
    let body = call.body(&["join", "drain", "lose"])?;
    let nodes = |name| body.get(name, |text| json::array(text, (0, input::NODES), input::server));
    let mut changes =
        body.get("join", |text| json::array(text, (0, input::NODES), joining))?.unwrap_or_default();
    let drain = nodes("drain")?.unwrap_or_default();
    let lose = nodes("lose")?.unwrap_or_default();
    changes.extend(drain.into_iter().map(|node| WhatIf::Drains { node }));
    changes.extend(lose.into_iter().map(|node| WhatIf::Dies { node }));
    let plan = call.im.plan_slots(&changes).map_err(|error| match error.kind() {
        ErrorKind::Argument => no_slots(),
        _ => error.into(),
    })?;
    let plan = plan.ok_or_else(no_slots)?;
    let moved = |moved: &SlotMove| {
        let SlotMove { slot, from, to, clients, .. } = moved;
        json!({ "slot": slot, "from": from, "to": to, "clients": clients })
    };
    let share = |(name, _)| json!({ "server": name, "slots": plan.slots_of(name) });
    let body = json!({
        "clients": plan.clients(),
        "moves": plan.moves.iter().map(moved).collect::<Vec<_>>(),
        "nodes": plan.table.nodes().map(share).collect::<Vec<_>>(),
        "unserved": plan.unserved,
    });
    Ok(answer(200, &body))
}

/// A node that would come.
fn joining(text: &str) -> Result<WhatIf, Mistake> {
    let joining = Object::read(text, &["server", "weight"])?;
    let node = joining.need("server", input::server)?;
    let weight = joining.get("weight", input::weight)?.unwrap_or(1);
    Ok(WhatIf::Joins { node, weight })
}

fn no_slots() -> Problem {
    let detail = "no such node stands in a table of slots: there is one where nodes are started with --slots N";
    Problem::new(Code::NotFound, detail)
}
