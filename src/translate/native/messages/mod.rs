//! messages to messages.

mod betas;
mod history;
mod marks;
pub(in crate::translate) mod request;
mod response;
mod tools;

pub use request::request;
pub use response::Relay;

#[cfg(test)]
mod tests;
