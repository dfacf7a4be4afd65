//! One answer of several legs: a model that has no search of its own calls a function in its place, another model
//! searches, and the first goes on with what was found. To a Messages client it is one message, with the searches as
//! the API's own. Knows the events of that message; not who searches, nor how a leg is asked for.
//!
//! ```text
//! leg ─ feed its frames ─→ Leg ─┬─ no search in it, or calls of the client's ─→ finish
//!  ↑                            └─ searches ─ found, each ─→ go_on ─┐
//!  └─────────────────────────────── the next request ───────────────┘
//! ```

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Object;
use super::fold::Gather;
use super::fold::messages::{Fold, event, unfold_block};
use super::ids::Ids;
use super::rules::searches::SEARCH_ID;
use super::rules::{field, list, peek};
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// A model that calls on and on is stopped after so many legs beyond those that its searches need.
const SPARE_LEGS: u64 = 3;

/// Puts a function in the place of the search that a client offers beside its own tools, and gives the search's name;
/// `None` where it offers none, or a tool of its own by that name.
pub fn offer(request: &mut Object) -> Option<String> {
    let tools = request.get_mut("tools")?.as_array_mut()?;
    let name = tools.iter().find(|tool| is_search(tool))?["name"].as_str()?.to_owned();
    if tools.iter().filter(|tool| tool["name"] == *name).count() > 1 {
        return None;
    }
    for tool in tools.iter_mut().filter(|tool| is_search(tool)) {
        let mark = tool["cache_control"].take();
        *tool = json!({
            "name": name,
            "description": "Searches the web and tells what was found, with the addresses of the pages.",
            "input_schema": {
                "type": "object",
                "properties": {"query": {"type": "string", "description": "What to search for"}},
                "required": ["query"],
            },
        });
        if !mark.is_null() {
            tool["cache_control"] = mark;
        }
    }
    Some(name)
}

/// Whether a tool is the API's own search.
pub fn is_search(tool: &Value) -> bool {
    tool["type"]
        .as_str()
        .is_some_and(|kind| kind.starts_with("web_search_"))
}

/// The request that has another model search for this, by the tool that the client declared.
pub fn request(asked: &Object, query: &str) -> Object {
    let mut tool = list(field(asked, "tools"))
        .iter()
        .find(|tool| is_search(tool))
        .cloned()
        .unwrap_or_default();
    tool["max_uses"] = json!(1);
    let prompt = format!("Perform a web search for the query: {query}");
    let fields = json!({
        "model": field(asked, "model"),
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": prompt}],
        "tool_choice": {"type": "tool", "name": tool["name"]},
        "tools": [tool],
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Object::new(),
    }
}

/// A search that the model asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The id of the model's call.
    pub call: String,
    pub query: String,
}

/// What a search came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    pub results: Vec<Value>,
    /// What the searching model says of them.
    pub text: String,
    pub searches: u64,
}

impl Found {
    /// Reads the whole answer to [`request`]; where nothing was searched, why, in the API's word.
    pub fn read(answer: &Value) -> Result<Self, String> {
        let mut found = Self::default();
        let mut why = None;
        for block in list(&answer["content"]) {
            match (peek(block, "type").as_str(), &block["content"]) {
                (Some("text"), _) => found.text.push_str(block["text"].as_str().unwrap_or_default()),
                (Some("web_search_tool_result"), Value::Array(results)) => {
                    found.searches += 1;
                    found.results.extend(results.iter().cloned());
                }
                (Some("web_search_tool_result"), error) => {
                    why = error["error_code"].as_str().map(str::to_owned);
                }
                _ => {}
            }
        }
        match found.searches {
            0 => Err(why.unwrap_or_else(|| UNAVAILABLE.to_owned())),
            _ => Ok(found),
        }
    }

    /// As the model is told.
    fn said(&self) -> String {
        let lines = self.results.iter().map(|result| {
            let of = |name: &str| result[name].as_str().unwrap_or_default();
            format!("{} {}", of("title"), of("url"))
        });
        let sources: Vec<String> = lines.collect();
        format!("{}\n\nSources:\n{}", self.text, sources.join("\n"))
    }
}

