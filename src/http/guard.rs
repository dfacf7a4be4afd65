//! Browser safety: which Host and which Origin may speak to us, and the CORS answer for those that may.
//!
//! A page on the web can make a browser call a loopback port, under its own name (Origin) or under a name of its own
//! that resolves to loopback (Host). Both are refused unless the user listed them.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};

use super::{Doors, Settings, error};
use crate::protocol::failure::{Failure, Kind};

/// Middleware: refuses a foreign Host or Origin, answers preflights, marks answers for the origins allowed.
pub async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let allowed = match request.app_data::<web::Data<Doors>>() {
        Some(doors) => judge(request.headers(), &doors.settings),
        None => Ok(None),
    };
    let origin = match allowed {
        Ok(origin) => origin,
        Err(failure) => {
            let response = error::refuse(request.request(), &failure);
            return Ok(request.into_response(response).map_into_right_body());
        }
    };
    if request.method() == Method::OPTIONS {
        let response = preflight(request.headers(), origin);
        return Ok(request.into_response(response).map_into_right_body());
    }
    let mut response = next.call(request).await?.map_into_left_body();
    if let Some(origin) = origin {
        let exposed = HeaderValue::from_static("request-id, x-request-id, x-github-request-id, retry-after");
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    Ok(response)
}

/// The Origin to answer, if there is one; or why the request is refused.
fn judge(headers: &HeaderMap, settings: &Settings) -> Result<Option<HeaderValue>, Failure> {
    let forbidden = |code: &str, sentence: &str| Err(Failure::new(Kind::Forbidden, sentence).with_code(code));
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host_matters = settings.loopback || !settings.allowed_hosts.is_empty();
    if host_matters && !is_local_host(headers, settings) {
        return forbidden("host_not_allowed", "this Host is not allowed; see server.allowed_hosts");
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(None);
    };
    let name = origin.to_str().unwrap_or_default();
    let own = name
        .split_once("://")
        .is_some_and(|(_, host)| is_loopback(without_port(host)));
    let listed = settings
        .allowed_origins
        .iter()
        .any(|one| one.eq_ignore_ascii_case(name));
    if own || listed || is_same_site(name, host, settings) {
        Ok(Some(origin.clone()))
    } else {
        forbidden(
            "origin_not_allowed",
            "this Origin is not allowed; see server.allowed_origins",
        )
    }
}

/// Whether a page we served ourselves is calling: its origin is the host it calls.
fn is_same_site(origin: &str, host: &str, settings: &Settings) -> bool {
    !settings.loopback
        && origin
            .split_once("://")
            .is_some_and(|(_, name)| name.eq_ignore_ascii_case(host))
}

/// Whether no page asks, or one that this very server has served.
pub(super) fn is_own_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    headers.get_all(header::ORIGIN).all(|origin| {
        let name = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        name.zip(host)
            .is_some_and(|((_, name), host)| name.eq_ignore_ascii_case(host))
    })
}

/// Whether the server is called by a name of loopback, or one that the user listed.
pub(super) fn is_local_host(headers: &HeaderMap, settings: &Settings) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    is_loopback(without_port(host)) || is_listed(&settings.allowed_hosts, host)
}

/// A host may be listed with its port or without.
fn is_listed(hosts: &[String], host: &str) -> bool {
    hosts
        .iter()
        .any(|one| one.eq_ignore_ascii_case(host) || one.eq_ignore_ascii_case(without_port(host)))
}

/// The host without its port; an IPv6 address keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

fn preflight(headers: &HeaderMap, origin: Option<HeaderValue>) -> HttpResponse {
    let mut response = HttpResponse::NoContent();
    if let Some(origin) = origin {
        response.insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin));
        response.insert_header((header::VARY, "Origin"));
        response.insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE, OPTIONS"));
        response.insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"));
        if let Some(asked) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone()));
        }
    }
    response.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: &str, origin: Option<&str>, settings: &Settings) -> Result<bool, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        judge(&headers, settings)
            .map(|origin| origin.is_some())
            .map_err(|failure| failure.code.unwrap())
    }

    fn elsewhere() -> Settings {
        Settings {
            loopback: false,
            ..Settings::default()
        }
    }

    fn loopback() -> Settings {
        Settings::default()
    }

    #[test]
    fn on_loopback_only_loopback_names_are_hosts() {
        for host in ["localhost:4399", "127.0.0.1", "[::1]:4399", "LOCALHOST"] {
            assert_eq!(verdict(host, None, &loopback()), Ok(false), "{host}");
        }
        for host in [
            "evil.example:4399",
            "",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
        ] {
            assert_eq!(
                verdict(host, None, &loopback()),
                Err("host_not_allowed".into()),
                "{host}"
            );
        }
        let listed = Settings {
            allowed_hosts: vec!["my.box".into()],
            ..loopback()
        };
        assert_eq!(verdict("my.box:80", None, &listed), Ok(false));
    }

    #[test]
    fn elsewhere_hosts_count_only_where_they_are_listed() {
        assert_eq!(verdict("any.example", None, &elsewhere()), Ok(false));
        let listed = Settings {
            allowed_hosts: vec!["my.box".into()],
            ..elsewhere()
        };
        assert_eq!(verdict("any.example", None, &listed), Err("host_not_allowed".into()));
    }

    #[test]
    fn k149_a_foreign_origin_is_refused() {
        for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
            assert_eq!(
                verdict("localhost", Some(origin), &loopback()),
                Err("origin_not_allowed".into()),
                "{origin}"
            );
        }
        assert_eq!(
            verdict("localhost", Some("http://localhost:3000"), &loopback()),
            Ok(true)
        );
        let listed = Settings {
            allowed_origins: vec!["https://ui.example".into()],
            ..loopback()
        };
        assert_eq!(verdict("localhost", Some("https://ui.example"), &listed), Ok(true));
        assert_eq!(verdict("box:4399", Some("http://box:4399"), &elsewhere()), Ok(true));
    }

    #[test]
    fn only_the_page_we_served_is_our_own() {
        let own = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            is_own_origin(&headers)
        };
        assert!(own("localhost:4399", None));
        assert!(own("localhost:4399", Some("http://localhost:4399")));
        for foreign in ["http://localhost:3000", "null", "", "https://evil.example"] {
            assert!(!own("localhost:4399", Some(foreign)), "{foreign}");
        }
    }
}
