//! A chat client on a chat upstream: what Copilot needs changed in the request, and what a strict client needs mended
//! in the answer. All else passes untouched.

mod request;
mod response;
mod whole;

pub use request::request;
pub use response::Relay;