pub const UNAVAILABLE: &str = "unavailable";
const EXCEEDED: &str = "max_uses_exceeded";

/// A leg that is over.
#[derive(Debug, PartialEq)]
pub struct Leg {
    /// The model's whole turn.
    turn: Vec<Value>,
    pub wanted: Vec<Wanted>,
    /// Calls that the client answers.
    calls: bool,
    stop_reason: Value,
}

/// What the client sees of a block of the leg.
#[derive(Clone, Copy)]
enum Block {
    /// The block, under this index.
    Shown(u64),
    /// A call of its own, once the leg is over.
    Later,
    /// Not this: a search is told in another form.
    Never,
}

/// The message so far.
pub struct Legs {
    /// The tool's name.
    name: String,
    /// Searches that may still be made.
    left: u64,
    legs_left: u64,
    ids: Ids,
    leg: Fold,
    blocks: BTreeMap<u64, Block>,
    /// The client's own calls, told behind the searches: as with the API's own search, they end the message.
    calls: Vec<(&'static str, Object)>,
    next: u64,
    begun: bool,
    ending: Object,
    usage: Object,
    searches: u64,
    /// What the model is told of its searches.
    results: Vec<Value>,
}

impl Legs {
    /// For at most so many searches by the tool of this name.
    pub fn new(name: String, most: u64, ids: Ids) -> Self {
        Self {
            name,
            left: most,
            legs_left: most.saturating_add(SPARE_LEGS),
            ids,
            leg: Fold::default(),
            blocks: BTreeMap::new(),
            calls: Vec::new(),
            next: 0,
            begun: false,
            ending: Object::new(),
            usage: Object::new(),
            searches: 0,
            results: Vec::new(),
        }
    }

    /// Takes a frame of the leg; gives the leg once it is over.
    pub fn feed(&mut self, frame: Frame, out: &mut Vec<Frame>) -> Result<Option<Leg>, Failure> {
        self.leg.feed(&frame)?;
        let mut event: Object = serde_json::from_slice(&frame.data).unwrap_or_default();
        match field(&event, "type").as_str().unwrap_or_default() {
            "message_start" => {
                if !std::mem::replace(&mut self.begun, true) {
                    out.push(frame);
                }
            }
            "content_block_start" => {
                let block = field(&event, "content_block");
                let is_call = block["type"] == "tool_use";
                let fate = match block["name"] == *self.name {
                    true if is_call => Block::Never,
                    false if is_call => Block::Later,
                    _ => Block::Shown(self.take_index()),
                };
                self.blocks.insert(index(&event), fate);
                self.of_block("content_block_start", event, out);
            }
            "content_block_delta" => self.of_block("content_block_delta", event, out),
            "content_block_stop" => self.of_block("content_block_stop", event, out),
            "message_delta" => {
                event.shift_remove("type");
                self.ending = event;
            }
            "message_stop" => return self.over().map(Some),
            _ => out.push(frame),
        }
        Ok(None)
    }

    fn take_index(&mut self) -> u64 {
        let index = self.next;
        self.next += 1;
        index
    }

    fn of_block(&mut self, name: &'static str, fields: Object, out: &mut Vec<Frame>) {
        match self.blocks.get(&index(&fields)) {
            Some(Block::Shown(shown)) => out.push(numbered(name, fields, *shown)),
            Some(Block::Later) => self.calls.push((name, fields)),
            Some(Block::Never) | None => {}
        }
    }

    /// Tells the client's own calls, in the order they were begun.
    fn tell_calls(&mut self, out: &mut Vec<Frame>) {
        let mut shown = BTreeMap::new();
        for (name, fields) in std::mem::take(&mut self.calls) {
            let index = *shown.entry(index(&fields)).or_insert_with(|| self.take_index());
            out.push(numbered(name, fields, index));
        }
    }

