use serde_json::{Value, json};

use super::*;
use crate::translate::fold::Gather;
use crate::translate::fold::responses::Fold;
use crate::translate::to_responses::tests::{events_of, well_formed};

fn relay() -> Relay {
    let reply = Reply {
        model: "Client-Name".into(),
        ran: "gpt-5.4".into(),
        echo: Object::from_iter([("tools".to_owned(), json!(["mine"]))]),
        ..Reply::default()
    };
    Relay::new(reply, Ids::new("seed", 9))
}

fn frame(event: &Value) -> Frame {
    let name = event["type"].as_str().unwrap().to_owned();
    Frame {
        name: Some(name.into()),
        data: event.to_string().into(),
    }
}

fn pass(events: &[Value]) -> (Vec<Frame>, Relay) {
    let (mut relay, mut out) = (relay(), Vec::new());
    for event in events {
        relay.feed(frame(event), &mut out).unwrap();
    }
    relay.end(&mut out).unwrap();
    (out, relay)
}

fn created() -> Value {
    json!({"type": "response.created", "sequence_number": 0, "response": {
        "id": "Zm9v+long", "object": "response", "created_at": 7, "status": "in_progress", "model": "gpt-5.4-2026",
        "output": [], "output_text": null, "tools": ["theirs"], "copilot_usage": {}}})
}

fn completed(output: Value) -> Value {
    json!({"type": "response.completed", "sequence_number": 3, "copilot_quota_snapshots": {}, "response": {
        "id": "other", "status": "completed", "created_at": 7, "output": output,
        "copilot_usage": {"total_nano_aiu": 5}, "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}})
}

fn reasoning(id: &str, content: &str) -> Value {
    json!({"type": "reasoning", "id": id, "summary": [], "encrypted_content": content})
}

#[test]
fn k109_one_item_has_one_id_whatever_upstream_calls_it() {
    let message = |id: &str, text: &str| {
        json!({"type": "message", "id": id, "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text}]})
    };
    let (frames, relay) = pass(&[
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "a", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 0, "item_id": "b", "content_index": 0,
            "part": {"type": "output_text", "text": ""}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "item_id": "c", "content_index": 0, "delta": "h\"i",
            "obfuscation": "x"}),
        json!({"type": "response.output_text.done", "output_index": 0, "item_id": "d", "content_index": 0, "text": "h\"i"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message("e", "h\"i")}),
        completed(json!([message("f", "h\"i")])),
    ]);
    let response = well_formed(&frames);
    assert_eq!(response["output"][0]["content"][0]["annotations"], json!([]));
    assert!(response["id"].as_str().unwrap().starts_with("resp_"));
    assert_eq!(
        (&response["model"], &response["store"]),
        (&json!("Client-Name"), &json!(false))
    );
    assert_eq!(response["tools"], json!(["mine"]));
    let delta = &events_of(&frames)[3];
    assert_eq!((&delta["logprobs"], &delta["obfuscation"]), (&json!([]), &json!("x")));
    assert!(
        events_of(&frames)
            .iter()
            .all(|event| !event.to_string().contains("copilot_"))
    );
    assert_eq!((relay.heard.nano_aiu, relay.heard.usage.output), (Some(5), Some(4)));
    assert!(response.get("output_text").is_none());
}

#[test]
fn k112_an_empty_terminal_output_is_rebuilt() {
    let call = json!({"type": "function_call", "id": "x", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"});
    let (frames, _) = pass(&[
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": call}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": call}),
        completed(json!([])),
    ]);
    assert_eq!(well_formed(&frames)["output"][0]["call_id"], "c");
}

#[test]
fn items_only_in_the_terminal_event_are_streamed_before_it() {
    let (frames, _) = pass(&[created(), completed(json!([reasoning("a", "e")]))]);
    assert_eq!(well_formed(&frames)["output"][0]["type"], "reasoning");
}

#[test]
fn k111_reasoning_carries_the_pair_of_its_done_event() {
    let (frames, relay) = pass(&[
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": reasoning("a", "early")}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning("b", "true+/=")}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": {
            "type": "function_call", "id": "x", "call_id": "c", "name": "f", "arguments": "{}"}}),
        completed(json!([reasoning("c", "late")])),
    ]);
    let response = well_formed(&frames);
    let carrier = response["output"][0]["encrypted_content"].as_str().unwrap();
    let pair = Carrier::Item {
        model: "gpt-5.4".into(),
        id: Some("b".into()),
        content: "true+/=".into(),
    };
    assert_eq!(Carrier::decode(carrier), Some(pair));
    assert_eq!(relay.heard.kept[0].0, "c");
    assert_eq!(relay.heard.kept[0].1.carriers, [carrier]);
    assert!(events_of(&frames)[1]["item"].get("encrypted_content").is_none());
}

#[test]
fn reasoning_is_raw_for_clients_that_read_it_themselves() {
    let reply = Reply {
        raw_encrypted: true,
        ..relay().reply
    };
    let (mut relay, mut out) = (Relay::new(reply, Ids::new("seed", 9)), Vec::new());
    for event in [created(), completed(json!([reasoning("a", "true+/=")]))] {
        relay.feed(frame(&event), &mut out).unwrap();
    }
    let response = well_formed(&out);
    assert_eq!(response["output"][0]["encrypted_content"], "true+/=");
    assert_ne!(response["output"][0]["id"], "a");
}

#[test]
fn k132_parts_that_upstream_does_not_announce_are_put_in() {
    let (frames, _) = pass(&[
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "a"}}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "item_id": "b", "summary_index": 0, "delta": "hm"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": reasoning("c", "e")}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x"}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": {"type": "message", "content": []}}),
        completed(json!([])),
    ]);
    well_formed(&frames);
    let kinds: Vec<String> = events_of(&frames)
        .iter()
        .map(|event| event["type"].to_string())
        .collect();
    assert_eq!(kinds[2], "\"response.reasoning_summary_part.added\"");
    assert_eq!(
        kinds[5..7],
        ["\"response.output_item.added\"", "\"response.content_part.added\""]
    );
}

