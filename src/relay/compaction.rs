//! A history made short for Codex.

use super::{Answer, Call, Error, Relay};

impl Relay {
    pub(super) async fn compact_in_stream(&self, _call: Call) -> Result<Answer, Error> {
        unimplemented!()
    }
}

impl Relay {
    /// `POST /responses/compact`.
    pub async fn compact(&self, _call: Call) -> Result<Answer, Error> {
        unimplemented!()
    }
}
