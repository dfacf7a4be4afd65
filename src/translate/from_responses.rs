//! What a Responses upstream says, as the turn's events. Knows Copilot's habits on this endpoint; no client.
//!
//! Items are known by their `output_index`: Copilot encrypts an item's id anew in every event. What a delta said is
//! never said again by the `done` events behind it, and what no delta said is taken from there.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::carrier::Carrier;
use super::ids::Ids;
use super::turn::{Citation, Event, Finish, Search, SearchResult, ToolKey, ToolKind, Usage};
use super::{Reader, Reply, fold, rules, upstream_failure};
use crate::protocol::Protocol;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::responses as wire;
use crate::protocol::sse::Frame;

pub struct FromResponses {
    model: String,
    /// The client wants a search's results inside the search, not only as citations behind it.
    wants_results: bool,
    stage: Stage,
    ids: Ids,
    items: BTreeMap<u64, Item>,
    latest: u64,
    /// The ids of the calls, in the order of their keys.
    calls: Vec<String>,
    texts: usize,
    refusals: usize,
    searches: u64,
    /// The item whose visible reasoning waits for its seal.
    unsealed: Option<u64>,
    held: Option<Held>,
    nano_aiu: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running,
    Over,
}

/// What is known of one output item.
enum Item {
    Message(Message),
    Reasoning(Reasoning),
    Call(Call),
    /// Said whole, or nothing to say.
    Done,
}

#[derive(Default)]
struct Message {
    /// Content parts that have spoken.
    heard: BTreeSet<u64>,
    cited: usize,
}

#[derive(Default)]
struct Reasoning {
    /// Summary or raw text: the first to come is the one that is read.
    source: Option<Source>,
    heard: BTreeSet<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Summary,
    Raw,
}

struct Call {
    key: ToolKey,
    kind: ToolKind,
    said: String,
}

/// A search without results, or with mere addresses, and what was said behind it: the citations of the message that
/// follows are its results, and know their titles.
struct Held {
    search: Search,
    behind: Vec<Event>,
}

impl FromResponses {
    pub fn new(reply: &Reply) -> Self {
        Self {
            model: reply.ran.clone(),
            wants_results: reply.web_search,
            stage: Stage::Waiting,
            ids: Ids::new("", 0),
            items: BTreeMap::new(),
            latest: 0,
            calls: Vec::new(),
            texts: 0,
            refusals: 0,
            searches: 0,
            unsealed: None,
            held: None,
            nano_aiu: None,
        }
    }
}

impl Reader for FromResponses {
    fn feed(&mut self, frame: &Frame, out: &mut Vec<Event>) -> Result<(), Failure> {
        if self.stage == Stage::Over || frame.is_done() || frame.data.trim_ascii().is_empty() {
            return Ok(());
        }
        let Some(event) = wire::Event::read(&frame.data) else {
            self.release(out);
            return Err(Failure::new(Kind::Stream, "upstream sent an event that is not JSON"));
        };
        let kind = event.kind(frame.name.as_deref());
        if let Err(failure) = self.take(&kind, &event, out) {
            self.release(out);
            return Err(failure);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Event>) -> Result<(), Failure> {
        self.release(out);
        match self.stage {
            Stage::Over => Ok(()),
            _ => Err(Failure::truncated()),
        }
    }

    fn whole(&mut self, answer: &Value, out: &mut Vec<Event>) -> Result<(), Failure> {
        fold::responses::check(answer)?;
        for frame in fold::responses::unfold(answer) {
            self.feed(&frame, out)?;
        }
        self.end(out)
    }

    fn nano_aiu(&self) -> Option<u64> {
        self.nano_aiu
    }
}

impl FromResponses {
    fn take(&mut self, kind: &str, event: &wire::Event, out: &mut Vec<Event>) -> Result<(), Failure> {
        if let Some(failure) = failure(kind, event) {
            return Err(failure);
        }
        if self.stage == Stage::Waiting && !kind.is_empty() {
            self.start(event.get("response"), out);
        }
        let index = event.number("output_index").unwrap_or(self.latest);
        self.latest = index;
        let content = event.number("content_index").unwrap_or(0);
        let summary = event.number("summary_index").unwrap_or(0);
        let text = |name: &str| event.text(name).unwrap_or_default().into_owned();
        match kind {
            "response.output_text.delta" => self.text(index, content, text("delta"), out),
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.arguments(index, text("delta"), out);
            }
            "response.reasoning_summary_text.delta" => {
                self.reason(index, Source::Summary, summary, text("delta"), out);
            }
            "response.reasoning_text.delta" => self.reason(index, Source::Raw, content, text("delta"), out),
            "response.refusal.delta" => self.refusal(index, content, text("delta"), out),
            "response.output_text.annotation.added" => self.cite(index, &event.value("annotation"), out),
            "response.output_text.done" if !self.heard(index, content) => {
                self.text(index, content, text("text"), out);
            }
            "response.refusal.done" if !self.heard(index, content) => {
                self.refusal(index, content, text("refusal"), out);
            }
            "response.reasoning_summary_text.done" if !self.heard(index, summary) => {
                self.reason(index, Source::Summary, summary, text("text"), out);
            }
            "response.reasoning_text.done" if !self.heard(index, content) => {
                self.reason(index, Source::Raw, content, text("text"), out);
            }
            "response.function_call_arguments.done" => self.all_arguments(index, &text("arguments"), out),
            "response.custom_tool_call_input.done" => self.all_arguments(index, &text("input"), out),
            "response.output_item.added" => self.open(index, &event.value("item"), out),
            "response.output_item.done" => self.close(index, &event.value("item"), out),
            "response.completed" | "response.incomplete" => {
                let price = json!({"copilot_usage": event.value("copilot_usage")});
                self.nano_aiu = rules::usage::nano_aiu(&price);
                self.finish(kind == "response.completed", &event.value("response"), out);
            }
            _ => {}
        }
        Ok(())
    }

