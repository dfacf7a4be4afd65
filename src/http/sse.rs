//! The relay's pieces as they travel to a client that reads server-sent events.

use actix_web::web::Bytes;
use bytes::BytesMut;

use crate::protocol::Protocol;
use crate::protocol::sse::{Frame, KEEPALIVE};
use crate::relay::stream::Piece;

/// One write: all the frames of a piece, or a sign of life.
pub fn encode(client: Protocol, piece: &Piece) -> Bytes {
    match piece {
        Piece::Frames(frames) => {
            let mut bytes = BytesMut::with_capacity(frames.iter().map(|frame| frame.data.len() + 64).sum());
            frames.iter().for_each(|frame| frame.write(&mut bytes));
            bytes.freeze()
        }
        Piece::Heartbeat { begun: true } if client == Protocol::Messages => {
            let mut bytes = BytesMut::new();
            Frame::named("ping", r#"{"type":"ping"}"#).write(&mut bytes);
            bytes.freeze()
        }
        Piece::Heartbeat { .. } => Bytes::from_static(KEEPALIVE),
    }
}
