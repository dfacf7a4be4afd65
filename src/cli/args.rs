//! Commands and flags: typed, all optional, each named as people type it. Knows no default: those are in
//! `config/default.toml`, and the help only repeats them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use crate::config::Flag;

const SERVER: &str = "Server";
const LIMITS: &str = "Limits";
const ACCOUNT: &str = "Account";
const CLAUDE_CODE: &str = "Claude Code";
const FILES: &str = "Files";
const OUTPUT: &str = "Output";

const ABOUT: &str = "Use your own GitHub Copilot subscription from Claude Code, Codex, opencode and the OpenAI and \
                     Anthropic SDKs.";

const EXAMPLES: &str = "\
Examples:
  copilot-proxy start --simulator        Try it: no account, no network
  copilot-proxy start                    Sign in once, then serve on http://127.0.0.1:4399
  copilot-proxy start --claude-code      The same, with a command to paste that starts Claude Code
  copilot-proxy check-usage              Plan, quotas and the day they are renewed
  copilot-proxy debug                    Every setting, and where its value came from

Settings come from: built-in defaults < DATA_DIR/config.toml or --config < environment < flags.
Each has a twin in the environment: COPILOT_PROXY_<SECTION>__<KEY>, as in COPILOT_PROXY_SERVER__PORT=8080.
`copilot-proxy config default` prints them all.";

const START_EXAMPLES: &str = "\
Examples:
  copilot-proxy start --simulator
  copilot-proxy start --port 8080 --rate-limit 2 --wait
  copilot-proxy start --claude-code --model claude-sonnet-4.5 --small-model gpt-5-mini
  GH_TOKEN=ghu_... copilot-proxy start --manual

A first Ctrl-C, or SIGTERM, lets running answers finish; a second one ends at once.";

const AUTH_EXAMPLES: &str = "\
Examples:
  copilot-proxy auth                        Shows a link, and a code to enter there
  copilot-proxy auth --token-stdin < token  Takes a token that you have

The token is stored in DATA_DIR/github_token, readable by you alone.
Personal access tokens are refused: Copilot does not take them.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  copilot-proxy completions bash > ~/.local/share/bash-completion/completions/copilot-proxy
  copilot-proxy completions fish > ~/.config/fish/completions/copilot-proxy.fish
  copilot-proxy completions zsh  > \"${fpath[1]}/_copilot-proxy\"";

const SIMULATOR_EXAMPLES: &str = "\
Examples:
  copilot-proxy simulator
  copilot-proxy simulator --port 0 --config config/simulator.toml

It prints the settings that point a client at it. `start --simulator` has one inside.";

#[derive(Debug, Parser)]
#[command(name = "copilot-proxy", version, about = ABOUT, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients: sign in if need be, then listen
    #[command(after_help = START_EXAMPLES)]
    Start(Box<Start>),
    /// Sign in to GitHub and store the token
    #[command(after_help = AUTH_EXAMPLES)]
    Auth(Auth),
    /// Show plan, quotas and when they are renewed; needs no running server
    CheckUsage(CheckUsage),
    /// Show version, paths, login, and every setting with its origin
    #[command(after_help = "Flags of `start` may be given, too: they show what it would make of them.")]
    Debug(Box<Debug>),
    /// Play GitHub and Copilot on one port, for trying clients without an account
    #[command(after_help = SIMULATOR_EXAMPLES)]
    Simulator(Simulator),
    /// Examine and show settings
    Config(Config),
    /// Ask a running proxy whether it is well: exit code 0 or 1
    Health(Health),
    /// Print completions for a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Default, Args)]
pub struct Start {
    #[command(flatten)]
    pub server: ServerFlags,
    #[command(flatten)]
    pub limits: LimitFlags,
    #[command(flatten)]
    pub account: AccountFlags,
    /// Play Copilot ourselves: needs neither account nor network
    #[arg(long, help_heading = ACCOUNT)]
    pub simulator: bool,
    /// Print the tokens in use; otherwise none is ever shown
    #[arg(long, help_heading = OUTPUT)]
    pub show_token: bool,
    /// Choose models, then get the command that starts Claude Code with them
    #[arg(short, long, help_heading = CLAUDE_CODE)]
    pub claude_code: bool,
    /// The main model, without asking
    #[arg(long, value_name = "MODEL", help_heading = CLAUDE_CODE, requires = "claude_code")]
    pub model: Option<String>,
    /// The model for small side tasks, without asking
    #[arg(long, value_name = "MODEL", help_heading = CLAUDE_CODE, requires = "claude_code")]
    pub small_model: Option<String>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub output: OutputFlags,
}

