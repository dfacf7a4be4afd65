//! The process's environment, as data: settings, GitHub tokens, outbound proxies. Whoever holds one cannot tell whether
//! it was the real one.

use std::collections::BTreeMap;

use config::Source;

use crate::secret::Secret;
use crate::upstream::ProxySettings;

/// Every variable of ours begins so.
pub const PREFIX: &str = "COPILOT_PROXY_";

/// Variables by name. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// A variable's value; an empty one counts as not given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// The variables that look like settings, by the setting's dotted name.
    pub(super) fn settings(&self) -> BTreeMap<String, String> {
        let collected = config::Environment::with_prefix(PREFIX.trim_end_matches('_'))
            .prefix_separator("_")
            .separator("__")
            .ignore_empty(true)
            .source(Some(self.0.clone().into_iter().collect()))
            .collect()
            .unwrap_or_default();
        let other = ["data_dir"];
        let ours = collected
            .into_iter()
            .filter(|(name, _)| !other.contains(&name.as_str()));
        ours.filter_map(|(name, value)| Some((name, value.into_string().ok()?)))
            .collect()
    }

    /// The GitHub token of the usual variables, and the name of the one that holds it.
    pub(super) fn github_token(&self) -> Option<(&'static str, Secret)> {
        ["GH_TOKEN", "GITHUB_TOKEN"]
            .into_iter()
            .find_map(|name| Some((name, Secret::new(self.get(name)?))))
    }

    /// The outbound proxies of the usual variables, whose names are written in both cases; the lower one wins.
    pub fn proxies(&self) -> ProxySettings {
        let either = |lower: &str| {
            self.get(lower)
                .or_else(|| self.get(&lower.to_uppercase()))
                .map(str::to_owned)
        };
        // A web server that runs us by CGI puts a client's `Proxy:` header into HTTP_PROXY.
        let by_cgi = self.get("REQUEST_METHOD").is_some();
        ProxySettings {
            http: if by_cgi {
                self.get("http_proxy").map(str::to_owned)
            } else {
                either("http_proxy")
            },
            https: either("https_proxy"),
            all: either("all_proxy"),
            no: either("no_proxy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_in_both_cases() {
        let environment: Environment = [
            ("HTTP_PROXY", "http://upper:1"),
            ("http_proxy", "http://lower:1"),
            ("HTTPS_PROXY", "http://secure:1"),
            ("all_proxy", " "),
            ("NO_PROXY", "localhost"),
        ]
        .into_iter()
        .collect();
        let proxies = environment.proxies();
        assert_eq!(proxies.http.as_deref(), Some("http://lower:1"));
        assert_eq!(proxies.https.as_deref(), Some("http://secure:1"));
        assert_eq!(proxies.all, None);
        assert_eq!(proxies.no.as_deref(), Some("localhost"));
    }

    #[test]
    fn under_cgi_the_upper_case_name_is_a_clients_header() {
        let environment: Environment = [("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")]
            .into_iter()
            .collect();
        assert_eq!(environment.proxies().http, None);
    }

    #[test]
    fn an_empty_token_is_not_given() {
        let environment: Environment = [("GH_TOKEN", ""), ("GITHUB_TOKEN", "ghu_1")].into_iter().collect();
        let (name, token) = environment.github_token().unwrap();
        assert_eq!((name, token.expose()), ("GITHUB_TOKEN", "ghu_1"));
        assert!(!format!("{environment:?}").contains("ghu_1"));
    }
}
