//! stub
use std::{collections::BTreeMap, time::Duration};
#[derive(Clone, Debug)]
pub struct Settings {
    pub server: Server,
    pub upstream: crate::upstream::Settings,
    pub http: crate::http::Settings,
    pub relay: crate::relay::Settings,
    pub rate_limit: crate::actors::rate_limiter::Settings,
    pub approval: crate::actors::approval::Settings,
    pub models: Models,
}
#[derive(Clone, Debug)]
pub struct Models {
    pub overrides: BTreeMap<String, Vec<String>>,
    pub refresh: Duration,
}
#[derive(Clone, Debug)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub workers: usize,
    pub shutdown_grace: Duration,
}
