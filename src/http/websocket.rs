//! Responses for clients that open a socket: same relay.

use actix_web::http::Method;
use actix_web::{FromRequest, Handler, Resource, Responder};

/// The resource of `/responses`: POST by this handler, GET by a socket.
pub fn or<F, Args>(path: &str, post: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    super::door(path, Method::POST, post)
}