    /// Says one event, behind a held search if there is one. Reasoning is sealed before anything else is said.
    fn say(&mut self, event: Event, out: &mut Vec<Event>) {
        let out = match &mut self.held {
            Some(held) => &mut held.behind,
            None => out,
        };
        match event {
            Event::Reason(_) => {}
            Event::ReasonSeal { .. } => self.unsealed = None,
            _ if self.unsealed.take().is_some() => out.push(Event::ReasonSeal { state: None }),
            _ => {}
        }
        out.push(event);
    }

    fn start(&mut self, response: Option<&RawValue>, out: &mut Vec<Event>) {
        let response = response.and_then(|raw| wire::Event::read(raw.get().as_bytes()));
        let id = response.as_ref().and_then(|response| response.text("id"));
        let created = response
            .as_ref()
            .and_then(|response| response.value("created_at").as_f64());
        let upstream_id = id.unwrap_or_default().into_owned();
        self.stage = Stage::Running;
        self.ids = Ids::new(upstream_id.clone(), 0);
        let created = created.map(|seconds| seconds as u64);
        self.say(Event::Start { upstream_id, created }, out);
    }

    /// Whether this part of an item has spoken.
    fn heard(&self, index: u64, part: u64) -> bool {
        match self.items.get(&index) {
            Some(Item::Message(message)) => message.heard.contains(&part),
            Some(Item::Reasoning(reasoning)) => reasoning.heard.contains(&part),
            Some(Item::Done) => true,
            _ => false,
        }
    }

    fn message(&mut self, index: u64) -> Option<&mut Message> {
        let fresh = || Item::Message(Message::default());
        match self.items.entry(index).or_insert_with(fresh) {
            Item::Message(message) => Some(message),
            _ => None,
        }
    }

    fn text(&mut self, index: u64, part: u64, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        if let Some(message) = self.message(index) {
            message.heard.insert(part);
            self.texts += 1;
            self.say(Event::Text(text), out);
        }
    }

    fn refusal(&mut self, index: u64, part: u64, text: String, out: &mut Vec<Event>) {
        if text.is_empty() {
            return;
        }
        if let Some(message) = self.message(index) {
            message.heard.insert(part);
            self.refusals += 1;
            self.say(Event::Refusal(text), out);
        }
    }

    fn cite(&mut self, index: u64, annotation: &Value, out: &mut Vec<Event>) {
        let Some(message) = self.message(index) else { return };
        message.cited += 1;
        let Some(citation) = citation(annotation) else { return };
        if let Some(held) = &mut self.held {
            held.credit(&citation);
        }
        self.say(Event::Cite(citation), out);
    }

    fn reason(&mut self, index: u64, source: Source, part: u64, text: String, out: &mut Vec<Event>) {
        let fresh = || Item::Reasoning(Reasoning::default());
        let Item::Reasoning(item) = self.items.entry(index).or_insert_with(fresh) else {
            return;
        };
        if text.is_empty() || *item.source.get_or_insert(source) != source {
            return;
        }
        let is_next_part = item.heard.insert(part) && item.heard.len() > 1;
        if self.unsealed.is_some_and(|other| other != index) {
            self.say(Event::ReasonSeal { state: None }, out);
        }
        if is_next_part {
            self.say(Event::Reason("\n\n".to_owned()), out);
        }
        self.say(Event::Reason(text), out);
        self.unsealed = Some(index);
    }

