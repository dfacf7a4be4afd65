//! One request, tried until upstream takes it: the ways in order, and what upstream refuses mended, a bounded number of
//! times and never after the client's first byte. What is learned is remembered for the model.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::admission::Target;
use super::journal::Journal;
use super::opening::Opened;
use super::retries::Retries;
use super::searching::Searching;
use super::{Call, Client, Error, Relay, socket, web_search};
use crate::actors::memory::Learn;
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::{Initiator, Protocol};
use crate::routing::Needs;
use crate::routing::initiator::{self, Cause};
use crate::translate::ids::Ids;
use crate::translate::rules::session;
use crate::translate::{Context, Hints, Memory, Object, Outgoing, healing, pairs};
use crate::upstream::copilot::{self, Endpoint};

/// Endpoints that upstream has refused for a model although its catalogue names them.
const REFUSED: &str = "routes.refused";

/// What is the same each time a request is sent, whichever way it goes.
struct Sending {
    /// About how long the body is.
    bytes: usize,
    wants_stream: bool,
    cause: Cause,
    interaction_id: Option<String>,
}

impl Relay {
    /// Tries until an answer has begun, or no rule knows better.
    pub(super) async fn attempt(
        &self,
        mut call: Call,
        target: &Target,
        mut memory: Memory,
        cause: Cause,
        journal: &mut Journal,
    ) -> Result<Opened, Error> {
        if let Some(elsewhere) = self.searcher(&call, target, &memory).await? {
            return self.search(call, &elsewhere, cause, journal).await;
        }
        // A body is used up by its translation; for another way the client's own is read again.
        let body = std::mem::take(&mut call.body);
        let client = call.client.protocol;
        let needs = Needs {
            socket: self.lane.is_some(),
            ..needs(client, &body, &memory)
        };
        let mut ways = target.ways(client, &needs)?;
        let sending = Sending {
            bytes: call.text.len(),
            wants_stream: is_stream(&body),
            cause,
            interaction_id: session::interaction_id(client, &body, &hints(&call.client, target)),
        };
        let mut rerouted = false;
        let mut healed = Vec::new();
        let mut retries = Retries::new(self.settings.retries);
        let mut request = self.translate(&call, body, target, &memory, ways[0])?;
        loop {
            let way = ways[0];
            journal.goes_by(way);
            let refused = match self.open(&call.client, target, way, &mut request, &sending).await {
                Ok(opened) => {
                    let searching = request.reply.search_tool.map(|tool| Searching {
                        client: call.client,
                        target: target.clone(),
                        request: call.text,
                        tool,
                    });
                    return Ok(Opened {
                        searching: searching.map(Box::new),
                        ..opened
                    });
                }
                Err(refused) => sized(call.client.protocol, way, refused),
            };
            let is_wrong = is_wrong_endpoint(&refused.failure);
            if (is_wrong || socket::is_lost(&refused.failure)) && ways.len() > 1 && !rerouted {
                rerouted = true;
                log::warn!(
                    "{} by {}: {}; trying {}",
                    target.model().id,
                    way.name(),
                    refused.failure.message,
                    ways[1].name()
                );
                if is_wrong {
                    let refused = refused_with(&memory, way);
                    self.learn(target, &mut memory, (REFUSED.into(), refused));
                }
                ways.remove(0);
                request = self.translate(&call, call.read_again(), target, &memory, ways[0])?;
                continue;
            }
            if let Some(pause) = retries.after(&refused.failure) {
                log::warn!(
                    "{} by {}: {}; sending once more after {} ms",
                    target.model().id,
                    way.name(),
                    refused.failure.message,
                    pause.as_millis()
                );
                journal.healed("retry");
                tokio::time::sleep(pause).await;
                continue;
            }
            let best_effort = self.settings.tuning.structured_best_effort;
            let facts = memory.learned.clone();
            let Some(cure) = healing::heal(way, &refused.failure, &mut request, &facts, best_effort, &healed) else {
                return Err(refused);
            };
            log::warn!(
                "{} by {}: {}; sending once more ({})",
                target.model().id,
                way.name(),
                refused.failure.message,
                cure.rule
            );
            journal.healed(cure.rule);
            healed.push(cure.rule);
            if let Some(fact) = cure.learned {
                self.learn(target, &mut memory, fact);
            }
            if self.settings.web_search.is_some() {
                call.body = call.read_again();
            }
            if let Some(elsewhere) = self.searcher(&call, target, &memory).await? {
                return self.search(call, &elsewhere, cause, journal).await;
            }
            if is_search(&call, target) {
                web_search::check(target, &request.body)?;
            }
            let offered = request.reply.search_tool.is_some();
            if !offered
                && self
                    .offer_search(&call.client, target, &memory, way, &mut call.body)
                    .is_some()
            {
                request = self.translate(&call, call.read_again(), target, &memory, way)?;
            }
            if let Some(better) = cure.reroute {
                if !target.model().speaks(better) {
                    return Err(refused);
                }
                ways.retain(|&way| way != better);
                ways.insert(0, better);
                request = self.translate(&call, call.read_again(), target, &memory, better)?;
            }
        }
    }

