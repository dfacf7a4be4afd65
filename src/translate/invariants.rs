//! What a client may count on in a stream, per protocol: the grammar of what is sent to it. Knows frames; not who
//! wrote them, nor what they mean.
//!
//! It is the measure of the tests: a stream that reached a client satisfies [`check`], whatever upstream sent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::rules::list;
use crate::protocol::sse::Frame;
use crate::protocol::{Dialect, Protocol};

/// How a well-formed stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By the protocol's own ending.
    Complete,
    /// By a failure said in the protocol's form.
    Failed,
}

/// Holds a whole stream to its protocol's grammar; in words, what it breaks.
pub fn check(client: impl Into<Dialect>, frames: &[Frame]) -> Result<Ending, String> {
    match client.into() {
        Dialect::Of(Protocol::Chat) => chat(frames),
        Dialect::Of(Protocol::Messages) => messages(frames),
        Dialect::Of(Protocol::Responses) => responses(frames),
        Dialect::Gemini => gemini(frames),
    }
}

/// A rule: where it does not hold, the stream is broken at this event.
fn hold(rule: bool, what: &str, event: &Value) -> Result<(), String> {
    if rule { Ok(()) } else { Err(format!("{what}: {event}")) }
}

/// The events of a stream whose frames are named as their data is typed.
fn typed(frames: &[Frame]) -> Result<Vec<Value>, String> {
    let read = |frame: &Frame| {
        let event: Value = serde_json::from_slice(&frame.data).map_err(|error| error.to_string())?;
        let name = frame.name.as_deref();
        hold(
            name.is_some() && name == event["type"].as_str().map(str::as_bytes),
            "a name that is not its type",
            &event,
        )?;
        Ok(event)
    };
    frames.iter().map(read).collect()
}

/// `message_start`; blocks one after the other, indexed from 0, each opened and closed once; `message_delta`,
/// `message_stop`. An `error` may come instead of any of the rest.
fn messages(frames: &[Frame]) -> Result<Ending, String> {
    let events = typed(frames)?;
    let (mut open, mut next, mut told) = (None, 0, false);
    for (at, event) in events.iter().enumerate() {
        let last = at + 1 == events.len();
        let kind = event["type"].as_str().unwrap_or_default();
        hold(
            at > 0 || ["message_start", "error"].contains(&kind),
            "no beginning",
            event,
        )?;
        let here = || event["index"].as_u64();
        match kind {
            "message_start" => {
                hold(at == 0, "a second beginning", event)?;
                let usage = &event["message"]["usage"];
                let counted = usage["input_tokens"].is_u64() && usage["output_tokens"].is_u64();
                hold(counted, "no counts", event)?;
                hold(
                    list(&event["message"]["content"]).is_empty(),
                    "content before its blocks",
                    event,
                )?;
            }
            "ping" => {}
            "content_block_start" => {
                hold(
                    open.is_none() && !told && here() == Some(next),
                    "a block out of turn",
                    event,
                )?;
                open = Some((next, block_kind(event)));
                next += 1;
            }
            "content_block_delta" => {
                let (index, block) = open.ok_or_else(|| format!("no block is open: {event}"))?;
                let delta = event["delta"]["type"].as_str().unwrap_or_default();
                hold(here() == Some(index), "another block's delta", event)?;
                hold(deltas_of(block).contains(&delta), "a delta of another kind", event)?;
            }
            "content_block_stop" => {
                let (index, _) = open.take().ok_or_else(|| format!("no block is open: {event}"))?;
                hold(here() == Some(index), "another block's stop", event)?;
            }
            "message_delta" => {
                hold(
                    open.is_none() && !told,
                    "an ending before its time, or a second one",
                    event,
                )?;
                hold(event["delta"]["stop_reason"].is_string(), "no reason to stop", event)?;
                hold(event["usage"]["output_tokens"].is_u64(), "no usage", event)?;
                told = true;
            }
            "message_stop" => {
                hold(told && last, "a stop without its reason, or not the last", event)?;
                return Ok(Ending::Complete);
            }
            "error" => {
                hold(last, "something follows the error", event)?;
                hold(
                    event["error"]["type"].is_string() && event["error"]["message"].is_string(),
                    "an error without words",
                    event,
                )?;
                return Ok(Ending::Failed);
            }
            _ => return Err(format!("an unknown event: {event}")),
        }
    }
    Err("the stream has no ending".into())
}

