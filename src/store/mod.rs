//! The disk: blocking, small, no actors.

pub mod vault;

pub use vault::Vault;
