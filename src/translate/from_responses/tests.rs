use serde_json::{Value, json};

use super::*;

fn reply() -> Reply {
    Reply {
        ran: "gpt-5.4".into(),
        ..Reply::default()
    }
}

fn frame(event: &Value) -> Frame {
    Frame::data(event.to_string())
}

/// Reads a stream to its end.
fn read(reply: &Reply, events: &[Value]) -> Result<Vec<Event>, Failure> {
    let (mut reader, mut out) = (FromResponses::new(reply), Vec::new());
    for event in events {
        reader.feed(&frame(event), &mut out)?;
    }
    reader.end(&mut out).map(|()| out)
}

fn created() -> Value {
    json!({"type": "response.created", "response": {"id": "resp_up", "created_at": 7.0, "tools": []}})
}

fn completed(output: Value) -> Value {
    json!({"type": "response.completed", "response": {"status": "completed", "output": output, "usage": {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 16,
    }}})
}

fn start() -> Event {
    Event::Start {
        upstream_id: "resp_up".into(),
        created: Some(7),
    }
}

fn counted() -> Event {
    Event::Usage(Usage {
        input: Some(11),
        cached: Some(3),
        output: Some(5),
        reasoning: Some(2),
        ..Usage::default()
    })
}

fn open(key: usize, id: &str, name: &str) -> Event {
    Event::ToolOpen {
        key,
        id: id.into(),
        name: name.into(),
        kind: ToolKind::Function,
    }
}

fn args(key: usize, piece: &str) -> Event {
    Event::ToolArgs {
        key,
        piece: piece.into(),
    }
}

#[test]
fn k081_summary_parts_are_one_run_of_reasoning_and_its_seal_is_a_carrier() {
    let events = read(
        &reply(),
        &[
            created(),
            json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "a"}}),
            json!({"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0}),
            json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "one"}),
            json!({"type": "response.reasoning_summary_text.done", "output_index": 0, "summary_index": 0, "text": "one"}),
            json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "two"}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": {
                "type": "reasoning", "id": "b", "encrypted_content": "e+/=.", "summary": [{"text": "one"}, {"text": "two"}],
            }}),
            completed(json!([])),
        ],
    );
    let carrier = Carrier::Item {
        model: "gpt-5.4".into(),
        id: Some("b".into()),
        content: "e+/=.".into(),
    };
    let said = |text: &str| Event::Reason(text.into());
    let state = Some(carrier.encode());
    let seal = Event::ReasonSeal { state };
    let end = Event::Finish(Finish::Stop);
    assert_eq!(
        events.unwrap(),
        [start(), said("one"), said("\n\n"), said("two"), seal, counted(), end]
    );
}

#[test]
fn reasoning_that_came_only_in_the_done_item_is_read_there() {
    let item = json!({"type": "reasoning", "id": "b", "summary": [{"text": "one"}, {"text": "two"}]});
    let events = read(
        &reply(),
        &[
            created(),
            json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
            completed(json!([item])),
        ],
    )
    .unwrap();
    let said = |text: &str| Event::Reason(text.into());
    assert_eq!(
        events[1..5],
        [
            said("one"),
            said("\n\n"),
            said("two"),
            Event::ReasonSeal { state: None }
        ]
    );
}

#[test]
fn only_the_first_kind_of_reasoning_text_is_read() {
    let events = read(
        &reply(),
        &[
            created(),
            json!({"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "raw"}),
            json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "sum"}),
            json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "hi"}),
            completed(json!([])),
        ],
    )
    .unwrap();
    let seal = Event::ReasonSeal { state: None };
    assert_eq!(
        events[1..4],
        [Event::Reason("raw".into()), seal, Event::Text("hi".into())]
    );
}

#[test]
fn k082_arguments_that_come_only_with_done_are_said_whole() {
    let events = read(
        &reply(),
        &[
            created(),
            json!({"type": "response.output_item.added", "output_index": 0, "item": {
                "type": "function_call", "id": "x", "call_id": "call_1", "name": "f", "arguments": ""}}),
            json!({"type": "response.function_call_arguments.done", "output_index": 0, "arguments": "{\"a\":1}"}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": {
                "type": "function_call", "id": "y", "call_id": "call_1", "name": "f", "arguments": "{\"a\":1}"}}),
            completed(json!([])),
        ],
    );
    let close = Event::ToolClose { key: 0, complete: true };
    let end = Event::Finish(Finish::ToolCalls);
    let all = [
        start(),
        open(0, "call_1", "f"),
        args(0, "{\"a\":1}"),
        close,
        counted(),
        end,
    ];
    assert_eq!(events.unwrap(), all);
}

