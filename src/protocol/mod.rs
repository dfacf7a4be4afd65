//! The ground: words on the wire. Knows shapes and framing; nothing of actors, routes or sockets.

pub mod sse;
