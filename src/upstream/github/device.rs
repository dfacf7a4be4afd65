//! Signing in with a code that a person confirms in a browser: what each answer to a poll means, and when to ask next.
//! Plain state; knows no network and no clock.

use std::{fmt, time::Duration};

use bytes::Bytes;
use serde_json::Value;

use super::plain;
use crate::secret::Secret;

/// Pauses longer than this are a mistake of the sender.
const LONGEST_INTERVAL: u64 = 120;
const USUAL_INTERVAL: u64 = 5;
const USUAL_LIFETIME: u64 = 900;

/// What GitHub gave to start with.
#[derive(Debug, Clone)]
pub struct DeviceStart {
    pub device_code: Secret,
    /// What the person types in.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// Seconds the code lives.
    pub expires_in: u64,
    /// Seconds between two polls.
    pub interval: u64,
}

impl DeviceStart {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(body).ok()?;
        let text = |name| {
            json.get(name)
                .and_then(Value::as_str)
                .filter(|text: &&str| !text.is_empty())
        };
        let number = |name| json.get(name).and_then(Value::as_u64);
        Some(Self {
            device_code: Secret::new(text("device_code")?),
            user_code: plain(text("user_code")?),
            verification_uri: plain(text("verification_uri")?),
            expires_in: number("expires_in").unwrap_or(USUAL_LIFETIME),
            interval: number("interval").unwrap_or(USUAL_INTERVAL),
        })
    }
}

/// What came of one poll.
#[derive(Clone)]
pub enum Polled {
    /// An answer, whatever its status.
    Answer { status: u16, body: Bytes },
    /// No answer: a broken connection, a timeout.
    Nothing,
}

impl fmt::Debug for Polled {
    /// Without the body, which may hold the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer { status, .. } => write!(f, "Answer({status})"),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Wait that long, then poll again.
    Wait(Duration),
    /// The person agreed; this is the GitHub token.
    SignedIn(Secret),
    /// The person refused.
    Denied,
    /// The code is too old; start anew.
    Expired,
    /// Waiting will not help, for this reason.
    Fatal(String),
}

/// Waiting for one person's word.
#[derive(Debug, Clone)]
pub struct DeviceFlow {
    interval: u64,
    lifetime: Duration,
}

impl DeviceFlow {
    pub fn new(start: &DeviceStart) -> Self {
        Self {
            interval: start.interval.min(LONGEST_INTERVAL),
            lifetime: Duration::from_secs(start.expires_in),
        }
    }

    /// How long to wait before the first poll, and after one that decided nothing. GitHub counts the interval more
    /// strictly than it says, hence the spare second.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(self.interval.saturating_add(1))
    }

    /// Decides by the body, since pending and refused come with a 200 too. `elapsed` counts from the start of the flow.
    pub fn decide(&mut self, polled: &Polled, elapsed: Duration) -> Step {
        let Polled::Answer { status, body } = polled else {
            return self.wait(elapsed);
        };
        let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let succeeded = (200..300).contains(status);
        if let Some(token) = json
            .get("access_token")
            .and_then(Value::as_str)
            .filter(|token| !token.is_empty())
            && succeeded
        {
            return Step::SignedIn(Secret::new(token));
        }
        match json.get("error").and_then(Value::as_str) {
            Some("authorization_pending") => self.wait(elapsed),
            Some("slow_down") => {
                self.slow_down(json.get("interval").and_then(Value::as_u64));
                self.wait(elapsed)
            }
            Some("expired_token") => Step::Expired,
            Some("access_denied") => Step::Denied,
            Some(
                code @ ("incorrect_device_code"
                | "incorrect_client_credentials"
                | "unsupported_grant_type"
                | "device_flow_disabled"),
            ) => fatal(code, &json),
            Some(code) if succeeded => fatal(code, &json),
            // An answer that is not GitHub's own, or none of its making: a passing trouble until the code expires.
            _ => self.wait(elapsed),
        }
    }

    /// The slower pace stays for the rest of the flow.
    fn slow_down(&mut self, told: Option<u64>) {
        let slower = told.unwrap_or(self.interval.saturating_add(5));
        self.interval = slower.max(self.interval).min(LONGEST_INTERVAL);
    }

    fn wait(&self, elapsed: Duration) -> Step {
        match self.lifetime.checked_sub(elapsed) {
            Some(left) if !left.is_zero() => Step::Wait(self.pause().min(left)),
            _ => Step::Expired,
        }
    }
}

