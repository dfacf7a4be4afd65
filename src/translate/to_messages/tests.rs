use super::*;
use crate::translate::bridge::Bridge;
use crate::translate::carrier::Carrier;
use crate::translate::fold::Gather;
use crate::translate::from_messages::FromMessages;
use crate::translate::invariants::{self, Ending};
use crate::translate::turn::ToolKind;
use crate::translate::{ClientTool, ToolShape, Translator, fold};

fn reply() -> Reply {
    Reply {
        model: "asked".into(),
        ran: "ran".into(),
        show_reasoning: true,
        ..Reply::default()
    }
}

/// One answer, written to its end.
struct Written {
    frames: Vec<Value>,
    kept: Vec<(String, Kept)>,
    whole: Result<Value, Failure>,
}

impl Written {
    fn by(reply: Reply, events: Vec<Event>) -> Result<Self, Failure> {
        let mut writer = ToMessages::new(reply, Ids::new("req_1", 0));
        let mut frames = Vec::new();
        for event in events {
            writer.feed(event, &mut frames)?;
        }
        writer.end(&mut frames);
        let kept = writer.take_kept();
        let mut fold = Box::<fold::messages::Fold>::default();
        for frame in &frames {
            fold.feed(frame)?;
        }
        assert_eq!(invariants::check(Protocol::Messages, &frames), Ok(Ending::Complete));
        let read = |frame: &Frame| serde_json::from_slice(&frame.data).unwrap();
        let frames: Vec<Value> = frames.iter().map(read).collect();
        Ok(Self {
            frames,
            kept,
            whole: fold.finish(),
        })
    }

    fn content(&self) -> Value {
        self.whole.as_ref().unwrap()["content"].clone()
    }

    fn ending(&self) -> Value {
        self.whole.as_ref().unwrap()["stop_reason"].clone()
    }

    fn usage(&self) -> Value {
        self.whole.as_ref().unwrap()["usage"].clone()
    }

    /// The stream in short: what opened, what grew by what, what stopped.
    fn outline(&self) -> String {
        let mut lines = Vec::new();
        for frame in &self.frames {
            let delta = &frame["delta"];
            lines.push(match frame["type"].as_str().unwrap() {
                "content_block_start" => {
                    format!(
                        "{}+{}",
                        frame["index"],
                        frame["content_block"]["type"].as_str().unwrap()
                    )
                }
                "content_block_stop" => format!("{}-", frame["index"]),
                "content_block_delta" => ["text", "thinking", "partial_json"]
                    .iter()
                    .find_map(|key| delta[*key].as_str())
                    .unwrap_or("~")
                    .to_owned(),
                _ => continue,
            });
        }
        lines.join(" ")
    }
}

fn start() -> Event {
    Event::Start {
        upstream_id: "chatcmpl-a.b1".into(),
        created: None,
    }
}

fn open(key: ToolKey) -> Event {
    Event::ToolOpen {
        key,
        id: format!("t{key}"),
        name: format!("f{key}"),
        kind: ToolKind::Function,
    }
}

fn args(key: ToolKey, piece: &str) -> Event {
    Event::ToolArgs {
        key,
        piece: piece.into(),
    }
}

fn close(key: ToolKey) -> Event {
    Event::ToolClose { key, complete: true }
}

fn text(piece: &str) -> Event {
    Event::Text(piece.into())
}

fn reason(piece: &str) -> Event {
    Event::Reason(piece.into())
}

fn carrier() -> String {
    Carrier::Opaque {
        model: "ran".into(),
        opaque: "xyz".into(),
    }
    .encode()
}

fn seal() -> Event {
    Event::ReasonSeal { state: Some(carrier()) }
}

fn usage(input: u64, cached: u64, output: u64) -> Event {
    Event::Usage(Usage {
        input: Some(input),
        cached: Some(cached),
        output: Some(output),
        ..Usage::default()
    })
}

/// A turn of these events, between a start and an ending.
fn turn(events: &[Event], ending: Finish) -> Written {
    turn_for(reply(), events, ending)
}

fn turn_for(reply: Reply, events: &[Event], ending: Finish) -> Written {
    let events = [&[start()], events, &[usage(9, 0, 3), Event::Finish(ending)]].concat();
    Written::by(reply, events).unwrap()
}