#[derive(Debug, Default, Args)]
pub struct Auth {
    /// Read a GitHub token from standard input instead of signing in
    #[arg(long)]
    pub token_stdin: bool,
    /// Print the token
    #[arg(long)]
    pub show_token: bool,
    /// Reach GitHub through the proxies of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY
    #[arg(long)]
    pub proxy_env: bool,
    /// Log more; where RUST_LOG is set, that decides alone
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Default, Args)]
pub struct CheckUsage {
    #[command(flatten)]
    pub account: AccountFlags,
    /// Log more; where RUST_LOG is set, that decides alone
    #[arg(short, long)]
    pub verbose: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Default, Args)]
pub struct Debug {
    /// As one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ServerFlags,
    #[command(flatten)]
    pub limits: LimitFlags,
    #[command(flatten)]
    pub account: AccountFlags,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub output: OutputFlags,
}

#[derive(Debug, Default, Args)]
pub struct Simulator {
    /// The port to listen on; 0 takes a free one [default: 4400]
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub output: OutputFlags,
}

#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Examine one file: exit code 0, or 1 with file, key and what was probably meant
    Check {
        /// The file, in TOML
        file: PathBuf,
    },
    /// Print every setting with its default and what it does
    Default,
}

#[derive(Debug, Default, Args)]
pub struct Health {
    /// The port it listens on [default: 4399]
    #[arg(short, long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The address it listens on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Ask also whether it can reach Copilot
    #[arg(long)]
    pub ready: bool,
    #[command(flatten)]
    pub place: Place,
}

/// Where to listen.
#[derive(Debug, Default, Args)]
pub struct ServerFlags {
    /// The port to listen on; 0 takes a free one [default: 4399]
    #[arg(short, long, value_name = "PORT", help_heading = SERVER)]
    pub port: Option<u16>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", help_heading = SERVER)]
    pub host: Option<String>,
    /// Listen beyond loopback without a key: everybody who reaches the port uses your subscription
    #[arg(long, help_heading = SERVER)]
    pub allow_unauthenticated: bool,
}

impl ServerFlags {
    fn add_to(&self, flags: &mut Vec<Flag>) {
        add(flags, "--port", "server.port", self.port);
        add(flags, "--host", "server.host", self.host.as_deref());
        switch(
            flags,
            "--allow-unauthenticated",
            "server.allow_unauthenticated",
            self.allow_unauthenticated,
        );
    }
}

/// Who may call, and how often.
#[derive(Debug, Default, Args)]
pub struct LimitFlags {
    /// Ask before each request to a model, here or on the dashboard
    #[arg(long, help_heading = LIMITS)]
    pub manual: bool,
    /// The least time between two requests [default: no limit]
    #[arg(short, long, value_name = "SECONDS", help_heading = LIMITS, value_parser = seconds, allow_negative_numbers = true)]
    pub rate_limit: Option<f64>,
    /// Let requests that come too early wait their turn, instead of refusing them
    #[arg(short, long, help_heading = LIMITS)]
    pub wait: bool,
}

impl LimitFlags {
    fn add_to(&self, flags: &mut Vec<Flag>) {
        switch(flags, "--manual", "approval.manual", self.manual);
        add(flags, "--rate-limit", "rate_limit.seconds", self.rate_limit);
        switch(flags, "--wait", "rate_limit.wait", self.wait);
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(seconds),
        _ => Err("a number of seconds is expected, at least 0".into()),
    }
}

/// Whose subscription, and the way to it.
#[derive(Debug, Default, Args)]
pub struct AccountFlags {
    /// The kind of subscription, where GitHub does not name Copilot's address [default: individual]
    #[arg(short, long, value_name = "TYPE", help_heading = ACCOUNT)]
    pub account_type: Option<AccountType>,
    /// A GitHub token, instead of the stored one; GH_TOKEN and GITHUB_TOKEN do the same
    #[arg(short, long, value_name = "TOKEN", help_heading = ACCOUNT)]
    pub github_token: Option<String>,
    /// Reach upstream through the proxies of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY
    #[arg(long, help_heading = ACCOUNT)]
    pub proxy_env: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccountType {
    Individual,
    Business,
    Enterprise,
}

impl AccountFlags {
    fn add_to(&self, flags: &mut Vec<Flag>) {
        add(
            flags,
            "--account-type",
            "upstream.account_type",
            self.account_type.map(word),
        );
        // `--github-token "$UNSET"` means that none is given.
        let token = self
            .github_token
            .as_deref()
            .map(str::trim)
            .filter(|token| !token.is_empty());
        add(flags, "--github-token", "github.token", token);
        switch(flags, "--proxy-env", "upstream.proxy_env", self.proxy_env);
    }
}

/// Where things are kept.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// A file of settings [default: DATA_DIR/config.toml, if it is there]
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    pub config: Option<PathBuf>,
    /// Where the GitHub token is kept [default: ~/.local/share/copilot-proxy; also COPILOT_PROXY_DATA_DIR]
    #[arg(long, value_name = "DIR", help_heading = FILES)]
    pub data_dir: Option<PathBuf>,
}

