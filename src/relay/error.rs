//! A request that failed, with the headers of upstream's that its client may see.

use crate::protocol::failure::{Failure, Kind};
use crate::upstream;

#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub failure: Box<Failure>,
    pub headers: Vec<(String, String)>,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::told(failure, Vec::new())
    }
}

impl Error {
    pub fn told(failure: Failure, headers: Vec<(String, String)>) -> Self {
        Self {
            failure: Box::new(failure),
            headers,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        *error.failure
    }
}

impl From<crate::actors::Stopped> for Error {
    fn from(_: crate::actors::Stopped) -> Self {
        Failure::new(
            Kind::Unavailable,
            "the proxy is shutting down or has lost one of its parts; restart it",
        )
        .into()
    }
}

/// The wire's trouble, as the client hears of it.
pub(super) fn of_upstream(error: &upstream::Error) -> Failure {
    use upstream::Error as E;
    let kind = match error {
        E::Timeout { .. } => Kind::UpstreamTimeout,
        E::Cut => return Failure::truncated(),
        E::Crowded => Kind::Unavailable,
        E::Redirect { .. } | E::TooLarge { .. } | E::Encoding { .. } | E::NotHttp { .. } => Kind::UpstreamGarbage,
        _ => Kind::UpstreamUnreachable,
    };
    Failure::new(kind, error.to_string())
}

/// The headers of upstream's refusal that go on to the client. A quota that is used up is no window: its client is not
/// told to wait, which Codex would do in silence, for as long as the month lasts.
pub(super) fn passed_on_by(failure: &Failure, headers: &[(String, String)]) -> Vec<(String, String)> {
    let mut passed = passed_on(headers);
    if failure.is_lasting() {
        passed.retain(|(name, _)| !matches!(name.as_str(), "retry-after" | "retry-after-ms" | "x-should-retry"));
    }
    passed
}

/// The headers of upstream's that go on to the client.
pub(super) fn passed_on(headers: &[(String, String)]) -> Vec<(String, String)> {
    const NAMES: [&str; 5] = [
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "x-github-request-id",
        "x-copilot-service-request-id",
    ];
    const PREFIXES: [&str; 3] = ["x-ratelimit-", "anthropic-ratelimit-", "x-quota-snapshot-"];
    let passes = |name: &str| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut passed: Vec<(String, String)> = headers.iter().filter(|(name, _)| passes(name)).cloned().collect();
    if let Some((_, id)) = headers.iter().find(|(name, _)| name == "x-request-id") {
        passed.push(("x-upstream-request-id".into(), id.clone()));
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_a_quota_as_for_a_window() {
        let headers = ["retry-after", "x-github-request-id"].map(|name| (name.to_owned(), "1".to_owned()));
        let of = |kind| passed_on_by(&Failure::new(kind, "x"), &headers).len();
        assert_eq!((of(Kind::Payment), of(Kind::RateLimited)), (1, 2));
    }

    #[test]
    fn only_headers_with_a_use_pass() {
        let header = |name: &str| (name.to_owned(), "1".to_owned());
        let names = [
            "retry-after",
            "set-cookie",
            "x-ratelimit-exceeded",
            "server",
            "x-request-id",
            "content-length",
        ];
        let passed = passed_on(&names.map(header));
        let names: Vec<&str> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["retry-after", "x-ratelimit-exceeded", "x-upstream-request-id"]);
    }
}