#[test]
fn events_nobody_knows_pass_with_a_new_number() {
    let (frames, _) = pass(&[
        created(),
        json!({"type": "response.new", "b": {"z": 1, "a": 2}, "sequence_number": 77}),
        completed(json!([])),
    ]);
    assert_eq!(
        frames[1].data,
        r#"{"type":"response.new","b":{"z":1,"a":2},"sequence_number":1}"#
    );
    well_formed(&frames);
}

#[test]
fn a_stream_may_begin_anywhere() {
    let (frames, _) = pass(&[
        json!({"type": "response.output_text.delta", "output_index": 0, "delta": "x"}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "content": []}}),
        completed(json!([])),
    ]);
    well_formed(&frames);
}

#[test]
fn k133_a_cut_stream_fails_with_what_was_done() {
    let (mut relay, mut out) = (relay(), Vec::new());
    relay.feed(frame(&created()), &mut out).unwrap();
    let done =
        json!({"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "content": []}});
    relay.feed(frame(&done), &mut out).unwrap();
    let failure = relay.end(&mut out).unwrap_err();
    assert_eq!(failure, Failure::truncated());
    relay.fail(&failure, &mut out);
    let last = events_of(&out).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["status"]),
        (&json!("response.failed"), &json!("failed"))
    );
    assert_eq!(last["response"]["output"].as_array().unwrap().len(), 1);
    assert_eq!(last["sequence_number"], out.len() - 1);
    assert!(relay.is_over());
}

#[test]
fn usage_has_every_count_codex_needs() {
    let (frames, _) = pass(&[created(), completed(json!([]))]);
    let usage = &well_formed(&frames)["usage"];
    assert_eq!(
        usage["input_tokens_details"],
        json!({"cached_tokens": 0, "cache_write_tokens": 0})
    );
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 0);
}

#[test]
fn a_compaction_item_travels_in_a_carrier() {
    let raw = json!({"type": "compaction", "id": "raw", "encrypted_content": "e"});
    let (frames, _) = pass(&[created(), completed(json!([raw]))]);
    let item = &well_formed(&frames)["output"][0];
    let carrier = Carrier::Compaction {
        model: "gpt-5.4".into(),
        held: Compacted::Items(vec![raw]),
    };
    assert_eq!(
        Carrier::decode(item["encrypted_content"].as_str().unwrap()),
        Some(carrier)
    );
}

#[test]
fn k168_a_whole_answer_is_its_stream_gathered() {
    let answer = json!({
        "id": "resp_1", "object": "response", "created_at": 7, "status": "incomplete", "model": "m",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"},
            {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "a", "annotations": [{"type": "url_citation", "url": "u"}]},
                {"type": "refusal", "refusal": "no"}]},
            {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
            {"type": "custom_tool_call", "id": "t", "call_id": "k", "name": "patch", "input": "x"},
            {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search", "query": "q"}},
            {"type": "unheard_of", "id": "u", "x": 1},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    });
    let (mut relay, mut frames) = (relay(), Vec::new());
    relay.whole(answer.clone(), &mut frames).unwrap();
    let response = well_formed(&frames);
    let mut fold = Box::new(Fold::default());
    frames.iter().for_each(|frame| fold.feed(frame).unwrap());
    assert_eq!(fold.finish().unwrap(), response);
    assert_eq!(response["id"], "resp_1");
    let strip = |item: &Value| {
        let mut item = item.clone();
        for private in ["id", "encrypted_content"] {
            item.as_object_mut().unwrap().shift_remove(private);
        }
        item
    };
    let theirs = answer["output"].as_array().unwrap().iter().map(strip);
    let ours = response["output"].as_array().unwrap().iter().map(strip);
    let differ = theirs.zip(ours).filter(|(theirs, ours)| theirs != ours).count();
    assert_eq!(differ, 1, "only the text part gained its empty list of logprobs");
    assert_eq!(response["output"].as_array().unwrap().len(), 6);
    assert_eq!(response["status"], "incomplete");
}

