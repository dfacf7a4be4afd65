//! What upstream says when it refuses a socket: awc looks only at the status of such an answer and throws the rest away.
//! Sits below that check, keeps the answer, and hands it round awc as an error. Knows nothing of sockets that do open.

use std::{fmt, task::Poll, task::ready, time::Duration};

use actix_codec::Framed;
use actix_http::{error::PayloadError, h1};
use actix_service::Service;
use awc::{
    BoxedSocket, ConnectRequest, ConnectResponse, error::SendRequestError, http::StatusCode, middleware::Transform,
};
use bytes::Bytes;
use futures_util::{Stream, future::LocalBoxFuture, stream};

use super::{Answer, Body, answer::plain};

/// A refused upgrade, on its way round awc.
#[derive(Debug)]
pub(super) struct Refusal(pub Answer);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upstream refused the socket ({})", self.0.status)
    }
}

impl std::error::Error for Refusal {}

/// Keeps the answers that come where a socket was wanted; ordinary requests pass untouched.
pub(super) struct KeepRefusals {
    silence: Duration,
}

impl KeepRefusals {
    pub fn new(silence: Duration) -> Self {
        Self { silence }
    }
}

impl<S> Transform<S, ConnectRequest> for KeepRefusals
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Transform = RefusalKeeper<S>;

    fn new_transform(self, service: S) -> Self::Transform {
        RefusalKeeper {
            service,
            silence: self.silence,
        }
    }
}

pub(super) struct RefusalKeeper<S> {
    service: S,
    silence: Duration,
}

impl<S> Service<ConnectRequest> for RefusalKeeper<S>
where
    S: Service<ConnectRequest, Response = ConnectResponse, Error = SendRequestError>,
    S::Future: 'static,
{
    type Response = ConnectResponse;
    type Error = SendRequestError;
    type Future = LocalBoxFuture<'static, Result<ConnectResponse, SendRequestError>>;

    actix_service::forward_ready!(service);

    fn call(&self, request: ConnectRequest) -> Self::Future {
        let (answer, silence) = (self.service.call(request), self.silence);
        Box::pin(async move {
            match answer.await? {
                ConnectResponse::Tunnel(head, framed) if head.status != StatusCode::SWITCHING_PROTOCOLS => {
                    let body = match framed.codec_ref().message_type() {
                        h1::MessageType::None => Body::new(stream::empty(), silence),
                        _ => Body::new(payload(framed), silence),
                    };
                    let refusal = Refusal(Answer {
                        status: head.status.as_u16(),
                        headers: plain(head.headers()),
                        body,
                    });
                    Err(SendRequestError::Custom(Box::new(refusal), Box::new("refused")))
                }
                answer => Ok(answer),
            }
        })
    }
}

/// The body of an answer that came where a socket was wanted.
fn payload(framed: Framed<BoxedSocket, h1::ClientCodec>) -> impl Stream<Item = Result<Bytes, PayloadError>> {
    let mut framed = Some(Box::pin(framed.into_map_codec(h1::ClientCodec::into_payload_codec)));
    stream::poll_fn(move |cx| {
        let Some(open) = &mut framed else {
            return Poll::Ready(None);
        };
        let piece = match ready!(open.as_mut().next_item(cx)) {
            Some(Ok(Some(bytes))) => return Poll::Ready(Some(Ok(bytes))),
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(None)) | None => None,
        };
        framed = None;
        Poll::Ready(piece)
    })
}
