//! Requests from one protocol to another, one file a pair.

pub mod chat_to_messages;
pub mod chat_to_responses;
mod into_messages;
pub mod messages_to_chat;
pub mod messages_to_responses;
pub mod responses_to_chat;
pub mod responses_to_messages;
