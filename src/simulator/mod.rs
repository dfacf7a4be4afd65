//! A Copilot of our own: GitHub sign-in, catalogue, quota and models, strict as the real ones. Imports only `protocol`.

use std::net::SocketAddr;
use std::time::Duration;

pub const DEMO_GITHUB_TOKEN: &str = "ghu_demo";

#[derive(Clone, Debug)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub token_lifetime: Duration,
    pub refresh_in: Duration,
}

pub struct Running {
    pub address: SocketAddr,
}

pub async fn start(_settings: Settings) -> std::io::Result<Running> {
    Err(std::io::ErrorKind::Unsupported.into())
}
