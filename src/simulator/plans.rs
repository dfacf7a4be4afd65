//! The plans an account can have, and their quota: the shapes of GitHub's answers about both. Knows no seat.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::seals;

static USERS: LazyLock<Value> = LazyLock::new(|| read(include_str!("fixtures/user.json")));
static TOKENS: LazyLock<Value> = LazyLock::new(|| read(include_str!("fixtures/token.json")));

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// One plan, by the name of its sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    name: String,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            name: "individual_paid".to_owned(),
        }
    }
}

/// One counted thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counter {
    /// `None` is without bound.
    pub entitlement: Option<f64>,
    pub remaining: f64,
    pub overage_permitted: bool,
    pub overage: f64,
}

impl Counter {
    fn read(snapshot: &Value) -> Self {
        let bounded = snapshot.is_object() && snapshot["unlimited"] != true;
        Self {
            entitlement: bounded.then(|| snapshot["entitlement"].as_f64().unwrap_or(0.0)),
            remaining: snapshot["quota_remaining"].as_f64().unwrap_or(0.0),
            overage_permitted: snapshot["overage_permitted"] == true,
            overage: snapshot["overage_count"].as_f64().unwrap_or(0.0),
        }
    }

    /// Whether something that costs so much may be had.
    pub fn allows(&self, cost: f64) -> bool {
        cost <= 0.0 || self.entitlement.is_none() || self.overage_permitted || self.remaining > 0.0
    }

    pub fn charge(&mut self, cost: f64) {
        if self.entitlement.is_some() {
            let before = self.remaining;
            self.remaining -= cost;
            self.overage += (cost - before.max(0.0)).max(0.0);
        }
    }

    pub fn percent(&self) -> f64 {
        match self.entitlement {
            Some(entitlement) if entitlement > 0.0 => (self.remaining / entitlement * 1000.0).round().max(0.0) / 10.0,
            Some(_) => 0.0,
            None => 100.0,
        }
    }

    /// The value of an `x-quota-snapshot-…` header.
    pub fn header(&self) -> String {
        let entitlement = self.entitlement.map_or(-1, |entitlement| entitlement as i64);
        format!(
            "ent={entitlement}&ov={:.1}&ovPerm={}&rem={:.1}&rst=2030-01-01T00%3A00%3A00Z",
            self.overage,
            self.overage_permitted,
            self.percent()
        )
    }

    /// As streams report it, values as strings.
    pub fn snapshot(&self) -> Value {
        json!({
            "entitlement": self.entitlement.map_or("-1".to_owned(), |entitlement| format!("{entitlement}")),
            "has_quota": self.allows(1.0),
            "overage_count": self.overage,
            "overage_permitted": self.overage_permitted,
            "percent_remaining": self.percent(),
            "reset_date": "2030-01-01T00:00:00Z",
        })
    }
}

impl Plan {
    pub fn named(name: &str) -> Option<Self> {
        let known = USERS[name]["login"].is_string() && name != "github_user";
        known.then(|| Self { name: name.to_owned() })
    }

