//! The turn's events, as a messages client's stream.

use super::ids::Ids;
use super::turn::Event;
use super::{Kept, Reply, Writer};
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

pub struct ToMessages {}

impl ToMessages {
    pub fn new(_reply: Reply, _ids: Ids) -> Self {
        unimplemented!()
    }
}

impl Writer for ToMessages {
    fn feed(&mut self, _event: Event, _out: &mut Vec<Frame>) -> Result<(), Failure> {
        unimplemented!()
    }

    fn end(&mut self, _out: &mut Vec<Frame>) {
        unimplemented!()
    }

    fn fail(&mut self, _failure: &Failure, _out: &mut Vec<Frame>) {
        unimplemented!()
    }

    fn is_over(&self) -> bool {
        unimplemented!()
    }

    fn take_kept(&mut self) -> Vec<(String, Kept)> {
        unimplemented!()
    }
}
