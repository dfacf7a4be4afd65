//! What a Messages and a Responses client see of a chat upstream, event by event.

use serde_json::{Value, json};

use super::*;
use crate::protocol::failure::Kind;
use crate::protocol::sse::Frame;
use crate::translate::carrier::Carrier;
use crate::translate::{ClientTool, ToolShape};

fn reply() -> Reply {
    Reply {
        model: "claude-sonnet-4-5-20250929".into(),
        ran: "claude-sonnet-4.5".into(),
        ..Reply::default()
    }
}

fn thinking() -> Reply {
    Reply {
        show_reasoning: true,
        ..reply()
    }
}

fn chunk(delta: Value) -> Value {
    json!({"id": "c", "created": 7, "choices": [{"index": 0, "delta": delta}]})
}

fn finish(reason: &str) -> Value {
    json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
}

fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
}

fn more(index: u64, arguments: &str) -> Value {
    json!({"index": index, "function": {"arguments": arguments}})
}

fn calls(calls: Value) -> Value {
    chunk(json!({"tool_calls": calls}))
}

/// The client's events, and the translator after them.
fn events(client: Protocol, reply: Reply, chunks: &[Value]) -> (Vec<Value>, Box<dyn Translator>) {
    let mut translator = translator(client, Chat, reply, Ids::new("r", 1));
    let mut out = Vec::new();
    for chunk in chunks {
        translator.feed(Frame::data(chunk.to_string()), &mut out).unwrap();
    }
    translator.feed(Frame::data("[DONE]"), &mut out).unwrap();
    if !translator.is_over() {
        translator.end(&mut out).unwrap();
    }
    assert!(translator.is_over());
    let read = |frame: &Frame| {
        let event: Value = serde_json::from_slice(&frame.data).unwrap();
        assert_eq!(frame.name.as_deref(), event["type"].as_str().map(str::as_bytes));
        event
    };
    (out.iter().map(read).collect(), translator)
}

fn messages(reply: Reply, chunks: &[Value]) -> Vec<Value> {
    events(Messages, reply, chunks).0
}

/// The blocks that the events amount to, each with its deltas joined.
fn blocks(events: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut open = false;
    for event in events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(!open && event["index"] == blocks.len());
                open = true;
                blocks.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                assert!(open && event["index"] == blocks.len() - 1);
                let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                for (field, piece) in [
                    ("text", "text"),
                    ("thinking", "thinking"),
                    ("signature", "signature"),
                    ("json", "partial_json"),
                ] {
                    if let Some(piece) = delta[piece].as_str() {
                        let before = block[field].as_str().unwrap_or_default();
                        block[field] = json!(format!("{before}{piece}"));
                    }
                }
            }
            "content_block_stop" => assert!(std::mem::take(&mut open)),
            _ => continue,
        }
    }
    assert!(
        blocks.is_empty()
            || events
                .iter()
                .filter(|event| event["type"] == "content_block_stop")
                .count()
                == blocks.len()
    );
    blocks
}

fn last_delta(events: &[Value]) -> &Value {
    events.iter().rfind(|event| event["type"] == "message_delta").unwrap()
}

fn stop_reason(events: &[Value]) -> &str {
    last_delta(events)["delta"]["stop_reason"].as_str().unwrap()
}

#[test]
fn k060_k074_k077_k078_text_a_call_and_what_they_cost() {
    let told = messages(
        reply(),
        &[
            json!({"choices": [], "created": 0, "id": "", "prompt_filter_results": []}),
            chunk(json!({"content": "a"})),
            calls(json!([call(0, "t", "f", "{}")])),
            finish("tool_calls"),
            json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105,
                "prompt_tokens_details": {"cached_tokens": 80}}}),
        ],
    );
    let kinds: Vec<&str> = told.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(told[0]["message"]["model"], "claude-sonnet-4-5-20250929");
    let blocks = blocks(&told);
    assert_eq!((&blocks[0]["text"], &blocks[1]["name"]), (&json!("a"), &json!("f")));
    assert_eq!(stop_reason(&told), "tool_use");
    let usage = &last_delta(&told)["usage"];
    assert_eq!(
        (
            &usage["input_tokens"],
            &usage["cache_read_input_tokens"],
            &usage["cache_creation_input_tokens"],
            &usage["output_tokens"]
        ),
        (&json!(20), &json!(80), &json!(0), &json!(5))
    );
}