#[test]
fn k060_text_then_a_call() {
    let written = Written::by(
        reply(),
        vec![
            start(),
            text("a"),
            open(0),
            args(0, "{}"),
            close(0),
            Event::Finish(Finish::ToolCalls),
            usage(10, 4, 5),
        ],
    )
    .unwrap();
    assert_eq!(written.outline(), "0+text a 0- 1+tool_use {} 1-");
    let started = &written.frames[0]["message"];
    assert_eq!(
        (&started["id"], &started["model"]),
        (&json!("msg_chatcmplab1"), &json!("asked"))
    );
    assert_eq!(started["usage"]["input_tokens"], 0);
    assert_eq!(
        written.frames[written.frames.len() - 2],
        json!({
            "type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"input_tokens": 6, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 5},
        })
    );
}

#[test]
fn k062_k063_the_ending_agrees_with_the_calls() {
    assert_eq!(turn(&[open(0), close(0)], Finish::Stop).ending(), "tool_use");
    assert_eq!(turn(&[text("a")], Finish::ToolCalls).ending(), "end_turn");
}

#[test]
fn k064_what_the_filter_took_is_a_refusal() {
    assert_eq!(turn(&[], Finish::ContentFilter).ending(), "refusal");
    let declined = turn(&[Event::Refusal("no".into())], Finish::Stop);
    assert_eq!(
        (declined.ending(), declined.content()),
        (json!("refusal"), json!([{"type": "text", "text": "no"}]))
    );
}

#[test]
fn k066_interleaved_calls_come_out_one_after_the_other() {
    let written = turn(
        &[
            open(0),
            args(0, "{\"a\""),
            open(1),
            args(1, "{\"b\""),
            args(0, ":1"),
            args(1, ":2"),
            args(0, "}"),
            args(1, "}"),
            close(0),
            close(1),
        ],
        Finish::ToolCalls,
    );
    assert_eq!(written.outline(), "0+tool_use {\"a\" :1 } 0- 1+tool_use {\"b\":2} 1-");
    let inputs: Vec<Value> = written
        .content()
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["input"].clone())
        .collect();
    assert_eq!(inputs, [json!({"a": 1}), json!({"b": 2})]);
}

#[test]
fn k068_arguments_that_never_come_are_an_empty_object() {
    let written = turn(&[open(0), close(0)], Finish::ToolCalls);
    assert_eq!(written.outline(), "0+tool_use 0-");
    assert_eq!(written.content()[0]["input"], json!({}));
}

#[test]
fn k071_text_after_a_call_waits_until_the_call_is_over() {
    let written = turn(
        &[open(0), args(0, "{"), text("b"), text("c"), args(0, "}"), close(0)],
        Finish::ToolCalls,
    );
    assert_eq!(written.outline(), "0+tool_use { } 0- 1+text bc 1-");
    let live = turn(
        &[open(0), args(0, "{}"), text("b"), text("c"), args(0, " "), close(0)],
        Finish::ToolCalls,
    );
    assert_eq!(live.outline(), "0+tool_use {} 0- 1+text b c 1-");
}

#[test]
fn a_call_cannot_go_on_after_it_was_whole() {
    let events = vec![start(), open(0), args(0, "{}"), text("b"), args(0, ",")];
    assert!(Written::by(reply(), events).is_err());
}

#[test]
fn everything_that_waits_keeps_its_order() {
    let written = turn(
        &[
            open(0),
            args(0, "{"),
            reason("r"),
            seal(),
            open(1),
            text("t"),
            args(1, "{}"),
            args(0, "}"),
        ],
        Finish::ToolCalls,
    );
    assert_eq!(
        written.outline(),
        "0+tool_use { } 0- 1+thinking r ~ 1- 2+tool_use {} 2- 3+text t 3-"
    );
}

#[test]
fn k072_reasoning_is_shown_with_its_state_or_kept() {
    let events = [reason("h"), reason("m"), seal(), text("a"), open(0), close(0)];
    let shown = turn(&events, Finish::ToolCalls);
    assert_eq!(
        shown.content()[0],
        json!({"type": "thinking", "thinking": "hm", "signature": carrier()})
    );
    let hidden = turn_for(
        Reply {
            show_reasoning: false,
            ..reply()
        },
        &events,
        Finish::ToolCalls,
    );
    assert_eq!(hidden.outline(), "0+text a 0- 1+tool_use 1-");
    let kept = Kept {
        model: "ran".into(),
        text: "hm".into(),
        carriers: vec![carrier()],
    };
    assert_eq!(hidden.kept, [("t0".to_owned(), kept)]);
}

#[test]
fn k073_state_without_text_is_redacted_thinking() {
    let written = turn(&[text("a"), seal()], Finish::Stop);
    assert_eq!(
        written.content()[1],
        json!({"type": "redacted_thinking", "data": carrier()})
    );
    let stateless = turn(
        &[reason("r"), Event::ReasonSeal { state: None }, text("a")],
        Finish::Stop,
    );
    assert_eq!(stateless.content()[0]["signature"], Carrier::Nothing.encode());
}

