//! What `start` says once it is ready: where it is, whose it is, and the lines to paste. Pure.

use std::fmt::Write;

use super::quota::Account;
use super::shell::Shell;
use crate::server::Report;

/// What the words depend on.
pub struct Banner<'a> {
    /// Where clients on this machine reach it: `http://127.0.0.1:4399`.
    pub url: &'a str,
    pub report: &'a Report,
    /// Clients must present a key.
    pub keyed: bool,
    pub simulated: bool,
    /// Where the lines are to be pasted.
    pub shell: Shell,
}

/// What stands in for a key that is not printed.
const YOUR_KEY: &str = "YOUR_KEY";
/// Clients want some key, even where none is asked for.
pub const NO_KEY: &str = "dummy";

impl Banner<'_> {
    pub fn text(&self) -> String {
        let (version, url) = (env!("CARGO_PKG_VERSION"), self.url);
        let mut text = match self.report.problem {
            None => format!("\ncopilot-proxy {version} is ready on {url}\n\n"),
            Some(_) => format!("\ncopilot-proxy {version} listens on {url}, but cannot serve yet\n\n"),
        };
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<10} {value}");
        };
        if self.simulated {
            line("simulator", "made-up answers; no account, no network, no real model");
        }
        line("dashboard", &format!("{}/dashboard", self.url));
        let account = self.report.usage.as_ref().map(Account::read);
        let login = self.report.login.clone().or_else(|| account.as_ref()?.login.clone());
        let plan = account
            .as_ref()
            .map(|account| account.plan.clone())
            .or_else(|| self.report.plan.clone());
        match (login, plan) {
            (Some(login), Some(plan)) => line("account", &format!("{login}, plan: {plan}")),
            (Some(login), None) => line("account", &login),
            _ => {}
        }
        if let Some(quota) = account.and_then(|account| account.summary()) {
            line("quota", &quota);
        }
        line("models", &self.report.models.len().to_string());
        if let Some(problem) = &self.report.problem {
            line("problem", &format!("{problem}; trying again by itself"));
        }
        if self.keyed {
            line("key", &format!("put yours in place of {YOUR_KEY}"));
        }
        let _ = write!(text, "\n{}", self.to_paste());
        text
    }

    fn to_paste(&self) -> String {
        let (url, key, shell) = (self.url, if self.keyed { YOUR_KEY } else { NO_KEY }, self.shell);
        let models = &self.report.models;
        let model = |parts: &[&str]| {
            likely(models, parts)
                .or(models.first())
                .map_or("gpt-5-mini", String::as_str)
        };
        let claude = shell.command(
            &[("ANTHROPIC_BASE_URL", url.into()), ("ANTHROPIC_AUTH_TOKEN", key.into())],
            "claude",
        );
        let codex = [
            shell.command(
                &[("PROXY_KEY", key.into())],
                &format!(
                    "codex -m {} -c model_provider=copilot",
                    model(&["codex", "gpt-5", "gpt"])
                ),
            ),
            "-c model_providers.copilot.name=copilot-proxy".into(),
            format!("-c model_providers.copilot.base_url={url}/v1"),
            "-c model_providers.copilot.env_key=PROXY_KEY".into(),
            "-c model_providers.copilot.wire_api=responses".into(),
        ];
        format!(
            "Claude Code\n  {claude}\n\nCodex\n  {}\n\ncurl\n  {}\n",
            shell.continued(&codex),
            shell.continued(&self.curl(key, model(&["gpt-5-mini", "mini", "gpt"])))
        )
    }

    /// A question to a model; where JSON cannot be quoted the same way by every version of a shell, the list of models.
    fn curl(&self, key: &str, model: &str) -> Vec<String> {
        let (url, shell) = (self.url, self.shell);
        let is_posix = !matches!(shell, Shell::Pwsh | Shell::Cmd);
        // PowerShell knows a command of its own by the shorter name.
        let mut words = vec![match is_posix {
            true => format!("curl {url}/v1/chat/completions"),
            false => format!("curl.exe {url}/v1/models"),
        }];
        if self.keyed {
            words.push(format!("-H \"authorization: Bearer {key}\""));
        }
        if is_posix {
            let question =
                serde_json::json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]}).to_string();
            words.push("-H \"content-type: application/json\"".into());
            words.push(format!("-d {}", shell.quote(&question)));
        }
        words
    }
}

