//! The one error type of the library: what a caller can act on.
//!
//! Used by every module below the server's loops. Why a *socket* ended is not an error but a
//! `CloseReason`, and why a *handshake* was turned away is a `Refusal`; both live in the server.

use std::{borrow::Cow, fmt};

/// Result of every fallible call of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms in which a caller can react.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing, malformed or contradicts another one. Nothing was started or sent.
    Config,
    /// An argument of the call cannot be used (empty channel name, unreadable id, ...). Nothing was sent.
    Argument,
    /// The message could not be turned into JSON. Nothing was sent.
    Encode,
    /// The broker cannot be reached, or refuses all connections or all writes for now (out of memory,
    /// read-only, still loading, ...). Nothing was done; retrying later may succeed.
    Unavailable,
    /// The broker did not answer within the deadline; whether the call took effect, or a part of it, is
    /// unknown.
    Timeout,
    /// The call was broken off: it took effect in part, or, if the connection to the broker broke, perhaps
    /// in part, as a whole or not at all.
    Interrupted,
    /// A bounded queue is full, or all connections to the broker stayed busy. Nothing was done; slow down
    /// and retry.
    Overloaded,
    /// The broker answered with an error (wrong type of a key, no permission, ...). Retrying does not help.
    /// Where a key holds something foreign, single steps of the call may have been carried out.
    Rejected,
    /// The node's presence session was ended: another node reports its clients offline.
    SessionLost,
    /// The broker lost what the presence session reported, or part of it: nobody reported anything.
    SessionForgotten,
    /// An operating-system call failed (bind, thread start, ...).
    Io,
}

impl ErrorKind {
    /// One or two words for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Config => "bad configuration",
            ErrorKind::Argument => "bad argument",
            ErrorKind::Encode => "message cannot be encoded",
            ErrorKind::Unavailable => "broker unavailable",
            ErrorKind::Timeout => "broker timeout",
            ErrorKind::Interrupted => "broker call interrupted",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Rejected => "rejected by the broker",
            ErrorKind::SessionLost => "presence session lost",
            ErrorKind::SessionForgotten => "presence session forgotten",
            ErrorKind::Io => "I/O error",
        }
    }
}

/// An error of this library: a [kind](ErrorKind) to act on, a sentence for a person, and the cause.
///
/// One pointer wide, so that `Result`s stay small.
///
/// ```
/// use std::{thread::sleep, time::Duration};
/// use imcore::Error;
///
/// /// Goes on trying for as long as that may help.
/// fn patiently<T>(call: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
///     let mut pause = Duration::from_millis(50);
///     loop {
///         match call() {
///             Err(error) if error.is_retryable() && pause < Duration::from_secs(2) => {
///                 sleep(pause);
///                 pause *= 2;
///             }
///             other => return other,
///         }
///     }
/// }
/// assert_eq!(patiently(|| Ok(1)).unwrap(), 1);
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    setting: Option<Cow<'static, str>>,
    detail: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `detail` says what was wrong and what to change.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, setting: None, detail: detail.into(), source: None }))
    }

    /// Says which setting the error is about; its name then stands before the detail.
    pub fn with_setting(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.0.setting = Some(name.into());
        self
    }

    /// Adds the failure that caused the error.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// A copy for another caller that waits for the same answer; the cause becomes part of the text.
    #[cfg(feature = "redis")]
    pub(crate) fn copy(&self) -> Self {
        let detail = match &self.0.source {
            Some(source) => format!("{} ({source})", self.0.detail),
            None => self.0.detail.clone(),
        };
        let mut copy = Error::new(self.0.kind, detail);
        copy.0.setting.clone_from(&self.0.setting);
        copy
    }

    /// What a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Name of the setting that has to be changed, as its field or builder method is called (`servers`,
    /// `limits.lease`); most errors of the kind [`Config`](ErrorKind::Config) have one, others none.
    ///
    /// ```
    /// use imcore::ImClient;
    ///
    /// let error = ImClient::builder().servers(["im-0;im-1"]).build().unwrap_err();
    /// assert_eq!(error.setting(), Some("servers"));
    /// assert!(error.detail().to_string().contains("separate names with commas"));
    /// ```
    pub fn setting(&self) -> Option<&str> {
        self.0.setting.as_deref()
    }

    /// What was wrong and what to change, with the cause, for a person: the text of this error without its kind
    /// and the name of its setting.
    pub fn detail(&self) -> impl fmt::Display + '_ {
        Detail(&self.0)
    }

    /// Whether the same call may succeed later without any change by the caller.
    ///
    /// After [`ErrorKind::Timeout`] and [`ErrorKind::Interrupted`] the first attempt may have taken effect,
    /// so a retried message can arrive twice.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Unavailable
                | ErrorKind::Timeout
                | ErrorKind::Interrupted
                | ErrorKind::Overloaded
        )
    }

    pub(crate) fn argument(detail: impl Into<String>) -> Self {
        Error::new(ErrorKind::Argument, detail)
    }

    pub(crate) fn config(setting: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Error::new(ErrorKind::Config, detail).with_setting(setting)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.kind.as_str())?;
        if let Some(setting) = &self.0.setting {
            write!(f, "{setting}: ")?;
        }
        Detail(&self.0).fmt(f)
    }
}

struct Detail<'a>(&'a Inner);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)?;
        match &self.0.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("setting", &self.0.setting)
            .field("detail", &self.0.detail)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn only_passing_conditions_are_retryable() {
        assert!(Error::new(ErrorKind::Timeout, "x").is_retryable());
        assert!(!Error::config("x", "y").is_retryable());
    }

    #[test]
    fn the_parts_of_an_error_can_be_had_apart() {
        let error = Error::config("servers", "the list is empty").with_source("the cause");
        assert_eq!(error.to_string(), "bad configuration: servers: the list is empty (the cause)");
        assert_eq!(error.setting(), Some("servers"));
        assert_eq!(error.detail().to_string(), "the list is empty (the cause)");
        assert_eq!(Error::argument("x").setting(), None);
    }
}
