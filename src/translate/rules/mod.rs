//! Rules that several pairs share, one subject a file.

pub mod session;
