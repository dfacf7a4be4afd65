//! copilot-proxy: your own GitHub Copilot subscription, for every client of the OpenAI and Anthropic APIs.

pub mod protocol;
pub mod routing;
pub mod secret;
pub mod translate;
pub mod upstream;
