//! What one request was and how it went, written down when it is over, however it ends. Never a word of the prompt.

use std::time::Instant;

use crate::actors::Actors;
use crate::actors::rate_limiter::Permit;
use crate::actors::recorder::{Exchange, Record};
use crate::protocol::failure::Failure;
use crate::translate::Heard;

/// The open page of one request. Dropping it hands the exchange to the recorder and the permit back.
pub struct Journal {
    actors: Actors,
    exchange: Exchange,
    heard: Heard,
    started: Instant,
    ended: bool,
    /// Held until the answer is complete, or its client is gone.
    _permit: Permit,
}

impl Journal {
    pub(super) fn open(actors: Actors, exchange: Exchange, permit: Permit, started: Instant) -> Self {
        Self { actors, exchange, heard: Heard::default(), started, ended: false, _permit: permit }
    }
}