#[test]
fn k061_choices_become_one_answer() {
    let told = messages(
        reply(),
        &[
            json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}),
            json!({"id": "c", "choices": [{"index": 1, "delta": {"tool_calls": [call(0, "t", "f", "{}")]}, "finish_reason": "tool_calls"}]}),
        ],
    );
    assert_eq!((blocks(&told).len(), stop_reason(&told)), (2, "tool_use"));
}

#[test]
fn k062_k063_k064_k087_the_ending() {
    let ends = |chunks: &[Value]| stop_reason(&messages(reply(), chunks)).to_owned();
    assert_eq!(
        ends(&[calls(json!([call(0, "t", "f", "{}")])), finish("stop")]),
        "tool_use"
    );
    assert_eq!(ends(&[finish("tool_calls")]), "end_turn");
    assert_eq!(ends(&[finish("content_filter")]), "refusal");
    assert_eq!(ends(&[finish("length")]), "max_tokens");
    let told = messages(reply(), &[finish("stop")]);
    assert!(blocks(&told).is_empty() && stop_reason(&told) == "end_turn");
    assert_eq!(told.last().unwrap()["type"], "message_stop");
}

#[test]
fn k065_k066_k067_k068_k069_k070_calls_come_whole_and_one_after_the_other() {
    let arguments = |chunks: &[Value]| -> Vec<String> {
        let told = messages(reply(), chunks);
        let text = |block: &Value| {
            format!(
                "{} {}",
                block["id"].as_str().unwrap(),
                block["json"].as_str().unwrap_or("-")
            )
        };
        blocks(&told).iter().map(text).collect()
    };
    let late = [
        calls(json!([{"index": 0, "function": {"name": "f", "arguments": "{\"a\""}}])),
        calls(json!([{"index": 0, "id": "t"}])),
        calls(json!([more(0, ":1}")])),
        finish("tool_calls"),
    ];
    assert_eq!(arguments(&late), ["t {\"a\":1}"]);
    let mixed = [
        calls(json!([call(0, "a", "f", "{\"x\"")])),
        calls(json!([call(1, "b", "g", "{\"y\"")])),
        calls(json!([more(0, ":1}")])),
        calls(json!([more(1, ":2}")])),
        finish("tool_calls"),
    ];
    assert_eq!(arguments(&mixed), ["a {\"x\":1}", "b {\"y\":2}"]);
    let at_once = [
        calls(json!([call(0, "a", "f", "{}"), call(1, "b", "g", "{\"y\":2}")])),
        finish("tool_calls"),
    ];
    assert_eq!(arguments(&at_once), ["a {}", "b {\"y\":2}"]);
    let none = [
        calls(json!([{"index": 0, "id": "a", "function": {"name": "f"}}])),
        finish("tool_calls"),
    ];
    assert_eq!(arguments(&none), ["a -"]);
    let whole = calls(json!([call(0, "a", "f", "{\"x\":1}")]));
    assert_eq!(
        arguments(&[whole.clone(), whole.clone(), finish("tool_calls")]),
        ["a {\"x\":1}"]
    );
    let again = calls(json!([call(0, "b", "f", "{\"x\":2}")]));
    assert_eq!(
        arguments(&[whole, again, finish("tool_calls")]),
        ["a {\"x\":1}", "b {\"x\":2}"]
    );
}

#[test]
fn k071_text_after_a_call_is_another_block() {
    let told = messages(
        reply(),
        &[
            calls(json!([call(0, "t", "f", "{}")])),
            chunk(json!({"content": "b"})),
            finish("tool_calls"),
        ],
    );
    let kinds: Vec<Value> = blocks(&told).iter().map(|block| block["type"].clone()).collect();
    assert_eq!(kinds, ["tool_use", "text"]);
}

#[test]
fn k072_k073_reasoning_state_travels_as_a_carrier() {
    let opaque = |block: &Value, slot: &str| match Carrier::decode(block[slot].as_str().unwrap()) {
        Some(Carrier::Opaque { opaque, .. }) => opaque,
        other => panic!("{other:?}"),
    };
    let told = [
        chunk(json!({"reasoning_text": "hm"})),
        chunk(json!({"content": "", "reasoning_opaque": "S"})),
        chunk(json!({"content": "a"})),
        calls(json!([call(0, "t", "f", "{}")])),
        finish("tool_calls"),
    ];
    let shown = blocks(&messages(thinking(), &told));
    assert_eq!(
        (&shown[0]["thinking"], opaque(&shown[0], "signature")),
        (&json!("hm"), "S".into())
    );
    assert_eq!(shown[1]["text"], "a");
    let (hidden, translator) = events(Messages, reply(), &told);
    assert_eq!(blocks(&hidden)[0]["type"], "text");
    let (id, kept) = &translator.heard().kept[0];
    assert_eq!((id.as_str(), kept.text.as_str(), kept.carriers.len()), ("t", "hm", 1));
    let late = [
        chunk(json!({"content": "a"})),
        json!({"id": "c", "choices": [{"delta": {"reasoning_opaque": "S"}, "finish_reason": "stop"}]}),
    ];
    let shown = blocks(&messages(thinking(), &late));
    assert_eq!(shown[1]["type"], "redacted_thinking");
    assert_eq!(opaque(&shown[1], "data"), "S");
}

