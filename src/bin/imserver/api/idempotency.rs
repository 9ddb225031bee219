//! Requests with an idempotency key are carried out once, by whichever node they are sent to.
//!
//! The key is claimed in the broker, which all nodes share; what came of the request takes the claim's
//! place. Keys are not divided by API key: a deployment has one, and a request that is repeated after
//! that was changed is still the same request.

use std::time::Duration;

use imcore::{ErrorKind, broker::Broker};
use log::Level;
use serde::{Deserialize, Serialize};

use super::{
    input,
    keys::Keys,
    problem::{Code, PROBLEM, Problem, log_failure},
};
use crate::web::{Body, Request, Response};

/// How long a claim stands: longer than any request takes, so that only a node that died leaves one.
const CLAIM_LIFE: Duration = Duration::from_secs(120);

/// What is stored under a key: a claim, and later the answer.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// Of the request that the key is for.
    fingerprint: String,
    /// Unique, so that a node that was too slow cannot answer for its successor.
    claim: String,
    answer: Option<Answer>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    status: u16,
    /// Absent: none, or a problem of that status.
    body: Option<String>,
}

/// The key of a request, if it has one.
pub(super) fn key(request: &Request) -> Result<Option<&str>, Problem> {
    let mut keys = request.headers_of("Idempotency-Key");
    let Some(key) = keys.next() else { return Ok(None) };
    match input::is_visible(key, input::KEY) && keys.next().is_none() {
        true => Ok(Some(key)),
        false => Err(Problem::invalid(format!(
            "Idempotency-Key: expected one key of 1 to {} visible ASCII characters, such as a UUID",
            input::KEY
        ))),
    }
}

/// Carries out `request` under `key`, or says what came of it before. What it answers is kept for `life`, and
/// counted in `keys`.
pub(super) fn once(
    (broker, keys): (&dyn Broker, &Keys),
    key: &str,
    request: &Request,
    life: Duration,
    carry_out: impl FnOnce() -> Result<Response, Problem>,
) -> Result<Response, Problem> {
    keys.check_room()?;
    let fingerprint = fingerprint(request);
    let claim = Entry { fingerprint, claim: unique()?, answer: None };
    let stored = text(&claim)?;
    // Whatever goes wrong here, the request itself was not begun.
    let there = broker.claim(key, &stored, CLAIM_LIFE).map_err(|error| {
        log_failure(Level::Warn, "an idempotency key cannot be claimed: ", &error);
        if error.kind() == ErrorKind::Interrupted {
            // The claim may stand all the same, and no request would ever complete it.
            let _ = broker.complete(key, &stored, "", Duration::ZERO);
        }
        Problem::new(Code::Unavailable, "the broker is away; nothing was done, try again")
    })?;
    if let Some(there) = there {
        return replay(&there, &claim.fingerprint);
    }
    let outcome = carry_out();
    let (entry, life) = match &outcome {
        Ok(response) => (settled(claim, response), life),
        // A part of it may have been done, also where the broker refused. Repeated, that might be done twice: a
        // caller that prefers twice to not at all takes another key.
        Err(problem) if matches!(problem.code, Code::UnknownEffect | Code::Internal) => {
            let answer = Answer { status: problem.code.parts().0, body: None };
            (Entry { answer: Some(answer), ..claim }, life)
        }
        Err(problem) if problem.in_part => (settled(claim, &problem.clone().into_response()), life),
        // It had no effect, so the key is free for the next attempt.
        Err(_) => (claim, Duration::ZERO),
    };
    match broker.complete(key, &stored, &text(&entry)?, life) {
        Ok(true) if !life.is_zero() => keys.add(life),
        Ok(_) => {}
        Err(error) => {
            let what = "what came of a request with an idempotency key cannot be kept: ";
            log_failure(Level::Warn, what, &error);
        }
    }
    outcome
}

fn replay(there: &str, fingerprint: &str) -> Result<Response, Problem> {
    let entry: Entry = serde_json::from_str(there)
        .map_err(|_| Problem::new(Code::Internal, "what is stored under the key is not ours"))?;
    if entry.fingerprint != fingerprint {
        let detail = "this Idempotency-Key was used for another request; take a fresh one";
        return Err(Problem::new(Code::KeyReused, detail));
    }
    let Some(answer) = entry.answer else {
        let detail = "a request with this Idempotency-Key is being carried out; try again";
        return Err(Problem::new(Code::InProgress, detail));
    };
    let response = match answer {
        Answer { status: 504, .. } => {
            let detail = "the broker did not answer then; it may have been done or not";
            Problem::new(Code::UnknownEffect, detail).into_response()
        }
        Answer { status: 500, .. } => {
            let detail = "the broker refused this then; the log of the node says why";
            Problem::new(Code::Internal, detail).into_response()
        }
        Answer { status: 400, body: Some(body) } => Response::new(400, PROBLEM, body),
        Answer { status, body: Some(body) } => Response::new(status, "application/json", body),
        Answer { status, body: None } => Response::new(status, "", ""),
    };
    Ok(response.with("Idempotency-Replayed", "true"))
}

fn settled(claim: Entry, response: &Response) -> Entry {
    let body = match &response.body {
        Body::Whole(body) if !response.content_type.is_empty() => {
            Some(String::from_utf8_lossy(body).into_owned())
        }
        _ => None,
    };
    Entry { answer: Some(Answer { status: response.status, body }), ..claim }
}

