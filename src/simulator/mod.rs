//! A Copilot of our own: GitHub sign-in, catalogue, quota and models, strict as the real ones. Imports only `protocol`.

use std::time::Duration;

pub const DEMO_GITHUB_TOKEN: &str = "ghu_simulatorDemoAccount000000000000000";

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub workers: usize,
    pub public_url: Option<String>,
    pub token_lifetime: Duration,
    pub refresh_in: Duration,
    pub approve_after_polls: u32,
    pub device_interval: Duration,
    pub event_delay: Duration,
    pub socket_lifetime: Duration,
    pub plan: String,
    pub strict_ids: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            workers: 1,
            public_url: None,
            token_lifetime: Duration::from_secs(1800),
            refresh_in: Duration::from_secs(1500),
            approve_after_polls: 3,
            device_interval: Duration::from_secs(1),
            event_delay: Duration::ZERO,
            socket_lifetime: Duration::from_secs(3600),
            plan: "individual_paid".to_owned(),
            strict_ids: true,
        }
    }
}

pub struct Simulator {
    pub url: String,
}

pub async fn start(_settings: Settings) -> std::io::Result<Simulator> {
    Err(std::io::ErrorKind::Unsupported.into())
}
