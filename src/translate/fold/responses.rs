//! A responses stream and the whole answer it amounts to.

use serde_json::Value;

use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// Gathers the client's frames.
#[derive(Debug, Default)]
pub struct Fold {}

impl super::Gather for Fold {
    fn feed(&mut self, _frame: &Frame) -> Result<(), Failure> {
        unimplemented!()
    }

    fn finish(self: Box<Self>) -> Result<Value, Failure> {
        unimplemented!()
    }
}

/// The stream of upstream that would have brought this whole answer.
pub fn unfold(_answer: &Value) -> Vec<Frame> {
    unimplemented!()
}
