//! Upstream's refusals, read once into a kind and one plain sentence.

use serde_json::Value;

use crate::protocol::Protocol;
use crate::protocol::failure::Failure;

/// Reads an answer that was no success.
pub fn read(_status: u16, _headers: &[(String, String)], _body: &[u8]) -> Failure {
    unimplemented!()
}

/// Reads an error that came inside a stream: a chat `error` frame, a Messages `error` event, a Responses `error` event
/// or the `error` of a failed response, a lone `message`.
pub fn in_stream(_error: &Value) -> Failure {
    unimplemented!()
}

/// The failure in the words this protocol's clients act on: how each is told that its prompt is too long.
pub fn for_client(failure: Failure, _client: Protocol) -> Failure {
    failure
}
