//! Which function serves which two protocols: the table of pairs.

use super::bridge::Bridge;
use super::from_chat::FromChat;
use super::from_messages::FromMessages;
use super::from_responses::FromResponses;
use super::ids::Ids;
use super::to_chat::ToChat;
use super::to_gemini::ToGemini;
use super::to_messages::ToMessages;
use super::to_responses::ToResponses;
use super::{Context, Object, Outgoing, Reply, ToolShape, Translator, native, request};
use crate::protocol::Dialect::{self, Gemini, Of};
use crate::protocol::Protocol::{self, Chat, Messages, Responses};
use crate::protocol::failure::Failure;

/// The request of a client as the upstream protocol `way` takes it. It is made of the client's own, which is used up.
pub fn outgoing(client: Protocol, way: Protocol, body: Object, context: &Context) -> Result<Outgoing, Failure> {
    match (client, way) {
        (Chat, Chat) => native::chat::request(body, context),
        (Messages, Messages) => native::messages::request(body, context),
        (Responses, Responses) => native::responses::request(body, context),
        (Messages, Chat) => request::messages_to_chat::request(body, context),
        (Messages, Responses) => request::messages_to_responses::request(body, context),
        (Chat, Messages) => request::chat_to_messages::request(body, context),
        (Chat, Responses) => request::chat_to_responses::request(body, context),
        (Responses, Chat) => request::responses_to_chat::request(body, context),
        (Responses, Messages) => request::responses_to_messages::request(body, context),
    }
}

/// The way back from `way` to the client.
pub fn translator(client: impl Into<Dialect>, way: Protocol, reply: Reply, ids: Ids) -> Box<dyn Translator> {
    let client = client.into();
    match (client, way) {
        (Of(Chat), Chat) => Box::new(native::chat::Relay::new(reply, ids)),
        (Of(Messages), Messages) => Box::new(native::messages::Relay::new(reply, ids)),
        // Tools that stand as functions upstream are calls of another kind to the client.
        (Of(Responses), Responses) if reply.tools.values().any(|tool| tool.shape != ToolShape::Function) => Box::new(
            Bridge::new(client, FromResponses::new(&reply), ToResponses::new(reply, ids)),
        ),
        (Of(Responses), Responses) => Box::new(native::responses::Relay::new(reply, ids)),
        (Of(Messages), Chat) => Box::new(Bridge::new(client, FromChat::new(&reply), ToMessages::new(reply, ids))),
        (Of(Messages), Responses) => Box::new(Bridge::new(
            client,
            FromResponses::new(&reply),
            ToMessages::new(reply, ids),
        )),
        (Of(Chat), Messages) => Box::new(Bridge::new(client, FromMessages::new(&reply), ToChat::new(reply, ids))),
        (Of(Chat), Responses) => Box::new(Bridge::new(client, FromResponses::new(&reply), ToChat::new(reply, ids))),
        (Of(Responses), Chat) => Box::new(Bridge::new(client, FromChat::new(&reply), ToResponses::new(reply, ids))),
        (Of(Responses), Messages) => Box::new(Bridge::new(
            client,
            FromMessages::new(&reply),
            ToResponses::new(reply, ids),
        )),
        (Gemini, Chat) => Box::new(Bridge::new(client, FromChat::new(&reply), ToGemini::new(reply, ids))),
        (Gemini, Messages) => Box::new(Bridge::new(
            client,
            FromMessages::new(&reply),
            ToGemini::new(reply, ids),
        )),
        (Gemini, Responses) => Box::new(Bridge::new(
            client,
            FromResponses::new(&reply),
            ToGemini::new(reply, ids),
        )),
    }
}

#[cfg(test)]
mod from_chat_tests;
#[cfg(test)]
mod from_responses_tests;
