//! copilot-proxy: your own GitHub Copilot subscription, for every client of the OpenAI, Anthropic and
//! Gemini APIs.
//!
//! The house, from the top floor down; imports point down only, and two rooms of one floor do not import each other.
//!
//! ```text
//! cli          one file per command: flags in, exit code out
//! server       settings in, running proxy out: starts the actors, binds, drains
//! config       layers of settings → Settings, and where each value came from
//! http         the doors: paths, keys, browser safety, sockets, the admin API and its dashboard
//! relay        the journey of one request: name, verdict, permit, way, credential, answer
//! actors       state, one file per actor: token, catalogue, rate limit, approvals, memory, quota, record
//! simulator    a GitHub and a Copilot of our own; imports only protocol, so it stays an independent witness
//! upstream     the wire out: one exchange, limits, TLS, outbound proxies, GitHub, Copilot, sockets
//! translate    shapes into shapes: requests pair by pair, streams by readers and writers that meet in the turn
//! routing      which model a name means, by which protocol, on whose account
//! store        the disk: the GitHub token's private file
//! protocol     the ground: words on the wire · telemetry: log set-up · secret: a text that will not print itself
//!              · room: how much may be held whole at once
//! ```
//!
//! A request's path is [`relay::Relay::generate`]. Where to look:
//!
//! | to | start in |
//! |---|---|
//! | carry a new request field | `translate/request/` or `translate/native/`, and its row in the table of losses |
//! | mend a stream | the reader (`translate/from_*`) or the writer (`translate/to_*`), with a transcript as its test |
//! | mend a request that upstream refuses | a row of `translate/healing.rs` |
//! | teach a name or a route | `routing/names.rs`, `routing/mod.rs` |
//! | limit something | the state inside its actor |
//! | add a setting | `config/default.toml`, then `config/resolve.rs` |

pub mod actors;
pub mod cli;
pub mod config;
pub mod http;
pub mod protocol;
pub mod relay;
pub mod room;
pub mod routing;
pub mod secret;
pub mod server;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod translate;
pub mod upstream;
