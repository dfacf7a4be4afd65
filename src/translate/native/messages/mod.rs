//! messages to messages.

pub(in crate::translate) mod request;
mod response;

pub use request::request;
pub use response::Relay;
