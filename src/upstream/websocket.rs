//! One socket to Copilot's Responses: opened by an upgrade, then whole messages of text both ways. Knows frames, pings
//! and limits; not what a message means, nor when a conversation is over.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_codec::Framed;
use actix_http::ws::{CloseCode, CloseReason, Codec, Frame, Item, Message};
use awc::{
    BoxedSocket,
    error::{SendRequestError, WsClientError, WsProtocolError},
};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, Stream};

use super::{
    Answer, Error, Phase,
    answer::{Patience, plain},
    client::{Client, Request, Target, acceptable, in_our_words, sendable},
    refusal::Refusal,
};

/// The longest message, in one frame or in many.
pub const MAX_MESSAGE: usize = 16 << 20;
/// How long a polite goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What came of the wish for a socket.
#[derive(Debug)]
pub enum Opened {
    Socket(Socket),
    /// Upstream answered in HTTP instead: a refused credential, a limit, no such endpoint.
    Refused(Answer),
}

/// Asks for a socket. Limits, the single resend and the outbound proxy are those of any other request.
pub(super) async fn open(client: &Client, request: &Request) -> Result<Opened, Error> {
    client.patiently(async || attempt(client, request).await).await
}

async fn attempt(client: &Client, request: &Request) -> Result<Opened, Error> {
    let settings = &client.setup.settings;
    let target = Target::parse(&request.url)?;
    let mut call = client
        .road(&target)
        .ws(&target.dial)
        .max_frame_size(MAX_MESSAGE)
        .set_header("host", target.host.as_str());
    for header in &request.headers {
        let (name, value) = sendable(header)?;
        call = call.set_header(name, value);
    }
    match call.connect().await {
        Ok((head, framed)) => Ok(Opened::Socket(Socket {
            headers: plain(head.headers()),
            framed: Some(framed),
            message: None,
            limit: settings.silence,
            patience: Patience::new(settings.silence),
        })),
        Err(WsClientError::SendRequest(SendRequestError::Custom(error, _))) => match error.downcast::<Refusal>() {
            Ok(refusal) => acceptable(refusal.0).map(Opened::Refused),
            Err(error) => Err(broke(error)),
        },
        Err(WsClientError::SendRequest(error)) => Err(in_our_words(error, settings)),
        Err(error) => Err(Error::NotHttp {
            what: format!("its handshake for a socket is wrong: {error}"),
        }),
    }
}

/// An open socket. Dropping it closes the connection at once, which is also how an answer is cancelled.
///
/// As a stream it gives upstream's messages. It ends with `None` if upstream closed it as done, else with an error.
/// Waiting for a message may be given up and taken up again without loss.
pub struct Socket {
    /// The headers that came with the upgrade, with lower-case names.
    pub headers: Vec<(String, String)>,
    /// `None` once closed.
    framed: Option<Framed<BoxedSocket, Codec>>,
    /// The beginning of a message that comes in several frames.
    message: Option<BytesMut>,
    limit: Duration,
    patience: Patience,
}

impl Socket {
    /// Sends one message. A connection that is already broken may take it in silence; reading tells.
    pub async fn send(&mut self, text: String) -> Result<(), Error> {
        let framed = self.framed.as_mut().ok_or(Error::SocketClosed {
            code: None,
            reason: String::new(),
        })?;
        let sent = match tokio::time::timeout(self.limit, framed.send(Message::Text(text.into()))).await {
            Ok(sent) => sent.map_err(protocol_words),
            Err(_) => Err(Error::Timeout {
                phase: Phase::Silence,
                after: self.limit,
            }),
        };
        self.patience.renew();
        if sent.is_err() {
            self.framed = None;
        }
        sent
    }

    /// Waits for upstream's next message.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Takes leave, for a socket that is no longer needed.
    pub async fn close(mut self) {
        if let Some(mut framed) = self.framed.take() {
            let goodbye = framed.send(Message::Close(Some(CloseCode::Normal.into())));
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        }
    }

