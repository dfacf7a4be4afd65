//! The way to Copilot by a socket, for clients that came by one. The turn is the same in all else: credential, permit,
//! edits, journal. A socket that fails before its first event gives way to HTTP.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::exchange::{Refusal, access, read_refusal};
use super::{Error, Relay};
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::{Initiator, Protocol};
use crate::translate::{Object, upstream_failure};
use crate::upstream::copilot::{Access, Call};
use crate::upstream::line::Line;
use crate::upstream::{self, Answer, Phase};

/// After so many failures in a row a client's turns go by HTTP alone.
const MAX_FAILURES: u32 = 3;
/// What HTTP asks for in a body and a socket does not know.
const NOT_IN_A_FRAME: [&str; 3] = ["stream", "background", "service_tier"];

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

    /// Sends one request by the socket where there is one for it, else by HTTP.
    pub(super) async fn dispatch(
        &self,
        model: &Model,
        way: Protocol,
        body: &Object,
        call: Call,
    ) -> Result<Answer, Error> {
        let Some(lane) = self.lane_to(model, way) else {
            return self.send(&call).await;
        };
        let frame = frame(body, call.initiator.unwrap_or(Initiator::User));
        let turn = Call {
            body: Some(frame.to_string().into()),
            ..call.clone()
        };
        let trouble = match self.send_by(lane, &turn).await? {
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
        if may_run || !model.endpoints.responses {
            return Err(of_socket(&trouble).into());
        }
        log::warn!("{} by socket: {trouble}; asking by HTTP", model.id);
        self.send(&call).await
    }

    fn lane_to(&self, model: &Model, way: Protocol) -> Option<&Lane> {
        let lane = self.lane.as_ref()?;
        let trusted = lane.failures.get() < MAX_FAILURES || !model.endpoints.responses;
        (way == Protocol::Responses && model.endpoints.websocket && trusted).then_some(lane)
    }

    /// Asks by the socket; once more with a fresh credential where Copilot refuses the one we have.
    async fn send_by(&self, lane: &Lane, turn: &Call) -> Result<Result<Answer, Trouble>, Error> {
        let credential = self.credential().await?;
        let first = self.send_once_by(lane, &access(&credential), turn).await;
        let why = match &first {
            Err(Trouble::Refused(refusal)) if refusal.credential => refusal.error.failure.message.clone(),
            _ => return Ok(first),
        };
        Ok(match self.renew(&credential, why).await? {
            Some(fresh) => {
                let answered = self.send_once_by(lane, &access(&fresh), turn).await;
                self.confirm(answered.is_ok());
                answered
            }
            None => first,
        })
    }

    async fn send_once_by(&self, lane: &Lane, access: &Access, turn: &Call) -> Result<Answer, Trouble> {
        match self.copilot.send_over(&lane.line, access, turn).await {
            Ok(answer) if answer.is_success() => Ok(answer),
            Ok(answer) => Err(Trouble::Refused(read_refusal(answer).await)),
            Err(error) => Err(Trouble::Failed(error)),
        }
    }
}

/// The request as a frame.
fn frame(body: &Object, initiator: Initiator) -> Value {
    let mut frame = json!({"type": "response.create"});
    if let Some(fields) = frame.as_object_mut() {
        let known = body.iter().filter(|(name, _)| !NOT_IN_A_FRAME.contains(&name.as_str()));
        fields.extend(known.map(|(name, value)| (name.clone(), value.clone())));
        fields.insert("initiator".into(), json!(initiator.name()));
    }
    frame
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_the_body_without_what_only_http_knows() {
        let body = json!({"model": "m", "stream": true, "input": [], "service_tier": "auto", "store": false});
        let frame = frame(body.as_object().unwrap(), Initiator::Agent);
        assert_eq!(
            frame.to_string(),
            r#"{"type":"response.create","model":"m","input":[],"store":false,"initiator":"agent"}"#
        );
    }
}
