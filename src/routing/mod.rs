//! Which way to go. Pure: the catalogue, the request's needs and what upstream taught us in, a way out.
//!
//! Same protocol first, then the pair that loses least: the table is `PREFERENCE`.

use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};

pub mod initiator;
pub mod names;

/// For each client protocol, the upstream protocols from best to worst.
const PREFERENCE: [(Protocol, [Protocol; 3]); 3] = [
    (
        Protocol::Messages,
        [Protocol::Messages, Protocol::Responses, Protocol::Chat],
    ),
    (
        Protocol::Chat,
        [Protocol::Chat, Protocol::Responses, Protocol::Messages],
    ),
    (
        Protocol::Responses,
        [Protocol::Responses, Protocol::Messages, Protocol::Chat],
    ),
];

/// The first GPT that takes tools and reasoning together on Responses only.
const TOOLS_NEED_RESPONSES: (u32, u32) = (5, 4);

/// What a request asks of its route, and what upstream has taught us about the model.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The request offers tools.
    pub tools: bool,
    /// The request turns reasoning off.
    pub no_reasoning: bool,
    /// Upstream has refused tools for this model on Chat.
    pub tools_need_responses: bool,
    /// Copilot may be reached by a socket, too.
    pub socket: bool,
    /// Endpoints that the catalogue names but upstream has refused.
    pub refused: Vec<Protocol>,
}

/// The upstream protocols that can serve the request, best first; never empty.
pub fn ways(client: Protocol, model: &Model, needs: &Needs) -> Result<Vec<Protocol>, Failure> {
    let preferred = PREFERENCE
        .iter()
        .find(|(of, _)| *of == client)
        .map_or(Protocol::ALL, |(_, order)| *order);
    let by_socket = |way| way == Protocol::Responses && needs.socket && model.endpoints.websocket;
    let mut ways: Vec<Protocol> = preferred
        .into_iter()
        .filter(|&way| (model.speaks(way) || by_socket(way)) && !needs.refused.contains(&way))
        .collect();
    if client == Protocol::Chat && responses_must_come_first(model, needs) {
        ways.sort_by_key(|&way| way != Protocol::Responses);
    }
    if ways.is_empty() {
        Err(unreachable_from(client, model))
    } else {
        Ok(ways)
    }
}

fn responses_must_come_first(model: &Model, needs: &Needs) -> bool {
    let by_version = model.is_gpt()
        && model
            .gpt_version()
            .is_some_and(|version| version >= TOOLS_NEED_RESPONSES);
    needs.tools && (needs.tools_need_responses || by_version && !needs.no_reasoning)
}

/// No protocol of ours reaches the model: says which endpoints it has.
fn unreachable_from(client: Protocol, model: &Model) -> Failure {
    let path = match client {
        Protocol::Chat => "/chat/completions",
        Protocol::Responses => "/responses",
        Protocol::Messages => "/messages",
    };
    unsupported(path, model)
}

/// The refusal for a model that cannot be used with a path.
pub fn unsupported(path: &str, model: &Model) -> Failure {
    let supported = model.endpoints.names();
    let supported = if supported.is_empty() {
        "no endpoint of this proxy".to_owned()
    } else {
        supported.join(", ")
    };
    Failure {
        param: Some("model".into()),
        ..Failure::new(
            Kind::UnsupportedEndpoint,
            format!(
                "model {} cannot be used with {path}; it supports: {supported}",
                model.id
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::protocol::catalog::Catalog;

    fn model(id: &str, endpoints: &[&str]) -> Arc<Model> {
        let entry = json!({"id": id, "vendor": "OpenAI", "supported_endpoints": endpoints});
        Catalog::read(&json!({"data": [entry]})).get(id).unwrap().clone()
    }

    fn first(client: Protocol, model: &Model, needs: &Needs) -> Protocol {
        ways(client, model, needs).unwrap()[0]
    }

    #[test]
    fn the_same_protocol_comes_first_then_the_one_that_loses_least() {
        use Protocol::*;
        let all = model("x", &["/chat/completions", "/responses", "/v1/messages"]);
        let needs = Needs::default();
        assert_eq!(ways(Messages, &all, &needs).unwrap(), [Messages, Responses, Chat]);
        assert_eq!(ways(Chat, &all, &needs).unwrap(), [Chat, Responses, Messages]);
        assert_eq!(ways(Responses, &all, &needs).unwrap(), [Responses, Messages, Chat]);
        let refused = Needs {
            refused: vec![Messages],
            ..Needs::default()
        };
        assert_eq!(ways(Messages, &all, &refused).unwrap(), [Responses, Chat]);
    }

    #[test]
    fn k094_new_gpt_with_tools_and_reasoning_goes_to_responses() {
        let new = model("gpt-5.4", &["/chat/completions", "/responses"]);
        let old = model("gpt-5.2", &["/chat/completions", "/responses"]);
        let tools = Needs {
            tools: true,
            ..Needs::default()
        };
        assert_eq!(first(Protocol::Chat, &new, &tools), Protocol::Responses);
        assert_eq!(first(Protocol::Chat, &old, &tools), Protocol::Chat);
        assert_eq!(first(Protocol::Chat, &new, &Needs::default()), Protocol::Chat);
        assert_eq!(
            first(
                Protocol::Chat,
                &new,
                &Needs {
                    no_reasoning: true,
                    ..tools.clone()
                }
            ),
            Protocol::Chat
        );
        let learned = Needs {
            tools_need_responses: true,
            ..tools
        };
        assert_eq!(first(Protocol::Chat, &old, &learned), Protocol::Responses);
    }

    #[test]
    fn k152_a_socket_is_no_evidence_for_http() {
        let socket = model("gpt-5.3-codex", &["ws:/responses"]);
        let failure = ways(Protocol::Responses, &socket, &Needs::default()).unwrap_err();
        assert_eq!(failure.openai_code(), Some("unsupported_endpoint"));
        let by_socket = Needs {
            socket: true,
            ..Needs::default()
        };
        assert_eq!(first(Protocol::Responses, &socket, &by_socket), Protocol::Responses);
        assert!(
            failure.message.ends_with("with /responses; it supports: ws:/responses"),
            "{}",
            failure.message
        );
    }
}
