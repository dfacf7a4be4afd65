//! Whether the process lives, whether it can serve, and what it is.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::StreamExt;
use serde_json::json;

use super::Doors;
use crate::actors::{Actors, Stopped, catalog, token};

/// The program's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ok"}))
}

pub async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    match why_not_ready(doors.relay.actors()).await {
        None => HttpResponse::Ok().json(json!({"status": "ready"})),
        Some(reason) => HttpResponse::ServiceUnavailable().json(json!({"status": "starting", "reason": reason})),
    }
}

pub async fn version() -> HttpResponse {
    HttpResponse::Ok().json(json!({"version": VERSION}))
}

/// Takes the telemetry that Claude Code sends to its base address, and forgets it. The body is read, so that the
/// connection can be used again.
pub async fn swallow(mut body: web::Payload) -> HttpResponse {
    const PATIENCE: Duration = Duration::from_secs(10);
    let rest = async { while let Some(Ok(_)) = body.next().await {} };
    let _ = actix_rt::time::timeout(PATIENCE, rest).await;
    HttpResponse::Ok().json(json!({}))
}

/// What is still missing before a model can be asked, in words; `None` when nothing is.
pub async fn why_not_ready(actors: &Actors) -> Option<String> {
    let stopped = |_: Stopped| Some("a part of the proxy has stopped; restart it".to_owned());
    if !actors.connected() {
        return stopped(Stopped);
    }
    let credential = match actors.ask(&actors.token, token::GetSnapshot).await {
        Ok(credential) => credential,
        Err(error) => return stopped(error),
    };
    let list = match actors.ask(&actors.catalog, catalog::GetSnapshot).await {
        Ok(list) => list,
        Err(error) => return stopped(error),
    };
    missing(credential, list)
}

fn missing(credential: token::Snapshot, list: catalog::Snapshot) -> Option<String> {
    let because = |what: &str, error: Option<String>| match error {
        Some(error) => format!("no {what}: {error}"),
        None => format!("the {what} is being fetched"),
    };
    if credential.expires_in.is_none() {
        Some(because("copilot credential", credential.last_error))
    } else if list.models == 0 {
        Some(because("list of models", list.last_error))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(held: bool, error: Option<&str>) -> token::Snapshot {
        token::Snapshot {
            expires_in: held.then_some(Duration::from_secs(60)),
            last_error: error.map(str::to_owned),
            ..token::Snapshot::default()
        }
    }

    fn list(models: usize, error: Option<&str>) -> catalog::Snapshot {
        catalog::Snapshot {
            models,
            last_error: error.map(str::to_owned),
        }
    }

    #[test]
    fn it_is_ready_with_a_credential_and_a_list() {
        assert_eq!(missing(credential(true, None), list(3, None)), None);
        assert_eq!(
            missing(credential(true, Some("old")), list(3, Some("old"))),
            None,
            "what is held still serves"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let said = |credential, list| missing(credential, list).unwrap();
        assert_eq!(
            said(credential(false, None), list(0, None)),
            "the copilot credential is being fetched"
        );
        assert_eq!(
            said(credential(false, Some("bad token")), list(0, None)),
            "no copilot credential: bad token"
        );
        assert_eq!(
            said(credential(true, None), list(0, Some("down"))),
            "no list of models: down"
        );
    }
}