    pub(super) fn translate(
        &self,
        call: &Call,
        mut body: Object,
        target: &Target,
        memory: &Memory,
        way: Protocol,
    ) -> Result<Outgoing, Failure> {
        let client = call.client.protocol;
        let hints = hints(&call.client, target);
        let context = Context {
            model: target.model(),
            requested: &target.asked,
            tuning: &self.settings.tuning,
            memory,
            hints: &hints,
        };
        let search = self.settings.web_search.as_ref().filter(|_| is_search(call, target));
        let most = search.map(|settings| web_search::most(&body, settings));
        let search_tool = self.offer_search(&call.client, target, memory, way, &mut body);
        let mut request = pairs::outgoing(client, way, body, &context)?;
        if let Some(most) = most {
            request.body.insert("max_tool_calls".into(), json!(most));
        }
        request.reply.echo.extend(call.said_for_it());
        request.reply.search_tool = search_tool;
        healing::apply(way, &memory.learned, &mut request);
        if is_search(call, target) {
            web_search::check(target, &request.body)?;
        }
        Ok(request)
    }

    /// Sends the request once and waits for the first sign of the answer.
    async fn open(
        &self,
        client: &Client,
        target: &Target,
        way: Protocol,
        request: &mut Outgoing,
        sending: &Sending,
    ) -> Result<Opened, Error> {
        let model = target.model();
        let wants_stream = sending.wants_stream;
        let streams = wants_stream || self.must_stream(way, model, &request.body);
        if streams && !wants_stream {
            request.body.insert("stream".into(), json!(true));
        }
        let ask = copilot::Call {
            endpoint: endpoint(way),
            body: None,
            initiator: Some(sending.cause.initiator),
            interaction_type: sending.cause.interaction,
            interaction_id: sending.interaction_id.clone(),
            vision: request.vision,
            betas: request.betas.clone(),
            extra: model.request_headers.clone(),
            request_id: uuid::Uuid::new_v4().to_string(),
        };
        let answer = self.dispatch(model, way, &request.body, sending.bytes, ask).await?;
        let ids = Ids::new(client.request_id.clone(), now_unix());
        let translator = pairs::translator(client.dialect, way, request.reply.clone(), ids);
        let opened = self.opened(answer, translator, wants_stream).await?;
        Ok(opened.by(model))
    }

    /// Whether upstream is asked for a stream although the client wants one whole answer.
    fn must_stream(&self, way: Protocol, model: &Model, body: &Object) -> bool {
        match way {
            Protocol::Responses => self.settings.aggregate,
            Protocol::Messages => {
                let most = model.limits.non_streaming_output;
                let asked = body.get("max_tokens").and_then(Value::as_u64);
                most.zip(asked).is_some_and(|(most, asked)| asked > most)
            }
            Protocol::Chat => false,
        }
    }

    /// Who caused the request: decided on the body as the client sent it.
    pub(super) fn cause(&self, call: &Call) -> Cause {
        let Call {
            client, body, earlier, ..
        } = call;
        let earlier = earlier.as_ref().map_or(0, |earlier| earlier.items);
        let cause = initiator::cause(client.protocol, body, earlier, self.settings.compaction_is_agent);
        if self.settings.trust_client && client.says_user {
            return Cause {
                initiator: Initiator::User,
                ..cause
            };
        }
        cause
    }

    pub(super) fn learn(&self, target: &Target, memory: &mut Memory, (key, value): (String, Value)) {
        memory.learned.insert(key.clone(), value.clone());
        self.actors.memory.do_send(Learn {
            model: target.model().id.clone(),
            key,
            value,
        });
    }
}

