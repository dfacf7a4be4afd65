//! The whole proxy: real doors, real actors, real connections, with the simulator as its Copilot. Tests that stand for a
//! case of the conformance list carry its number.

mod support;

mod answers;
mod compaction;
mod connections;
mod faults;
mod gates;
mod gemini;
mod generation;
mod headers;
mod healing;
mod journal;
mod pictures;
mod reasoning;
mod searches;
mod sockets;
mod stored;
mod surface;
mod websocket;
mod whole_answers;
