//! Responses to Responses: what Copilot needs changed in the request, and in the answer its clients.

mod request;
mod response;

pub use request::request;
pub use response::Relay;
