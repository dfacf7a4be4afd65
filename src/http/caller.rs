//! Who is calling: the key a client shows. Keys are compared in constant time, never forwarded, never logged.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Doors, admin, error, gemini};
use crate::protocol::failure::{Failure, Kind};

/// The cookie that says that its browser has shown the key.
pub const COOKIE: &str = "copilot_proxy_dashboard";

/// Paths that answer anyone: they say that the process lives, and nothing else.
const OPEN: [&str; 5] = ["/", "/livez", "/healthz", "/health", "/readyz"];

/// Middleware: where a key is configured, each request but the open ones must show it.
pub async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let key = request
        .app_data::<web::Data<Doors>>()
        .and_then(|doors| doors.settings.api_key.clone());
    let passes = match key {
        None => true,
        Some(key) => {
            is_open(&request)
                || shows(request.headers(), key.expose())
                || has_cookie(&request, key.expose())
                || shows_as_google(&request, key.expose())
        }
    };
    if passes {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let failure = Failure::new(
        Kind::Unauthorized,
        "this proxy asks for its key, as a bearer token or in x-api-key",
    );
    let response = error::refuse(request.request(), &failure);
    Ok(request.into_response(response).map_into_right_body())
}

fn is_open(request: &ServiceRequest) -> bool {
    let path = request.path();
    let bare = path.strip_prefix("/v1").unwrap_or(path);
    // The page holds no data, and the session is where it shows the key.
    let page = path == "/dashboard" || path.starts_with("/dashboard/") || path == "/admin/session";
    OPEN.contains(&if bare.is_empty() { "/" } else { bare }) || page || request.method() == Method::OPTIONS
}

/// Whether one of the headers that may carry a key carries this one.
pub fn shows(headers: &HeaderMap, key: &str) -> bool {
    let bearer = headers.get_all(header::AUTHORIZATION).filter_map(|value| {
        let (scheme, shown) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(shown.trim())
    });
    let plain = headers.get_all("x-api-key").filter_map(|value| value.to_str().ok());
    bearer.chain(plain).fold(false, |found, shown| found | same(shown, key))
}

/// Google's clients have a header of their own for it. Its place in the query is for those on this machine: what is in an
/// address is easily written down on the way.
fn shows_as_google(request: &ServiceRequest, key: &str) -> bool {
    if !gemini::is_asked(request.path(), request.headers()) {
        return false;
    }
    let in_header = request.headers().get_all("x-goog-api-key");
    let mut in_header = in_header.filter_map(|value| value.to_str().ok());
    if in_header.any(|shown| same(shown, key)) {
        return true;
    }
    let doors = request.app_data::<web::Data<Doors>>();
    doors.is_some_and(|doors| admin::is_local(request.request(), &doors.settings))
        && gemini::query(request.request(), "key").is_some_and(|shown| same(&shown, key))
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
pub fn same(shown: &str, key: &str) -> bool {
    shown.as_bytes().ct_eq(key.as_bytes()).into()
}

/// The dashboard's cookie opens the admin API and the usage it shows, and nothing else.
fn has_cookie(request: &ServiceRequest, key: &str) -> bool {
    let admin = request.path().starts_with("/admin/") || request.path() == "/usage";
    admin
        && request
            .cookie(COOKIE)
            .is_some_and(|cookie| same(cookie.value(), &token_of(key)))
}

/// What the cookie holds: made from the key, but not the key, since a browser shows cookies to every port of a host.
pub fn token_of(key: &str) -> String {
    let digest = Sha256::new()
        .chain_update("copilot-proxy dashboard\0")
        .chain_update(key)
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn k148_each_header_may_carry_the_key() {
        let shows_in = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            shows(&headers, "sesame")
        };
        assert!(shows_in("authorization", "Bearer sesame"));
        assert!(shows_in("authorization", "bEARER sesame"));
        assert!(shows_in("x-api-key", "sesame"));
        assert!(!shows_in("authorization", "sesame"));
        assert!(!shows_in("authorization", "Basic sesame"));
        assert!(!shows_in("x-api-key", "sesam"));
        assert!(!shows_in("x-other", "sesame"));
    }
}
