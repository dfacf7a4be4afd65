use crate::protocol::failure::Failure;
use crate::translate::{Context, Object, Outgoing};

pub fn request(_body: &Object, _context: &Context) -> Result<Outgoing, Failure> {
    unimplemented!()
}
