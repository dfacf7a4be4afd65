//! copilot-proxy: your own GitHub Copilot subscription, for every client of the OpenAI and Anthropic APIs.

pub mod actors;
pub mod cli;
pub mod config;
pub mod http;
pub mod protocol;
pub mod relay;
pub mod routing;
pub mod secret;
pub mod server;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod translate;
pub mod upstream;