    fn open(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) {
        let kind = match item["type"].as_str() {
            Some("function_call") => ToolKind::Function,
            Some("custom_tool_call") => ToolKind::Custom,
            _ => return,
        };
        if self.items.contains_key(&index) {
            return;
        }
        let key = self.calls.len();
        let given = item["call_id"].as_str().filter(|id| !id.is_empty());
        let id = given.map_or_else(|| self.ids.mint_call("call_"), str::to_owned);
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        let said = String::new();
        self.items.insert(index, Item::Call(Call { key, kind, said }));
        self.calls.push(id.clone());
        self.say(Event::ToolOpen { key, id, name, kind }, out);
        self.arguments(index, input_of(kind, item), out);
    }

    fn arguments(&mut self, index: u64, piece: String, out: &mut Vec<Event>) {
        if let Some(Item::Call(call)) = self.items.get_mut(&index)
            && !piece.is_empty()
        {
            call.said.push_str(&piece);
            let key = call.key;
            self.say(Event::ToolArgs { key, piece }, out);
        }
    }

    /// Says what the deltas left out. Where they said something else, they stand: the client has them already.
    fn all_arguments(&mut self, index: u64, all: &str, out: &mut Vec<Event>) {
        if let Some(Item::Call(call)) = self.items.get(&index)
            && let Some(rest) = all.strip_prefix(&call.said)
        {
            self.arguments(index, rest.to_owned(), out);
        }
    }

    /// An item is whole: says what its deltas did not.
    fn close(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) {
        if let Some(Item::Done) = self.items.get(&index) {
            return;
        }
        match item["type"].as_str() {
            Some("message") => self.close_message(index, item, out),
            Some("reasoning") => self.close_reasoning(index, item, out),
            Some("function_call" | "custom_tool_call") => {
                self.open(index, item, out);
                if let Some(Item::Call(call)) = self.items.get(&index) {
                    let all = input_of(call.kind, item);
                    self.all_arguments(index, &all, out);
                    self.close_call(index, item["status"] != "incomplete", out);
                }
            }
            Some("web_search_call") => self.search(item, out),
            Some("compaction" | "compaction_summary") => self.say(Event::Compaction(item.clone()), out),
            _ => {}
        }
        self.items.insert(index, Item::Done);
    }

    fn close_message(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) {
        for (part, content) in (0..).zip(item["content"].as_array().into_iter().flatten()) {
            if !self.heard(index, part) {
                let text = |name: &str| content[name].as_str().unwrap_or_default().to_owned();
                match content["type"].as_str() {
                    Some("refusal") => self.refusal(index, part, text("refusal"), out),
                    _ => self.text(index, part, text("text"), out),
                }
            }
        }
        let cited = self.message(index).map_or(0, |message| message.cited);
        let parts = item["content"].as_array().into_iter().flatten();
        let annotations = parts.flat_map(|part| part["annotations"].as_array().into_iter().flatten());
        for annotation in annotations.skip(cited) {
            self.cite(index, annotation, out);
        }
        self.release(out);
    }

    fn close_reasoning(&mut self, index: u64, item: &Value, out: &mut Vec<Event>) {
        for (source, list) in [(Source::Summary, &item["summary"]), (Source::Raw, &item["content"])] {
            for (part, content) in (0..).zip(list.as_array().into_iter().flatten()) {
                if !self.heard(index, part) {
                    let text = content["text"].as_str().unwrap_or_default();
                    self.reason(index, source, part, text.to_owned(), out);
                }
            }
        }
        let content = item["encrypted_content"].as_str().filter(|content| !content.is_empty());
        let state = content.map(|content| {
            let carrier = Carrier::Item {
                model: self.model.clone(),
                id: item["id"].as_str().map(str::to_owned),
                content: content.to_owned(),
            };
            carrier.encode()
        });
        if self.unsealed == Some(index) || state.is_some() {
            if self.unsealed.is_some_and(|other| other != index) {
                self.say(Event::ReasonSeal { state: None }, out);
            }
            self.say(Event::ReasonSeal { state }, out);
        }
    }

    fn close_call(&mut self, index: u64, whole: bool, out: &mut Vec<Event>) {
        if let Some(Item::Call(call)) = self.items.insert(index, Item::Done) {
            let parses = call.kind == ToolKind::Custom
                || call.said.is_empty()
                || serde_json::from_str::<IgnoredAny>(&call.said).is_ok();
            let (key, complete) = (call.key, whole && parses);
            self.say(Event::ToolClose { key, complete }, out);
        }
    }