/// What kind of block an event opens, as far as its deltas go.
fn block_kind(event: &Value) -> &'static str {
    match event["content_block"]["type"].as_str().unwrap_or_default() {
        "text" => "text",
        "thinking" => "thinking",
        "tool_use" | "server_tool_use" => "tool_use",
        _ => "other",
    }
}

fn deltas_of(block: &str) -> &'static [&'static str] {
    match block {
        "text" => &["text_delta", "citations_delta"],
        "thinking" => &["thinking_delta", "signature_delta"],
        "tool_use" => &["input_json_delta"],
        _ => &[],
    }
}

/// Chunks of one answer under one id: the role once and first, calls told by contiguous indexes and named once, one
/// reason to finish, nothing after it but the usage, `[DONE]` at the end. An `error` may come instead of any of it.
fn chat(frames: &[Frame]) -> Result<Ending, String> {
    let Some((done, chunks)) = frames.split_last() else {
        return Err("the stream is empty".into());
    };
    if !done.is_done() {
        return Err("no [DONE] at the end".into());
    }
    let (mut first, mut finished, mut calls) = (Value::Null, false, 0);
    for (at, frame) in chunks.iter().enumerate() {
        let chunk: Value = serde_json::from_slice(&frame.data).map_err(|error| error.to_string())?;
        hold(frame.name.is_none(), "a chunk has no name", &chunk)?;
        if !chunk["error"].is_null() {
            hold(at + 1 == chunks.len(), "something follows the error", &chunk)?;
            hold(chunk["error"]["message"].is_string(), "an error without words", &chunk)?;
            return Ok(Ending::Failed);
        }
        hold(
            chunk["object"] == "chat.completion.chunk" && chunk["created"].is_u64(),
            "not a chunk",
            &chunk,
        )?;
        hold(chunk["id"].as_str().is_some_and(|id| !id.is_empty()), "no id", &chunk)?;
        if at == 0 {
            first = chunk.clone();
        }
        for key in ["id", "created", "model"] {
            hold(chunk[key] == first[key], "another answer's chunk", &chunk)?;
        }
        let choice = match list(&chunk["choices"]) {
            [] => {
                hold(finished && chunk["usage"].is_object(), "a chunk of nothing", &chunk)?;
                continue;
            }
            [choice] => choice,
            _ => return Err(format!("several choices: {chunk}")),
        };
        hold(!finished, "something follows the finish", &chunk)?;
        hold(choice["index"] == 0, "another choice", &chunk)?;
        let delta = &choice["delta"];
        hold(
            (delta["role"] == "assistant") == (at == 0),
            "the role is told once, at first",
            &chunk,
        )?;
        for call in list(&delta["tool_calls"]) {
            let index = call["index"].as_u64().ok_or_else(|| format!("no index: {chunk}"))?;
            let opens = call["id"].is_string();
            let expected = if opens { index == calls } else { index < calls };
            hold(expected, "a call out of turn", &chunk)?;
            let named = call["function"]["name"].is_string() || call["custom"]["name"].is_string();
            hold(opens == named, "a call is named once, as it opens", &chunk)?;
            calls += u64::from(opens);
        }
        finished = choice["finish_reason"].is_string();
    }
    if finished {
        Ok(Ending::Complete)
    } else {
        Err("no reason to finish".into())
    }
}

/// The parts of one item of a Responses stream, while it is open.
#[derive(Default)]
struct Item {
    id: String,
    done: Option<Value>,
    /// What the deltas of each part add up to.
    parts: BTreeMap<String, String>,
    closed: BTreeSet<String>,
}

