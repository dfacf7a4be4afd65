//! The wire against upstreams that misbehave: raw listeners that say exactly what a test wants, when it wants.

mod answers;
mod connections;
pub mod fake;
mod github;
mod limits;
mod pictures;
mod proxies;
mod secrets;
mod sockets;
mod tls;
