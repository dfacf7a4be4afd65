//! Chunks of a chat stream as a client gets them, written straight into bytes. Knows their shape; not their cause.

use serde::Serialize;

use super::chunk::Unknown;
use super::turn::ToolKind;
use crate::protocol::Protocol;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// What all chunks of one stream have in common.
#[derive(Debug)]
pub struct ChunkWriter {
    /// `{"id":…,"object":…,"created":…,"model":…`
    head: Vec<u8>,
    /// `}`, after `,"usage":null` where a usage chunk was asked for.
    tail: &'static [u8],
}

/// The fields of a delta, or of any object under way.
#[derive(Debug)]
pub struct Fields<'a> {
    out: &'a mut Vec<u8>,
    any: bool,
}

impl ChunkWriter {
    pub fn new(id: &str, created: u64, model: &str, include_usage: bool) -> Self {
        let mut head = br#"{"id":"#.to_vec();
        write(&mut head, id);
        head.extend_from_slice(br#","object":"chat.completion.chunk","created":"#);
        write(&mut head, &created);
        head.extend_from_slice(br#","model":"#);
        write(&mut head, model);
        let tail: &[u8] = if include_usage { br#","usage":null}"# } else { b"}" };
        Self { head, tail }
    }

    /// A chunk of one choice. `shared` are further fields of the chunk, `beside` of the choice.
    pub fn delta(
        &self,
        shared: &[Unknown],
        beside: &[Unknown],
        finish: Option<&str>,
        delta: impl FnOnce(&mut Fields),
    ) -> Frame {
        let mut out = Vec::with_capacity(self.head.len() + 256);
        out.extend_from_slice(&self.head);
        append(&mut out, shared, "system_fingerprint");
        out.extend_from_slice(br#","choices":[{"index":0,"delta":"#);
        write_object(&mut out, delta);
        append(&mut out, beside, "logprobs");
        out.extend_from_slice(br#","finish_reason":"#);
        write(&mut out, &finish);
        out.extend_from_slice(b"}]");
        out.extend_from_slice(self.tail);
        Frame::data(out)
    }

    /// The chunk that says what the answer cost; `usage` is JSON.
    pub fn usage(&self, shared: &[Unknown], usage: &str) -> Frame {
        let mut out = Vec::with_capacity(self.head.len() + usage.len() + 32);
        out.extend_from_slice(&self.head);
        append(&mut out, shared, "system_fingerprint");
        out.extend_from_slice(br#","choices":[],"usage":"#);
        out.extend_from_slice(usage.as_bytes());
        out.push(b'}');
        Frame::data(out)
    }
}

/// The frame after the last.
pub fn done() -> Frame {
    Frame::data("[DONE]")
}

/// A failure in the middle of a stream, and the stream's end.
pub fn fail(failure: &Failure, out: &mut Vec<Frame>) {
    out.push(Frame::data(failure.body(Protocol::Chat, "").to_string()));
    out.push(done());
}

impl Fields<'_> {
    /// A field that is already JSON.
    pub fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.out.extend_from_slice(json.as_bytes());
    }

    pub fn set(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        write(self.out, value);
    }

    /// A list of one object.
    pub fn list(&mut self, name: &str, fields: impl FnOnce(&mut Fields)) {
        self.name(name);
        self.out.push(b'[');
        write_object(self.out, fields);
        self.out.push(b']');
    }

    pub fn object(&mut self, name: &str, fields: impl FnOnce(&mut Fields)) {
        self.name(name);
        write_object(self.out, fields);
    }

    /// Fields that pass as they came.
    pub fn rest(&mut self, fields: &[Unknown]) {
        for (name, value) in fields {
            self.raw(name, value.get());
        }
    }

    fn name(&mut self, name: &str) {
        if std::mem::replace(&mut self.any, true) {
            self.out.push(b',');
        }
        write(self.out, name);
        self.out.push(b':');
    }
}

/// An object by itself.
pub fn object(fields: impl FnOnce(&mut Fields)) -> String {
    let mut out = Vec::new();
    write_object(&mut out, fields);
    String::from_utf8(out).unwrap_or_default()
}

/// Writes the half of a call that depends on its kind; the name, and with it the type, only where it opens.
pub fn call_body(call: &mut Fields, kind: ToolKind, name: Option<&str>, piece: &str, rest: &[Unknown]) {
    let (place, field) = match kind {
        ToolKind::Function => ("function", "arguments"),
        ToolKind::Custom => ("custom", "input"),
    };
    if name.is_some() {
        call.set("type", place);
    }
    call.object(place, |function| {
        if let Some(name) = name {
            function.set("name", name);
        }
        function.set(field, piece);
        function.rest(rest);
    });
}

fn write_object(out: &mut Vec<u8>, fields: impl FnOnce(&mut Fields)) {
    out.push(b'{');
    fields(&mut Fields { out, any: false });
    out.push(b'}');
}

/// Appends fields to an object under way that has some already; strict clients expect `always`, if only as null.
fn append(out: &mut Vec<u8>, fields: &[Unknown], always: &str) {
    let absent = fields.iter().all(|(name, _)| **name != *always);
    let null = absent.then_some((always, "null"));
    for (name, json) in fields.iter().map(|(name, raw)| (&**name, raw.get())).chain(null) {
        out.push(b',');
        write(out, name);
        out.push(b':');
        out.extend_from_slice(json.as_bytes());
    }
}

/// Appends JSON. Nothing that is written here can fail: the keys are strings, and memory does not refuse.
fn write(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}
