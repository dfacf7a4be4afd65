//! Each request's id: made once, told in both headers that SDKs read, repeated in error bodies.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest};

/// The id of one request: `req_` and 24 letters and digits.
#[derive(Clone, Debug)]
struct RequestId(String);

/// The id that [`stamp`] gave this request.
pub fn of(request: &HttpRequest) -> String {
    let extensions = request.extensions();
    extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// Middleware: gives the request an id and the response its headers.
pub async fn stamp(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let id = new();
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.call(request).await?;
    if let Ok(value) = HeaderValue::from_str(&id) {
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("request-id"), value.clone());
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    Ok(response)
}

/// An id for a request that comes by other ways than HTTP.
pub fn new() -> String {
    new_id(uuid::Uuid::new_v4().as_u128())
}

fn new_id(mut number: u128) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = String::from("req_");
    // 62^21 < 2^128: the last digits of the 24 would always be the same, so the number is folded once.
    for turn in 0..24 {
        if turn == 20 {
            number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) ^ u128::from(turn as u8);
        }
        id.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_form() {
        let (one, two) = (new_id(u128::MAX), new_id(u128::MAX - 1));
        assert!(
            one.len() == 28 && one.starts_with("req_") && one[4..].bytes().all(|byte| byte.is_ascii_alphanumeric())
        );
        assert_ne!(one, two);
    }
}
