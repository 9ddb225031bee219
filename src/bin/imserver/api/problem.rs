//! Why a request was not carried out, as problem details (RFC 9457). Pure.

use imcore::{Error, ErrorKind, throttle::Throttle};
use log::Level;
use serde_json::json;

use super::json::Mistake;
use crate::web::{CHALLENGE, Response};

/// Media type of problems (RFC 9457).
pub(super) const PROBLEM: &str = "application/problem+json";

/// What kind of mistake or failure it is: the `code` that programs look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    /// A request with the same idempotency key is being carried out.
    InProgress,
    TooLarge,
    UnsupportedMediaType,
    /// The idempotency key belongs to another request.
    KeyReused,
    Internal,
    /// Nothing was done; later it may work.
    Unavailable,
    /// It may have been done or not.
    UnknownEffect,
}

impl Code {
    pub(super) const ALL: [Code; 13] = [
        Code::InvalidRequest,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::InProgress,
        Code::TooLarge,
        Code::UnsupportedMediaType,
        Code::KeyReused,
        Code::Internal,
        Code::Unavailable,
        Code::UnknownEffect,
    ];

    /// Status, the text for programs, and a title for people.
    pub(super) fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Code::InvalidRequest => (400, "invalid_request", "The request is not valid"),
            Code::Unauthorized => (401, "unauthorized", "The API key is missing or wrong"),
            Code::Forbidden => (403, "forbidden", "Not from there"),
            Code::NotFound => (404, "not_found", "There is nothing at this path"),
            Code::MethodNotAllowed => (405, "method_not_allowed", "This path has no such method"),
            Code::RequestTimeout => (408, "request_timeout", "The request took too long"),
            Code::InProgress => (409, "in_progress", "The same request is being carried out"),
            Code::TooLarge => (413, "too_large", "The request is too large"),
            Code::UnsupportedMediaType => (415, "unsupported_media_type", "The body is not JSON"),
            Code::KeyReused => (422, "key_reused", "The idempotency key is of another request"),
            Code::Internal => (500, "internal", "The request failed"),
            Code::Unavailable => (503, "unavailable", "Not at the moment"),
            Code::UnknownEffect => (504, "unknown_effect", "The outcome is not known"),
        }
    }
}

/// Why a request was not carried out, or why that is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: Code,
    /// What was wrong, and what to change.
    pub(super) detail: String,
    /// A JSON pointer to what in the body was wrong.
    pub(super) pointer: Option<String>,
    /// A part of the request was carried out all the same: repeated under its key, it must not be again.
    pub(super) in_part: bool,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), pointer: None, in_part: false }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(Code::InvalidRequest, detail)
    }

    /// What came of a request of several steps, of which the last failed and those before did not.
    pub(super) fn half_done(error: Error) -> Problem {
        log_failure(Level::Warn, "a request was carried out by half: ", &error);
        Problem::new(Code::UnknownEffect, "a part of this was done; the rest may have been or not")
    }

    /// What was wrong with one part of a request, of which the others were carried out.
    pub(super) fn in_part(error: Error) -> Problem {
        Problem { in_part: true, ..Problem::from(error) }
    }

    pub(super) fn into_response(self) -> Response {
        self.with_status(self.code.parts().0)
    }

    fn with_status(&self, status: u16) -> Response {
        let (_, code, title) = self.code.parts();
        let mut body = json!({
            "type": "about:blank",
            "title": title,
            "status": status,
            "detail": self.detail,
            "code": code,
        });
        if let Some(pointer) = &self.pointer {
            body["pointer"] = pointer.as_str().into();
        }
        let response = Response::new(status, PROBLEM, body.to_string());
        match self.code {
            Code::Unauthorized => response.with(CHALLENGE.0, CHALLENGE.1),
            Code::InProgress | Code::Unavailable => response.retry_after(1),
            _ => response,
        }
    }
}

/// Logs what became of a request: once a minute for each text, since callers try again by the thousand.
pub(super) fn log_failure(level: Level, what: &str, error: &Error) {
    static SAID: Throttle = Throttle::new();
    let text = format!("API: {what}{error}");
    if let Some(more) = SAID.admit(&text) {
        log::log!(level, reason:% = error; "{text}{more}");
    }
}

/// The answer to what [`crate::web`] refuses. Some of its statuses are no more than bad requests here.
pub(super) fn refusal(status: u16, why: &str) -> Response {
    let code = Code::ALL.into_iter().find(|code| code.parts().0 == status);
    Problem::new(code.unwrap_or(Code::InvalidRequest), why).with_status(status)
}

impl From<Mistake> for Problem {
    fn from(mistake: Mistake) -> Problem {
        let pointer = Some(mistake.pointer());
        Problem { pointer, ..Problem::new(mistake.code, mistake.detail()) }
    }
}

impl From<Error> for Problem {
    /// What the library and its broker found. Details go to the log: the caller cannot act on them.
    fn from(error: Error) -> Problem {
        match error.kind() {
            ErrorKind::Argument | ErrorKind::Encode => Problem::invalid(error.detail().to_string()),
            ErrorKind::Overloaded => {
                log_failure(Level::Warn, "", &error);
                Problem::new(
                    Code::Unavailable,
                    "too much is being asked; nothing was done, try again",
                )
            }
            ErrorKind::Unavailable | ErrorKind::Config => {
                log_failure(Level::Warn, "", &error);
                Problem::new(Code::Unavailable, "the broker is away; nothing was done, try again")
            }
            ErrorKind::Timeout | ErrorKind::Interrupted => {
                log_failure(Level::Warn, "", &error);
                let detail = "the broker did not answer; this may have been done or not";
                Problem::new(Code::UnknownEffect, detail)
            }
            _ => {
                log_failure(Level::Error, "", &error);
                Problem::new(
                    Code::Internal,
                    "the broker refused this; the log of the node says why",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::Body;

    #[test]
    fn a_problem_says_the_same_in_status_and_body() {
        for code in Code::ALL {
            let response = Problem::new(code, "x").into_response();
            assert_eq!(response.content_type, "application/problem+json");
            let Body::Whole(body) = &response.body else { panic!("a whole body") };
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(
                (body["status"].as_u64(), &body["detail"]),
                (Some(response.status.into()), &"x".into())
            );
            let same = refusal(response.status, "x");
            assert_eq!(same.headers, response.headers);
        }
    }

    #[test]
    fn only_what_had_no_effect_may_be_tried_again_unseen() {
        let code = |kind| Problem::from(Error::new(kind, "x")).code;
        assert_eq!(code(ErrorKind::Unavailable), Code::Unavailable);
        assert_eq!(code(ErrorKind::Timeout), Code::UnknownEffect);
        assert_eq!(code(ErrorKind::Interrupted), Code::UnknownEffect);
        assert_eq!(code(ErrorKind::Overloaded), Code::Unavailable);
        assert_eq!(code(ErrorKind::Argument), Code::InvalidRequest);
        // After a first step that was done, nothing can have had no effect.
        let second = Problem::half_done(Error::new(ErrorKind::Unavailable, "x"));
        assert_eq!(second.code, Code::UnknownEffect);
    }
}