/// What is told.
#[derive(Debug, Default, Args)]
pub struct OutputFlags {
    /// Log more; where RUST_LOG is set, that decides alone
    #[arg(short, long, help_heading = OUTPUT)]
    pub verbose: bool,
    /// The form of log lines [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = OUTPUT)]
    pub log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl OutputFlags {
    fn add_to(&self, flags: &mut Vec<Flag>) {
        switch(flags, "--verbose", "log.verbose", self.verbose);
        add(flags, "--log-format", "log.format", self.log_format.map(word));
    }
}

impl Start {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        self.server.add_to(&mut flags);
        self.limits.add_to(&mut flags);
        self.account.add_to(&mut flags);
        self.output.add_to(&mut flags);
        flags
    }
}

impl Debug {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        self.server.add_to(&mut flags);
        self.limits.add_to(&mut flags);
        self.account.add_to(&mut flags);
        self.output.add_to(&mut flags);
        flags
    }
}

impl Auth {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        switch(&mut flags, "--proxy-env", "upstream.proxy_env", self.proxy_env);
        switch(&mut flags, "--verbose", "log.verbose", self.verbose);
        flags
    }
}

impl CheckUsage {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        self.account.add_to(&mut flags);
        switch(&mut flags, "--verbose", "log.verbose", self.verbose);
        flags
    }
}

impl Simulator {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        self.output.add_to(&mut flags);
        flags
    }
}

impl Health {
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        add(&mut flags, "--port", "server.port", self.port);
        add(&mut flags, "--host", "server.host", self.host.as_deref());
        flags
    }
}

/// A flag that carries a value.
fn add(flags: &mut Vec<Flag>, name: &'static str, setting: &'static str, value: Option<impl Into<Value>>) {
    flags.extend(value.map(|value| Flag {
        name,
        setting,
        value: value.into(),
    }));
}

/// A flag that is there or not; its absence says nothing.
fn switch(flags: &mut Vec<Flag>, name: &'static str, setting: &'static str, on: bool) {
    add(flags, name, setting, on.then_some(true));
}

/// A choice as it is typed.
fn word(choice: impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::Reference;

    fn start(arguments: &[&str]) -> Start {
        let typed = ["copilot-proxy", "start"].iter().chain(arguments);
        match Arguments::try_parse_from(typed).unwrap().command {
            Command::Start(start) => *start,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_name_settings_that_exist() {
        let all = start(&[
            "-p",
            "1",
            "--host",
            "h",
            "--allow-unauthenticated",
            "--manual",
            "-r",
            "0.5",
            "-w",
            "-a",
            "business",
            "-g",
            "ghu_1",
            "--proxy-env",
            "-v",
            "--log-format",
            "json",
        ]);
        let reference = Reference::read().unwrap();
        let flags = all.flags();
        assert_eq!(flags.len(), 11);
        for flag in &flags {
            assert!(reference.shape(flag.setting).is_some(), "{flag:?}");
        }
        let value = |name| {
            flags
                .iter()
                .find(|flag| flag.name == name)
                .map(|flag| flag.value.clone())
        };
        assert_eq!(value("--rate-limit"), Some(0.5.into()));
        assert_eq!(value("--account-type"), Some("business".into()));
        assert_eq!(value("--log-format"), Some("json".into()));
    }

    #[test]
    fn what_is_not_typed_is_not_set() {
        assert!(start(&[]).flags().is_empty());
        assert!(start(&["--github-token", ""]).flags().is_empty());
    }

    #[test]
    fn bad_values_are_bad_usage() {
        for wrong in [
            &["-p", "70000"][..],
            &["-r", "-1"],
            &["-r", "nan"],
            &["-a", "x"],
            &["--model", "m"],
            &["--nope"],
        ] {
            let typed = ["copilot-proxy", "start"].iter().chain(wrong);
            assert_eq!(
                Arguments::try_parse_from(typed).unwrap_err().exit_code(),
                2,
                "{wrong:?}"
            );
        }
    }
}
