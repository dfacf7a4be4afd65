//! responses to responses.

use serde_json::Value;

use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;
use crate::translate::ids::Ids;
use crate::translate::{Context, Heard, Object, Outgoing, Reply, Translator};

/// The request as Copilot takes it.
pub fn request(_body: &Object, _context: &Context) -> Result<Outgoing, Failure> {
    unimplemented!()
}

/// The stream as the client should see it.
pub struct Relay {}

impl Relay {
    pub fn new(_reply: Reply, _ids: Ids) -> Self {
        unimplemented!()
    }
}

impl Translator for Relay {
    fn feed(&mut self, _frame: Frame, _out: &mut Vec<Frame>) -> Result<(), Failure> {
        unimplemented!()
    }

    fn end(&mut self, _out: &mut Vec<Frame>) -> Result<(), Failure> {
        unimplemented!()
    }

    fn whole(&mut self, _answer: Value, _out: &mut Vec<Frame>) -> Result<(), Failure> {
        unimplemented!()
    }

    fn answer(&mut self, _answer: Value) -> Result<Value, Failure> {
        unimplemented!()
    }

    fn fail(&mut self, _failure: &Failure, _out: &mut Vec<Frame>) {
        unimplemented!()
    }

    fn is_over(&self) -> bool {
        unimplemented!()
    }

    fn heard(&self) -> &Heard {
        unimplemented!()
    }
}
