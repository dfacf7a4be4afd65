//! What one request was and how it went, written down when it is over, however it ends. Never a word of the prompt.

use std::time::{Instant, SystemTime};

use super::Asked;
use crate::actors::Actors;
use crate::actors::approval::harmless;
use crate::actors::memory::Keep;
use crate::actors::rate_limiter::Permit;
use crate::actors::recorder::{Exchange, Phase, unix_ms};
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::protocol::{Dialect, Protocol};
use crate::translate::Heard;

/// The status written down where the client left before its answer was complete.
const CLIENT_LEFT: u16 = 499;

/// The open page of one request. Dropping it hands the exchange to the recorder and the permit back.
pub struct Journal {
    actors: Actors,
    client: Dialect,
    exchange: Exchange,
    started: Instant,
    /// Held until the answer is complete, or its client is gone.
    permit: Option<Permit>,
}

impl Journal {
    pub(super) fn open(actors: Actors, asked: &Asked) -> Self {
        let exchange = Exchange {
            id: asked.client.request_id.clone(),
            started_unix_ms: unix_ms(SystemTime::now()),
            client: harmless(&asked.client.agent),
            model_asked: harmless(&asked.model),
            ..Exchange::default()
        };
        Self {
            actors,
            client: asked.client.dialect,
            exchange,
            started: Instant::now(),
            permit: None,
        }
    }

    pub(super) fn aimed_at(&mut self, model: &Model) {
        self.exchange.model_run = model.id.clone();
        self.exchange.route = self.client.name().to_owned();
        let Exchange {
            id,
            client,
            model_asked,
            model_run,
            ..
        } = &self.exchange;
        log::debug!(id = id.as_str(); "{client} asks for {model_asked}, and gets {model_run}");
    }

    /// The request waits for a person's word, or perhaps for a permit.
    pub(super) fn waits(&mut self, phase: Phase) {
        self.exchange.phase = phase;
        self.record();
    }

    pub(super) fn admitted(&mut self, permit: Permit) {
        self.permit = Some(permit);
        log::debug!(id = self.exchange.id.as_str(); "may go after {} ms", self.elapsed_ms());
    }

    /// The request goes upstream, for the first time or by another way than before.
    pub(super) fn goes_by(&mut self, way: Protocol) {
        self.sets_out(format!("{} → {}", self.client.name(), way.name()));
    }

    pub(super) fn sets_out(&mut self, route: String) {
        if self.exchange.phase != Phase::Upstream || self.exchange.route != route {
            log::debug!(id = self.exchange.id.as_str(); "goes upstream by {route}");
            self.exchange.phase = Phase::Upstream;
            self.exchange.route = route;
            self.record();
        }
    }

    pub(super) fn healed(&mut self, rule: &str) {
        log::debug!(id = self.exchange.id.as_str(); "upstream refused it; mended by {rule} and sent again");
        self.exchange.healed.push(rule.to_owned());
    }

    /// A piece of the answer goes to the client.
    pub(super) fn sent(&mut self) {
        if self.exchange.first_byte_ms.is_none() {
            self.exchange.first_byte_ms = Some(self.elapsed_ms());
            self.exchange.phase = Phase::Streaming;
            log::debug!(id = self.exchange.id.as_str(); "the first piece goes out after {} ms", self.elapsed_ms());
            self.record();
        }
    }

    pub(super) fn failed(&mut self, failure: &Failure) {
        self.exchange.status = Some(failure.status(self.client));
        self.exchange.error = Some(failure.message.clone());
    }

    /// The answer is complete; after a failure, as far as it came.
    pub(super) fn ended(&mut self, heard: &Heard) {
        self.exchange.status.get_or_insert(200);
        self.exchange.tokens_in = heard.usage.input;
        self.exchange.tokens_cached = heard.usage.cached;
        self.exchange.tokens_out = heard.usage.output;
        self.exchange.nano_aiu = heard.nano_aiu;
        if !heard.kept.is_empty() {
            self.actors.memory.do_send(Keep(heard.kept.clone()));
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn record(&self) {
        self.actors.record(self.exchange.clone());
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let status = *self.exchange.status.get_or_insert(CLIENT_LEFT);
        let duration = self.elapsed_ms();
        self.exchange.duration_ms = Some(duration);
        self.exchange.phase = Phase::Ended;
        let Exchange {
            id,
            route,
            model_asked,
            model_run,
            tokens_in,
            tokens_out,
            error,
            ..
        } = &self.exchange;
        let way = match route.as_str() {
            "" => String::new(),
            route => format!("{route} "),
        };
        log::info!(
            id = id.as_str(), status, duration_ms = duration, route = route.as_str(),
            model = model_run.as_str(), tokens_in = *tokens_in, tokens_out = *tokens_out;
            "{status} {way}{model_asked} in {duration} ms{}",
            error.as_ref().map_or(String::new(), |why| format!(": {why}"))
        );
        self.record();
    }
}
