//! How an answer leaves: whole, or as a stream of events, with what befalls it on the way. Knows no protocol.

use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::time::sleep;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures_util::Stream;
use serde_json::Value;

use super::gate::{self, Pass};
use super::mind::Answer;
use super::playback::{Pace, Playback, Writer};
use super::reply;
use super::state::{OpenStream, State};

/// An answer in one protocol's words.
pub trait Rendering {
    fn answer(&self) -> Arc<Answer>;

    /// The answer in one piece.
    fn whole(&self) -> Value;

    /// The answer piece by piece.
    fn into_writer(self) -> Box<dyn Writer>;
}

/// The response that carries the answer, with the quota as it is now.
pub fn deliver(
    state: &State,
    request: &HttpRequest,
    pass: &Pass,
    streamed: bool,
    rendering: impl Rendering,
) -> HttpResponse {
    let mut head = reply::head(request, 200);
    for (name, value) in gate::quota_headers(state, pass.caller.seat) {
        head.insert_header((name, value));
    }
    let pace = pass.effects.pace.clone();
    if streamed {
        let answer = rendering.answer();
        let playback = Playback::new(&answer, rendering.into_writer(), pace, state.open_stream());
        return head.content_type("text/event-stream").streaming(playback.into_body());
    }
    let text = reply::json_body(rendering.whole());
    head.content_type("application/json");
    if pace.cut_after.is_some() || pace.silence.is_some() {
        return head.streaming(halves(text, pace, state.open_stream()));
    }
    head.body(text)
}

/// A whole answer that stops, or breaks off, in its middle.
fn halves(text: String, pace: Pace, open: OpenStream) -> impl Stream<Item = std::io::Result<Bytes>> {
    let mut first = Bytes::from(text);
    let second = first.split_off(first.len() / 2);
    let parts = vec![second, first];
    futures_util::stream::unfold((parts, pace, open), |(mut parts, pace, open)| async move {
        let part = parts.pop()?;
        if !parts.is_empty() {
            return Some((Ok(part), (parts, pace, open)));
        }
        // Lets the first half leave.
        sleep(pace.silence.map_or(Duration::ZERO, |(_, silence)| silence)).await;
        tokio::task::yield_now().await;
        let broken = pace
            .cut_after
            .map(|_| std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        Some((broken.map_or(Ok(part), Err), (parts, pace, open)))
    })
}
