//! A request's body: its type, its encoding, its size and its patience; then the JSON object inside.

use std::time::Duration;

use actix_web::dev::{Decompress, Payload};
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;
use bytes::BytesMut;
use futures_util::{Stream, StreamExt};

use crate::protocol::failure::{Failure, Kind};
use crate::protocol::json::{self, MOST_VALUES, Unfit};
use crate::room::{Room, Share};
use crate::translate::Object;

/// How long a client may pause while it sends its body.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the rest of a refused body is read and thrown away, so that the client gets to read why.
const DISCARD: Duration = Duration::from_secs(5);
/// A client that sends none of it for so long waits for the answer.
const PAUSE: Duration = Duration::from_millis(500);

/// So much memory a body gets in advance, if it is said to be so long.
const PROMISED: usize = 1 << 20;
/// Large bodies that are being read or wait for their answer.
static BODIES: Room = Room::of(512 << 20);

/// The object a client sent, and its text as it came.
#[derive(Debug)]
pub struct Sent {
    pub object: Object,
    pub text: Bytes,
    /// Kept for as long as the text is.
    pub share: Share<'static>,
}

/// Reads the body as a JSON object of at most `limit` bytes, counted after decompression.
pub async fn object(headers: &HeaderMap, payload: Payload, limit: usize) -> Result<Sent, Failure> {
    let (text, share) = whole(headers, payload, limit).await?;
    let object = json::object(&text).map_err(|unfit| match unfit {
        Unfit::NoObject => Failure::new(Kind::BadRequest, "Invalid JSON body"),
        Unfit::TooManyValues => too_many_values(),
    })?;
    Ok(Sent { object, text, share })
}

/// A request of countless small pieces.
pub fn too_many_values() -> Failure {
    let sentence = format!("the request holds more than {MOST_VALUES} JSON values");
    Failure::new(Kind::TooLarge, sentence)
}

async fn whole(headers: &HeaderMap, payload: Payload, limit: usize) -> Result<(Bytes, Share<'static>), Failure> {
    check_type(headers)?;
    check_encoding(headers)?;
    let length = declared(headers).unwrap_or(0);
    if length > limit as u64 {
        return Err(refused(payload, too_large(limit)).await);
    }
    let mut share = BODIES.share();
    let mut payload = Decompress::from_headers(payload, headers);
    let mut body = BytesMut::with_capacity(usize::try_from(length).unwrap_or(limit).min(PROMISED));
    loop {
        let Ok(piece) = actix_rt::time::timeout(PATIENCE, payload.next()).await else {
            return Err(Failure::new(Kind::ClientTimeout, "the request body stopped arriving"));
        };
        match piece {
            None => return Ok((body.freeze(), share)),
            Some(Ok(piece)) => body.extend_from_slice(&piece),
            Some(Err(_)) => return Err(Failure::new(Kind::BadRequest, "the request body cannot be read")),
        }
        let failure = if body.len() > limit {
            too_large(limit)
        } else if !share.holds(body.len()) {
            too_many()
        } else {
            continue;
        };
        drop((body, share));
        return Err(refused(payload, failure).await);
    }
}

/// The length a body is said to have, as it is sent.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> Failure {
    Failure::new(Kind::TooLarge, format!("the request body is larger than {limit} bytes"))
}

fn too_many() -> Failure {
    Failure {
        retry_after: Some("1".into()),
        ..Failure::new(Kind::Unavailable, "too many large requests are under way at once")
    }
}

/// Lets a body whose fate is known run out.
async fn refused(mut payload: impl Stream<Item = Result<Bytes, PayloadError>> + Unpin, failure: Failure) -> Failure {
    let rest = async { while let Ok(Some(Ok(_))) = actix_rt::time::timeout(PAUSE, payload.next()).await {} };
    let _ = actix_rt::time::timeout(DISCARD, rest).await;
    failure
}

/// JSON, under any of its names, or no type at all.
fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let full = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let name = full.split(';').next().unwrap_or_default().trim();
    let json = name == "application/json" || name.starts_with("application/") && name.ends_with("+json");
    if json || name.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(
            Kind::UnsupportedMedia,
            "the request body must be application/json",
        ))
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else {
        return Ok(());
    };
    let name = value.to_str().unwrap_or_default().trim().to_ascii_lowercase();
    if ["", "identity", "gzip", "br", "zstd", "deflate"].contains(&name.as_str()) {
        Ok(())
    } else {
        let sentence = "the content encoding must be one of gzip, br, zstd, deflate";
        Err(Failure::new(Kind::UnsupportedMedia, sentence))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn k162_only_json_is_taken() {
        let taken = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            check_type(&headers).is_ok()
        };
        assert!(taken("application/json; charset=utf-8") && taken("Application/JSON") && taken("application/x+json"));
        assert!(!taken("text/xml") && !taken("text/plain") && !taken("application/jsonx"));
        assert!(check_type(&HeaderMap::new()).is_ok());
    }
}