#[test]
fn k083_ids_that_change_with_each_event_mean_nothing() {
    let delta = |id: &str, text: &str| json!({"type": "response.output_text.delta", "item_id": id, "output_index": 0, "content_index": 0, "delta": text});
    let item = json!({"type": "message", "id": "m4", "content": [{"type": "output_text", "text": "ab"}]});
    let events = read(
        &reply(),
        &[
            created(),
            json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m1"}}),
            delta("m2", "a"),
            delta("m3", "b"),
            json!({"type": "response.output_text.done", "item_id": "m3", "output_index": 0, "content_index": 0, "text": "ab"}),
            json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
            completed(json!([item])),
        ],
    );
    let end = Event::Finish(Finish::Stop);
    let all = [
        start(),
        Event::Text("a".into()),
        Event::Text("b".into()),
        counted(),
        end,
    ];
    assert_eq!(events.unwrap(), all);
}

#[test]
fn k084_a_cut_call_is_closed_as_incomplete() {
    let events = read(
        &reply(),
        &[
            created(),
            json!({"type": "response.output_item.added", "output_index": 0, "item": {
                "type": "function_call", "call_id": "call_1", "name": "f", "arguments": ""}}),
            json!({"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{\"a\":"}),
            json!({"type": "response.incomplete", "response": {
                "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}}),
        ],
    )
    .unwrap();
    let close = Event::ToolClose {
        key: 0,
        complete: false,
    };
    assert_eq!(events[3..], [close, Event::Finish(Finish::Length)]);
}

#[test]
fn calls_side_by_side_keep_their_pieces() {
    let added = |index: u64, id: &str| {
        json!({"type": "response.output_item.added", "output_index": index, "item": {
            "type": "function_call", "call_id": id, "name": "f", "arguments": ""}})
    };
    let delta = |index: u64, piece: &str| json!({"type": "response.function_call_arguments.delta", "output_index": index, "delta": piece});
    let events = read(
        &reply(),
        &[
            created(),
            added(0, "a"),
            added(1, "b"),
            delta(1, "{\"y\""),
            delta(0, "{}"),
            delta(1, ":2}"),
            completed(json!([])),
        ],
    )
    .unwrap();
    let close = |key| Event::ToolClose { key, complete: true };
    assert_eq!(
        events[1..8],
        [
            open(0, "a", "f"),
            open(1, "b", "f"),
            args(1, "{\"y\""),
            args(0, "{}"),
            args(1, ":2}"),
            close(0),
            close(1)
        ]
    );
}

#[test]
fn what_only_the_terminal_event_brings_is_still_said() {
    let output = json!([
        {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"a": 1}},
    ]);
    let events = read(&reply(), &[created(), completed(output)]).unwrap();
    let close = Event::ToolClose { key: 0, complete: true };
    assert_eq!(
        events[1..5],
        [Event::Text("hi".into()), open(0, "c", "f"), args(0, "{\"a\":1}"), close]
    );
}

#[test]
fn k168_a_whole_answer_reads_as_its_stream() {
    let answer = json!({
        "id": "resp_up", "object": "response", "created_at": 7, "status": "completed", "copilot_usage": {"total_nano_aiu": 9},
        "output": [
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"},
            {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "a", "annotations": [
                    {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}]},
                {"type": "refusal", "refusal": "no"},
            ]},
            {"type": "custom_tool_call", "id": "c", "call_id": "k", "name": "patch", "input": "*** Begin\n"},
        ],
        "usage": {"input_tokens": 1, "output_tokens": 2},
    });
    let (mut reader, mut out) = (FromResponses::new(&reply()), Vec::new());
    reader.whole(&answer, &mut out).unwrap();
    assert_eq!(reader.nano_aiu(), Some(9));
    let (mut late, mut at_once) = (FromResponses::new(&reply()), Vec::new());
    late.feed(&frame(&created()), &mut at_once).unwrap();
    let terminal = json!({"type": "response.completed", "response": answer});
    late.feed(&frame(&terminal), &mut at_once).unwrap();
    let (text, cite): (Vec<_>, Vec<_>) = out.into_iter().partition(|event| !matches!(event, Event::Cite(_)));
    let (late_text, late_cite): (Vec<_>, Vec<_>) =
        at_once.into_iter().partition(|event| !matches!(event, Event::Cite(_)));
    assert_eq!((text, cite), (late_text, late_cite));
}