    pub fn is_open(&self) -> bool {
        self.framed.is_some()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, WsProtocolError>>> {
        let Some(framed) = &mut self.framed else {
            return Poll::Ready(None);
        };
        let mut framed = Pin::new(framed);
        if !framed.is_write_buf_empty() {
            // A pong that did not go out at once. If it cannot go out at all, reading tells.
            let _ = framed.as_mut().flush::<Message>(cx);
        }
        framed.next_item(cx)
    }

    /// Takes one frame, and gives what it completes: a message, the end, or nothing yet.
    fn take(&mut self, frame: Frame, cx: &mut Context<'_>) -> Option<Option<Result<Bytes, Error>>> {
        match frame {
            Frame::Text(bytes) | Frame::Binary(bytes) => Some(Some(Ok(bytes))),
            Frame::Continuation(Item::FirstText(bytes) | Item::FirstBinary(bytes)) => {
                self.message = Some(BytesMut::from(&bytes[..]));
                None
            }
            Frame::Continuation(Item::Continue(bytes)) => self.gather(&bytes),
            Frame::Continuation(Item::Last(bytes)) => self.gather(&bytes).or_else(|| {
                let whole = self.message.take().unwrap_or_default();
                Some(Some(Ok(whole.freeze())))
            }),
            Frame::Ping(bytes) => {
                self.say(Message::Pong(bytes), cx);
                None
            }
            Frame::Pong(_) => None,
            Frame::Close(reason) => {
                self.say(Message::Close(reason.clone()), cx);
                Some(match reason {
                    Some(reason) if reason.code == CloseCode::Normal => None,
                    reason => Some(Err(closed(reason))),
                })
            }
        }
    }

    fn gather(&mut self, bytes: &[u8]) -> Option<Option<Result<Bytes, Error>>> {
        let message = self.message.get_or_insert_with(BytesMut::new);
        if message.len().saturating_add(bytes.len()) > MAX_MESSAGE {
            return Some(Some(Err(Error::TooLarge { limit: MAX_MESSAGE })));
        }
        message.extend_from_slice(bytes);
        None
    }

    /// Says something short without waiting. Whoever does not listen hears no more than fits.
    fn say(&mut self, message: Message, cx: &mut Context<'_>) {
        let Some(framed) = &mut self.framed else { return };
        let mut framed = Pin::new(framed);
        if !framed.is_write_buf_full() && framed.as_mut().write(message).is_ok() {
            let _ = framed.flush::<Message>(cx);
        }
    }
}

impl Stream for Socket {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        while this.is_open() {
            let outcome = match this.poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    this.patience.renew();
                    this.take(frame, cx)
                }
                Poll::Ready(Some(Err(error))) => Some(Some(Err(protocol_words(error)))),
                Poll::Ready(None) => Some(Some(Err(Error::Cut))),
                Poll::Pending => Some(Some(Err(ready!(this.patience.poll_end(cx))))),
            };
            let Some(outcome) = outcome else { continue };
            if !matches!(outcome, Some(Ok(_))) {
                this.framed = None;
            }
            return Poll::Ready(outcome);
        }
        Poll::Ready(None)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

fn closed(reason: Option<CloseReason>) -> Error {
    let said = reason.as_ref().and_then(|reason| reason.description.as_deref());
    let said = said.unwrap_or_default().chars().filter(|c| !c.is_control());
    Error::SocketClosed {
        reason: said.take(200).collect(),
        code: reason.map(|reason| reason.code.into()),
    }
}

fn protocol_words(error: WsProtocolError) -> Error {
    match error {
        WsProtocolError::Overflow => Error::TooLarge { limit: MAX_MESSAGE },
        WsProtocolError::Io(error) => Error::unwrap_io(error).unwrap_or_else(broke),
        error => broke(error),
    }
}

fn broke(error: impl fmt::Display) -> Error {
    Error::Reset {
        what: error.to_string(),
    }
}
