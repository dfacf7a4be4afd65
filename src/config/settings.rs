//! The settings in force: each floor's own type, and what is left for the program as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Error, Origin};
use crate::actors::{approval, rate_limiter};
use crate::protocol::catalog::Endpoints;
use crate::secret::Secret;
use crate::upstream::github::unusable_token;
use crate::{http, relay, simulator, telemetry, upstream};

#[derive(Clone, Debug)]
pub struct Settings {
    pub server: Server,
    pub http: http::Settings,
    pub relay: relay::Settings,
    pub upstream: upstream::Settings,
    pub rate_limit: rate_limiter::Settings,
    pub approval: approval::Settings,
    /// Responses can be continued and asked for by their ids.
    pub keeps_responses: bool,
    pub models: Models,
    pub log: telemetry::Settings,
    /// Host and port are the command's to say.
    pub simulator: simulator::Settings,
    /// A GitHub token given for this run, in place of the stored one.
    pub github_token: Option<GivenToken>,
}

/// Where to listen, and how to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// An address, or a name that resolves to one.
    pub host: String,
    /// Zero takes a free one.
    pub port: u16,
    /// `None`: one for each core.
    pub workers: Option<usize>,
    pub shutdown_grace: Duration,
}

/// Which models there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    pub refresh: Duration,
    /// Endpoints by model, where Copilot's own list is wrong.
    pub overrides: BTreeMap<String, Endpoints>,
}

/// A GitHub token from a flag or a variable.
#[derive(Clone, Debug)]
pub struct GivenToken {
    pub token: Secret,
    pub origin: Origin,
}

impl GivenToken {
    /// The token, unless its form alone shows that Copilot will not take it.
    pub fn usable(&self) -> Result<&Secret, Error> {
        match unusable_token(self.token.expose()) {
            Some(why) => Err(Error::Token {
                origin: self.origin.to_string(),
                why,
            }),
            None => Ok(&self.token),
        }
    }
}
