//! Client and upstream speak alike: the few edits of request and answer that Copilot needs; all else passes untouched.

pub mod chat;
pub mod messages;
pub mod responses;
