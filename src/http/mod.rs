//! The doors: actix-web lives here. No upstream, no translation.
//!
//! Each handler parses, calls the relay or asks an actor, and renders. The paths are spelled in [`routes`] and nowhere
//! else; each exists bare and behind `/v1`, those of Google's clients behind `/v1beta` too. Around all of them, from the
//! outside in: the request's [`identity`], the path made plain, browser safety ([`guard`]), the client's key
//! ([`caller`]).

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{NormalizePath, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, FromRequest, Handler, HttpRequest, Resource, Responder};
use tokio::sync::watch;

use crate::relay::Relay;

pub mod admin;
pub mod body;
pub mod caller;
pub mod catalogue;
pub mod dashboard;
mod encoding;
pub mod error;
pub mod gemini;
pub mod generate;
pub mod guard;
pub mod identity;
pub mod measure;
pub mod models;
mod settings;
pub mod sse;
pub mod status;
mod stored;
mod tagged;
#[cfg(test)]
mod tests;
pub mod usage;
pub mod websocket;

pub use settings::Settings;

/// What every handler is handed: the relay of its own thread, and the settings all threads share.
#[derive(Clone)]
pub struct Doors {
    pub relay: Relay,
    pub settings: Arc<Settings>,
    /// Turns true when the server takes nothing new and waits for what is under way.
    pub draining: watch::Receiver<bool>,
}

/// One worker's application.
pub fn app(
    doors: Doors,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    // The last to be wrapped is the first to see a request.
    App::new()
        .app_data(web::Data::new(doors))
        .configure(routes)
        .default_service(web::to(error::not_found))
        .wrap(from_fn(caller::check))
        .wrap(from_fn(guard::check))
        .wrap(NormalizePath::trim())
        .wrap(from_fn(identity::stamp))
}

/// Every path there is. A request tries them in this order, so those that most clients use come first.
pub fn routes(config: &mut ServiceConfig) {
    for base in ["/v1", ""] {
        let at = |path: &str| format!("{base}{path}");
        config
            .service(door(&at("/chat/completions"), Method::POST, generate::chat))
            .service(door(&at("/completions"), Method::POST, generate::legacy_completions))
            .service(websocket::or(&at("/responses"), generate::responses))
            .service(door(&at("/responses/compact"), Method::POST, generate::compact))
            .service(door(&at("/responses/input_tokens"), Method::POST, measure::responses))
            .service(door(&at("/responses/{id}/cancel"), Method::POST, stored::cancel))
            .service(door(
                &at("/responses/{id}/input_items"),
                Method::GET,
                stored::input_items,
            ))
            .service(
                web::resource(at("/responses/{id}"))
                    .route(web::get().to(stored::response))
                    .route(web::delete().to(stored::response))
                    .default_service(refusing("GET, DELETE")),
            )
            .service(door(&at("/messages"), Method::POST, generate::messages))
            .service(door(&at("/messages/count_tokens"), Method::POST, measure::messages))
            .service(door(&at("/embeddings"), Method::POST, generate::embeddings))
            .configure(|config| google(config, base))
            .service(page(&at("/models"), models::list))
            .service(page(&at("/models/{model:.*}"), models::one))
            .service(page(&at("/usage"), usage::usage))
            .service(page(&at("/token"), usage::token))
            .service(page(&at("/livez"), status::alive))
            .service(page(&at("/healthz"), status::alive))
            .service(page(&at("/health"), status::alive))
            .service(page(&at("/readyz"), status::ready))
            .service(page(&at("/version"), status::version))
            .service(door(&at("/api/event_logging/batch"), Method::POST, status::swallow))
            .service(door(&at("/api/event_logging/v2/batch"), Method::POST, status::swallow));
    }
    google(config, "/v1beta");
    config
        .service(page("/v1beta/models", gemini::models))
        .service(page("/v1beta/models/{model:[^:]+}", gemini::model))
        .service(page("/", dashboard::root))
        .service(page("/v1", dashboard::root));
    config.configure(dashboard::routes).configure(admin::routes);
}

/// What Google's clients ask of a model: the method follows its name, by a colon or by a slash.
fn google(config: &mut ServiceConfig, base: &str) {
    let at = |method: &str| format!("{base}/models/{{model:.+}}{{by:[:/]}}{method}");
    config
        .service(door(&at("generateContent"), Method::POST, gemini::whole))
        .service(door(&at("streamGenerateContent"), Method::POST, gemini::stream))
        .service(door(&at("countTokens"), Method::POST, gemini::count))
        .service(door(&at("embedContent"), Method::POST, gemini::embed))
        .service(door(&at("batchEmbedContents"), Method::POST, gemini::embed));
}

/// A resource that answers one method and names it to whoever tries another.
fn door<F, Args>(path: &str, method: Method, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let allow = method.to_string();
    web::resource(path)
        .route(web::method(method).to(handler))
        .default_service(refusing(&allow))
}

/// A resource that answers GET and HEAD.
fn page<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(refusing("GET, HEAD"))
}

/// The answer to every other method.
fn refusing(allow: &str) -> actix_web::Route {
    let allow = allow.to_owned();
    web::to(move |request: HttpRequest| error::method_not_allowed(request, allow.clone()))
}
