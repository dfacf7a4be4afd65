//! What clients see of a Responses upstream, event by event.

use serde_json::{Value, json};

use super::*;
use crate::protocol::failure::Kind;
use crate::protocol::sse::Frame;
use crate::translate::to_responses::tests::well_formed;
use crate::translate::{ClientTool, fold};

fn reply() -> Reply {
    Reply {
        model: "asked".into(),
        ran: "gpt-5.4".into(),
        show_reasoning: true,
        ..Reply::default()
    }
}

fn created() -> Value {
    json!({"type": "response.created", "response": {"id": "up", "created_at": 7}})
}

fn added(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

fn done(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn text(index: u64, piece: &str) -> Value {
    json!({"type": "response.output_text.delta", "output_index": index, "content_index": 0, "delta": piece})
}

fn call(arguments: &str) -> Value {
    json!({"type": "function_call", "id": "raw", "call_id": "call_1", "name": "f", "arguments": arguments})
}

fn arguments(index: u64, piece: &str) -> Value {
    json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": piece})
}

fn completed() -> Value {
    json!({"type": "response.completed", "response": {"status": "completed", "output": [], "usage": {
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5, "total_tokens": 15}}})
}

fn cut() -> Value {
    json!({"type": "response.incomplete", "response": {"status": "incomplete", "output": [],
        "incomplete_details": {"reason": "max_output_tokens"}, "usage": {"input_tokens": 1, "output_tokens": 2}}})
}

/// The client's frames, and how the stream ended.
fn frames(client: Protocol, reply: Reply, events: &[Value]) -> (Vec<Frame>, Result<(), Failure>) {
    let mut translator = translator(client, Responses, reply, Ids::new("r", 1));
    let mut out = Vec::new();
    for event in events {
        if translator.is_over() {
            break;
        }
        if let Err(failure) = translator.feed(Frame::data(event.to_string()), &mut out) {
            return (out, Err(failure));
        }
    }
    let end = if translator.is_over() {
        Ok(())
    } else {
        translator.end(&mut out)
    };
    (out, end)
}

/// The client's events of a stream that ends well.
fn told(client: Protocol, reply: Reply, events: &[Value]) -> Vec<Value> {
    let (frames, end) = frames(client, reply, events);
    end.unwrap();
    let read = |frame: &Frame| serde_json::from_slice(&frame.data).ok();
    frames.iter().filter_map(read).collect()
}

/// The whole answer that a stream amounts to.
fn gathered(client: Protocol, reply: Reply, events: &[Value]) -> Value {
    let (frames, end) = frames(client, reply, events);
    end.unwrap();
    let mut gather = fold::gather(client);
    frames.iter().for_each(|frame| gather.feed(frame).unwrap());
    gather.finish().unwrap()
}

#[test]
fn k081_reasoning_is_one_block_with_a_carrier() {
    let answer = gathered(
        Messages,
        reply(),
        &[
            created(),
            done(
                0,
                json!({"type": "reasoning", "id": "i", "encrypted_content": "e",
                    "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]}),
            ),
            done(1, call("{}")),
            completed(),
        ],
    );
    let block = &answer["content"][0];
    assert_eq!(
        (&block["type"], &block["thinking"]),
        (&json!("thinking"), &json!("one\n\ntwo"))
    );
    assert!(block["signature"].as_str().unwrap().starts_with("cpx1.r."));
    assert_eq!(answer["content"].as_array().unwrap().len(), 2);
    assert_eq!(answer["usage"]["input_tokens"], 6);
}

#[test]
fn k082_k083_a_call_is_one_block_whatever_its_events_say() {
    let all = "{\"a\":1}";
    let events = [
        created(),
        added(0, call("")),
        json!({"type": "response.function_call_arguments.done", "output_index": 0, "item_id": "other", "arguments": all}),
        done(0, call(all)),
        completed(),
    ];
    let answer = gathered(Messages, reply(), &events);
    assert_eq!(
        answer["content"],
        json!([{"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}])
    );
    assert_eq!(answer["stop_reason"], "tool_use");
}

#[test]
fn k084_a_cut_call_stops_at_max_tokens() {
    let events = [
        created(),
        text(0, "x"),
        added(1, call("")),
        arguments(1, "{\"a\":"),
        cut(),
    ];
    let answer = gathered(Messages, reply(), &events);
    assert_eq!(answer["stop_reason"], "max_tokens");
    assert_eq!(answer["content"], json!([{"type": "text", "text": "x"}]));
}

#[test]
fn k085_line_breaks_without_end_are_a_failure() {
    let events = [created(), added(0, call("")), arguments(0, &"\n".repeat(30))];
    for client in [Messages, Chat] {
        let (_, end) = frames(client, reply(), &events);
        assert_eq!(
            end.unwrap_err().message,
            "upstream produced an unbounded whitespace sequence"
        );
    }
}

#[test]
fn k086_a_failed_response_is_its_own_failure() {
    let failed = json!({"type": "response.failed", "response": {"status": "failed",
        "error": {"code": "rate_limit_exceeded", "message": "slow down"}}});
    let (frames_before, end) = frames(Messages, reply(), std::slice::from_ref(&failed));
    assert!(frames_before.is_empty());
    assert_eq!(end.unwrap_err().kind, Kind::RateLimited);

    let mut translator = translator(Messages, Responses, reply(), Ids::new("r", 1));
    let mut out = Vec::new();
    translator.feed(Frame::data(created().to_string()), &mut out).unwrap();
    let failure = translator.feed(Frame::data(failed.to_string()), &mut out).unwrap_err();
    translator.fail(&failure, &mut out);
    let last: Value = serde_json::from_slice(&out.last().unwrap().data).unwrap();
    assert_eq!(
        (&last["type"], &last["error"]["type"]),
        (&json!("error"), &json!("rate_limit_error"))
    );
}

#[test]
fn k049_a_stop_sequence_ends_the_answer_where_it_begins() {
    let reply = || Reply {
        stops: vec!["END".into()],
        ..reply()
    };
    let events = [created(), text(0, "aEN"), text(0, "Db"), completed()];
    let answer = gathered(Messages, reply(), &events);
    assert_eq!(answer["content"], json!([{"type": "text", "text": "a"}]));
    assert_eq!(
        (&answer["stop_reason"], &answer["stop_sequence"]),
        (&json!("stop_sequence"), &json!("END"))
    );
    assert_eq!(
        gathered(Chat, reply(), &events)["choices"][0]["message"]["content"],
        "a"
    );
}

#[test]
fn k037_a_search_has_its_results() {
    let reply = Reply {
        web_search: true,
        ..reply()
    };
    let cited = json!({"type": "url_citation", "url": "u", "title": "T", "start_index": 0, "end_index": 1});
    let events = [
        created(),
        done(
            0,
            json!({"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "q"}}),
        ),
        text(1, "x"),
        done(
            1,
            json!({"type": "message", "content": [{"type": "output_text", "text": "x", "annotations": [cited]}]}),
        ),
        completed(),
    ];
    let answer = gathered(Messages, reply, &events);
    let kinds: Vec<&Value> = answer["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| &block["type"])
        .collect();
    assert_eq!(kinds, ["server_tool_use", "web_search_tool_result", "text"]);
    assert_eq!(answer["content"][0]["input"], json!({"query": "q"}));
    assert_eq!(answer["content"][1]["content"][0]["url"], "u");
    assert_eq!(answer["usage"]["server_tool_use"]["web_search_requests"], 1);
}

#[test]
fn k095_a_chat_client_sees_calls_as_it_knows_them() {
    let events = [
        created(),
        added(0, call("")),
        arguments(0, "{\"a\""),
        arguments(0, ":1}"),
        done(0, call("{\"a\":1}")),
        completed(),
    ];
    let told = told(Chat, reply(), &events);
    assert_eq!(told[0]["choices"][0]["delta"]["role"], "assistant");
    let calls = told
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0].as_object());
    let calls: Vec<_> = calls.collect();
    assert_eq!(calls[0]["id"], "call_1");
    let pieces: String = calls
        .iter()
        .filter_map(|call| call["function"]["arguments"].as_str())
        .collect();
    assert_eq!(pieces, "{\"a\":1}");
    let finishes = told
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
    assert_eq!(finishes.collect::<Vec<_>>(), ["tool_calls"]);
    let (frames, _) = frames(Chat, reply(), &events);
    assert!(frames.last().unwrap().is_done());
}

#[test]
fn k096_a_failed_response_never_finishes_with_stop() {
    let failed = json!({"type": "response.failed", "response": {"status": "failed",
        "error": {"code": "server_error", "message": "X"}}});
    let mut translator = translator(Chat, Responses, reply(), Ids::new("r", 1));
    let mut out = Vec::new();
    for event in [created(), text(0, "half")] {
        translator.feed(Frame::data(event.to_string()), &mut out).unwrap();
    }
    let failure = translator.feed(Frame::data(failed.to_string()), &mut out).unwrap_err();
    translator.fail(&failure, &mut out);
    let said: Vec<String> = out
        .iter()
        .map(|frame| String::from_utf8_lossy(&frame.data).into_owned())
        .collect();
    assert!(said.iter().any(|data| data.contains("\"error\"") && data.contains('X')));
    assert!(said.iter().all(|data| !data.contains("\"finish_reason\":\"stop\"")));
}

#[test]
fn a_refusal_is_text_to_messages_and_a_refusal_to_chat() {
    let events = [
        created(),
        json!({"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": "no"}),
        completed(),
    ];
    let answer = gathered(Messages, reply(), &events);
    assert_eq!(
        (&answer["content"][0]["text"], &answer["stop_reason"]),
        (&json!("no"), &json!("refusal"))
    );
    assert_eq!(
        gathered(Chat, reply(), &events)["choices"][0]["message"]["refusal"],
        "no"
    );
}

#[test]
fn k115_a_function_that_stood_for_a_freeform_tool_is_a_freeform_call_again() {
    let tool = ClientTool {
        name: "apply_patch".into(),
        namespace: None,
        shape: ToolShape::Custom,
    };
    let reply = Reply {
        tools: [("apply_patch".to_owned(), tool)].into(),
        ..reply()
    };
    let item = json!({"type": "function_call", "call_id": "c", "name": "apply_patch", "arguments": "{\"input\":\"*** a\\n\"}"});
    let (frames, end) = frames(
        Responses,
        reply,
        &[
            created(),
            done(
                0,
                json!({"type": "reasoning", "id": "i", "encrypted_content": "e", "summary": []}),
            ),
            done(1, item),
            completed(),
        ],
    );
    end.unwrap();
    let output = &well_formed(&frames)["output"];
    assert!(output[0]["encrypted_content"].as_str().unwrap().starts_with("cpx1.r."));
    assert_eq!(
        (&output[1]["type"], &output[1]["input"]),
        (&json!("custom_tool_call"), &json!("*** a\n"))
    );
}

#[test]
fn a_flattened_namespace_has_its_name_back() {
    let tool = ClientTool {
        name: "look".into(),
        namespace: Some("box".into()),
        shape: ToolShape::Function,
    };
    let reply = Reply {
        tools: [("box__look".to_owned(), tool)].into(),
        ..reply()
    };
    let item = json!({"type": "function_call", "call_id": "c", "name": "box__look", "arguments": "{}"});
    let done_arguments = json!({"type": "response.function_call_arguments.done", "output_index": 0, "name": "box__look", "arguments": "{}"});
    let events = [
        created(),
        added(0, item.clone()),
        arguments(0, "{}"),
        done_arguments,
        done(0, item),
        completed(),
    ];
    let (frames, end) = frames(Responses, reply, &events);
    end.unwrap();
    let item = &well_formed(&frames)["output"][0];
    assert_eq!((&item["name"], &item["namespace"]), (&json!("look"), &json!("box")));
    assert!(
        frames
            .iter()
            .all(|frame| !String::from_utf8_lossy(&frame.data).contains("box__look"))
    );
}

/// K168: what comes whole and what comes in pieces is one answer, for every client.
#[test]
fn k168_a_whole_answer_and_its_stream_are_one() {
    let answer = json!({
        "id": "up", "object": "response", "created_at": 7, "status": "completed", "model": "m",
        "output": [
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"},
            {"type": "message", "id": "m", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "a", "annotations": []}]},
            {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{\"a\":1}", "status": "completed"},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    });
    let stream: Vec<Value> = fold::unfold(Responses, &answer)
        .iter()
        .map(|frame| serde_json::from_slice(&frame.data).unwrap())
        .collect();
    for client in Protocol::ALL {
        let mut whole = translator(client, Responses, reply(), Ids::new("r", 1));
        let mut out = Vec::new();
        whole.whole(answer.clone(), &mut out).unwrap();
        let mut gather = fold::gather(client);
        out.iter().for_each(|frame| gather.feed(frame).unwrap());
        assert_eq!(
            gather.finish().unwrap(),
            gathered(client, reply(), &stream),
            "{client:?}"
        );
    }
}
