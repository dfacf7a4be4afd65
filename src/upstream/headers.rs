//! Every header we send to GitHub and to Copilot, and the reason for each. Pure; no header of a client is ever among
//! them, so nothing a client says about itself leaves this machine.

use std::borrow::Cow;

use super::{
    Settings,
    copilot::{Call, Endpoint},
};
use crate::secret::Secret;

/// The version of GitHub's REST interface that the official clients ask for when they exchange tokens.
const GITHUB_API_VERSION: &str = "2025-04-01";

/// One header. A secret value is marked, so that no log line of the HTTP client shows it.
#[derive(Debug, Clone)]
pub struct Header {
    pub name: Cow<'static, str>,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Open(String),
    Secret(Secret),
}

impl Header {
    pub fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name: Cow::Borrowed(name),
            value: Value::Open(value.into()),
        }
    }

    fn secret(name: &'static str, value: String) -> Self {
        Self {
            name: Cow::Borrowed(name),
            value: Value::Secret(Secret::new(value)),
        }
    }

    pub fn value(&self) -> &str {
        match &self.value {
            Value::Open(text) => text,
            Value::Secret(secret) => secret.expose(),
        }
    }

    pub fn is_secret(&self) -> bool {
        matches!(self.value, Value::Secret(_))
    }
}

/// For signing in: GitHub answers form-encoded unless JSON is asked for.
pub fn device_flow(settings: &Settings) -> Vec<Header> {
    vec![
        Header::new("accept", "application/json"),
        Header::new("content-type", "application/json"),
        user_agent(settings),
    ]
}

/// For GitHub's REST interface, with the long-lived GitHub token.
pub fn github(settings: &Settings, token: &Secret) -> Vec<Header> {
    let mut headers = vec![
        Header::secret("authorization", format!("token {}", token.expose())),
        Header::new("accept", "application/json"),
        // Copilot's own part of the interface changes with this date.
        Header::new("x-github-api-version", GITHUB_API_VERSION),
    ];
    headers.extend(identity(settings));
    headers
}

/// For one call to Copilot, with the short-lived token of a seat.
pub fn copilot(settings: &Settings, token: &Secret, call: &Call) -> Vec<Header> {
    let mut headers = vec![
        Header::secret("authorization", format!("Bearer {}", token.expose())),
        Header::new("accept", "*/*"),
        // Compression would hold events back; nothing here decodes it.
        Header::new("accept-encoding", "identity"),
        // Names the product; Copilot refuses those it does not know.
        Header::new("copilot-integration-id", settings.integration_id.clone()),
        // Selects the shape of the interface, above all of the catalogue.
        Header::new("x-github-api-version", settings.api_version.clone()),
        // Echoed in the answer, so that a report to GitHub can name the call.
        Header::new("x-request-id", call.request_id.clone()),
        // What the call is for; part of Copilot's bookkeeping.
        Header::new("openai-intent", call.endpoint.intent()),
    ];
    headers.extend(identity(settings));
    if call.body.is_some() {
        headers.push(Header::new("content-type", "application/json"));
    }
    if call.endpoint.is_inference() {
        // Who took this step, which decides whether it is billed as a new turn.
        if let Some(initiator) = call.initiator {
            headers.push(Header::new("x-initiator", initiator.name()));
        }
        if let Some(kind) = call.interaction_type {
            headers.push(Header::new("x-interaction-type", kind));
        }
        if let Some(id) = &call.interaction_id {
            headers.push(Header::new("x-interaction-id", id.clone()));
        }
    }
    // Without it Copilot refuses images, or reads them as text.
    if call.vision {
        headers.push(Header::new("copilot-vision-request", "true"));
    }
    if matches!(call.endpoint, Endpoint::Messages | Endpoint::CountTokens) {
        headers.push(Header::new("anthropic-version", "2023-06-01"));
        if let Some(betas) = comma_list(&call.betas) {
            headers.push(Header::new("anthropic-beta", betas));
        }
    }
    for (name, value) in &call.extra {
        add_extra(&mut headers, name, value);
    }
    headers
}

/// Who we say we are. Both the token exchange and Copilot refuse callers that do not look like an editor.
fn identity(settings: &Settings) -> [Header; 4] {
    [
        user_agent(settings),
        Header::new("editor-version", named(&settings.editor_version, "vscode")),
        Header::new("editor-plugin-version", named(&settings.plugin_version, "copilot-chat")),
        Header::new("x-vscode-user-agent-library-version", "electron-fetch"),
    ]
}

/// Carries the version of the plugin, as the official client's does.
fn user_agent(settings: &Settings) -> Header {
    let version = settings.plugin_version.rsplit('/').next().unwrap_or_default();
    Header::new("user-agent", format!("GitHubCopilotChat/{version}"))
}

/// `1.116.0` and `vscode/1.116.0` mean the same.
fn named(version: &str, product: &str) -> String {
    if version.contains('/') {
        version.to_string()
    } else {
        format!("{product}/{version}")
    }
}

fn comma_list(tokens: &[String]) -> Option<String> {
    let mut list: Vec<&str> = Vec::new();
    for token in tokens
        .iter()
        .map(|token| token.trim())
        .filter(|token| !token.is_empty())
    {
        if !list.contains(&token) {
            list.push(token);
        }
    }
    (!list.is_empty()).then(|| list.join(","))
}

