//! A history made short for Codex.

use super::{Answer, Call, Error, Relay};

impl Relay {
    pub(super) async fn compact_in_stream(&self, _call: Call) -> Result<Answer, Error> {
        unimplemented!()
    }
}