    fn search(&mut self, item: &Value, out: &mut Vec<Event>) {
        let action = &item["action"];
        // A look at a page that was found is no search.
        if matches!(action["type"].as_str(), Some("open_page" | "find_in_page" | "find")) {
            return;
        }
        self.release(out);
        let failed = item["status"] == "failed";
        self.searches += u64::from(!failed);
        let query = [&action["query"], &action["queries"][0], &action["url"]];
        let sources = action["sources"].as_array().into_iter().flatten();
        let search = Search {
            id: item["id"].as_str().unwrap_or_default().to_owned(),
            query: query.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned(),
            results: sources.filter_map(result).collect(),
            error: failed.then(|| "unavailable".to_owned()),
        };
        let untold = search.results.iter().all(|found| found.title.is_empty());
        if self.wants_results && untold && !failed {
            let behind = Vec::new();
            self.held = Some(Held { search, behind });
        } else {
            self.say(Event::Search(search), out);
        }
    }

    /// Lets go of a held search and all that waits behind it.
    fn release(&mut self, out: &mut Vec<Event>) {
        if let Some(held) = self.held.take() {
            out.push(Event::Search(held.search));
            out.extend(held.behind);
        }
    }

    fn finish(&mut self, completed: bool, response: &Value, out: &mut Vec<Event>) {
        self.nano_aiu = self.nano_aiu.or(rules::usage::nano_aiu(response));
        for (index, item) in (0..).zip(response["output"].as_array().into_iter().flatten()) {
            if self.is_news(index, item) {
                self.close(index, item, out);
            }
        }
        let open: Vec<u64> = self.items.keys().copied().collect();
        for index in open {
            self.close_call(index, completed, out);
        }
        if self.unsealed.is_some() {
            self.say(Event::ReasonSeal { state: None }, out);
        }
        self.release(out);
        self.stage = Stage::Over;
        let usage = Usage {
            searches: Some(self.searches).filter(|&count| count > 0),
            ..rules::usage::read(Protocol::Responses, &response["usage"])
        };
        if usage != Usage::default() {
            out.push(Event::Usage(usage));
        }
        let reason = response["incomplete_details"]["reason"].as_str();
        out.push(Event::Finish(match (completed, reason) {
            (true, _) if !self.calls.is_empty() => Finish::ToolCalls,
            (true, _) if self.refusals > 0 && self.texts == 0 => Finish::Refusal,
            (true, _) => Finish::Stop,
            (false, Some("max_output_tokens")) => Finish::Length,
            (false, Some("content_filter")) => Finish::ContentFilter,
            (false, _) => Finish::Pause,
        }));
    }

    /// Whether the terminal event's copy of an item has something the stream has not said.
    fn is_news(&self, index: u64, item: &Value) -> bool {
        let kind = item["type"].as_str();
        match self.items.get(&index) {
            None => !self.calls.iter().any(|id| item["call_id"] == **id),
            Some(Item::Done) => false,
            Some(Item::Message(_)) => kind == Some("message"),
            Some(Item::Reasoning(_)) => kind == Some("reasoning"),
            Some(Item::Call(call)) => self.calls.get(call.key).is_some_and(|id| item["call_id"] == **id),
        }
    }
}

impl Held {
    /// A cited page is a result, once.
    fn credit(&mut self, citation: &Citation) {
        let known = self.search.results.iter_mut().find(|known| known.url == citation.url);
        match known {
            Some(known) if known.title.is_empty() => known.title.clone_from(&citation.title),
            Some(_) => {}
            None => self.search.results.push(SearchResult {
                url: citation.url.clone(),
                title: citation.title.clone(),
                ..SearchResult::default()
            }),
        }
    }
}

/// The failure that an event speaks of, if it speaks of one.
pub(super) fn failure(kind: &str, event: &wire::Event) -> Option<Failure> {
    let fails = match kind {
        "response.failed" | "response.cancelled" | "error" => true,
        "" => event.get("error").is_some() || event.get("message").is_some(),
        _ => false,
    };
    let whole = || {
        event
            .fields()
            .map(|(name, _)| (name, event.value(name)))
            .collect::<Value>()
    };
    fails.then(|| upstream_failure::in_stream(&whole()))
}

/// A call's arguments or input, as text; some deployments send an object.
fn input_of(kind: ToolKind, item: &Value) -> String {
    let input = match kind {
        ToolKind::Function => &item["arguments"],
        ToolKind::Custom => &item["input"],
    };
    match input {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn citation(annotation: &Value) -> Option<Citation> {
    if annotation["type"] != "url_citation" {
        return None;
    }
    Some(Citation {
        url: annotation["url"].as_str()?.to_owned(),
        title: annotation["title"].as_str().unwrap_or_default().to_owned(),
        cited_text: String::new(),
        start: annotation["start_index"].as_u64(),
        end: annotation["end_index"].as_u64(),
    })
}

fn result(source: &Value) -> Option<SearchResult> {
    Some(SearchResult {
        url: source["url"].as_str()?.to_owned(),
        title: source["title"].as_str().unwrap_or_default().to_owned(),
        ..SearchResult::default()
    })
}

#[cfg(test)]
mod tests;