fn fatal(code: &str, json: &Value) -> Step {
    let code = plain(code);
    match json
        .get("error_description")
        .and_then(Value::as_str)
        .map(plain)
        .filter(|text| !text.is_empty())
    {
        Some(description) => Step::Fatal(format!("GitHub refused to sign in ({code}): {description}")),
        None => Step::Fatal(format!("GitHub refused to sign in ({code})")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flow() -> DeviceFlow {
        let start = json!({
            "device_code": "D", "user_code": "ABCD-1234", "verification_uri": "https://github.com/login/device",
            "expires_in": 899, "interval": 5
        });
        DeviceFlow::new(&DeviceStart::parse(start.to_string().as_bytes()).unwrap())
    }

    fn polled(status: u16, body: Value) -> Polled {
        Polled::Answer {
            status,
            body: body.to_string().into(),
        }
    }

    fn decide(flow: &mut DeviceFlow, polled: &Polled) -> String {
        match flow.decide(polled, Duration::from_secs(10)) {
            Step::Wait(pause) => format!("wait {}", pause.as_secs()),
            Step::SignedIn(token) => format!("signed in {}", token.expose()),
            Step::Denied => "denied".into(),
            Step::Expired => "expired".into(),
            Step::Fatal(why) => why,
        }
    }

    #[test]
    fn pending_waits_the_interval_and_a_second() {
        assert_eq!(flow().pause(), Duration::from_secs(6));
        assert_eq!(
            decide(&mut flow(), &polled(200, json!({"error": "authorization_pending"}))),
            "wait 6"
        );
    }

    #[test]
    fn slow_down_lasts() {
        let mut flow = flow();
        assert_eq!(
            decide(&mut flow, &polled(200, json!({"error": "slow_down", "interval": 10}))),
            "wait 11"
        );
        assert_eq!(
            decide(&mut flow, &polled(200, json!({"error": "authorization_pending"}))),
            "wait 11"
        );
        assert_eq!(
            decide(&mut flow, &polled(200, json!({"error": "slow_down"}))),
            "wait 16"
        );
        assert_eq!(
            decide(
                &mut flow,
                &polled(200, json!({"error": "slow_down", "interval": u64::MAX}))
            ),
            "wait 121"
        );
        assert_eq!(
            decide(&mut flow, &polled(200, json!({"error": "slow_down"}))),
            "wait 121"
        );
    }

    #[test]
    fn a_token_ends_the_wait() {
        let polled = polled(
            200,
            json!({"access_token": "ghu_1", "token_type": "bearer", "scope": ""}),
        );
        assert_eq!(decide(&mut flow(), &polled), "signed in ghu_1");
        assert_eq!(format!("{polled:?}"), "Answer(200)");
    }

    #[test]
    fn a_no_is_a_no() {
        assert_eq!(
            decide(&mut flow(), &polled(200, json!({"error": "access_denied"}))),
            "denied"
        );
        assert_eq!(
            decide(&mut flow(), &polled(200, json!({"error": "expired_token"}))),
            "expired"
        );
        for code in [
            "incorrect_device_code",
            "incorrect_client_credentials",
            "device_flow_disabled",
            "new_reason",
        ] {
            let body = json!({"error": code, "error_description": "because"});
            assert_eq!(
                decide(&mut flow(), &polled(200, body)),
                format!("GitHub refused to sign in ({code}): because")
            );
        }
    }

    #[test]
    fn trouble_on_the_way_is_waited_out() {
        let pages = [
            polled(502, json!("bad gateway")),
            polled(429, json!({"message": "slow"})),
            Polled::Nothing,
        ];
        for page in pages {
            assert_eq!(decide(&mut flow(), &page), "wait 6");
        }
        let html = Polled::Answer {
            status: 200,
            body: Bytes::from_static(b"<html>"),
        };
        assert_eq!(decide(&mut flow(), &html), "wait 6");
    }

    #[test]
    fn the_wait_ends_with_the_code() {
        let mut flow = flow();
        let pending = polled(200, json!({"error": "authorization_pending"}));
        assert!(matches!(flow.decide(&pending, Duration::from_secs(896)), Step::Wait(left) if left.as_secs() == 3));
        assert!(matches!(flow.decide(&pending, Duration::from_secs(899)), Step::Expired));
        assert!(matches!(flow.decide(&Polled::Nothing, Duration::MAX), Step::Expired));
    }

    #[test]
    fn a_start_without_a_code_is_none() {
        assert!(DeviceStart::parse(b"{}").is_none());
        assert!(DeviceStart::parse(b"not json").is_none());
    }
}