#[test]
fn the_state_of_thinking_that_was_shown_stands_before_a_call_and_never_ends_an_answer() {
    let kinds = |written: &Written| -> Vec<String> {
        let content = written.content();
        let blocks = content.as_array().unwrap();
        blocks
            .iter()
            .map(|block| block["type"].as_str().unwrap().to_owned())
            .collect()
    };
    let answer = turn(&[reason("hm"), text("a"), seal(), text("b")], Finish::Stop);
    assert_eq!(kinds(&answer), ["thinking", "text"]);
    assert_eq!(answer.content()[1]["text"], "ab");
    let call = [reason("hm"), text("a"), seal(), open(0), args(0, "{}"), close(0)];
    let call = turn(&call, Finish::ToolCalls);
    assert_eq!(kinds(&call), ["thinking", "text", "redacted_thinking", "tool_use"]);
    let behind = [reason("hm"), open(0), args(0, "{}"), close(0), seal()];
    assert_eq!(
        kinds(&turn(&behind, Finish::ToolCalls)),
        ["thinking", "tool_use", "redacted_thinking"]
    );
}

#[test]
fn thinking_may_be_state_alone() {
    let reply = Reply {
        omit_thinking: true,
        ..reply()
    };
    let written = turn_for(reply, &[reason("hm"), seal(), text("a")], Finish::Stop);
    assert_eq!(
        written.content()[0],
        json!({"type": "thinking", "thinking": "", "signature": carrier()})
    );
}

#[test]
fn k168_a_whole_answer_is_written_as_its_stream() {
    let answer = json!({
        "id": "msg_1", "type": "message",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "Eq=="},
            {"type": "text", "text": "hi"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"z": 1, "a": 2}},
        ],
        "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 2},
    });
    let bridge = || {
        Bridge::new(
            Protocol::Messages,
            FromMessages::new(&reply()),
            ToMessages::new(reply(), Ids::new("req_1", 0)),
        )
    };
    let (mut whole, mut streamed) = (Vec::new(), Vec::new());
    bridge().whole(answer.clone(), &mut whole).unwrap();
    let mut stream = bridge();
    for frame in fold::messages::unfold(&answer) {
        stream.feed(frame, &mut streamed).unwrap();
    }
    stream.end(&mut streamed).unwrap();
    assert_eq!(whole, streamed);
    assert_eq!(stream.heard().kept.len(), 1);
    let mut gathered = Box::<fold::messages::Fold>::default();
    whole.iter().for_each(|frame| gathered.feed(frame).unwrap());
    let gathered = gathered.finish().unwrap();
    assert_eq!(gathered["content"][2].to_string(), answer["content"][2].to_string());
    assert_eq!(gathered["usage"]["output_tokens"], 2);
}

