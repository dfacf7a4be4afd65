//! What an account may still use, read from GitHub's own answer, which differs by plan and by way of billing. Pure.

use serde_json::Value;

use crate::actors::approval::harmless;

/// An account's plan and quotas.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    pub login: Option<String>,
    pub plan: String,
    pub billing: Billing,
    pub quotas: Vec<Quota>,
    /// The day on which they are renewed.
    pub renewed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    PremiumRequests,
    AiCredits,
}

impl Billing {
    pub fn unit(self) -> &'static str {
        match self {
            Self::PremiumRequests => "premium requests",
            Self::AiCredits => "AI credits",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    pub name: String,
    pub left: Left,
    /// Used beyond the quota.
    pub over: f64,
    /// Whether more may be used than the quota holds.
    pub over_allowed: bool,
    /// GitHub says that nothing is left, whatever the numbers say.
    pub used_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Left {
    Unlimited,
    /// GitHub names this quota and no numbers.
    Unknown,
    Counted {
        /// Below zero once more was used than the quota holds.
        remaining: f64,
        of: f64,
        percent: f64,
    },
}

impl Account {
    pub fn read(usage: &Value) -> Self {
        let text = |name: &str| usage[name].as_str().filter(|text| !text.is_empty()).map(harmless);
        let snapshots = usage["quota_snapshots"].as_object();
        let by_tokens = |value: &Value| value["token_based_billing"].as_bool().unwrap_or_default();
        let billing = if by_tokens(usage) || snapshots.is_some_and(|all| all.values().any(by_tokens)) {
            Billing::AiCredits
        } else {
            Billing::PremiumRequests
        };
        let mut quotas: Vec<(String, Quota)> = snapshots
            .into_iter()
            .flatten()
            .map(|(name, snapshot)| (name.clone(), Quota::read(name, snapshot, billing)))
            .collect();
        // Free plans were once told apart: what is left in one place, what there was in another.
        for (name, left) in usage["limited_user_quotas"].as_object().into_iter().flatten() {
            if !quotas.iter().any(|(known, _)| known == name) {
                quotas.push((
                    name.clone(),
                    Quota::of_free_plan(name, left, &usage["monthly_quotas"][name], billing),
                ));
            }
        }
        quotas.sort_by_key(|(name, _)| rank(name));
        Self {
            login: text("login"),
            plan: plan(usage),
            billing,
            quotas: quotas.into_iter().map(|(_, quota)| quota).collect(),
            renewed: ["quota_reset_date", "quota_reset_date_utc", "limited_user_reset_date"]
                .into_iter()
                .find_map(text)
                .map(|date| date.split('T').next().unwrap_or_default().to_owned()),
        }
    }

    /// What is left of what the plan is measured by, in a few words.
    pub fn summary(&self) -> Option<String> {
        let quota = self.quotas.first()?;
        let left = match quota.left {
            Left::Unlimited => format!("{}: unlimited", quota.name),
            Left::Unknown => return None,
            Left::Counted { remaining, of, percent } => {
                format!(
                    "{} of {} {} left ({percent:.1} %)",
                    number(remaining),
                    number(of),
                    quota.name
                )
            }
        };
        let renewed = self
            .renewed
            .as_ref()
            .map(|day| format!(", renewed on {day}"))
            .unwrap_or_default();
        Some(format!("{left}{renewed}"))
    }
}

impl Quota {
    fn read(name: &str, snapshot: &Value, billing: Billing) -> Self {
        let of = snapshot["entitlement"].as_f64();
        let remaining = snapshot["quota_remaining"]
            .as_f64()
            .or_else(|| snapshot["remaining"].as_f64());
        let percent = snapshot["percent_remaining"].as_f64();
        let left = match (snapshot["unlimited"].as_bool(), remaining, of) {
            (Some(true), ..) => Left::Unlimited,
            (_, Some(remaining), Some(of)) => Left::counted(remaining, of, percent),
            _ => Left::Unknown,
        };
        Self {
            name: label(name, billing),
            left,
            over: snapshot["overage_count"].as_f64().unwrap_or_default(),
            over_allowed: snapshot["overage_permitted"].as_bool().unwrap_or_default(),
            used_up: snapshot["has_quota"].as_bool() == Some(false),
        }
    }

    fn of_free_plan(name: &str, left: &Value, of: &Value, billing: Billing) -> Self {
        let left = match (left.as_f64(), of.as_f64()) {
            (Some(remaining), Some(of)) => Left::counted(remaining, of, None),
            _ => Left::Unknown,
        };
        Self {
            name: label(name, billing),
            left,
            over: 0.0,
            over_allowed: false,
            used_up: false,
        }
    }
}

impl Left {
    fn counted(remaining: f64, of: f64, percent: Option<f64>) -> Self {
        let share = if of > 0.0 { remaining / of * 100.0 } else { 0.0 };
        Self::Counted {
            remaining,
            of,
            percent: percent.unwrap_or(share).clamp(0.0, 100.0),
        }
    }
}

/// What the plan is measured by comes first, then what everybody has, then whatever else there is.
fn rank(name: &str) -> (usize, String) {
    let known = ["premium_interactions", "premium_models", "chat", "completions"];
    (
        known.iter().position(|known| *known == name).unwrap_or(known.len()),
        name.to_owned(),
    )
}

fn label(name: &str, billing: Billing) -> String {
    match name {
        "premium_interactions" => billing.unit().to_owned(),
        other => harmless(&other.replace('_', " ")),
    }
}

/// The plan as GitHub names it. A free one is told only by its product.
fn plan(usage: &Value) -> String {
    let plan = usage["copilot_plan"]
        .as_str()
        .filter(|plan| !plan.is_empty())
        .map_or("unknown".into(), harmless);
    match usage["access_type_sku"].as_str() {
        Some("no_access") => "none".into(),
        Some(sku) if sku.starts_with("free_limited") => format!("{plan} (free)"),
        _ => plan,
    }
}

/// A number without decimals that say nothing.
pub fn number(number: f64) -> String {
    if number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.1}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_ways_of_billing_have_their_unit() {
        let snapshot = |by_tokens: bool| {
            json!({"copilot_plan": "individual", "token_based_billing": by_tokens, "quota_reset_date": "2030-01-01",
            "quota_snapshots": {
                "completions": {"unlimited": true, "entitlement": 0},
                "premium_interactions": {"entitlement": 300, "quota_remaining": 75.5, "percent_remaining": 25.2}
            }})
        };
        let credits = Account::read(&snapshot(true));
        assert_eq!(
            (credits.billing, credits.quotas[0].name.as_str()),
            (Billing::AiCredits, "AI credits")
        );
        let requests = Account::read(&snapshot(false));
        assert_eq!(
            requests.summary().as_deref(),
            Some("75.5 of 300 premium requests left (25.2 %), renewed on 2030-01-01")
        );
        assert_eq!(requests.quotas[1].left, Left::Unlimited);
    }

    #[test]
    fn old_free_plans_are_read_from_two_places() {
        let account = Account::read(&json!({
            "access_type_sku": "free_limited_copilot", "copilot_plan": "individual",
            "limited_user_quotas": {"chat": 410, "completions": 4000}, "limited_user_reset_date": "2030-01-01",
            "monthly_quotas": {"chat": 500}
        }));
        assert_eq!(
            (account.plan.as_str(), account.renewed.as_deref()),
            ("individual (free)", Some("2030-01-01"))
        );
        assert_eq!(
            account.quotas[0].left,
            Left::Counted {
                remaining: 410.0,
                of: 500.0,
                percent: 82.0
            }
        );
        assert_eq!(account.quotas[1].left, Left::Unknown);
    }

    #[test]
    fn odd_answers_are_no_trouble() {
        for usage in [
            json!({}),
            json!([]),
            json!({"quota_snapshots": null}),
            json!({"quota_snapshots": {"chat": null}}),
        ] {
            assert_eq!(Account::read(&usage).summary(), None, "{usage}");
        }
        let over = Account::read(&json!({"quota_snapshots": {"premium_interactions": {
            "entitlement": 300, "remaining": -4, "overage_count": 4, "has_quota": false, "percent_remaining": -1.3
        }}}));
        assert_eq!(
            over.quotas[0].left,
            Left::Counted {
                remaining: -4.0,
                of: 300.0,
                percent: 0.0
            }
        );
        assert!(over.quotas[0].used_up);
        assert_eq!(
            Account::read(&json!({"access_type_sku": "no_access", "copilot_plan": "individual"})).plan,
            "none"
        );
        assert_eq!(
            Account::read(&json!({"login": "a\u{1b}[2J"})).login.as_deref(),
            Some("a\u{fffd}[2J")
        );
    }
}
