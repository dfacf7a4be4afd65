//! A history made short: what Codex asks for, and how it is served.

use super::Object;
use crate::protocol::Protocol;

/// Whether the request asks for its history to be compacted.
pub fn is_asked(_client: Protocol, _body: &Object) -> bool {
    false
}
