//! What can go wrong on the wire, each in one plain sentence without a secret in it.

use std::{io, time::Duration};

/// Where a wait came to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Name, TCP, outbound proxy and TLS.
    Connect,
    /// Sending the request and waiting for the head of the answer.
    FirstByte,
    /// Between two pieces of the answer.
    Silence,
    /// A whole short call, such as one to GitHub.
    Whole,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting of this floor that cannot work; found at start-up.
    #[error("{0}")]
    Setting(String),
    #[error("{address} is not an http or https address")]
    Address { address: String },
    #[error("a request header cannot be sent: {name}")]
    Header { name: String },
    #[error("the name {host} could not be resolved: {what}")]
    Dns { host: String, what: String },
    /// Pictures come from the public network only.
    #[error("its host has no public address")]
    NotPublic,
    #[error("{address} refused the connection")]
    Refused { address: String },
    #[error("{address} could not be reached: {what}")]
    Unreachable { address: String, what: String },
    #[error("no secure connection to {host}: {what}")]
    Tls { host: String, what: String },
    /// The outbound proxy, not upstream, is the trouble. The address carries no password.
    #[error("the outbound proxy {address} {what}")]
    Proxy { address: String, what: String },
    #[error("{}", slow(*phase, *after))]
    Timeout { phase: Phase, after: Duration },
    /// No byte of an answer came. `reused` tells a connection that had served before, which may have gone stale.
    #[error("upstream closed the connection before answering")]
    Closed { reused: bool },
    #[error("upstream closed the connection inside the head of its answer")]
    CutHead,
    #[error("upstream closed the connection before its answer was complete")]
    Cut,
    #[error("the connection broke inside upstream's answer: {what}")]
    Reset { what: String },
    /// An open socket was closed by upstream's own word, other than with the code for a task that is done.
    #[error("upstream closed the socket{}", with_reason(*code, reason))]
    SocketClosed { code: Option<u16>, reason: String },
    #[error("upstream answered with a redirect ({status}), which is not followed")]
    Redirect { status: u16 },
    #[error("upstream refused to open a socket ({status})")]
    Upgrade { status: u16 },
    #[error("upstream's answer is larger than {limit} bytes")]
    TooLarge { limit: usize },
    /// It is one of several such answers.
    #[error("too many large answers are being read at once")]
    Crowded,
    #[error("upstream answered {status} with the content encoding {encoding:?}, which was not asked for")]
    Encoding { status: u16, encoding: String },
    #[error("upstream did not answer in HTTP: {what}")]
    NotHttp { what: String },
}

impl From<Error> for io::Error {
    /// Wraps one of ours, so that it survives the way through the HTTP client.
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

impl Error {
    /// Takes one of ours back out of an I/O error; the error itself comes back if it is somebody else's.
    pub(super) fn unwrap_io(error: io::Error) -> Result<Self, io::Error> {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()) {
            Some(ours) => Ok(ours.clone()),
            None => Err(error),
        }
    }
}

fn with_reason(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (None, _) => String::new(),
        (Some(code), "") => format!(" ({code})"),
        (Some(code), reason) => format!(" ({code}: {reason})"),
    }
}

fn slow(phase: Phase, after: Duration) -> String {
    let seconds = after.as_secs_f64();
    match phase {
        Phase::Connect => format!("no connection to upstream within {seconds} s"),
        Phase::FirstByte => format!("upstream did not begin to answer within {seconds} s"),
        Phase::Silence => format!("upstream fell silent for {seconds} s inside its answer"),
        Phase::Whole => format!("upstream did not answer completely within {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_io() {
        let wrapped = io::Error::from(Error::Closed { reused: true });
        assert_eq!(Error::unwrap_io(wrapped).unwrap(), Error::Closed { reused: true });
        assert!(Error::unwrap_io(io::Error::from(io::ErrorKind::BrokenPipe)).is_err());
    }

    #[test]
    fn sentences_are_plain() {
        let late = Error::Timeout {
            phase: Phase::FirstByte,
            after: Duration::from_millis(1500),
        };
        assert_eq!(late.to_string(), "upstream did not begin to answer within 1.5 s");
        let proxy = Error::Proxy {
            address: "10.0.0.1:3128".into(),
            what: "answered 407: it asks for a user name and password".into(),
        };
        assert_eq!(
            proxy.to_string(),
            "the outbound proxy 10.0.0.1:3128 answered 407: it asks for a user name and password"
        );
    }
}
