//! A Messages history put in the order Copilot demands.

use serde_json::Value;

use super::Object;
use crate::protocol::Protocol;

/// The ids of the calls in a history, in any client's protocol.
pub fn call_ids(_client: Protocol, _body: &Object) -> Vec<String> {
    Vec::new()
}

/// Folds `system` messages between the others into the user messages before them. True if there was one.
pub fn fold_system(_messages: &mut Vec<Value>) -> bool {
    unimplemented!()
}

/// Joins neighbours of the same role into one message.
pub fn merge_same_role(_messages: &mut Vec<Value>) {
    unimplemented!()
}
