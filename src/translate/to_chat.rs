//! The turn's events, as a chat client's stream. Knows the shape of chunks; not who made the events.

use std::borrow::Cow;

use serde_json::json;

use super::carrier::Carrier;
use super::chunk_writer::{self, ChunkWriter, Fields};
use super::ids::Ids;
use super::stops::{Stops, Watched};
use super::turn::{Event, Finish, ToolKey, ToolKind, Usage};
use super::{Kept, Reply, ToolShape, Writer};
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// Ids of upstream longer than this are no names any more, but state.
const MAX_ID: usize = 64;

/// Writes one answer.
#[derive(Debug)]
pub struct ToChat {
    reply: Reply,
    ids: Ids,
    chunks: ChunkWriter,
    tools: Vec<Tool>,
    stops: Option<Stops>,
    reasoning: String,
    /// State of the reasoning so far, in order.
    carriers: Vec<String>,
    /// The one slot for state has been used: clients take a second value for an error.
    opaque_sent: bool,
    usage: Option<Usage>,
    finished: bool,
    over: bool,
    kept: Vec<(String, Kept)>,
}

/// A call that was told to the client; its place in the list is its index.
#[derive(Debug)]
struct Tool {
    key: ToolKey,
    shown: ToolKind,
    /// Input that is told only once it is whole, since upstream's shape is not the client's.
    held: Option<String>,
    empty: bool,
}

impl ToChat {
    pub fn new(reply: Reply, ids: Ids) -> Self {
        Self {
            stops: Stops::new(&reply.stops),
            chunks: ChunkWriter::new("", 0, "", false),
            reply,
            ids,
            tools: Vec::new(),
            reasoning: String::new(),
            carriers: Vec::new(),
            opaque_sent: false,
            usage: None,
            finished: false,
            over: false,
            kept: Vec::new(),
        }
    }

    fn start(&mut self, upstream_id: &str, created: Option<u64>, out: &mut Vec<Frame>) {
        let id = match base(upstream_id) {
            "" => self.ids.mint("chatcmpl-"),
            base => format!("chatcmpl-{base}"),
        };
        let created = created.unwrap_or(self.ids.created);
        self.chunks = ChunkWriter::new(&id, created, &self.reply.model, self.reply.include_usage);
        self.delta(out, |delta| {
            delta.set("role", "assistant");
            delta.set("content", "");
        });
    }

    fn delta(&self, out: &mut Vec<Frame>, fields: impl FnOnce(&mut Fields)) {
        out.push(self.chunks.delta(&Vec::new(), &Vec::new(), None, fields));
    }

    fn reason(&mut self, text: &str, out: &mut Vec<Frame>) {
        self.reasoning.push_str(text);
        if self.reply.show_reasoning {
            let alias = self.reply.reasoning_alias;
            self.delta(out, |delta| {
                delta.set("reasoning_text", text);
                if alias {
                    delta.set("reasoning_content", text);
                }
            });
        }
    }

    fn text(&mut self, text: &str, out: &mut Vec<Frame>) {
        let Watched { text, stop } = match &mut self.stops {
            Some(stops) => stops.feed(text),
            None => Watched {
                text: text.to_owned(),
                stop: None,
            },
        };
        self.content(&text, out);
        if stop.is_some() {
            self.stops = None;
            self.finish("stop", out);
            self.close(out);
        }
    }

    fn content(&self, text: &str, out: &mut Vec<Frame>) {
        if !text.is_empty() {
            self.delta(out, |delta| delta.set("content", text));
        }
    }

    /// No more text can complete a stop sequence: tells what was held back for one.
    fn flush(&mut self, out: &mut Vec<Frame>) {
        if let Some(held) = self.stops.as_mut().map(Stops::flush) {
            self.content(&held, out);
        }
    }

    fn open(&mut self, key: ToolKey, id: String, name: String, kind: ToolKind, out: &mut Vec<Frame>) {
        self.flush(out);
        self.opaque(out);
        let client = self.reply.tools.get(&name);
        let shown = match client.map(|client| client.shape) {
            Some(ToolShape::Custom) => ToolKind::Custom,
            _ => ToolKind::Function,
        };
        let name = client.map_or(name, |client| client.name.clone());
        let index = self.tools.len();
        self.delta(out, |delta| {
            delta.list("tool_calls", |call| {
                call.set("index", &index);
                call.set("id", &id);
                chunk_writer::call_body(call, shown, Some(&name), "", &Vec::new());
            });
        });
        self.tools.push(Tool {
            key,
            shown,
            held: (shown != kind).then(String::new),
            empty: true,
        });
        if !self.carriers.is_empty() {
            let kept = Kept {
                model: self.reply.ran.clone(),
                text: self.reasoning.clone(),
                carriers: self.carriers.clone(),
            };
            self.kept.push((id, kept));
        }
    }

    fn input(&mut self, key: ToolKey, piece: &str, out: &mut Vec<Frame>) {
        let Some((index, tool)) = self.tools.iter_mut().enumerate().find(|(_, tool)| tool.key == key) else {
            return;
        };
        if let Some(held) = &mut tool.held {
            held.push_str(piece);
        } else if !piece.is_empty() {
            tool.empty = false;
            let shown = tool.shown;
            self.piece(index, shown, piece, out);
        }
    }