/// One response under one id, its events numbered without a gap; items indexed in the order they are added, each
/// under one id and done once; deltas that add up to what is then said to be whole; a terminal event that repeats
/// the items as they were done.
fn responses(frames: &[Frame]) -> Result<Ending, String> {
    let events = typed(frames)?;
    let mut items: Vec<Item> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let last = at + 1 == events.len();
        let kind = event["type"].as_str().unwrap_or_default();
        hold(
            event["sequence_number"].as_u64() == Some(at as u64),
            "a gap in the numbers",
            event,
        )?;
        hold(
            at > 0 || ["response.created", "error"].contains(&kind),
            "no beginning",
            event,
        )?;
        if event["response"].is_object() {
            let same = event["response"]["id"] == events[0]["response"]["id"];
            hold(same && event["response"]["id"].is_string(), "another response", event)?;
        }
        match kind {
            "response.created" => hold(at == 0, "a second beginning", event)?,
            "response.output_item.added" => {
                hold(
                    event["output_index"].as_u64() == Some(items.len() as u64),
                    "an item out of turn",
                    event,
                )?;
                let id = event["item"]["id"].as_str().unwrap_or_default().to_owned();
                hold(!id.is_empty(), "an item without an id", event)?;
                items.push(Item { id, ..Item::default() });
            }
            "response.completed" | "response.incomplete" => {
                hold(last, "something follows the end", event)?;
                let done: Option<Vec<&Value>> = items.iter().map(|item| item.done.as_ref()).collect();
                let output: Vec<&Value> = list(&event["response"]["output"]).iter().collect();
                hold(done == Some(output), "the output is not what was streamed", event)?;
                let usage = &event["response"]["usage"];
                let counts = ["input_tokens", "output_tokens", "total_tokens"];
                let counted = usage.is_null() || counts.iter().all(|key| usage[*key].is_u64());
                hold(counted, "usage without its counts", event)?;
                return Ok(Ending::Complete);
            }
            "response.failed" | "error" => {
                hold(last, "something follows the failure", event)?;
                return Ok(Ending::Failed);
            }
            _ => match event["output_index"].as_u64() {
                Some(index) => {
                    let item = usize::try_from(index).ok().and_then(|index| items.get_mut(index));
                    inside(kind, event, item.ok_or_else(|| format!("no such item: {event}"))?)?;
                }
                None => hold(event["item_id"].is_null(), "an item without its index", event)?,
            },
        }
    }
    Err("the stream has no ending".into())
}

/// An event inside an item.
fn inside(kind: &str, event: &Value, item: &mut Item) -> Result<(), String> {
    hold(item.done.is_none(), "the item is done", event)?;
    if kind == "response.output_item.done" {
        hold(event["item"]["id"] == *item.id, "another item's id", event)?;
        item.done = Some(event["item"].clone());
        return Ok(());
    }
    hold(event["item_id"] == *item.id, "another item's id", event)?;
    let part = format!("{}/{}", event["content_index"], event["summary_index"]);
    let stands = item.parts.contains_key(&part);
    // Arguments and input have no parts: they begin with their first piece.
    let whole = kind.contains("arguments") || kind.contains("input");
    if kind.ends_with("part.added") {
        hold(!stands, "the part stands already", event)?;
        item.parts.insert(part, String::new());
    } else if kind.ends_with("part.done") {
        hold(stands, "no such part", event)?;
        hold(item.closed.insert(part), "the part is done", event)?;
    } else if kind.ends_with(".delta") {
        let delta = event["delta"].as_str().ok_or_else(|| format!("no delta: {event}"))?;
        hold(whole || stands, "no such part", event)?;
        hold(!item.closed.contains(&part), "the part is done", event)?;
        item.parts.entry(part).or_default().push_str(delta);
    } else if kind.ends_with(".done") {
        let said = ["text", "refusal", "arguments", "input"]
            .iter()
            .find_map(|key| event[*key].as_str());
        let grown = item.parts.get(&part).map(String::as_str).unwrap_or_default();
        hold(said == Some(grown), "not what the deltas amount to", event)?;
    }
    Ok(())
}