#[test]
fn k075_k076_usage_never_fails() {
    let odd = json!({"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}});
    let told = messages(
        reply(),
        &[json!({"id": "c", "choices": [{"delta": {}, "finish_reason": "stop"}], "usage": odd})],
    );
    assert_eq!(last_delta(&told)["usage"]["input_tokens"], 0);
    let told = messages(reply(), &[finish("stop")]);
    assert!(
        last_delta(&told)["usage"]["input_tokens"].is_u64() && told[0]["message"]["usage"]["output_tokens"].is_u64()
    );
}

#[test]
fn a_cut_stream_has_no_ending() {
    let mut translator = translator(Messages, Chat, reply(), Ids::new("r", 1));
    let mut out = Vec::new();
    let cut = calls(json!([call(0, "t", "f", "{\"a\"")]));
    translator.feed(Frame::data(cut.to_string()), &mut out).unwrap();
    let failure = translator.end(&mut out).unwrap_err();
    assert_eq!(failure.kind, Kind::Stream);
    translator.fail(&failure, &mut out);
    let last: Value = serde_json::from_slice(&out.last().unwrap().data).unwrap();
    assert_eq!(last["type"], "error");
}

fn shaped(name: &str, shape: ToolShape) -> Reply {
    let tool = ClientTool {
        name: name.into(),
        namespace: None,
        shape,
    };
    Reply {
        tools: [(name.to_owned(), tool)].into(),
        ..reply()
    }
}

fn items(reply: Reply, chunks: &[Value]) -> Vec<Value> {
    let (told, _) = events(Responses, reply, chunks);
    for (at, event) in told.iter().enumerate() {
        assert_eq!(event["sequence_number"], at, "K119");
    }
    let last = told.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let usage = &last["response"]["usage"];
    assert!(usage.is_null() || usage["total_tokens"].is_u64());
    let done: Vec<Value> = told
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .map(|event| event["item"].clone())
        .collect();
    assert_eq!(last["response"]["output"], json!(done));
    done
}

#[test]
fn k115_k116_a_freeform_call_comes_back_as_one() {
    let reply = shaped("apply_patch", ToolShape::Custom);
    for arguments in ["{\"input\":\"*** Begin\\nx\"}", "*** Begin\nx"] {
        let chunks = [
            calls(json!([call(0, "c", "apply_patch", arguments)])),
            finish("tool_calls"),
        ];
        let item = &items(reply.clone(), &chunks)[0];
        assert_eq!(
            (&item["type"], &item["name"]),
            (&json!("custom_tool_call"), &json!("apply_patch"))
        );
        assert_eq!(
            (&item["input"], &item["status"]),
            (&json!("*** Begin\nx"), &json!("completed"))
        );
    }
}

#[test]
fn k117_a_local_shell_call_comes_back_as_one() {
    let chunks = [
        calls(json!([call(0, "c", "local_shell", "{\"command\":\"ls\"}")])),
        finish("tool_calls"),
    ];
    let item = &items(shaped("local_shell", ToolShape::LocalShell), &chunks)[0];
    assert_eq!(item["type"], "local_shell_call");
    assert_eq!(item["action"]["command"], json!(["bash", "-lc", "ls"]));
}

#[test]
fn k118_k119_calls_keep_their_ids_and_events_their_order() {
    let chunks = [
        chunk(json!({"content": "a"})),
        calls(json!([call(0, "call_9", "f", "{}")])),
        json!({"id": "c", "choices": [{"delta": {}, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}),
    ];
    let items = items(reply(), &chunks);
    assert_eq!(
        (&items[0]["type"], &items[1]["call_id"]),
        (&json!("message"), &json!("call_9"))
    );
    assert!(items[1]["id"].as_str().unwrap().starts_with("fc_"));
}