/// Of the models with one of these parts in their name, the first part first, the one whose name sorts last: mostly the
/// newest.
pub fn likely<'a>(models: &'a [String], parts: &[&str]) -> Option<&'a String> {
    parts
        .iter()
        .find_map(|part| models.iter().filter(|model| model.contains(part)).max())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        Report {
            login: Some("octocat".into()),
            usage: Some(
                json!({"copilot_plan": "individual", "token_based_billing": true, "quota_snapshots": {
                    "premium_interactions": {"entitlement": 1500, "remaining": 944, "percent_remaining": 62.9}
                }}),
            ),
            models: ["claude-sonnet-4.5", "gpt-5-mini", "gpt-5.2-codex", "gpt-5.1-codex"]
                .map(String::from)
                .to_vec(),
            ..Report::default()
        }
    }

    fn text(report: &Report, keyed: bool, simulated: bool) -> String {
        Banner {
            url: "http://127.0.0.1:4399",
            report,
            keyed,
            simulated,
            shell: Shell::Bash,
        }
        .text()
    }

    #[test]
    fn it_says_where_who_and_how_much() {
        let text = text(&report(), false, false);
        for words in [
            "is ready on http://127.0.0.1:4399\n",
            "http://127.0.0.1:4399/dashboard",
            "octocat, plan: individual",
            "944 of 1500 AI credits left (62.9 %)",
            "models     4",
            "ANTHROPIC_BASE_URL=http://127.0.0.1:4399 ANTHROPIC_AUTH_TOKEN=dummy claude",
            "PROXY_KEY=dummy codex -m gpt-5.2-codex -c model_provider=copilot \\\n",
            "-c model_providers.copilot.base_url=http://127.0.0.1:4399/v1 \\\n",
            "curl http://127.0.0.1:4399/v1/chat/completions",
            r#"{"model":"gpt-5-mini","#,
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        assert!(!text.contains("simulator") && !text.contains("problem"));
    }

    #[test]
    fn a_key_is_asked_for_and_not_printed() {
        let text = text(&report(), true, true);
        assert!(
            text.contains("ANTHROPIC_AUTH_TOKEN=YOUR_KEY claude") && text.contains("Bearer YOUR_KEY"),
            "{text}"
        );
        assert!(text.contains("simulator"));
    }

    #[test]
    fn it_fits_a_terminal_of_80_columns() {
        for keyed in [true, false] {
            let text = text(&report(), keyed, true);
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }

    #[test]
    fn each_shell_gets_lines_of_its_own() {
        let (report, url) = (report(), "http://127.0.0.1:4399");
        let lines = |shell| {
            Banner {
                url,
                report: &report,
                keyed: true,
                simulated: false,
                shell,
            }
            .text()
        };
        let powershell = lines(Shell::Pwsh);
        assert!(
            powershell.contains("$env:PROXY_KEY = 'YOUR_KEY'; codex -m gpt-5.2-codex -c model_provider=copilot `\n")
        );
        assert!(
            powershell
                .contains("curl.exe http://127.0.0.1:4399/v1/models `\n    -H \"authorization: Bearer YOUR_KEY\"\n")
        );
        assert!(
            lines(Shell::Cmd)
                .contains("set \"PROXY_KEY=YOUR_KEY\" && codex -m gpt-5.2-codex -c model_provider=copilot ^\n")
        );
        assert!(lines(Shell::Fish).contains("env PROXY_KEY=YOUR_KEY codex"));
    }

    #[test]
    fn trouble_is_told() {
        let report = Report {
            problem: Some("GitHub has a problem (503)".into()),
            ..Report::default()
        };
        let text = text(&report, false, false);
        assert!(
            text.contains("problem    GitHub has a problem (503); trying again by itself"),
            "{text}"
        );
        assert!(text.contains("models     0"));
        assert!(text.contains("listens on http://127.0.0.1:4399, but") && !text.contains("is ready"));
    }
}