    fn over(&mut self) -> Result<Leg, Failure> {
        let mut whole = Box::new(std::mem::take(&mut self.leg)).finish()?;
        self.blocks.clear();
        for (name, count) in whole["usage"].as_object().into_iter().flatten() {
            add(self.usage.entry(name.clone()).or_insert(Value::Null), count);
        }
        let stop_reason = whole["stop_reason"].take();
        let turn = match whole["content"].take() {
            Value::Array(turn) => turn,
            _ => Vec::new(),
        };
        let calls = || turn.iter().filter(|block| peek(block, "type") == "tool_use");
        let is_search = |call: &Value| *peek(call, "name") == *self.name;
        // A turn that ended for another reason has no call to be answered.
        let answered = stop_reason == "tool_use";
        let wanted = calls().filter(|call| answered && is_search(call)).map(|call| Wanted {
            call: call["id"].as_str().unwrap_or_default().to_owned(),
            query: call["input"]["query"].as_str().unwrap_or_default().to_owned(),
        });
        Ok(Leg {
            wanted: wanted.collect(),
            calls: calls().any(|call| !is_search(call)),
            stop_reason,
            turn,
        })
    }

    /// Whether one more search may be made. Each question uses one up.
    pub fn may_search(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    /// Shows the client what a search came to, and keeps it for the model; `None` was one too many.
    pub fn found(&mut self, wanted: &Wanted, found: Option<Result<Found, String>>, out: &mut Vec<Frame>) {
        let found = found.unwrap_or_else(|| Err(EXCEEDED.to_owned()));
        let id = self.ids.mint(SEARCH_ID);
        let call = json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {"query": wanted.query}});
        let (shown, said) = match &found {
            Ok(found) => {
                self.searches = self.searches.saturating_add(found.searches);
                (json!(found.results), found.said())
            }
            Err(code) => (
                json!({"type": "web_search_tool_result_error", "error_code": code}),
                format!("the search failed: {code}"),
            ),
        };
        let result = json!({"type": "web_search_tool_result", "tool_use_id": id, "content": shown});
        for block in [call, result] {
            unfold_block(self.take_index(), &block, out);
        }
        self.results.push(json!({
            "type": "tool_result",
            "tool_use_id": wanted.call,
            "content": said,
            "is_error": found.is_err(),
        }));
    }

    /// Makes the request that lets the model go on. False where the message ends with this leg.
    pub fn go_on(&mut self, leg: &Leg, request: &mut Object) -> bool {
        self.legs_left = self.legs_left.saturating_sub(1);
        if leg.wanted.is_empty() || leg.calls || self.legs_left == 0 {
            return false;
        }
        let results = std::mem::take(&mut self.results);
        if let Some(messages) = request.get_mut("messages").and_then(Value::as_array_mut) {
            messages.push(json!({"role": "assistant", "content": leg.turn}));
            messages.push(json!({"role": "user", "content": results}));
        }
        // Who had to call a tool has called one.
        if let Some(choice) = request.get_mut("tool_choice").and_then(Value::as_object_mut)
            && field(choice, "type") != "none"
        {
            choice.insert("type".into(), json!("auto"));
            choice.shift_remove("name");
        }
        true
    }

    /// Ends the message as its last leg ended; one that was not to go on has paused.
    pub fn finish(&mut self, leg: &Leg, out: &mut Vec<Frame>) {
        self.tell_calls(out);
        let mut usage = std::mem::take(&mut self.usage);
        if self.searches > 0 {
            let searches = json!({"web_search_requests": self.searches});
            usage.insert("server_tool_use".into(), searches);
        }
        let mut ending = Value::Object(std::mem::take(&mut self.ending));
        ending["usage"] = Value::Object(usage);
        if leg.stop_reason == "tool_use" && !leg.calls {
            ending["delta"]["stop_reason"] = json!("pause_turn");
        }
        out.push(event("message_delta", ending));
        out.push(event("message_stop", json!({})));
    }
}

fn numbered(name: &'static str, mut fields: Object, index: u64) -> Frame {
    fields.insert("index".into(), json!(index));
    fields.shift_remove("type");
    event(name, Value::Object(fields))
}

/// Adds counts of tokens, those inside others, too. What is no count adds nothing.
fn add(sum: &mut Value, more: &Value) {
    match (&mut *sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (name, count) in more {
                add(sum.entry(name.clone()).or_insert(Value::Null), count);
            }
        }
        (Value::Null, more) => *sum = more.clone(),
        (known, more) => {
            if let (Some(known), Some(more)) = (known.as_u64(), more.as_u64()) {
                *sum = json!(known.saturating_add(more));
            }
        }
    }
}

