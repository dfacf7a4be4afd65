//! The catalogue: Copilot's list as it is answered, and what each model may be asked.

use std::sync::{Arc, LazyLock};

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::gate;
use super::reply::{self, Refusal};
use super::state::State;
use crate::protocol::catalog::{Catalog, Model};

static LIST: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("fixtures/models.json")).unwrap_or_default());

/// The models, with the policies as they stand.
pub struct Models {
    list: Value,
    catalog: Catalog,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            list: LIST.clone(),
            catalog: Catalog::read(&LIST),
        }
    }
}

impl Models {
    pub fn get(&self, id: &str) -> Option<Arc<Model>> {
        self.catalog.get(id).cloned()
    }

    /// Replaces the whole list.
    pub fn set(&mut self, list: Value) {
        self.catalog = Catalog::read(&list);
        self.list = list;
    }

    /// Sets a model's policy; false if there is no such model.
    fn set_policy(&mut self, id: &str, state: &str) -> bool {
        let mut found = false;
        for entry in self.list["data"].as_array_mut().into_iter().flatten() {
            if entry["id"] == id && entry.is_object() {
                let terms = entry["policy"]["terms"].clone();
                entry["policy"] = json!({"state": state, "terms": terms});
                found = true;
            }
        }
        self.catalog = Catalog::read(&self.list);
        found
    }
}

/// What a request with this model costs in premium requests.
pub fn multiplier(model: &Model) -> f64 {
    let billing = &model.raw["billing"];
    billing["multiplier"].as_f64().unwrap_or(1.0)
}

/// The model's name in its answers.
pub fn served_name(model: &Model) -> String {
    if model.is_claude() {
        return model.id.replace('.', "-");
    }
    model.raw["version"].as_str().unwrap_or(&model.id).to_owned()
}

/// `GET /models`.
pub async fn list(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let listed = async {
        gate::authenticate(&state, &request)?;
        gate::planned_only(&state, "models").await?;
        let list = state.memory().models.list.clone();
        Ok(json_answer(&request, list))
    };
    gate::serve(&state, &request, &web::Bytes::new(), listed).await
}

/// `POST /models/{id}/policy`.
pub async fn set_policy(
    request: HttpRequest,
    id: web::Path<String>,
    body: web::Bytes,
    state: web::Data<State>,
) -> HttpResponse {
    gate::record(&state, &request, &body);
    if let Err(refusal) = gate::authenticate(&state, &request) {
        return refusal.response(&request);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(policy) = body["state"]
        .as_str()
        .filter(|state| ["enabled", "disabled"].contains(state))
    else {
        return Refusal::copilot(400, "invalid_request_body", "state must be enabled or disabled").response(&request);
    };
    if !state.memory().models.set_policy(&id, policy) {
        return Refusal::copilot(404, "not_found", "model not found").response(&request);
    }
    json_answer(&request, json!({"state": policy}))
}

fn json_answer(request: &HttpRequest, body: Value) -> HttpResponse {
    reply::head(request, 200)
        .content_type("application/json")
        .body(reply::json_body(body))
}
