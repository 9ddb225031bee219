//! `Refusal`: why a request is not served, as an HTTP status and a sentence for the caller.

use imcore::ErrorKind;
use serde_json::{Value, json};

/// A request that is not served. The status doubles as the `code` of the answer, never 0.
#[derive(Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into() }
    }

    /// The request itself is wrong.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Refusal::new(400, message)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "code": self.status, "message": self.message })
    }
}

impl From<imcore::Error> for Refusal {
    fn from(error: imcore::Error) -> Self {
        match error.kind() {
            ErrorKind::Argument | ErrorKind::Encode => Refusal::bad(error.to_string()),
            // The caller cannot act on the rest but by trying again; the detail is the operator's.
            _ if error.is_retryable() => {
                log::debug!("{error}");
                Refusal::new(503, "The service is unavailable for the moment; try again soon.")
            }
            _ => {
                log::error!("{error}");
                Refusal::new(500, "The service failed; the reason is in its log.")
            }
        }
    }
}
