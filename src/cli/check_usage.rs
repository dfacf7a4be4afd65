//! `check-usage`: plan and quotas on the terminal, with no server running.

use std::fmt::Write;
use std::io::IsTerminal;

use super::args::CheckUsage;
use super::quota::{Account, Left, Quota, number};
use super::{Error, Outcome, Surroundings, block_on, print, sign_in};
use crate::config::Environment;
use crate::upstream::{GitHub, Setup};

pub fn run(check: &CheckUsage, environment: Environment) -> Outcome {
    let surroundings = Surroundings::new(&check.place, check.flags(), environment)?;
    let settings = surroundings.load_without_listening()?.settings;
    let token = sign_in::existing(&surroundings, settings.github_token.as_ref())?
        .ok_or_else(|| Error::new("not signed in").hint("sign in with `copilot-proxy auth`, or set GH_TOKEN"))?;
    let setup = Setup::new(settings.upstream)?;
    let usage = block_on(async { GitHub::new(&setup).usage(&token).await })?;
    let paint = Paint {
        on: std::io::stdout().is_terminal() && surroundings.environment.get("NO_COLOR").is_none(),
    };
    let columns = dialoguer::console::Term::stdout()
        .size_checked()
        .map(|(_, columns)| columns.into());
    print(&table(&Account::read(&usage), paint, columns))
}

/// Colours that only repeat what the words say.
#[derive(Clone, Copy, Debug)]
struct Paint {
    on: bool,
}