#[test]
fn k074_k075_cached_tokens_are_taken_out() {
    let of = |input, cached| {
        let events = vec![start(), usage(input, cached, 1), Event::Finish(Finish::Stop)];
        Written::by(reply(), events).unwrap().usage()
    };
    assert_eq!(
        of(100, 80),
        json!({"input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 80, "output_tokens": 1})
    );
    assert_eq!(of(5, 80)["input_tokens"], 0);
}

#[test]
fn k076_usage_is_numbers_even_if_upstream_tells_none() {
    let usage = Written::by(reply(), vec![start(), Event::Finish(Finish::Stop)])
        .unwrap()
        .usage();
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn k087_an_empty_answer_is_empty() {
    let written = turn(&[text("")], Finish::Stop);
    assert_eq!((written.content(), written.ending()), (json!([]), json!("end_turn")));
    assert_eq!(written.outline(), "");
}

#[test]
fn k084_a_call_cut_short_is_streamed_but_not_part_of_the_whole() {
    let cut = Event::ToolClose {
        key: 0,
        complete: false,
    };
    let written = turn(&[open(0), args(0, "{\"a"), cut], Finish::Length);
    assert_eq!(written.outline(), "0+tool_use {\"a 0-");
    assert_eq!((written.content(), written.ending()), (json!([]), json!("max_tokens")));
}

#[test]
fn k049_a_stop_sequence_ends_the_answer() {
    let reply = Reply {
        stops: vec!["END".into()],
        ..reply()
    };
    let events = vec![
        start(),
        text("aEN"),
        text("Db"),
        text("more"),
        Event::Finish(Finish::Stop),
    ];
    let written = Written::by(reply.clone(), events).unwrap();
    let whole = written.whole.as_ref().unwrap();
    assert_eq!(
        (&whole["stop_reason"], &whole["stop_sequence"]),
        (&json!("stop_sequence"), &json!("END"))
    );
    assert_eq!(written.outline(), "0+text a 0-");

    let almost = turn_for(reply, &[text("aEN"), open(0), close(0)], Finish::ToolCalls);
    assert_eq!(almost.outline(), "0+text a EN 0- 1+tool_use 1-");
}

#[test]
fn k050_a_tool_gets_its_own_name_back() {
    let mut reply = reply();
    let own = ClientTool {
        name: "mcp__srv.x/y".into(),
        namespace: None,
        shape: ToolShape::Function,
    };
    reply.tools.insert("f0".into(), own);
    let written = turn_for(reply, &[open(0), close(0)], Finish::ToolCalls);
    assert_eq!(written.content()[0]["name"], "mcp__srv.x/y");
}

#[test]
fn k037_a_search_is_told_to_those_who_asked_for_it() {
    let search = Event::Search(Search {
        query: "q".into(),
        ..Search::default()
    });
    let asked = Reply {
        web_search: true,
        ..reply()
    };
    let written = turn_for(asked, &[search.clone(), text("a")], Finish::Stop);
    assert_eq!(
        written.outline(),
        "0+server_tool_use {\"query\":\"q\"} 0- 1+web_search_tool_result 1- 2+text a 2-"
    );
    assert_eq!(written.usage()["server_tool_use"], json!({"web_search_requests": 1}));
    assert_eq!(turn(&[search, text("a")], Finish::Stop).outline(), "0+text a 0-");
}

#[test]
fn k037_a_search_that_failed_says_why_and_is_not_counted() {
    let search = Event::Search(Search {
        query: "q".into(),
        error: Some("unavailable".into()),
        ..Search::default()
    });
    let asked = Reply {
        web_search: true,
        ..reply()
    };
    let written = turn_for(asked, &[search, text("a")], Finish::Stop);
    assert_eq!(
        written.content()[1]["content"],
        json!({"type": "web_search_tool_result_error", "error_code": "unavailable"})
    );
    assert_eq!(written.usage().get("server_tool_use"), None);
}

#[test]
fn odd_ids_become_allowed_ones() {
    let call = |id: &str| Event::ToolOpen {
        key: 0,
        id: id.into(),
        name: "f".into(),
        kind: ToolKind::Function,
    };
    for id in ["", "a|b", "x".repeat(65).as_str()] {
        let written = turn(&[call(id), close(0)], Finish::ToolCalls);
        let id = written.content()[0]["id"].as_str().unwrap().to_owned();
        assert!(
            id.starts_with("tid_") && id.len() == 44 || id.starts_with("toolu_"),
            "{id}"
        );
    }
}

#[test]
fn a_failure_is_an_error_event_and_the_last() {
    let mut writer = ToMessages::new(reply(), Ids::new("req_1", 0));
    let mut frames = Vec::new();
    writer.feed(start(), &mut frames).unwrap();
    frames.clear();
    writer.fail(&Failure::truncated(), &mut frames);
    writer.feed(text("late"), &mut frames).unwrap();
    writer.end(&mut frames);
    let [frame] = frames.as_slice() else { panic!() };
    let data: Value = serde_json::from_slice(&frame.data).unwrap();
    assert_eq!(
        data,
        json!({"type": "error", "error": {"type": "api_error", "message": "upstream closed the stream before completion"}, "request_id": "req_1"})
    );
    assert!(writer.is_over());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let key = 0..4usize;
        let piece = prop::sample::select(vec!["", "{", "}", "{}", "\"a\":1", " ", "x"]);
        prop_oneof![
            piece.clone().prop_map(text),
            piece.clone().prop_map(reason),
            Just(seal()),
            Just(Event::ReasonSeal { state: None }),
            key.clone().prop_map(open),
            key.clone().prop_map(close),
            (key, piece).prop_map(|(key, piece)| args(key, piece)),
            Just(usage(3, 1, 2)),
            Just(Event::Search(Search::default())),
            Just(Event::Cite(Citation::default())),
        ]
    }

    proptest! {
        #[test]
        fn k167_any_events_give_a_well_formed_stream(
            events in prop::collection::vec(any_event(), 0..40),
            show_reasoning: bool,
            web_search: bool,
        ) {
            let reply = Reply { show_reasoning, web_search, stops: vec!["x}".into()], ..reply() };
            let events = [vec![start()], events, vec![Event::Finish(Finish::Stop)]].concat();
            // A call that goes on after its end is refused; all else must be well formed.
            if let Ok(written) = Written::by(reply, events) {
                prop_assert!(written.whole.is_ok());
            }
        }
    }
}
