//! The dashboard's page, built in. Knows its three files and what a browser may do with them; the data is the admin
//! API's.

use std::collections::BTreeMap;

use actix_web::http::{Uri, header};
use actix_web::{HttpRequest, HttpResponse, web};

use super::{page, tagged};

const PAGE: &str = include_str!("dashboard/index.html");
const STYLE: &str = include_str!("dashboard/style.css");
const SCRIPT: &str = include_str!("dashboard/script.js");

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(page("/dashboard", dashboard))
        .service(page("/dashboard/style.css", style))
        .service(page("/dashboard/script.js", script));
}

/// `GET /`: a browser is led to the dashboard, anything else hears that the server runs.
pub async fn root(request: HttpRequest) -> HttpResponse {
    let accept = request.headers().get(header::ACCEPT);
    let is_browser = accept.is_some_and(|accept| {
        let accept = accept.to_str().unwrap_or_default().to_ascii_lowercase();
        accept.contains("text/html")
    });
    if !is_browser {
        return HttpResponse::Ok()
            .content_type("text/plain; charset=utf-8")
            .insert_header((header::VARY, "Accept"))
            .body("Server running");
    }
    let endpoint = request
        .query_string()
        .split('&')
        .find(|pair| pair.starts_with("endpoint="));
    let place = match endpoint {
        Some(pair) => format!("/dashboard?{pair}"),
        None => "/dashboard".to_owned(),
    };
    HttpResponse::Found()
        .insert_header((header::LOCATION, place))
        .insert_header((header::VARY, "Accept"))
        .finish()
}

async fn dashboard(request: HttpRequest) -> HttpResponse {
    let query = web::Query::<BTreeMap<String, String>>::from_query(request.query_string());
    let endpoint = query.ok().and_then(|query| query.get("endpoint").cloned());
    let policy = policy(endpoint.as_deref());
    let mut response = file(&request, "text/html; charset=utf-8", PAGE);
    if let Ok(policy) = header::HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn style(request: HttpRequest) -> HttpResponse {
    file(&request, "text/css; charset=utf-8", STYLE)
}

async fn script(request: HttpRequest) -> HttpResponse {
    file(&request, "text/javascript; charset=utf-8", SCRIPT)
}

fn file(request: &HttpRequest, kind: &str, text: &'static str) -> HttpResponse {
    let mut response = tagged::response(request, kind, text);
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response
            .headers_mut()
            .insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// What the page may load and call: its own files and its own server; beside that the one address whose usage it was
/// asked to show, if there is one.
fn policy(endpoint: Option<&str>) -> String {
    let mut calls = "'self'".to_owned();
    if let Some(source) = endpoint.and_then(source) {
        calls.push(' ');
        calls.push_str(&source);
    }
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src {calls}; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
}

/// The address as a source of a content security policy: without its query, and nothing in it that a policy would
/// read as more.
fn source(endpoint: &str) -> Option<String> {
    let uri: Uri = endpoint.trim().parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
    let authority = uri.authority()?.as_str();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    let is_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'/' | b'%');
    let fits = !authority.is_empty() && authority.bytes().all(is_host) && uri.path().bytes().all(is_path);
    fits.then(|| format!("{scheme}://{authority}{}", uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_one_more_address_at_most() {
        assert!(policy(None).contains("connect-src 'self';"));
        assert!(
            policy(Some("http://127.0.0.1:5000/usage?x=1")).contains("connect-src 'self' http://127.0.0.1:5000/usage;")
        );
        for odd in [
            "",
            "*",
            "/usage",
            "javascript:alert(1)",
            "ftp://x/usage",
            "http://a b/",
            "http://a/;script-src *",
            "http://*/usage",
            "http://user@host/usage",
            "http://a/ https://b",
        ] {
            assert_eq!(policy(Some(odd)), policy(None), "{odd}");
        }
    }

    #[test]
    fn the_page_needs_nothing_foreign() {
        for text in [PAGE, STYLE, SCRIPT] {
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"));
        }
        assert!(!PAGE.contains("<style") && !PAGE.contains(" style=") && !PAGE.contains(" onclick="));
    }
}
