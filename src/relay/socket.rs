//! The way to Copilot by a socket, for clients that came by one. The turn is the same in all else: credential, permit,
//! edits, journal. A socket that fails before its first event gives way to HTTP.

use std::cell::Cell;
use std::rc::Rc;

use super::exchange::{Refusal, access, read_refusal};
use super::{Error, Relay};
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::{Protocol, json};
use crate::translate::{Object, upstream_failure};
use crate::upstream::copilot::{Access, Call};
use crate::upstream::line::Line;
use crate::upstream::{self, Answer, Phase};

/// The code of a failure of the socket's own: another way may still serve.
const LOST: &str = "upstream_websocket_failed";
/// After so many failures in a row a client's turns go by HTTP alone.
const MAX_FAILURES: u32 = 3;

/// One client's own way to Copilot.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    line: Line,
    failures: Rc<Cell<u32>>,
}

/// Why a turn did not begin on the socket.
enum Trouble {
    /// Copilot has answered, and what it says stands.
    Refused(Refusal),
    /// The socket itself failed; the turn may be asked for by another way.
    Failed(upstream::Error),
}

impl Relay {
    /// The relay for one client with a socket: its turns share a socket to Copilot, where a model has one.
    pub fn for_socket(&self) -> Self {
        Self {
            lane: self.settings.websocket.then(Lane::default),
            ..self.clone()
        }
    }

    /// Sends one request by the socket where there is one for it, else by HTTP; `bytes` is about how long its body is.
    pub(super) async fn dispatch(
        &self,
        model: &Model,
        way: Protocol,
        body: &Object,
        bytes: usize,
        call: Call,
    ) -> Result<Answer, Error> {
        let Some(lane) = self.lane_to(model, way) else {
            return self.send(&posted(call, body, bytes)).await;
        };
        let trouble = match self.send_by(lane, &call, body).await? {
            Ok(answer) => {
                lane.failures.set(0);
                return Ok(answer);
            }
            Err(Trouble::Refused(refusal)) => return Err(refusal.error),
            Err(Trouble::Failed(trouble)) => trouble,
        };
        lane.failures.set(lane.failures.get().saturating_add(1));
        // A turn that Copilot may still be at work on is not asked for twice.
        let may_run = matches!(
            trouble,
            upstream::Error::Timeout {
                phase: Phase::FirstByte,
                ..
            }
        );
        if may_run {
            return Err(super::error::of_upstream(&trouble).into());
        }
        if !model.endpoints.responses {
            return Err(of_socket(&trouble).with_code(LOST).into());
        }
        log::warn!("{} by socket: {trouble}; asking by HTTP", model.id);
        self.send(&posted(call, body, bytes)).await
    }

    fn lane_to(&self, model: &Model, way: Protocol) -> Option<&Lane> {
        let lane = self.lane.as_ref()?;
        let trusted = lane.failures.get() < MAX_FAILURES || !model.endpoints.responses;
        (way == Protocol::Responses && model.endpoints.websocket && trusted).then_some(lane)
    }

    /// Asks by the socket; once more with a fresh credential where Copilot refuses the one we have.
    async fn send_by(&self, lane: &Lane, call: &Call, body: &Object) -> Result<Result<Answer, Trouble>, Error> {
        let credential = self.credential().await?;
        let first = self.send_once_by(lane, &access(&credential), call, body).await;
        let why = match &first {
            Err(Trouble::Refused(refusal)) if refusal.credential => refusal.error.failure.message.clone(),
            _ => return Ok(first),
        };
        Ok(match self.renew(&credential, why).await? {
            Some(fresh) => {
                let answered = self.send_once_by(lane, &access(&fresh), call, body).await;
                self.confirm(answered.is_ok());
                answered
            }
            None => first,
        })
    }

    async fn send_once_by(&self, lane: &Lane, access: &Access, call: &Call, body: &Object) -> Result<Answer, Trouble> {
        match self.copilot.send_over(&lane.line, access, call, body).await {
            Ok(answer) if answer.is_success() => Ok(answer),
            Ok(answer) => Err(Trouble::Refused(read_refusal(answer).await)),
            Err(error) => Err(Trouble::Failed(error)),
        }
    }
}

/// Whether the socket failed where the model has no Responses by HTTP, before anything was asked.
pub(super) fn is_lost(failure: &Failure) -> bool {
    failure.code.as_deref() == Some(LOST)
}

fn posted(call: Call, body: &Object, bytes: usize) -> Call {
    Call {
        body: Some(json::text(body, bytes).into()),
        ..call
    }
}

/// The socket's trouble where there is no other way. A refused opening has a status and nothing else.
fn of_socket(error: &upstream::Error) -> Failure {
    match error {
        upstream::Error::Upgrade { status } => Failure {
            message: error.to_string(),
            ..upstream_failure::read(*status, &[], b"")
        },
        upstream::Error::Cut => Failure::new(Kind::UpstreamUnreachable, error.to_string()),
        other => super::error::of_upstream(other),
    }
}
