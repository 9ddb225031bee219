//! What the operations about webhooks do: how delivery goes, on and off, and dead letters.

use imcore::broker::Broker;
use serde_json::{Value, json};

use super::{
    calls::{Call, Outcome, answer, done, in_path},
    input, json,
    problem::{Code, Problem},
};
use crate::webhook::{Desk, letter_json};

pub(super) fn get(call: &Call) -> Outcome {
    match call.webhook.look()? {
        Some(seen) => Ok(answer(200, &seen.json())),
        None => Err(no_webhook()),
    }
}

pub(super) fn switch(call: &Call) -> Outcome {
    let body = call.body(&["on"])?;
    let on = body.need("on", json::boolean)?;
    Desk::switch(broker(call)?, on)?;
    done(204)
}

pub(super) fn list_letters(call: &Call) -> Outcome {
    let page = input::page(call.request)?;
    let page = broker(call)?.dead_letters(page.after.as_deref(), page.limit)?;
    let letters: Vec<_> = page.items.iter().map(letter_json).collect();
    Ok(answer(200, &json!({ "letters": letters, "total": page.total, "next": page.next })))
}

pub(super) fn get_letter(call: &Call) -> Outcome {
    let id = input::letter_id(call.param(0)?.to_owned());
    let id = id.map_err(|mistake| in_path("letter", &mistake))?;
    let Some(letter) = broker(call)?.dead_letter(&id)? else { return Err(no_letter()) };
    let mut about = letter_json(&letter);
    // It was JSON when it was put aside.
    about["message"] = serde_json::from_str(&letter.body).unwrap_or(Value::Null);
    Ok(answer(200, &about))
}

pub(super) fn replay_letters(call: &Call) -> Outcome {
    let ids = letters(call)?;
    counted(202, broker(call)?.replay_dead_letters(&ids)?, &ids)
}

pub(super) fn discard_letters(call: &Call) -> Outcome {
    let ids = letters(call)?;
    counted(200, broker(call)?.discard_dead_letters(&ids)?, &ids)
}

/// Which letters are meant; none: all of them.
fn letters(call: &Call) -> Result<Vec<String>, Problem> {
    let body = call.body(&["letters", "all"])?;
    let named = body.get("letters", input::letter_ids)?;
    match (named, body.get("all", json::boolean)?) {
        (Some(named), None) => Ok(named),
        (None, Some(true)) => Ok(Vec::new()),
        _ => Err(Problem::invalid("give either letters, the ids of some, or \"all\": true")),
    }
}

/// How many of the letters there were.
fn counted(status: u16, count: usize, named: &[String]) -> Outcome {
    match count {
        0 if !named.is_empty() => Err(no_letter()),
        _ => Ok(answer(status, &json!({ "letters": count }))),
    }
}

fn broker<'a>(call: &'a Call) -> Result<&'a dyn Broker, Problem> {
    call.webhook.letters()?.ok_or_else(no_webhook)
}

fn no_webhook() -> Problem {
    let detail = "no webhook is set: start all nodes with --webhook-url and --webhook-secret";
    Problem::new(Code::NotFound, detail)
}

fn no_letter() -> Problem {
    Problem::new(Code::NotFound, "there is no such dead letter (any more)")
}