/// Chunks of one answer, each with parts; the last, and no other, says how it ended and what it cost. An `error` may
/// come instead of any.
fn gemini(frames: &[Frame]) -> Result<Ending, String> {
    let mut first = Value::Null;
    for (at, frame) in frames.iter().enumerate() {
        let last = at + 1 == frames.len();
        let chunk: Value = serde_json::from_slice(&frame.data).map_err(|error| error.to_string())?;
        hold(frame.name.is_none(), "a chunk has no name", &chunk)?;
        if let Value::Object(error) = &chunk["error"] {
            let whole = ["code", "message", "status"]
                .iter()
                .all(|name| error.contains_key(*name));
            hold(last && whole, "an error that is no ending", &chunk)?;
            return Ok(Ending::Failed);
        }
        if at == 0 {
            first = chunk.clone();
        }
        for key in ["responseId", "modelVersion"] {
            let same = chunk[key].is_string() && chunk[key] == first[key];
            hold(same && chunk["responseId"] != "", "another answer's chunk", &chunk)?;
        }
        let [candidate] = list(&chunk["candidates"]) else {
            return Err(format!("not one candidate: {chunk}"));
        };
        let parts = list(&candidate["content"]["parts"]);
        hold(candidate["content"]["role"] == "model", "not the model's", &chunk)?;
        hold(!parts.is_empty(), "a chunk of nothing", &chunk)?;
        for part in parts {
            let call = &part["functionCall"];
            let is_call = call["name"].is_string() && call["args"].is_object();
            hold(part["text"].is_string() || is_call, "neither text nor a call", part)?;
        }
        let ends = candidate["finishReason"].is_string();
        hold(ends == last, "the last chunk, and no other, ends the answer", &chunk)?;
        hold(
            chunk["usageMetadata"].is_object() == last,
            "the last chunk tells the cost",
            &chunk,
        )?;
    }
    if frames.is_empty() {
        return Err("the stream is empty".into());
    }
    Ok(Ending::Complete)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(events: Vec<Value>) -> Vec<Frame> {
        let frame = |event: Value| Frame {
            name: Some(event["type"].as_str().unwrap().to_owned().into()),
            data: event.to_string().into(),
        };
        events.into_iter().map(frame).collect()
    }

    /// Each stream holds as it is, and no longer once any one of its events but those is missing or doubled.
    fn holds_only_whole(client: Protocol, frames: Vec<Frame>, may_miss: &[usize], may_double: &[usize]) {
        assert_eq!(check(client, &frames), Ok(Ending::Complete));
        for at in 0..frames.len() {
            let (mut fewer, mut more) = (frames.clone(), frames.clone());
            fewer.remove(at);
            more.insert(at, frames[at].clone());
            assert_eq!(check(client, &fewer).is_ok(), may_miss.contains(&at), "without {at}");
            assert_eq!(check(client, &more).is_ok(), may_double.contains(&at), "twice {at}");
        }
    }

    #[test]
    fn a_messages_stream_is_whole_or_nothing() {
        let usage = json!({"input_tokens": 1, "output_tokens": 1});
        let frames = named(vec![
            json!({"type": "message_start", "message": {"usage": usage}}),
            json!({"type": "ping"}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}),
            json!({"type": "message_stop"}),
        ]);
        holds_only_whole(Protocol::Messages, frames, &[1, 3], &[1, 3]);
    }

    #[test]
    fn a_chat_stream_is_whole_or_nothing() {
        let chunk = |delta: Value, finish: Value| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "choices": [choice]});
            Frame::data(chunk.to_string())
        };
        let call = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]});
        let frames = vec![
            chunk(json!({"role": "assistant"}), Value::Null),
            chunk(call, Value::Null),
            chunk(
                json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
                Value::Null,
            ),
            chunk(json!({}), json!("tool_calls")),
            Frame::data("[DONE]"),
        ];
        holds_only_whole(Protocol::Chat, frames, &[2], &[2]);
    }

    #[test]
    fn a_gemini_stream_is_whole_or_nothing() {
        let chunk = |part: Value, finish: Value, usage: Value| {
            let content = json!({"role": "model", "parts": [part]});
            let candidate = json!({"content": content, "finishReason": finish, "index": 0});
            let chunk =
                json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r"});
            Frame::data(chunk.to_string())
        };
        let call = json!({"functionCall": {"id": "a", "name": "f", "args": {}}});
        let frames = vec![
            chunk(json!({"text": "a"}), Value::Null, Value::Null),
            chunk(call, Value::Null, Value::Null),
            chunk(json!({"text": ""}), json!("STOP"), json!({})),
        ];
        assert_eq!(check(Dialect::Gemini, &frames), Ok(Ending::Complete));
        assert!(check(Dialect::Gemini, &frames[..2]).is_err() && check(Dialect::Gemini, &[]).is_err());
        assert!(check(Dialect::Gemini, &[&frames[..], &frames[2..]].concat()).is_err());
        let failed = json!({"error": {"code": 502, "message": "x", "status": "INTERNAL"}});
        let failed = [&frames[..2], &[Frame::data(failed.to_string())]].concat();
        assert_eq!(check(Dialect::Gemini, &failed), Ok(Ending::Failed));
    }

    #[test]
    fn a_responses_stream_is_whole_or_nothing() {
        let item = json!({"id": "fc_1", "type": "function_call"});
        let mut events = vec![
            json!({"type": "response.created", "response": {"id": "r"}}),
            json!({"type": "response.output_item.added", "output_index": 0, "item": item}),
            json!({"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc_1", "delta": "{}"}),
            json!({"type": "response.function_call_arguments.done", "output_index": 0, "item_id": "fc_1", "arguments": "{}"}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
            json!({"type": "response.completed", "response": {"id": "r", "output": [item]}}),
        ];
        for (at, event) in events.iter_mut().enumerate() {
            event["sequence_number"] = json!(at);
        }
        holds_only_whole(Protocol::Responses, named(events), &[], &[]);
    }
}
