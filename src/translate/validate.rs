//! What a request must be before anything is done with it.

use super::Object;
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;

/// Refuses a body that its own protocol does not allow.
pub fn body(_client: Protocol, _body: &Object) -> Result<(), Failure> {
    unimplemented!()
}

/// Refuses a body whose tokens cannot be counted: as [`body`], without the fields that only say how to answer.
pub fn countable(_client: Protocol, _body: &Object) -> Result<(), Failure> {
    unimplemented!()
}