#[test]
fn k037_a_search_without_results_takes_them_from_the_citations_behind_it() {
    let reply = Reply {
        web_search: true,
        ..reply()
    };
    let search = json!({"type": "web_search_call", "id": "w", "action": {"type": "search", "query": "q"}});
    let annotation = json!({"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1});
    let stream = [
        created(),
        json!({"type": "response.output_item.done", "output_index": 0, "item": search}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x"}),
        json!({"type": "response.output_text.annotation.added", "output_index": 1, "content_index": 0, "annotation": annotation}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": {
            "type": "message", "content": [{"type": "output_text", "text": "x", "annotations": [annotation]}]}}),
        completed(json!([])),
    ];
    let events = read(&reply, &stream).unwrap();
    let Event::Search(found) = &events[1] else {
        panic!("{events:?}")
    };
    assert_eq!((found.query.as_str(), found.results.len()), ("q", 1));
    assert_eq!(found.results[0].url, "u");
    assert!(matches!(&events[2..4], [Event::Text(_), Event::Cite(_)]), "{events:?}");
    let Event::Usage(usage) = events[4] else {
        panic!("{events:?}")
    };
    assert_eq!(usage.searches, Some(1));
}

#[test]
fn k037_only_searches_that_found_something_are_counted() {
    let reply = Reply {
        web_search: true,
        ..reply()
    };
    let item = |at: u64, action: Value, status: &str| {
        let item = json!({"type": "web_search_call", "id": "w", "status": status, "action": action});
        json!({"type": "response.output_item.done", "output_index": at, "item": item})
    };
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"});
    let stream = [
        created(),
        item(0, json!({"type": "search", "query": "a"}), "failed"),
        item(
            1,
            json!({"type": "search", "query": "b", "sources": [{"type": "url", "url": "u"}]}),
            "completed",
        ),
        item(2, json!({"type": "open_page", "url": "u"}), "completed"),
        item(3, json!({"type": "search", "query": "c"}), "completed"),
        json!({"type": "response.output_item.done", "output_index": 4, "item": call}),
        completed(json!([])),
    ];
    let events = read(&reply, &stream).unwrap();
    let searches = events.iter().filter_map(|event| match event {
        Event::Search(search) => Some((search.query.as_str(), search.results.len(), search.error.is_some())),
        _ => None,
    });
    let searches: Vec<_> = searches.collect();
    assert_eq!(searches, [("a", 0, true), ("b", 1, false), ("c", 0, false)]);
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Usage(usage) if usage.searches == Some(2)))
    );
    assert_eq!(events.last(), Some(&Event::Finish(Finish::ToolCalls)));
}

#[test]
fn endings_are_read() {
    let ending = |response: Value| {
        let kind = format!("response.{}", response["status"].as_str().unwrap());
        let events = read(&reply(), &[created(), json!({"type": kind, "response": response})]).unwrap();
        events.into_iter().next_back().unwrap()
    };
    let incomplete = |reason: &str| json!({"status": "incomplete", "incomplete_details": {"reason": reason}});
    assert_eq!(ending(json!({"status": "completed"})), Event::Finish(Finish::Stop));
    assert_eq!(
        ending(incomplete("content_filter")),
        Event::Finish(Finish::ContentFilter)
    );
    assert_eq!(ending(incomplete("what")), Event::Finish(Finish::Pause));
    let refusal = json!({"status": "completed", "output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]});
    assert_eq!(ending(refusal), Event::Finish(Finish::Refusal));
}

#[test]
fn k133_a_stream_without_a_terminal_event_was_cut() {
    let text = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "x"});
    assert_eq!(read(&reply(), &[created(), text]), Err(Failure::truncated()));
    assert_eq!(read(&reply(), &[]), Err(Failure::truncated()));
}

#[test]
fn odd_frames_do_no_harm() {
    let (mut reader, mut out) = (FromResponses::new(&reply()), Vec::new());
    for data in [
        "",
        "  ",
        "[DONE]",
        "{}",
        r#"{"type":"response.new_thing","output_index":9}"#,
    ] {
        reader.feed(&Frame::data(data), &mut out).unwrap();
    }
    for data in ["nonsense", "[]", "{\"a\""] {
        assert!(FromResponses::new(&reply()).feed(&Frame::data(data), &mut out).is_err());
    }
}