    fn user(&self) -> &'static Value {
        &USERS[&self.name]
    }

    /// The sample of the exchange that goes with it.
    fn sample(&self) -> &'static Value {
        let name = match self.name.as_str() {
            "free" | "free_legacy" => "free",
            "business" => "business",
            "enterprise" => "enterprise",
            _ => "individual_paid",
        };
        &TOKENS[name]
    }

    pub fn login(&self) -> &'static str {
        self.user()["login"].as_str().unwrap_or("example-user")
    }

    /// Chats and premium requests.
    pub fn quota(&self) -> (Counter, Counter) {
        let snapshots = &self.user()["quota_snapshots"];
        let mut chat = Counter::read(&snapshots["chat"]);
        if let Some(remaining) = self.user()["limited_user_quotas"]["chat"].as_f64() {
            chat.entitlement = self.user()["monthly_quotas"]["chat"].as_f64();
            chat.remaining = remaining;
        }
        (chat, Counter::read(&snapshots["premium_interactions"]))
    }

    /// The error that the exchange has for this plan, if it gives no token.
    pub fn exchange_error(&self) -> Option<&'static str> {
        (self.name == "not_signed_up").then_some("not_signed_up")
    }

    pub fn is_free(&self) -> bool {
        self.sku() == "free_limited_copilot"
    }

    /// A fresh token string.
    pub fn token(&self, expires_at: u64) -> String {
        let sample = self.sample()["token"].as_str().unwrap_or_default();
        let pairs = sample.split(':').next().unwrap_or_default().split(';');
        let pairs: Vec<String> = pairs
            .map(|pair| match pair.split_once('=') {
                Some(("tid", _)) => format!("tid={}", seals::fresh_hex(32)),
                Some(("exp", _)) => format!("exp={expires_at}"),
                Some(("sku", _)) => format!("sku={}", self.sku()),
                _ => pair.to_owned(),
            })
            .collect();
        format!("{}:{}", pairs.join(";"), seals::fresh_hex(64))
    }

    fn sku(&self) -> &'static str {
        self.user()["access_type_sku"].as_str().unwrap_or_default()
    }

    /// The answer of the exchange.
    pub fn exchanged(&self, token: &str, expires_at: u64, refresh_in: u64, url: &str) -> Value {
        let mut answer = self.sample().clone();
        answer["token"] = json!(token);
        answer["expires_at"] = json!(expires_at);
        answer["refresh_in"] = json!(refresh_in);
        answer["sku"] = json!(self.sku());
        answer["endpoints"] = endpoints(url);
        answer
    }

    /// The answer of `/copilot_internal/user`.
    pub fn account(&self, login: &str, chat: &Counter, premium: &Counter, url: &str) -> Value {
        let mut answer = self.user().clone();
        answer["login"] = json!(login);
        if answer["endpoints"].is_object() {
            answer["endpoints"] = endpoints(url);
        }
        for (name, counter) in [("chat", chat), ("premium_interactions", premium)] {
            let snapshot = answer.pointer_mut(&format!("/quota_snapshots/{name}"));
            if let Some(snapshot) = snapshot.filter(|snapshot| snapshot.is_object() && counter.entitlement.is_some()) {
                snapshot["entitlement"] = json!(counter.entitlement.map(|entitlement| entitlement as i64));
                snapshot["has_quota"] = json!(counter.allows(1.0));
                snapshot["overage_count"] = json!(counter.overage);
                snapshot["overage_permitted"] = json!(counter.overage_permitted);
                snapshot["percent_remaining"] = json!(counter.percent());
                snapshot["quota_remaining"] = json!(counter.remaining);
                snapshot["remaining"] = json!(counter.remaining.floor() as i64);
            }
        }
        if let Some(left) = answer.pointer_mut("/limited_user_quotas/chat") {
            *left = json!(chat.remaining.max(0.0) as u64);
        }
        answer
    }
}

/// The hosts of an account: all of them the simulator.
fn endpoints(url: &str) -> Value {
    json!({"api": url, "origin-tracker": url, "proxy": url, "telemetry": url})
}

/// The sample of `/user`.
pub fn github_user(login: &str, id: u64) -> Value {
    let mut user = USERS["github_user"].clone();
    user["login"] = json!(login);
    user["id"] = json!(id);
    user
}

/// A named error of the exchange: status, headers, body. Names without a sample are notifications.
pub fn exchange_error(name: &str) -> (u16, Vec<(String, String)>, Value) {
    let sample = &TOKENS["errors"][name];
    if !sample.is_object() {
        let details = json!({
            "message": format!("Example: {name}."), "notification_id": name, "title": name,
            "url": "https://example.invalid/support",
        });
        let body = json!({
            "can_signup_for_limited": false,
            "error_details": details,
            "message": "Resource not accessible by integration",
        });
        return (403, Vec::new(), body);
    }
    let status = sample["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let headers = sample["headers"].as_object().into_iter().flatten();
    let headers = headers
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    (status.unwrap_or(403), headers, sample["body"].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_gives_a_token_and_an_account() {
        for name in [
            "individual_paid",
            "individual_paid_legacy_premium_requests",
            "individual_exhausted",
            "free",
            "free_legacy",
            "business",
            "enterprise",
        ] {
            let plan = Plan::named(name).unwrap();
            let token = plan.token(99);
            assert!(
                token.contains("exp=99;") && token.contains(&format!("sku={}", plan.sku())),
                "{token}"
            );
            let (chat, premium) = plan.quota();
            let account = plan.account("me", &chat, &premium, "http://sim");
            assert_eq!(account["login"], "me");
            let sample = plan.user();
            for counted in ["premium_interactions", "chat"] {
                let (shown, sample) = (
                    &account["quota_snapshots"][counted],
                    &sample["quota_snapshots"][counted],
                );
                assert_eq!(shown["remaining"], sample["remaining"], "{name}");
                assert_eq!(shown["percent_remaining"], sample["percent_remaining"], "{name}");
            }
        }
        assert_eq!(Plan::named("github_user"), None);
        assert_eq!(Plan::named("errors"), None);
    }

    #[test]
    fn a_counter_goes_down_and_into_overage() {
        let mut counter = Counter {
            entitlement: Some(10.0),
            remaining: 2.0,
            ..Counter::default()
        };
        assert!(counter.allows(3.0));
        counter.charge(3.0);
        assert_eq!((counter.remaining, counter.overage), (-1.0, 1.0));
        assert!(!counter.allows(1.0) && counter.allows(0.0));
        assert_eq!(
            counter.header(),
            "ent=10&ov=1.0&ovPerm=false&rem=0.0&rst=2030-01-01T00%3A00%3A00Z"
        );
    }
}
