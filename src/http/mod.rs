//! The doors: actix-web lives here, and here alone. No upstream, no translation.
//!
//! [`routes`] is the only place where paths are spelled. Each API path exists bare and with `/v1` in front; a trailing
//! slash, repeated slashes and a query string change nothing.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{Handler, Resource, Responder, Route};

use crate::relay::Relay;

pub mod admin;
pub mod body;
pub mod caller;
pub mod chat;
pub mod embeddings;
pub mod error;
pub mod guard;
pub mod identity;
pub mod messages;
pub mod models;
pub mod responses;
pub mod sse;
pub mod status;

/// What the doors need to know.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The key every request must show, if one is set.
    pub api_key: Option<crate::secret::Secret>,
    /// Bound to loopback: the Host header must then be a loopback name.
    pub loopback: bool,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub max_body_bytes: usize,
    pub token_endpoint: bool,
    pub list_all_models: bool,
}

/// What every handler is handed: the relay of its own thread, and the settings all threads share.
#[derive(Clone)]
pub struct Doors {
    pub relay: Rc<Relay>,
    pub settings: Arc<Settings>,
}

/// A resource that answers one method and names it to whoever tries another.
fn door<F, Args>(path: &str, method: Method, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let allow = method.to_string();
    web::resource(path)
        .route(Route::new().method(method).to(handler))
        .default_service(web::to(move |request: actix_web::HttpRequest| error::method_not_allowed(request, allow.clone())))
}

/// A resource that answers GET and HEAD.
fn page<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: actix_web::FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(web::to(|request: actix_web::HttpRequest| error::method_not_allowed(request, "GET, HEAD".into())))
}
