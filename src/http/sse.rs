//! The relay's pieces as they travel to a client: as server-sent events, or as one JSON array that grows.

use actix_web::web::Bytes;
use bytes::BytesMut;

use crate::protocol::sse::{Frame, KEEPALIVE};
use crate::protocol::{Dialect, Protocol};
use crate::relay::stream::Piece;

/// How a stream is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Events,
    /// What Gemini's clients get that do not ask for events.
    Array,
}

/// Writes one stream.
pub struct Pen {
    pub(super) client: Dialect,
    framing: Framing,
    /// The array is open.
    begun: bool,
    /// The array is closed.
    ended: bool,
}

impl From<Protocol> for Pen {
    fn from(client: Protocol) -> Self {
        Self::new(client.into(), Framing::Events)
    }
}

impl Pen {
    pub fn new(client: Dialect, framing: Framing) -> Self {
        Self {
            client,
            framing,
            begun: false,
            ended: false,
        }
    }

    pub fn content_type(&self) -> &'static str {
        match self.framing {
            Framing::Events => "text/event-stream; charset=utf-8",
            Framing::Array => "application/json",
        }
    }

    /// One write: all the frames of a piece, or a sign of life.
    pub fn write(&mut self, piece: &Piece) -> Bytes {
        match (piece, self.framing) {
            (Piece::Frames(frames), Framing::Events) => {
                let mut bytes = BytesMut::with_capacity(frames.iter().map(|frame| frame.data.len() + 64).sum());
                frames.iter().for_each(|frame| frame.write(&mut bytes));
                bytes.freeze()
            }
            (Piece::Frames(frames), Framing::Array) => {
                let mut bytes = BytesMut::with_capacity(frames.iter().map(|frame| frame.data.len() + 2).sum());
                for frame in frames {
                    bytes.extend_from_slice(if self.begun { b",\n" } else { b"[" });
                    bytes.extend_from_slice(&frame.data);
                    self.begun = true;
                }
                bytes.freeze()
            }
            (Piece::Heartbeat { begun: true }, _) if self.client == Dialect::Of(Protocol::Messages) => {
                let mut bytes = BytesMut::new();
                Frame::named("ping", r#"{"type":"ping"}"#).write(&mut bytes);
                bytes.freeze()
            }
            // Google's SDK for Python takes a comment for an answer; an empty line is nothing, also to an array.
            (Piece::Heartbeat { .. }, _) if self.client == Dialect::Gemini => Bytes::from_static(b"\n"),
            (Piece::Heartbeat { .. }, _) => Bytes::from_static(KEEPALIVE),
        }
    }

    /// What follows the last piece.
    pub fn end(&mut self) -> Option<Bytes> {
        let closes = self.framing == Framing::Array && !std::mem::replace(&mut self.ended, true);
        closes.then(|| Bytes::from_static(if self.begun { b"]" } else { b"[]" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_a_sign_of_life_that_it_reads_over() {
        let sign = |client: Dialect, begun| Pen::new(client, Framing::Events).write(&Piece::Heartbeat { begun });
        assert_eq!(sign(Dialect::Gemini, true), "\n");
        assert_eq!(sign(Protocol::Chat.into(), true), KEEPALIVE);
        assert_eq!(sign(Protocol::Messages.into(), false), KEEPALIVE);
        assert_eq!(
            sign(Protocol::Messages.into(), true),
            "event: ping\ndata: {\"type\":\"ping\"}\n\n"
        );
    }

    #[test]
    fn an_array_is_json_however_it_is_cut() {
        let frames = |list: &[&str]| Piece::Frames(list.iter().map(|data| Frame::data((*data).to_owned())).collect());
        let heartbeat = Piece::Heartbeat { begun: false };
        for (pieces, whole) in [
            (vec![], "[]"),
            (vec![heartbeat], "\n[]"),
            (
                vec![frames(&["1", "2"]), Piece::Heartbeat { begun: true }, frames(&["3"])],
                "[1,\n2\n,\n3]",
            ),
        ] {
            let mut pen = Pen::new(Dialect::Gemini, Framing::Array);
            let mut bytes: Vec<Bytes> = pieces.iter().map(|piece| pen.write(piece)).collect();
            bytes.extend(pen.end());
            assert_eq!(bytes.concat(), whole.as_bytes());
            assert_eq!(pen.end(), None);
        }
    }
}
