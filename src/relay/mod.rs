//! The journey of one request, start to finish. No actix-web types.

mod settings;

pub use settings::{OverflowAsStream, Settings, WebSearch};
