//! Settings in, running proxy out.

use std::net::SocketAddr;
use std::time::Duration;

use actix::Addr;

use crate::actors::Actors;
use crate::actors::approval::{ApprovalActor, Asker};
use crate::config;
use crate::secret::Secret;

/// Makes who asks at the terminal, once the actor runs that gathers the answers.
pub type MakeAsker = Box<dyn FnOnce(Addr<ApprovalActor>) -> Box<dyn Asker + Send>>;

pub struct Options {
    pub settings: config::Settings,
    pub github_token: Secret,
    pub asker: Option<MakeAsker>,
}

pub struct Running {
    pub address: SocketAddr,
    pub actors: Actors,
}

/// What is known of the account once the proxy is up.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub login: Option<String>,
    pub plan: Option<String>,
    pub usage: Option<serde_json::Value>,
    /// The ids on offer.
    pub models: Vec<String>,
    pub problem: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind { address: String, source: std::io::Error },
}

impl Error {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bind { .. } => Some("another program may use that port; choose one with --port".into()),
        }
    }
}

pub async fn start(options: Options) -> Result<Running, Error> {
    Err(Error::Bind {
        address: format!("{}:{}", options.settings.server.host, options.settings.server.port),
        source: std::io::ErrorKind::Unsupported.into(),
    })
}

impl Running {
    pub async fn ready(&self, _patience: Duration) -> Report {
        Report::default()
    }

    pub async fn wait(self) {}
}