/// Headers the catalogue asks for with one model. They come from outside, so they may not touch what carries the call,
/// its credential or its billing.
fn add_extra(headers: &mut Vec<Header>, name: &str, value: &str) {
    const OURS: [&str; 13] = [
        "authorization",
        "host",
        "content-type",
        "content-length",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "upgrade",
        "expect",
        "te",
        "accept-encoding",
        "cookie",
        "x-initiator",
    ];
    let name = name.to_ascii_lowercase();
    let sendable = awc::http::header::HeaderName::try_from(name.as_str()).is_ok()
        && awc::http::header::HeaderValue::from_str(value).is_ok();
    if !sendable || OURS.contains(&name.as_str()) || name.starts_with("proxy-") {
        return;
    }
    headers.retain(|header| header.name != name);
    headers.push(Header {
        name: Cow::Owned(name),
        value: Value::Open(value.to_string()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Initiator;

    fn value<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
        assert!(
            headers.iter().filter(|header| header.name == name).count() <= 1,
            "{name} occurs twice"
        );
        headers.iter().find(|header| header.name == name).map(Header::value)
    }

    fn call(endpoint: Endpoint) -> Call {
        Call {
            initiator: Some(Initiator::User),
            request_id: "id-1".into(),
            ..Call::new(endpoint)
        }
    }

    #[test]
    fn copilot_is_told_who_calls_and_why() {
        let headers = copilot(&Settings::default(), &Secret::new("tid=1"), &call(Endpoint::Chat));
        assert_eq!(value(&headers, "authorization"), Some("Bearer tid=1"));
        assert_eq!(value(&headers, "editor-version"), Some("vscode/1.116.0"));
        assert_eq!(value(&headers, "editor-plugin-version"), Some("copilot-chat/0.46.0"));
        assert_eq!(value(&headers, "user-agent"), Some("GitHubCopilotChat/0.46.0"));
        assert_eq!(value(&headers, "copilot-integration-id"), Some("vscode-chat"));
        assert_eq!(value(&headers, "x-github-api-version"), Some("2026-01-09"));
        assert_eq!(value(&headers, "openai-intent"), Some("conversation-agent"));
        assert_eq!(value(&headers, "x-request-id"), Some("id-1"));
        assert_eq!(value(&headers, "x-initiator"), Some("user"));
        assert_eq!(value(&headers, "copilot-vision-request"), None);
        assert_eq!(value(&headers, "anthropic-version"), None);
        assert_eq!(value(&headers, "content-type"), None);
    }

    #[test]
    fn only_inference_names_an_initiator() {
        for endpoint in [Endpoint::Models, Endpoint::Embeddings, Endpoint::CountTokens] {
            let headers = copilot(&Settings::default(), &Secret::new("t"), &call(endpoint.clone()));
            assert_eq!(value(&headers, "x-initiator"), None, "{endpoint:?}");
        }
        let headers = copilot(&Settings::default(), &Secret::new("t"), &call(Endpoint::Models));
        assert_eq!(value(&headers, "openai-intent"), Some("model-access"));
        let headers = copilot(&Settings::default(), &Secret::new("t"), &call(Endpoint::Embeddings));
        assert_eq!(value(&headers, "openai-intent"), Some("copilot-panel"));
    }

    #[test]
    fn messages_carry_their_version_and_betas_once() {
        let mut call = call(Endpoint::Messages);
        call.betas = vec!["a".into(), " b ".into(), "a".into(), "".into()];
        call.vision = true;
        call.body = Some("{}".into());
        let headers = copilot(&Settings::default(), &Secret::new("t"), &call);
        assert_eq!(value(&headers, "anthropic-version"), Some("2023-06-01"));
        assert_eq!(value(&headers, "anthropic-beta"), Some("a,b"));
        assert_eq!(value(&headers, "copilot-vision-request"), Some("true"));
        assert_eq!(value(&headers, "content-type"), Some("application/json"));
        call.betas.clear();
        let headers = copilot(&Settings::default(), &Secret::new("t"), &call);
        assert_eq!(value(&headers, "anthropic-beta"), None);
    }

    #[test]
    fn a_models_own_headers_are_added_but_touch_nothing_that_matters() {
        let mut call = call(Endpoint::Chat);
        call.extra = vec![
            ("X-Model".into(), "one".into()),
            ("Authorization".into(), "Bearer theirs".into()),
            ("X-Initiator".into(), "agent".into()),
            ("OpenAI-Intent".into(), "special".into()),
            ("bad name".into(), "x".into()),
            ("x-bad".into(), "a\r\nb: c".into()),
        ];
        let headers = copilot(&Settings::default(), &Secret::new("ours"), &call);
        assert_eq!(value(&headers, "x-model"), Some("one"));
        assert_eq!(value(&headers, "authorization"), Some("Bearer ours"));
        assert_eq!(value(&headers, "x-initiator"), Some("user"));
        assert_eq!(value(&headers, "openai-intent"), Some("special"));
        assert_eq!(value(&headers, "bad name"), None);
        assert_eq!(value(&headers, "x-bad"), None);
    }

    #[test]
    fn tokens_are_marked_and_do_not_print() {
        let headers = github(&Settings::default(), &Secret::new("ghu_1"));
        assert_eq!(value(&headers, "authorization"), Some("token ghu_1"));
        assert_eq!(value(&headers, "x-github-api-version"), Some("2025-04-01"));
        assert!(
            headers
                .iter()
                .all(|header| header.is_secret() == (header.name == "authorization"))
        );
        assert!(!format!("{headers:?}").contains("ghu_1"));
    }

    #[test]
    fn bare_versions_get_their_product() {
        let settings = Settings {
            editor_version: "1.2.3".into(),
            plugin_version: "0.9".into(),
            ..Settings::default()
        };
        let headers = github(&settings, &Secret::new("t"));
        assert_eq!(value(&headers, "editor-version"), Some("vscode/1.2.3"));
        assert_eq!(value(&headers, "editor-plugin-version"), Some("copilot-chat/0.9"));
        assert_eq!(value(&headers, "user-agent"), Some("GitHubCopilotChat/0.9"));
    }
}