impl Paint {
    fn by_share(self, percent: f64, text: &str) -> String {
        let colour = match percent {
            share if share < 10.0 => 31,
            share if share < 30.0 => 33,
            _ => 32,
        };
        if self.on {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The cells of a bar: as many as a narrow terminal leaves, but enough to tell much from little.
const BAR: std::ops::RangeInclusive<usize> = 5..=20;

/// `columns`: how wide the terminal is, where there is one.
fn table(account: &Account, paint: Paint, columns: Option<usize>) -> String {
    let mut text = String::new();
    let login = account.login.as_deref().unwrap_or("unknown login");
    let _ = writeln!(
        text,
        "{login} · Copilot plan: {}{}\n",
        account.plan,
        match account.quotas.is_empty() {
            true => String::new(),
            false => format!(" · billed in {}", account.billing.unit()),
        }
    );
    let width = account
        .quotas
        .iter()
        .map(|quota| quota.name.chars().count())
        .max()
        .unwrap_or(0);
    let counts = Counts::of(account);
    let longest = |cells: usize| {
        let rows = account.quotas.iter();
        rows.map(|quota| row(quota, counts, Paint { on: false }, cells).chars().count())
            .max()
            .unwrap_or(0)
    };
    let cells = columns.map_or(*BAR.end(), |columns| {
        columns
            .saturating_sub(4 + width + longest(0))
            .clamp(*BAR.start(), *BAR.end())
    });
    for quota in &account.quotas {
        let _ = writeln!(text, "  {:<width$}  {}", quota.name, row(quota, counts, paint, cells));
    }
    if account.quotas.is_empty() {
        text.push_str(match account.plan.as_str() {
            "none" => "  This account has no Copilot subscription. `copilot-proxy auth` signs in as another.\n",
            _ => "  GitHub names no quotas for this account.\n",
        });
    }
    if let Some(day) = &account.renewed {
        let _ = writeln!(text, "\nRenewed on {day}.");
    }
    text
}

/// How wide the numbers are, so that they stand below one another.
#[derive(Clone, Copy, Debug)]
struct Counts {
    remaining: usize,
    of: usize,
}

impl Counts {
    fn of(account: &Account) -> Self {
        let counted = |one: fn(f64, f64) -> f64| {
            let rows = account.quotas.iter();
            let widths = rows.map(|quota| match quota.left {
                Left::Counted { remaining, of, .. } => number(one(remaining.max(0.0), of)).len(),
                _ => 0,
            });
            widths.max().unwrap_or(0)
        };
        Self {
            remaining: counted(|remaining, _| remaining),
            of: counted(|_, of| of),
        }
    }
}

fn row(quota: &Quota, counts: Counts, paint: Paint, cells: usize) -> String {
    let mut row = match quota.left {
        Left::Unlimited => "unlimited".to_owned(),
        Left::Unknown => "no numbers from GitHub".to_owned(),
        Left::Counted { remaining, of, percent } => {
            let bar = paint.by_share(percent, &bar(percent, cells));
            format!(
                "{bar}  {percent:>5.1} % left  {:>1$} of {2:>3$}",
                number(remaining.max(0.0)),
                counts.remaining,
                number(of),
                counts.of
            )
        }
    };
    if quota.over > 0.0 {
        let allowed = if quota.over_allowed { "allowed" } else { "not allowed" };
        let _ = write!(row, ", {} beyond the quota ({allowed})", number(quota.over));
    }
    if quota.used_up {
        row.push_str(", used up");
    }
    row
}

/// What is left, drawn.
fn bar(percent: f64, cells: usize) -> String {
    let full = (percent / 100.0 * cells as f64).round() as usize;
    // Something left is never drawn as nothing.
    let full = full.max(usize::from(percent > 0.0)).min(cells);
    "█".repeat(full) + &"░".repeat(cells - full)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_table_shows_plan_bars_and_day() {
        let usage = json!({
            "login": "example-user", "copilot_plan": "business", "token_based_billing": true,
            "quota_reset_date": "2030-01-01",
            "quota_snapshots": {
                "chat": {"unlimited": true, "entitlement": 0, "percent_remaining": 100.0},
                "completions": null,
                "premium_interactions": {
                    "entitlement": 10000, "quota_remaining": 4462.0, "percent_remaining": 44.6, "has_quota": true
                }
            }
        });
        let expected = "\
example-user · Copilot plan: business · billed in AI credits

  AI credits   █████████░░░░░░░░░░░   44.6 % left  4462 of 10000
  chat         unlimited
  completions  no numbers from GitHub

Renewed on 2030-01-01.
";
        assert_eq!(table(&Account::read(&usage), Paint { on: false }, None), expected);
        assert!(table(&Account::read(&usage), Paint { on: true }, None).contains("\x1b[32m█"));
        let narrow = |columns| table(&Account::read(&usage), Paint { on: false }, Some(columns));
        assert_eq!(narrow(200), expected);
        let row = narrow(50).lines().nth(2).unwrap_or_default().to_owned();
        assert_eq!(row.chars().count(), 50, "{row}");
        assert!(narrow(1).contains("  ██░░░  "), "{}", narrow(1));
    }

    #[test]
    fn beyond_the_quota_is_said_in_words() {
        let usage = json!({"quota_snapshots": {"premium_interactions": {
            "entitlement": 300, "remaining": -4, "percent_remaining": 0.0, "overage_count": 4,
            "overage_permitted": false, "has_quota": false
        }}});
        let table = table(&Account::read(&usage), Paint { on: false }, None);
        assert!(
            table.contains("░░░    0.0 % left  0 of 300, 4 beyond the quota (not allowed), used up"),
            "{table}"
        );
    }

    #[test]
    fn numbers_stand_below_one_another() {
        let usage = json!({"quota_snapshots": {
            "premium_interactions": {"entitlement": 50, "remaining": 12, "percent_remaining": 24.0},
            "completions": {"entitlement": 2000, "remaining": 1900, "percent_remaining": 95.0}
        }});
        let table = table(&Account::read(&usage), Paint { on: false }, None);
        assert!(
            table.contains("24.0 % left    12 of   50\n") && table.contains("95.0 % left  1900 of 2000\n"),
            "{table}"
        );
    }

    #[test]
    fn without_a_subscription_there_is_nothing_to_count() {
        let usage = json!({"login": "octocat", "access_type_sku": "no_access"});
        let table = table(&Account::read(&usage), Paint { on: false }, None);
        assert!(
            table.starts_with("octocat · Copilot plan: none\n\n  This account has no Copilot subscription."),
            "{table}"
        );
    }

    #[test]
    fn a_bar_is_empty_only_when_nothing_is_left() {
        assert_eq!(
            (bar(0.0, 20).matches('█').count(), bar(0.1, 20).matches('█').count()),
            (0, 1)
        );
        assert_eq!(
            (bar(99.9, 20).chars().count(), bar(100.0, 20).matches('█').count()),
            (20, 20)
        );
    }
}
