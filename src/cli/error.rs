//! Errors as people see them: what went wrong, because of what, and what to do about it.

use std::fmt;

use crate::store::vault;
use crate::{config, server, upstream};

#[derive(Debug, PartialEq, Eq)]
pub struct Error {
    what: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Error {
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds an error, and all that caused it, as the cause of this one.
    pub fn because(mut self, cause: &dyn std::error::Error) -> Self {
        let mut next = Some(cause);
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// An error of a floor below, in its own words.
    fn of(error: &dyn std::error::Error, hint: Option<String>) -> Self {
        let whole = Self {
            what: error.to_string(),
            causes: Vec::new(),
            hint,
        };
        match error.source() {
            Some(cause) => whole.because(cause),
            None => whole,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "error: {}", self.what)?;
        for cause in &self.causes {
            writeln!(out, "caused by: {cause}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(out, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        Self::of(&error, Some(error.hint()))
    }
}

impl From<server::Error> for Error {
    fn from(error: server::Error) -> Self {
        Self::of(&error, error.hint())
    }
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Self {
        let hint = match &error {
            upstream::Error::Proxy { .. } => {
                Some("check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or leave out --proxy-env")
            }
            upstream::Error::Tls { .. } => Some("a company's own certificate goes into upstream.extra_ca_file"),
            upstream::Error::Dns { .. } | upstream::Error::Refused { .. } | upstream::Error::Unreachable { .. } => {
                Some("check the network; behind an outbound proxy, pass --proxy-env")
            }
            _ => None,
        };
        Self::of(&error, hint.map(str::to_owned))
    }
}

impl From<upstream::github::Error> for Error {
    fn from(error: upstream::github::Error) -> Self {
        use upstream::github::RefusalKind as Kind;
        let refusal = match error {
            upstream::github::Error::Wire(error) => return error.into(),
            upstream::github::Error::Refused(refusal) => refusal,
        };
        let hint = match (&refusal.url, &refusal.kind) {
            (Some(url), _) => Some(format!("see {url}")),
            (None, Kind::SignedOut | Kind::WrongToken) => Some("sign in again with `copilot-proxy auth`".into()),
            (None, Kind::RateLimited | Kind::Trouble) => Some(match refusal.retry_after {
                Some(wait) => format!("try again in {} s", wait.as_secs().max(1)),
                None => "try again in a few minutes".into(),
            }),
            _ => None,
        };
        Self {
            what: refusal.message,
            causes: Vec::new(),
            hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_from_what_to_what_to_do() {
        let cause = std::io::Error::other("disk full");
        let error = Error::new("cannot store the token").because(&cause).hint("make room");
        assert_eq!(
            error.to_string(),
            "error: cannot store the token\ncaused by: disk full\nhint: make room\n"
        );
    }

    #[test]
    fn a_floors_own_error_keeps_its_cause_and_hint() {
        let error = vault::Error::Write {
            path: "/d".into(),
            source: std::io::ErrorKind::PermissionDenied.into(),
        };
        let text = Error::from(error).to_string();
        assert!(
            text.starts_with("error: cannot write into the data directory /d\ncaused by: permission denied"),
            "{text}"
        );
        assert!(text.contains("hint: make it writable"), "{text}");
    }
}
