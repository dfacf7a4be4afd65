//! Answers as Copilot streams them and requests as coding clients send them, made to measure. Invented words, real
//! shapes and sizes.

use copilot_proxy::protocol::Protocol::{self, Chat, Messages, Responses};
use serde_json::{Value, json};

/// Each client's protocol with each upstream's, those that are the same first.
pub const ROUTES: [(Protocol, Protocol); 9] = [
    (Chat, Chat),
    (Messages, Messages),
    (Responses, Responses),
    (Messages, Chat),
    (Messages, Responses),
    (Chat, Messages),
    (Chat, Responses),
    (Responses, Chat),
    (Responses, Messages),
];

/// An answer of some `events` events, each as it travels: mostly text, a tenth of it thinking, the last third two calls.
pub fn stream(protocol: Protocol, events: usize) -> Vec<String> {
    let pieces = || (0..events).map(move |at| Piece::at(at, events));
    match protocol {
        Protocol::Chat => chat(pieces()),
        Protocol::Messages => messages(pieces()),
        Protocol::Responses => responses(pieces()),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Piece {
    Thought,
    Text,
    /// Of one call's arguments: which call.
    Call(usize),
}

impl Piece {
    fn at(at: usize, of: usize) -> Self {
        match at * 30 / of.max(1) {
            0..3 => Self::Thought,
            3..20 => Self::Text,
            20..25 => Self::Call(0),
            _ => Self::Call(1),
        }
    }
}

const WORDS: [&str; 8] = [
    " the",
    " function",
    " returns\\n",
    " a",
    " borrowed",
    " slice",
    ",",
    " \\\"quoted\\\"",
];

fn word(at: usize) -> &'static str {
    WORDS[at % WORDS.len()]
}

fn chat(pieces: impl Iterator<Item = Piece>) -> Vec<String> {
    let chunk = |choices: &str, usage: &str| {
        format!(
            r#"data: {{"choices":[{choices}],"created":1764000000,"id":"chatcmpl-CfRkWqM2bYvN8sT1xZ4uLp0","model":"gpt-4.1-2025-04-14","object":"chat.completion.chunk","system_fingerprint":"fp_b3f1157249"{usage}}}"#
        ) + "\n\n"
    };
    let choice = |delta: &str| {
        format!(
            r#"{{"index":0,"content_filter_offsets":{{"check_offset":2180,"start_offset":2180,"end_offset":2312}},"content_filter_results":{{"hate":{{"filtered":false,"severity":"safe"}},"self_harm":{{"filtered":false,"severity":"safe"}}}},"delta":{delta}}}"#
        )
    };
    let mut open = None;
    let mut events: Vec<String> = pieces
        .enumerate()
        .map(|(at, piece)| {
            let word = word(at);
            let delta = match piece {
                Piece::Thought => format!(r#"{{"role":"assistant","content":null,"reasoning_text":"{word}"}}"#),
                Piece::Text => format!(r#"{{"role":"assistant","content":"{word}"}}"#),
                Piece::Call(call) if open.replace(call) != Some(call) => format!(
                    r#"{{"tool_calls":[{{"index":{call},"id":"call_{call}AbCdEfGh","type":"function","function":{{"name":"Read","arguments":"[1"}}}}]}}"#
                ),
                Piece::Call(call) => {
                    format!(r#"{{"tool_calls":[{{"index":{call},"function":{{"arguments":",{at}"}}}}]}}"#)
                }
            };
            chunk(&choice(&delta), "")
        })
        .collect();
    events.push(chunk(
        r#"{"index":0,"delta":{"content":null},"finish_reason":"tool_calls"}"#,
        "",
    ));
    let usage = r#","usage":{"completion_tokens":1000,"prompt_tokens":25000,"prompt_tokens_details":{"cached_tokens":24000},"total_tokens":26000}"#;
    events.push(chunk("", usage));
    events.push("data: [DONE]\n\n".into());
    events
}

fn messages(pieces: impl Iterator<Item = Piece>) -> Vec<String> {
    let mut events = Vec::new();
    let mut say =
        |kind: &str, rest: &str| events.push(format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n"));
    say(
        "message_start",
        r#","message":{"id":"msg_01AbCdEfGhIjKlMnOpQrStUv","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1000,"cache_creation_input_tokens":0,"cache_read_input_tokens":24000,"output_tokens":1}}"#,
    );
    let (mut open, mut index) = (None, 0);
    for (at, piece) in pieces.enumerate() {
        if open != Some(piece) {
            if open.is_some() {
                say("content_block_stop", &format!(r#","index":{index}"#));
                index += 1;
            }
            let block = match piece {
                Piece::Thought => r#"{"type":"thinking","thinking":"","signature":""}"#.into(),
                Piece::Text => r#"{"type":"text","text":""}"#.into(),
                Piece::Call(call) => {
                    format!(r#"{{"type":"tool_use","id":"toolu_{call}AbCd","name":"Read","input":{{}}}}"#)
                }
            };
            say(
                "content_block_start",
                &format!(r#","index":{index},"content_block":{block}"#),
            );
        }
        let word = word(at);
        let delta = match piece {
            Piece::Thought => format!(r#"{{"type":"thinking_delta","thinking":"{word}"}}"#),
            Piece::Text => format!(r#"{{"type":"text_delta","text":"{word}"}}"#),
            Piece::Call(_) => {
                let part = if open == Some(piece) {
                    format!(",{at}")
                } else {
                    "[1".into()
                };
                format!(r#"{{"type":"input_json_delta","partial_json":"{part}"}}"#)
            }
        };
        open = Some(piece);
        say("content_block_delta", &format!(r#","index":{index},"delta":{delta}"#));
    }
    say("content_block_stop", &format!(r#","index":{index}"#));
    say(
        "message_delta",
        r#","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":1000}"#,
    );
    say("message_stop", "");
    events
}

fn responses(pieces: impl Iterator<Item = Piece>) -> Vec<String> {
    let mut told = Told::default();
    let response = |status: &str, rest: &str| {
        format!(
            r#"{{"id":"resp_0123456789abcdef","object":"response","created_at":1764000000,"status":"{status}","model":"gpt-5.3-codex","output":[{rest}],"usage":{}}}"#,
            if rest.is_empty() {
                "null"
            } else {
                r#"{"input_tokens":25000,"input_tokens_details":{"cached_tokens":24000},"output_tokens":1000,"output_tokens_details":{"reasoning_tokens":100},"total_tokens":26000}"#
            }
        )
    };
    told.say(
        "response.created",
        &format!(r#""response":{}"#, response("in_progress", "")),
    );
    let (mut open, mut done) = (None, Vec::new());
    let mut so_far = String::new();
    for (at, piece) in pieces.enumerate() {
        if open != Some(piece) {
            if let Some(open) = open {
                done.push(told.close(open, done.len(), &std::mem::take(&mut so_far)));
            }
            told.open(piece, done.len());
        }
        let part = match piece {
            Piece::Call(_) if open == Some(piece) => format!(",{at}"),
            Piece::Call(_) => "[1".into(),
            _ => word(at).to_owned(),
        };
        so_far.push_str(&part);
        open = Some(piece);
        told.delta(piece, done.len(), &part);
    }
    if let Some(open) = open {
        done.push(told.close(open, done.len(), &so_far));
    }
    told.say(
        "response.completed",
        &format!(r#""response":{}"#, response("completed", &done.join(","))),
    );
    told.events
}

/// A Responses stream as it is told. The ids of items change with each event, as Copilot's do.
#[derive(Default)]
struct Told {
    events: Vec<String>,
}

impl Told {
    fn say(&mut self, kind: &str, rest: &str) {
        let number = self.events.len();
        self.events.push(format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},{rest}}}\n\n"
        ));
    }

    fn id(&self) -> String {
        format!("{:0>128}", self.events.len())
    }

    fn item(&self, piece: Piece, text: Option<&str>) -> String {
        let (id, status) = (self.id(), if text.is_some() { "completed" } else { "in_progress" });
        let text = text.unwrap_or_default();
        match piece {
            Piece::Thought => format!(
                r#"{{"id":"{id}","type":"reasoning","encrypted_content":"{}","summary":[{{"type":"summary_text","text":"{text}"}}]}}"#,
                "A".repeat(800)
            ),
            Piece::Text => format!(
                r#"{{"id":"{id}","type":"message","role":"assistant","status":"{status}","content":[{{"type":"output_text","text":"{text}","annotations":[]}}]}}"#
            ),
            Piece::Call(call) => format!(
                r#"{{"id":"{id}","type":"function_call","status":"{status}","name":"Read","call_id":"call_{call}AbCdEfGh","arguments":"{text}"}}"#
            ),
        }
    }

    fn open(&mut self, piece: Piece, index: usize) {
        let item = self.item(piece, None);
        self.say(
            "response.output_item.added",
            &format!(r#""output_index":{index},"item":{item}"#),
        );
    }

    fn delta(&mut self, piece: Piece, index: usize, part: &str) {
        let at = format!(r#""item_id":"{}","output_index":{index}"#, self.id());
        let salt = r#""obfuscation":"mD0w8dKq5""#;
        match piece {
            Piece::Thought => self.say(
                "response.reasoning_summary_text.delta",
                &format!(r#"{at},"summary_index":0,"delta":"{part}",{salt}"#),
            ),
            Piece::Text => self.say(
                "response.output_text.delta",
                &format!(r#"{at},"content_index":0,"delta":"{part}","logprobs":[],{salt}"#),
            ),
            Piece::Call(_) => self.say(
                "response.function_call_arguments.delta",
                &format!(r#"{at},"delta":"{part}",{salt}"#),
            ),
        }
    }

    fn close(&mut self, piece: Piece, index: usize, text: &str) -> String {
        let item = self.item(piece, Some(text));
        self.say(
            "response.output_item.done",
            &format!(r#""output_index":{index},"item":{item}"#),
        );
        item
    }
}

/// A request as Claude Code and its like send it, of about so many bytes: instructions, forty tools, and a history of
/// calls and their results.
pub fn request(protocol: Protocol, model: &str, bytes: usize) -> Value {
    let instructions = "You are a careful engineer. Read before you write.\n".repeat(bytes / 500);
    let tools = (0..40).map(|at| {
        let schema = json!({"type": "object", "additionalProperties": false, "required": ["path"], "properties": {
            "path": {"type": "string", "description": "an absolute path"},
            "limit": {"type": "integer", "description": "how many lines"},
            "mode": {"enum": ["read", "write"], "type": "string"}}});
        (format!("tool_{at}"), "Does one thing well. ".repeat(10), schema)
    });
    let result = "    let value = map.get(\"key\")?; // a line of a file\n".repeat(40);
    let turns = 0..bytes.saturating_sub(30_000) / 2_900;
    let call = |at: usize| format!("call_{at:08}");
    match protocol {
        Protocol::Messages => {
            let mut messages = vec![json!({"role": "user", "content": [{"type": "text", "text": "Fix the test."}]})];
            for at in turns {
                messages.push(json!({"role": "assistant", "content": [
                    {"type": "text", "text": "Let me look at the next file."},
                    {"type": "tool_use", "id": call(at), "name": "tool_1", "input": {"path": "/src/lib.rs", "limit": at}}]}));
                messages.push(json!({"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": call(at), "content": [{"type": "text", "text": result}]}]}));
            }
            if let Some(last) = messages.last_mut() {
                last["content"][0]["cache_control"] = json!({"type": "ephemeral"});
            }
            json!({
                "model": model, "max_tokens": 32000, "stream": true,
                "system": [
                    {"type": "text", "text": "You are a coding agent."},
                    {"type": "text", "text": instructions, "cache_control": {"type": "ephemeral"}}],
                "tools": tools.map(|(name, description, schema)|
                    json!({"name": name, "description": description, "input_schema": schema})).collect::<Vec<_>>(),
                "messages": messages,
                "metadata": {"user_id": "user_0123_account__session_0b0c"}})
        }
        Protocol::Chat => {
            let mut messages = vec![
                json!({"role": "system", "content": instructions}),
                json!({"role": "user", "content": "Fix the test."}),
            ];
            for at in turns {
                messages.push(
                    json!({"role": "assistant", "content": "Let me look at the next file.", "tool_calls": [
                    {"id": call(at), "type": "function",
                     "function": {"name": "tool_1", "arguments": "{\"path\":\"/src/lib.rs\",\"limit\":40}"}}]}),
                );
                messages.push(json!({"role": "tool", "tool_call_id": call(at), "content": result}));
            }
            json!({
                "model": model, "max_tokens": 32000, "stream": true, "stream_options": {"include_usage": true},
                "tools": tools.map(|(name, description, schema)| json!({"type": "function", "function":
                    {"name": name, "description": description, "parameters": schema}})).collect::<Vec<_>>(),
                "messages": messages})
        }
        Protocol::Responses => {
            let mut input = vec![json!({"type": "message", "role": "user",
                "content": [{"type": "input_text", "text": "Fix the test."}]})];
            for at in turns {
                input.push(json!({"type": "message", "role": "assistant",
                    "content": [{"type": "output_text", "text": "Let me look at the next file."}]}));
                input.push(json!({"type": "function_call", "call_id": call(at), "name": "tool_1",
                    "arguments": "{\"path\":\"/src/lib.rs\",\"limit\":40}"}));
                input.push(json!({"type": "function_call_output", "call_id": call(at), "output": result}));
            }
            json!({
                "model": model, "max_output_tokens": 32000, "stream": true, "store": false,
                "instructions": instructions,
                "tools": tools.map(|(name, description, schema)| json!({"type": "function", "name": name,
                    "description": description, "parameters": schema, "strict": false})).collect::<Vec<_>>(),
                "input": input})
        }
    }
}