fn index(event: &Object) -> u64 {
    field(event, "index").as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol::Messages;
    use crate::translate::fold;
    use crate::translate::invariants::{self, Ending};

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn asked() -> Object {
        object(
            json!({"model": "m", "messages": [{"role": "user", "content": "go"}], "tool_choice": {"type": "any", "disable_parallel_tool_use": true}, "tools": [
            {"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.b"], "cache_control": {"type": "ephemeral"}}, {"name": "f", "input_schema": {}}]}),
        )
    }

    fn legs(most: u64) -> Legs {
        Legs::new("web_search".into(), most, Ids::new("seed", 0))
    }

    fn text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    fn call(id: &str, name: &str) -> Value {
        json!({"type": "tool_use", "id": id, "name": name, "input": {"query": id}})
    }

    /// Feeds a leg of these blocks.
    fn leg(legs: &mut Legs, blocks: Value, stop: &str, out: &mut Vec<Frame>) -> Leg {
        let answer = json!({"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": blocks,
            "stop_reason": stop, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 2, "cache_creation": {"five": 1}, "service_tier": null}});
        let mut over = None;
        for frame in fold::unfold(Messages, &answer) {
            assert!(over.is_none());
            over = legs.feed(frame, out).unwrap();
        }
        over.unwrap()
    }

    fn found(url: &str) -> Found {
        Found {
            results: vec![
                json!({"type": "web_search_result", "url": url, "title": "T", "encrypted_content": "", "page_age": null}),
            ],
            text: "It is so.".into(),
            searches: 1,
        }
    }

    /// The message that was written.
    #[track_caller]
    fn whole(frames: &[Frame]) -> Value {
        assert_eq!(invariants::check(Messages, frames), Ok(Ending::Complete));
        let mut whole = fold::gather(Messages);
        frames.iter().for_each(|frame| whole.feed(frame).unwrap());
        whole.finish().unwrap()
    }

    fn kinds(message: &Value) -> Vec<&str> {
        list(&message["content"])
            .iter()
            .map(|block| block["type"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_search_becomes_a_function_unless_the_client_has_one_of_its_name() {
        let mut request = asked();
        assert_eq!(offer(&mut request).as_deref(), Some("web_search"));
        assert_eq!(request["tools"][0]["input_schema"]["required"], json!(["query"]));
        assert_eq!(request["tools"][0]["cache_control"], json!({"type": "ephemeral"}));
        assert_eq!(request["tools"][1], asked()["tools"][1]);
        assert_eq!(offer(&mut request), None);
        let mut twice = asked();
        twice["tools"][1]["name"] = json!("web_search");
        assert_eq!(offer(&mut twice), None);
        let search = super::request(&asked(), "otters");
        assert_eq!(
            search["tools"],
            json!([{"type": "web_search_20250305", "name": "web_search", "allowed_domains": ["a.b"],
                "cache_control": {"type": "ephemeral"}, "max_uses": 1}])
        );
        assert!(search["messages"][0]["content"].as_str().unwrap().ends_with("otters"));
    }

    #[test]
    fn searches_and_what_follows_are_one_message() {
        let (mut legs, mut out, mut request) = (legs(2), Vec::new(), asked());
        let first = leg(
            &mut legs,
            json!([text("Let me see."), call("a", "web_search"), call("b", "web_search")]),
            "tool_use",
            &mut out,
        );
        assert_eq!(
            first.wanted.iter().map(|wanted| &*wanted.query).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(legs.may_search());
        legs.found(&first.wanted[0], Some(Ok(found("https://a"))), &mut out);
        legs.found(&first.wanted[1], Some(Err(UNAVAILABLE.into())), &mut out);
        assert!(legs.go_on(&first, &mut request));
        let messages = list(&request["messages"]);
        assert_eq!(messages[1]["content"][1], call("a", "web_search"));
        assert_eq!(
            messages[2]["content"][0]["content"],
            "It is so.\n\nSources:\nT https://a"
        );
        assert_eq!(messages[2]["content"][1]["is_error"], true);
        assert_eq!(
            request["tool_choice"],
            json!({"type": "auto", "disable_parallel_tool_use": true})
        );

        let last = leg(&mut legs, json!([text("So it is.")]), "end_turn", &mut out);
        assert!(!legs.go_on(&last, &mut request));
        legs.finish(&last, &mut out);
        let message = whole(&out);
        let search = ["server_tool_use", "web_search_tool_result"];
        assert_eq!(
            kinds(&message),
            [&["text"], &search[..], &search[..], &["text"]].concat()
        );
        assert_eq!(message["content"][1]["input"], json!({"query": "a"}));
        assert_eq!(message["content"][2]["tool_use_id"], message["content"][1]["id"]);
        assert_ne!(message["content"][3]["id"], message["content"][1]["id"]);
        assert_eq!(message["content"][4]["content"]["error_code"], UNAVAILABLE);
        assert_eq!(message["stop_reason"], "end_turn");
        let usage = json!({"input_tokens": 20, "output_tokens": 4, "cache_creation": {"five": 2}, "service_tier": null, "server_tool_use": {"web_search_requests": 1}});
        assert_eq!(message["usage"], usage);
    }

    #[test]
    fn the_clients_own_calls_end_the_message() {
        let (mut legs, mut out, mut request) = (legs(2), Vec::new(), asked());
        let only = leg(
            &mut legs,
            json!([call("b", "f"), text("And now:"), call("a", "web_search")]),
            "tool_use",
            &mut out,
        );
        legs.found(&only.wanted[0], Some(Ok(found("https://a"))), &mut out);
        assert!(!legs.go_on(&only, &mut request));
        legs.finish(&only, &mut out);
        let message = whole(&out);
        assert_eq!(
            kinds(&message),
            ["text", "server_tool_use", "web_search_tool_result", "tool_use"]
        );
        assert_eq!(
            (&message["content"][3]["name"], &message["stop_reason"]),
            (&json!("f"), &json!("tool_use"))
        );
    }

    #[test]
    fn a_model_that_never_has_enough_is_paused() {
        let (mut legs, mut out, mut request) = (legs(1), Vec::new(), asked());
        let mut told = Vec::new();
        let last = loop {
            let next = leg(&mut legs, json!([call("a", "web_search")]), "tool_use", &mut out);
            let result = legs.may_search().then(|| Ok(found("https://a")));
            told.push(result.is_some());
            legs.found(&next.wanted[0], result, &mut out);
            if !legs.go_on(&next, &mut request) {
                break next;
            }
        };
        assert_eq!(told, [true, false, false, false]);
        legs.finish(&last, &mut out);
        let message = whole(&out);
        assert_eq!(message["stop_reason"], "pause_turn");
        assert_eq!(message["content"][3]["content"]["error_code"], EXCEEDED);
        assert_eq!(message["usage"]["server_tool_use"]["web_search_requests"], 1);
    }

    #[test]
    fn a_turn_that_was_cut_short_searches_for_nothing() {
        let (mut legs, mut out) = (legs(1), Vec::new());
        let only = leg(&mut legs, json!([call("a", "web_search")]), "max_tokens", &mut out);
        assert!(only.wanted.is_empty());
        legs.finish(&only, &mut out);
        let message = whole(&out);
        assert_eq!(
            (kinds(&message).len(), &message["stop_reason"]),
            (0, &json!("max_tokens"))
        );
    }

    #[test]
    fn only_a_search_that_was_made_has_found_anything() {
        let result =
            |content: Value| json!({"content": [{"type": "web_search_tool_result", "content": content}, text("So.")]});
        let hit = json!({"type": "web_search_result", "url": "u", "title": "T"});
        let read = Found::read(&result(json!([hit]))).unwrap();
        assert_eq!((read.searches, &*read.text, &read.results[0]), (1, "So.", &hit));
        let failed = result(json!({"type": "web_search_tool_result_error", "error_code": "too_many_requests"}));
        assert_eq!(Found::read(&failed), Err("too_many_requests".into()));
        assert_eq!(
            Found::read(&json!({"content": [text("I know it anyway.")]})),
            Err(UNAVAILABLE.into())
        );
    }
}
