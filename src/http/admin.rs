//! The admin API: what the dashboard shows and decides. No prompts.

pub fn routes(_config: &mut actix_web::web::ServiceConfig) {}