/// Whether another model searches in place of the one that was asked.
fn is_search(call: &Call, target: &Target) -> bool {
    target.only.is_some() && call.client.protocol == Protocol::Messages
}

/// What headers and the model's spelling say.
fn hints(client: &Client, target: &Target) -> Hints {
    Hints {
        betas: client.betas.clone(),
        session: client.session.clone(),
        effort: target.resolved.effort,
        thinking: target.resolved.thinking,
    }
}

pub(super) fn needs(client: Protocol, body: &Object, memory: &Memory) -> Needs {
    let effort = match client {
        Protocol::Chat => body
            .get("reasoning_effort")
            .or_else(|| body.get("reasoning")?.get("effort")),
        _ => None,
    };
    let refused = memory.learned.get(REFUSED).and_then(Value::as_array);
    Needs {
        tools: body
            .get("tools")
            .and_then(Value::as_array)
            .is_some_and(|tools| !tools.is_empty()),
        no_reasoning: effort.is_some_and(|effort| effort == "none"),
        tools_need_responses: memory
            .learned
            .get("chat.tools_need_responses")
            .is_some_and(|needs| needs == true),
        refused: Protocol::ALL
            .into_iter()
            .filter(|way| refused.is_some_and(|list| list.iter().any(|one| one == way.name())))
            .collect(),
        ..Needs::default()
    }
}

/// The remembered list of refused endpoints, with one more.
fn refused_with(memory: &Memory, way: Protocol) -> Value {
    let mut list = memory
        .learned
        .get(REFUSED)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    list.push(way.name().into());
    list.into()
}

/// Upstream says that this model does not answer there.
fn is_wrong_endpoint(failure: &Failure) -> bool {
    let text = failure.message.to_ascii_lowercase();
    failure.kind == Kind::UnsupportedEndpoint
        || text.contains("not accessible via the")
        || text.contains("not supported via this endpoint")
}

/// Chat takes smaller bodies than its models' windows; a Responses client makes room where its context is too long.
fn sized(client: Protocol, way: Protocol, mut refused: Error) -> Error {
    if (client, way, refused.failure.kind) == (Protocol::Responses, Protocol::Chat, Kind::TooLarge) {
        refused.failure.kind = Kind::ContextOverflow;
    }
    refused
}

fn endpoint(way: Protocol) -> Endpoint {
    match way {
        Protocol::Chat => Endpoint::Chat,
        Protocol::Responses => Endpoint::Responses,
        Protocol::Messages => Endpoint::Messages,
    }
}

pub(super) fn is_stream(body: &Object) -> bool {
    body.get("stream").is_some_and(|stream| stream == true)
}

pub(super) fn now_unix() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::upstream_failure;

    #[test]
    fn what_was_learned_becomes_a_need() {
        let mut memory = Memory::default();
        memory
            .learned
            .insert(REFUSED.into(), refused_with(&memory, Protocol::Chat));
        memory.learned.insert("chat.tools_need_responses".into(), json!(true));
        let body = json!({"tools": [{}], "reasoning_effort": "none"});
        let needs = needs(Protocol::Chat, body.as_object().unwrap(), &memory);
        assert!(needs.tools && needs.no_reasoning && needs.tools_need_responses);
        assert_eq!(needs.refused, [Protocol::Chat]);
    }

    #[test]
    fn a_body_too_large_for_chat_is_a_context_too_long_for_a_responses_client() {
        let kind = |client| {
            let refused = Failure::new(Kind::TooLarge, "too big").into();
            sized(client, Protocol::Chat, refused).failure.kind
        };
        assert_eq!(kind(Protocol::Responses), Kind::ContextOverflow);
        assert_eq!(kind(Protocol::Messages), Kind::TooLarge);
    }

    #[test]
    fn only_words_about_the_endpoint_change_the_way() {
        let refused = |message: &str| is_wrong_endpoint(&Failure::new(Kind::BadRequest, message));
        assert!(refused(
            "model \"x\" is not accessible via the /chat/completions endpoint"
        ));
        assert!(!refused("The requested model is not supported."));
        let by_code = upstream_failure::read(
            404,
            &[],
            br#"{"error":{"message":"no","code":"unsupported_api_for_model"}}"#,
        );
        assert!(is_wrong_endpoint(&by_code));
    }
}
