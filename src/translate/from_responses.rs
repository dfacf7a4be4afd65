//! What a responses upstream says, as the turn's events.

use serde_json::Value;

use super::turn::Event;
use super::{Reader, Reply};
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

pub struct FromResponses {}

impl FromResponses {
    pub fn new(_reply: &Reply) -> Self {
        unimplemented!()
    }
}

impl Reader for FromResponses {
    fn feed(&mut self, _frame: &Frame, _out: &mut Vec<Event>) -> Result<(), Failure> {
        unimplemented!()
    }

    fn end(&mut self, _out: &mut Vec<Event>) -> Result<(), Failure> {
        unimplemented!()
    }

    fn whole(&mut self, _answer: &Value, _out: &mut Vec<Event>) -> Result<(), Failure> {
        unimplemented!()
    }

    fn nano_aiu(&self) -> Option<u64> {
        unimplemented!()
    }
}