    fn close_tool(&mut self, key: ToolKey, complete: bool, out: &mut Vec<Frame>) {
        let Some((index, tool)) = self.tools.iter_mut().enumerate().find(|(_, tool)| tool.key == key) else {
            return;
        };
        let shown = tool.shown;
        let rest: Cow<str> = match (tool.held.take(), shown) {
            (Some(arguments), ToolKind::Custom) => tools::custom_input(&arguments).into(),
            (Some(input), ToolKind::Function) => json!({"input": input}).to_string().into(),
            (None, ToolKind::Function) if tool.empty && complete => "{}".into(),
            _ => return,
        };
        self.piece(index, shown, &rest, out);
    }

    fn piece(&self, index: usize, shown: ToolKind, piece: &str, out: &mut Vec<Frame>) {
        self.delta(out, |delta| {
            delta.list("tool_calls", |call| {
                call.set("index", &index);
                chunk_writer::call_body(call, shown, None, piece, &Vec::new());
            });
        });
    }

    /// Tells the state of the reasoning, once.
    fn opaque(&mut self, out: &mut Vec<Frame>) {
        let opaque = match self.carriers.as_slice() {
            [] => return,
            [one] => one.clone(),
            several => Carrier::List(several.to_vec()).encode(),
        };
        if !std::mem::replace(&mut self.opaque_sent, true) {
            self.delta(out, |delta| delta.set("reasoning_opaque", &opaque));
        }
    }

    fn finish(&mut self, reason: &str, out: &mut Vec<Frame>) {
        self.flush(out);
        self.opaque(out);
        self.finished = true;
        let none = Vec::new();
        out.push(self.chunks.delta(&none, &none, Some(reason), |_| {}));
    }

    fn close(&mut self, out: &mut Vec<Frame>) {
        if let Some(usage) = self.usage.filter(|_| self.reply.include_usage) {
            out.push(self.chunks.usage(&Vec::new(), &chunk_writer::usage(&usage)));
        }
        out.push(chunk_writer::done());
        self.over = true;
    }
}

impl Writer for ToChat {
    fn feed(&mut self, event: Event, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        match event {
            Event::Start { upstream_id, created } => self.start(&upstream_id, created, out),
            Event::Reason(text) => self.reason(&text, out),
            Event::ReasonSeal { state } => self.carriers.extend(state),
            Event::Text(text) => self.text(&text, out),
            Event::Refusal(text) => {
                self.flush(out);
                self.delta(out, |delta| delta.set("refusal", &text));
            }
            Event::ToolOpen { key, id, name, kind } => self.open(key, id, name, kind, out),
            Event::ToolArgs { key, piece } => self.input(key, &piece, out),
            Event::ToolClose { key, complete } => self.close_tool(key, complete, out),
            Event::Cite(cite) => {
                self.flush(out);
                self.delta(out, |delta| {
                    delta.list("annotations", |note| {
                        note.set("type", "url_citation");
                        note.object("url_citation", |fields| {
                            fields.set("url", &cite.url);
                            fields.set("title", &cite.title);
                            fields.set("start_index", &cite.start.unwrap_or(0));
                            fields.set("end_index", &cite.end.unwrap_or(0));
                        });
                    });
                });
            }
            // A chat client has no place for either.
            Event::Search(_) | Event::Compaction(_) => {}
            Event::Usage(usage) => self.usage.get_or_insert_default().update(&usage),
            Event::Finish(finish) => self.finish(finish_reason(&finish), out),
        }
        // Usage is mostly known by now; where it is not, it may still come.
        if self.finished && !self.over && (self.usage.is_some() || !self.reply.include_usage) {
            self.close(out);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Frame>) {
        if self.finished && !self.over {
            self.close(out);
        }
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        if !std::mem::replace(&mut self.over, true) {
            chunk_writer::fail(failure, out);
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn take_kept(&mut self) -> Vec<(String, Kept)> {
        std::mem::take(&mut self.kept)
    }
}

fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) | Finish::Pause => "stop",
        Finish::ToolCalls => "tool_calls",
        Finish::Length | Finish::ContextFull => "length",
        Finish::ContentFilter | Finish::Refusal => "content_filter",
    }
}

mod tools {
    pub fn custom_input(arguments: &str) -> String {
        let v: serde_json::Value = serde_json::from_str(arguments).unwrap_or_default();
        v["input"].as_str().unwrap_or(arguments).to_owned()
    }
}

/// The part of upstream's id that is its own; empty where it is of no use as a name.
fn base(upstream_id: &str) -> &str {
    let prefixes = ["chatcmpl-", "resp_", "msg_"];
    let base = prefixes
        .iter()
        .find_map(|prefix| upstream_id.strip_prefix(prefix))
        .unwrap_or(upstream_id);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if base.len() <= MAX_ID && base.bytes().all(plain) {
        base
    } else {
        ""
    }
}
