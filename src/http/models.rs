//! The models, as each family of clients wants to read them. Knows queries and headers; the fields are
//! [`catalogue`]'s.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, web};

use super::catalogue::{self, Choice, Page};
use super::generate::client_of;
use super::{Doors, error, gemini, tagged};
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;

type Query = BTreeMap<String, String>;

/// `GET /models`: the list; with `client_version`, Codex's catalogue.
pub async fn list(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    if gemini::is_asked(request.path(), request.headers()) {
        return gemini::models(request, doors).await;
    }
    let query = web::Query::<Query>::from_query(request.query_string()).map_or_else(|_| Query::new(), |query| query.0);
    let listed = match query.get("client_version") {
        Some(version) => codex(&request, &doors, version).await,
        None => plain(&request, &doors, &query).await,
    };
    listed.unwrap_or_else(|failure| error::refuse(&request, &failure))
}

/// `GET /models/{id}`: the model a name means.
pub async fn one(request: HttpRequest, model: web::Path<String>, doors: web::Data<Doors>) -> HttpResponse {
    if gemini::is_asked(request.path(), request.headers()) {
        return gemini::model(request, doors).await;
    }
    let found = async {
        let catalog = doors.relay.catalog().await?;
        let names = doors.relay.names(&catalog);
        let client = client_of(&request, Protocol::Chat);
        let meant = names.resolve(&model, client.asks_long_context())?;
        let name = if names.aliases.contains_key(model.as_str()) {
            model.as_str()
        } else {
            &meant.model.id
        };
        Ok(HttpResponse::Ok().json(catalogue::item(name, &meant.model)))
    };
    let found: Result<HttpResponse, Failure> = found.await;
    found.unwrap_or_else(|failure| error::refuse(&request, &failure))
}

/// What this server may list.
pub(super) fn choice(doors: &Doors) -> Choice {
    Choice {
        all: doors.settings.list_all_models,
        sockets: doors.settings.websocket,
    }
}

async fn plain(request: &HttpRequest, doors: &Doors, query: &Query) -> Result<HttpResponse, Failure> {
    // Only Anthropic's clients page; others may mean something else by the same words.
    let page = if request.headers().contains_key("anthropic-version") {
        Page::read(|name| query.get(name).map(String::as_str))?
    } else {
        Page::default()
    };
    let catalog = doors.relay.catalog().await?;
    let items = catalogue::items(&doors.relay.names(&catalog), choice(doors));
    Ok(HttpResponse::Ok().json(catalogue::list(items, &page)?))
}

async fn codex(request: &HttpRequest, doors: &Doors, version: &str) -> Result<HttpResponse, Failure> {
    if !catalogue::is_version(version) {
        let sentence = "client_version: must be a version such as 0.150.0";
        return Err(Failure::bad("client_version", sentence));
    }
    let catalog = doors.relay.catalog().await?;
    let body = catalogue::codex(&doors.relay.names(&catalog), choice(doors)).to_string();
    Ok(tagged::response(request, "application/json", body))
}