fn text(entry: &Entry) -> Result<String, Problem> {
    serde_json::to_string(entry).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

fn unique() -> Result<String, Problem> {
    let number =
        getrandom::u64().map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    Ok(format!("{number:016x}"))
}

/// Tells requests apart, against mistakes of callers and not against forgery: who may ask at all could send any
/// request. Equal on every node and in every version (FNV-1a with 128 bits).
fn fingerprint(request: &Request) -> String {
    const START: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let query = request.query.as_deref().unwrap_or_default();
    let parts =
        [request.method.as_bytes(), request.path.as_bytes(), query.as_bytes(), &request.body];
    let bytes = parts.into_iter().flat_map(|part| part.iter().chain(b"\n"));
    let hash = bytes.fold(START, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    format!("{hash:032x}")
}

#[cfg(test)]
mod tests {
    use imcore::broker::MemoryBroker;

    use super::*;
    use crate::api::keys::KeyLimits;

    const LIFE: Duration = Duration::from_secs(60);

    fn keys() -> Keys {
        Keys::new(KeyLimits { life: LIFE, keys: 9 })
    }

    fn request(body: &str) -> Request {
        Request {
            method: "POST".into(),
            path: "/x".into(),
            body: body.into(),
            ..Request::default()
        }
    }

    fn done() -> Result<Response, Problem> {
        Ok(Response::new(201, "application/json", "{}"))
    }

    fn code(result: Result<Response, Problem>) -> Option<Code> {
        result.err().map(|problem| problem.code)
    }

    #[test]
    fn the_second_time_the_answer_is_repeated() {
        let broker = MemoryBroker::new();
        assert_eq!(
            once((&broker, &keys()), "k", &request("a"), LIFE, done).ok().unwrap().status,
            201
        );
        let again =
            once((&broker, &keys()), "k", &request("a"), LIFE, || panic!("twice")).ok().unwrap();
        assert_eq!((again.status, again.content_type), (201, "application/json"));
        assert!(again.headers.contains(&("Idempotency-Replayed", "true".into())));
        let other = once((&broker, &keys()), "k", &request("b"), LIFE, || panic!("another"));
        assert_eq!(code(other), Some(Code::KeyReused));
    }

    #[test]
    fn while_it_is_under_way_it_is_not_begun_again() {
        let broker = MemoryBroker::new();
        let outcome = once((&broker, &keys()), "k", &request("a"), LIFE, || {
            let meanwhile = once((&broker, &keys()), "k", &request("a"), LIFE, || panic!("twice"));
            assert_eq!(code(meanwhile), Some(Code::InProgress));
            done()
        });
        assert!(outcome.is_ok());
    }

    #[test]
    fn what_had_no_effect_may_be_tried_again_and_what_is_not_known_may_not() {
        let broker = MemoryBroker::new();
        for code in [Code::InvalidRequest, Code::Unavailable] {
            let failed =
                once((&broker, &keys()), "k", &request("a"), LIFE, || Err(Problem::new(code, "")));
            assert_eq!(self::code(failed), Some(code));
        }
        let unknown = || Err(Problem::new(Code::UnknownEffect, ""));
        assert_eq!(
            code(once((&broker, &keys()), "k", &request("a"), LIFE, unknown)),
            Some(Code::UnknownEffect)
        );
        let again = once((&broker, &keys()), "k", &request("a"), LIFE, || panic!("perhaps twice"));
        assert_eq!(again.ok().unwrap().status, 504);
        let refused = || Err(Problem::new(Code::Internal, ""));
        let first = once((&broker, &keys()), "l", &request("a"), LIFE, refused);
        assert_eq!(code(first), Some(Code::Internal));
        let again = once((&broker, &keys()), "l", &request("a"), LIFE, || panic!("perhaps twice"));
        assert_eq!(again.ok().unwrap().status, 500);
    }

    #[test]
    fn keys_are_counted_and_bounded() {
        let (broker, keys) = (MemoryBroker::new(), Keys::new(KeyLimits { life: LIFE, keys: 2 }));
        let ask = |key: &str, outcome: fn() -> Result<Response, Problem>| {
            code(once((&broker, &keys), key, &request("a"), LIFE, outcome))
        };
        assert_eq!((ask("a", done), ask("a", done), keys.count()), (None, None, 1));
        let invalid = || Err(Problem::invalid("x"));
        assert_eq!((ask("b", invalid), keys.count()), (Some(Code::InvalidRequest), 1));
        assert_eq!((ask("b", done), keys.count()), (None, 2));
        assert_eq!(ask("c", || panic!("no room")), Some(Code::Unavailable));
    }

    #[test]
    fn keys_are_short_and_visible() {
        let with = |keys: &[&str]| {
            let header = |key: &&str| ("idempotency-key".to_owned(), (*key).to_owned());
            Request { headers: keys.iter().map(header).collect(), ..Request::default() }
        };
        assert_eq!(key(&with(&[])).unwrap(), None);
        let long = "x".repeat(255);
        assert_eq!(key(&with(&[&long])).unwrap(), Some(long.as_str()));
        for keys in [&[""][..], &["a b"], &["é"], &["a", "a"], &["x".repeat(256).as_str()]] {
            assert!(key(&with(keys)).is_err(), "{keys:?}");
        }
    }

    #[test]
    fn fingerprints_never_change() {
        assert_eq!(fingerprint(&request("a")), fingerprint(&request("a")));
        assert_ne!(fingerprint(&request("a")), fingerprint(&request("b")));
        let empty = Request::default();
        assert_eq!(fingerprint(&empty), "668066ee42757277b806e88f623a9b0d");
    }
}