#[test]
fn k085_arguments_that_run_away_in_whitespace_are_cut_off() {
    let delta =
        |kind: &str, delta: String| frame(&json!({"type": kind, "output_index": 0, "item_id": "a", "delta": delta}));
    let (mut relay, mut out) = (relay(), Vec::new());
    relay.feed(frame(&created()), &mut out).unwrap();
    let arguments = "response.function_call_arguments.delta";
    relay.feed(delta(arguments, "{\"a\":".into()), &mut out).unwrap();
    relay.feed(delta(arguments, "\n".repeat(20)), &mut out).unwrap();
    let failure = relay.feed(delta(arguments, "\n".into()), &mut out).unwrap_err();
    assert_eq!(failure.message, "upstream produced an unbounded whitespace sequence");
    relay.fail(&failure, &mut out);
    assert_eq!(events_of(&out).last().unwrap()["type"], "response.failed");
}

#[test]
fn a_name_is_one_line() {
    let event = frame(&json!({"type": "response.x\nevent: response.completed"}));
    assert!(relay().feed(event, &mut Vec::new()).is_err());
}

#[test]
fn a_type_that_is_no_name_gives_way_to_the_name_before_it() {
    let (mut relay, mut out) = (relay(), Vec::new());
    let event = Frame::named("response.future", r#"{"type":[],"x":1}"#);
    relay.feed(event, &mut out).unwrap();
    let told: Value = serde_json::from_slice(&out.last().unwrap().data).unwrap();
    assert_eq!((&told["type"], &told["x"]), (&json!("response.future"), &json!(1)));
}

#[test]
fn k085_freeform_input_may_hold_much_that_is_blank_but_not_without_end() {
    let input = |delta: &str| {
        frame(
            &json!({"type": "response.custom_tool_call_input.delta", "output_index": 0, "item_id": "a", "delta": delta}),
        )
    };
    let (mut relay, mut out) = (relay(), Vec::new());
    relay.feed(frame(&created()), &mut out).unwrap();
    let patch = format!(
        "*** Begin Patch\n*** Add File: a\n{}+\t\t\t\t{}x\n",
        "+\n".repeat(100),
        " ".repeat(500)
    );
    // Letter by letter, as models stream.
    for letter in patch.chars() {
        relay.feed(input(&letter.to_string()), &mut out).unwrap();
    }
    let failure = (0..21).find_map(|_| relay.feed(input("\n "), &mut out).err());
    assert_eq!(
        failure.unwrap().message,
        "upstream produced an unbounded whitespace sequence"
    );
}

#[test]
fn calls_are_bounded() {
    let (mut relay, mut out) = (relay(), Vec::new());
    let call = |at: u64| {
        let item = json!({"type": "function_call", "call_id": format!("c{at}"), "name": "f", "arguments": ""});
        frame(&json!({"type": "response.output_item.added", "output_index": at, "item": item}))
    };
    assert!((0..128).all(|at| relay.feed(call(at), &mut out).is_ok()));
    assert!(relay.feed(call(128), &mut out).is_err());
}

/// Text that is read again may give a fraction another last digit, so there are none.
fn without_fractions(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::Null,
        Value::Array(list) => list.iter().map(without_fractions).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), without_fractions(field)))
            .collect(),
        other => other.clone(),
    }
}

proptest::proptest! {
    #[test]
    fn k168_a_whole_answer_needs_no_stream(
        one in crate::translate::rules::any_json(), two in crate::translate::rules::any_json(), kind in 0..5_usize
    ) {
        let kinds = ["message", "reasoning", "function_call", "compaction", "web_search_call"];
        let mut item = json!({"type": kinds[kind], "id": "x", "call_id": "c", "content": one, "summary": two});
        item["encrypted_content"] = json!("state");
        item["arguments"] = two.clone();
        for answer in [
            json!({"id": "resp_1", "status": "completed", "output": [item, one, item], "usage": two}),
            json!({"object": "response", "status": "incomplete", "output": [item], "copilot_usage": {"total_nano_aiu": 3}}),
            json!({"status": one, "output": two, "error": one}),
            one,
        ] {
            let answer = without_fractions(&answer);
            let (mut told, mut answered) = (relay(), relay());
            let streamed = fold::through(Protocol::Responses, &mut told, answer.clone());
            let whole = answered.answer(answer);
            let text = |told: Result<Value, Failure>| told.map(|told| told.to_string());
            proptest::prop_assert_eq!(text(whole), text(streamed));
            proptest::prop_assert_eq!(format!("{:?}", answered.heard()), format!("{:?}", told.heard()));
        }
    }
}
