//! The wire out: HTTP towards GitHub and Copilot, and nothing else. Knows sockets, TLS, outbound proxies, headers and
//! the few JSON shapes of GitHub; nothing of actors, of translation or of what a model's answer means.
//!
//! ```text
//! github, copilot                 what is asked, and of whom
//!   → websocket                   a socket instead of an answer
//! pictures                        what a request names by its address
//!   → client                      one exchange: limits, the single resend, errors in our own words
//!     → connector, proxy          a road to the host: names, TCP, an outbound proxy, TLS
//!       → wire, framing           the bytes of one connection, watched so that no broken answer looks whole
//! ```

use std::{path::PathBuf, time::Duration};

pub mod answer;
pub mod client;
mod connector;
mod continuation;
pub mod copilot;
mod error;
mod framing;
pub mod github;
pub mod headers;
pub mod line;
pub mod pictures;
pub mod proxy;
mod refusal;
#[cfg(test)]
mod tests;
pub mod websocket;
mod wire;

pub use answer::{ANSWERS, Answer, Body};
pub use client::{Client, Setup};
pub use copilot::Copilot;
pub use error::{Error, Phase};
pub use github::GitHub;
pub use websocket::{Opened, Socket};

/// What this floor can be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where people sign in, `https://github.com` unless a test or an enterprise tenant says otherwise.
    pub github_url: String,
    /// GitHub's REST interface, `https://api.github.com`.
    pub github_api_url: String,
    /// Overrides every other source of Copilot's address.
    pub copilot_url: Option<String>,
    /// `individual`, `business` or `enterprise`: names Copilot's address where GitHub did not.
    pub account_type: String,
    /// The longest wait for a connection, TLS and an outbound proxy included.
    pub connect: Duration,
    /// The longest wait for the head of an answer.
    pub first_byte: Duration,
    /// The longest silence inside an answer.
    pub silence: Duration,
    /// The largest answer that is read whole.
    pub max_answer_bytes: usize,
    /// Outbound proxies, if the user asked for them.
    pub proxy: Option<ProxySettings>,
    /// A PEM file with certificates to trust besides the usual ones.
    pub extra_ca_file: Option<PathBuf>,
    /// The editor we speak as, `vscode/1.116.0`; Copilot refuses calls that name none.
    pub editor_version: String,
    /// The plugin we speak as, `copilot-chat/0.46.0`.
    pub plugin_version: String,
    /// The date that selects the shape of Copilot's interface.
    pub api_version: String,
    /// The product we speak as, `vscode-chat`.
    pub integration_id: String,
    /// The OAuth application people sign in to.
    pub client_id: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            github_url: "https://github.com".into(),
            github_api_url: "https://api.github.com".into(),
            copilot_url: None,
            account_type: "individual".into(),
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            silence: Duration::from_secs(300),
            max_answer_bytes: 64 << 20,
            proxy: None,
            extra_ca_file: None,
            editor_version: "vscode/1.116.0".into(),
            plugin_version: "copilot-chat/0.46.0".into(),
            api_version: "2026-01-09".into(),
            integration_id: "vscode-chat".into(),
            client_id: "Iv1.b507a08c87ecfe98".into(),
        }
    }
}

impl Settings {
    /// Copilot's address: the user's word, else what GitHub named with the token, else the account type's own.
    pub fn copilot_base(&self, named_by_github: Option<&str>) -> String {
        let chosen = [self.copilot_url.as_deref(), named_by_github];
        let chosen = chosen.into_iter().flatten().find(|url| !url.trim().is_empty());
        let url = chosen.unwrap_or(match self.account_type.as_str() {
            "business" => "https://api.business.githubcopilot.com",
            "enterprise" => "https://api.enterprise.githubcopilot.com",
            _ => "https://api.githubcopilot.com",
        });
        url.trim().trim_end_matches('/').to_string()
    }
}

/// The addresses of outbound proxies, as the usual environment variables spell them.
///
/// They are given as data: this floor never reads the environment. `Debug` is silent, since they may hold passwords.
#[derive(Clone, Default)]
pub struct ProxySettings {
    /// For plain `http` addresses.
    pub http: Option<String>,
    /// For `https` addresses.
    pub https: Option<String>,
    /// For both, where the ones above are not given.
    pub all: Option<String>,
    /// Hosts that are reached directly: a comma list of names, suffixes, addresses, networks, each with an optional port.
    pub no: Option<String>,
}

impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxySettings")
            .field("no", &self.no)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod settings_tests {
    use super::*;

    #[test]
    fn copilots_address_is_the_users_then_githubs_then_the_account_types() {
        let base = |copilot_url: Option<&str>, account_type: &str, named| {
            let settings = Settings {
                copilot_url: copilot_url.map(str::to_string),
                account_type: account_type.into(),
                ..Settings::default()
            };
            settings.copilot_base(named)
        };
        let github = Some("https://api.business.githubcopilot.com");
        assert_eq!(
            base(Some(" http://localhost:1/x/ "), "individual", github),
            "http://localhost:1/x"
        );
        assert_eq!(
            base(None, "individual", github),
            "https://api.business.githubcopilot.com"
        );
        assert_eq!(
            base(Some(""), "individual", github),
            "https://api.business.githubcopilot.com"
        );
        assert_eq!(base(None, "individual", Some(" ")), "https://api.githubcopilot.com");
        assert_eq!(
            base(None, "enterprise", None),
            "https://api.enterprise.githubcopilot.com"
        );
    }
}
