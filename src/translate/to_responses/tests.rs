use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::Protocol;
use crate::translate::fold::Gather;
use crate::translate::fold::responses::Fold;
use crate::translate::invariants::{self, Ending};
use crate::translate::{ClientTool, ToolShape};

fn reply() -> Reply {
    let shapes = [
        ("apply_patch", ToolShape::Custom),
        ("local_shell", ToolShape::LocalShell),
        ("shell", ToolShape::Shell),
        ("patch_typed", ToolShape::ApplyPatch),
        ("box__look", ToolShape::Function),
    ];
    let tools = shapes.map(|(name, shape)| {
        let tool = ClientTool {
            name: name.trim_start_matches("box__").into(),
            namespace: name.starts_with("box__").then(|| "box".into()),
            shape,
        };
        (name.to_owned(), tool)
    });
    Reply {
        model: "Client-Name".into(),
        ran: "gpt-5.4".into(),
        tools: tools.into(),
        echo: Object::from_iter([("instructions".to_owned(), json!("be good"))]),
        ..Reply::default()
    }
}

fn start() -> Event {
    Event::Start {
        upstream_id: "up".into(),
        created: Some(7),
    }
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

fn counted() -> Event {
    Event::Usage(Usage {
        input: Some(105),
        cached: Some(90),
        output: Some(7),
        ..Usage::default()
    })
}

fn write(events: impl IntoIterator<Item = Event>) -> (Vec<Frame>, ToResponses) {
    let mut writer = ToResponses::new(reply(), Ids::new("seed", 9));
    let mut out = Vec::new();
    for event in events {
        writer.feed(event, &mut out).unwrap();
    }
    writer.end(&mut out);
    (out, writer)
}

pub fn events_of(frames: &[Frame]) -> Vec<Value> {
    let read = |frame: &Frame| serde_json::from_slice(&frame.data).unwrap();
    frames.iter().map(read).collect()
}

/// Holds a stream to the rules its clients count on; the terminal event's response.
pub fn well_formed(frames: &[Frame]) -> Value {
    assert_eq!(invariants::check(Protocol::Responses, frames), Ok(Ending::Complete));
    events_of(frames).pop().unwrap()["response"].take()
}

#[test]
fn k119_a_turn_of_every_kind_is_a_stream_codex_takes() {
    let (frames, mut writer) = write([
        start(),
        Event::Reason("hm".into()),
        Event::ReasonSeal {
            state: Some("cpx1.n.e30.".into()),
        },
        Event::Text("hel".into()),
        Event::Text("lo".into()),
        open(0, "call_9", "f"),
        args(0, "{\"a\""),
        open(1, "call_10", "box__look"),
        args(1, "{}"),
        args(0, ":1}"),
        Event::ToolClose { key: 0, complete: true },
        Event::ToolClose { key: 1, complete: true },
        counted(),
        Event::Finish(Finish::ToolCalls),
    ]);
    let response = well_formed(&frames);
    assert!(writer.is_over());
    assert_eq!(response["status"], "completed");
    assert_eq!(response["model"], "Client-Name");
    assert_eq!(response["instructions"], "be good");
    let kinds: Vec<_> = response["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["type"])
        .collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call", "function_call"]);
    assert_eq!(response["output"][0]["encrypted_content"], "cpx1.n.e30.");
    assert_eq!(response["output"][1]["content"][0]["text"], "hello");
    assert_eq!(response["output"][2]["arguments"], "{\"a\":1}");
    assert_eq!(response["output"][3]["namespace"], "box");
    assert_eq!(response["output"][3]["name"], "look");
    let kept: Vec<String> = writer.take_kept().into_iter().map(|(id, _)| id).collect();
    assert_eq!(kept, ["call_9", "call_10"]);
}

#[test]
fn k118_call_id_is_the_calls_and_never_the_items() {
    let call = [
        start(),
        open(0, "call_9", "f"),
        Event::ToolClose { key: 0, complete: true },
    ];
    let (frames, _) = write(call.into_iter().chain([counted(), Event::Finish(Finish::ToolCalls)]));
    let item = &well_formed(&frames)["output"][0];
    assert_eq!((&item["call_id"], &item["arguments"]), (&json!("call_9"), &json!("{}")));
    assert!(item["id"].as_str().unwrap().starts_with("fc_"));
}

#[test]
fn k129_usage_has_every_count() {
    let (frames, _) = write([start(), counted(), Event::Finish(Finish::Stop)]);
    assert_eq!(
        well_formed(&frames)["usage"],
        json!({
            "input_tokens": 105, "input_tokens_details": {"cached_tokens": 90, "cache_write_tokens": 0},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 112,
        })
    );
}

#[test]
fn k119_late_usage_is_waited_for_and_none_counts_nothing() {
    let mut writer = ToResponses::new(reply(), Ids::new("seed", 9));
    let mut out = Vec::new();
    writer.feed(start(), &mut out).unwrap();
    writer.feed(Event::Finish(Finish::Stop), &mut out).unwrap();
    assert!(!writer.is_over());
    writer.end(&mut out);
    assert!(writer.is_over());
    let usage = &well_formed(&out)["usage"];
    assert_eq!((&usage["input_tokens"], &usage["total_tokens"]), (&json!(0), &json!(0)));
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 0);
}

fn called(name: &str, pieces: &[&str], complete: bool, finish: Finish) -> Value {
    let opened = [start(), open(0, "c", name)];
    let pieces = pieces.iter().map(|piece| args(0, piece));
    let closed = [Event::ToolClose { key: 0, complete }, counted(), Event::Finish(finish)];
    let (frames, _) = write(opened.into_iter().chain(pieces).chain(closed));
    well_formed(&frames)["output"][0].clone()
}

#[test]
fn k115_a_freeform_call_has_its_text_back() {
    let item = called(
        "apply_patch",
        &["{\"input\":\"*** Begin", "\\n+a\\t\\u00fc\\n\"}"],
        true,
        Finish::ToolCalls,
    );
    assert_eq!(item["type"], "custom_tool_call");
    assert_eq!(item["input"], "*** Begin\n+a\tü\n");
    assert_eq!((&item["call_id"], &item["name"]), (&json!("c"), &json!("apply_patch")));
    let other_name = called("apply_patch", &["{\"patch\":\"x\",\"n\":1}"], true, Finish::ToolCalls);
    assert_eq!(other_name["input"], "x");
}

#[test]
fn k116_bare_text_for_a_freeform_tool_is_its_input() {
    let item = called(
        "apply_patch",
        &["*** Begin Patch\n", "*** End Patch"],
        false,
        Finish::ToolCalls,
    );
    assert_eq!(item["input"], "*** Begin Patch\n*** End Patch");
    assert_eq!(item["status"], "completed");
    let cut = called("apply_patch", &["*** Begin Pa"], false, Finish::Length);
    assert_eq!(cut["status"], "incomplete");
    let half = called("apply_patch", &["{\"input\":\"*** Be"], false, Finish::ToolCalls);
    assert_eq!(half["status"], "incomplete");
}

#[test]
fn k117_a_local_shell_call_is_an_action() {
    let item = called(
        "local_shell",
        &["{\"command\":[\"ls\",\"-l\"],\"workdir\":\"/tmp\"}"],
        true,
        Finish::ToolCalls,
    );
    assert_eq!(item["type"], "local_shell_call");
    assert_eq!(item["action"]["command"], json!(["ls", "-l"]));
    assert_eq!(item["action"]["working_directory"], "/tmp");
    let line = called("local_shell", &["{\"command\":\"ls | wc\"}"], true, Finish::ToolCalls);
    assert_eq!(line["action"]["command"], json!(["bash", "-lc", "ls | wc"]));
    let cut = called("local_shell", &["{\"command\":[\"rm\""], false, Finish::Length);
    assert_eq!(
        (&cut["status"], &cut["action"]["command"]),
        (&json!("incomplete"), &json!([]))
    );
}

#[test]
fn typed_shell_and_patch_calls_are_actions_too() {
    let shell = called(
        "shell",
        &["{\"commands\":[\"ls\"],\"timeout_ms\":5}"],
        true,
        Finish::ToolCalls,
    );
    assert_eq!(shell["type"], "shell_call");
    assert_eq!(shell["action"]["commands"], json!(["ls"]));
    let operation = json!({"type": "create_file", "path": "a", "diff": "+x"});
    let patch = called(
        "patch_typed",
        &[&json!({"operation": operation}).to_string()],
        true,
        Finish::ToolCalls,
    );
    assert_eq!(
        (&patch["type"], &patch["operation"]),
        (&json!("apply_patch_call"), &operation)
    );
}

#[test]
fn a_cut_call_is_incomplete_and_not_executed_as_if_whole() {
    let item = called("f", &["{\"a\":"], false, Finish::Length);
    assert_eq!(
        (&item["status"], &item["arguments"]),
        (&json!("incomplete"), &json!("{\"a\":"))
    );
}

#[test]
fn searches_citations_and_refusals_have_their_places() {
    let (frames, _) = write([
        start(),
        Event::Search(Search {
            query: "q".into(),
            ..Search::default()
        }),
        Event::Text("see".into()),
        Event::Cite(Citation {
            url: "u".into(),
            ..Citation::default()
        }),
        Event::Refusal("no".into()),
        counted(),
        Event::Finish(Finish::Refusal),
    ]);
    let response = well_formed(&frames);
    assert_eq!(response["output"][0]["action"]["query"], "q");
    let content = &response["output"][1]["content"];
    assert_eq!(content[0]["annotations"][0]["end_index"], 3);
    assert_eq!(content[1], json!({"type": "refusal", "refusal": "no"}));
}

#[test]
fn failures_are_said_before_and_after_the_start() {
    let failure = Failure::truncated();
    let mut writer = ToResponses::new(reply(), Ids::new("seed", 9));
    let mut out = Vec::new();
    writer.fail(&failure, &mut out);
    let events = events_of(&out);
    assert_eq!(
        (&events[0]["type"], &events[0]["sequence_number"]),
        (&json!("error"), &json!(0))
    );

    let mut writer = ToResponses::new(reply(), Ids::new("seed", 9));
    let mut out = Vec::new();
    for event in [start(), Event::Text("half".into())] {
        writer.feed(event, &mut out).unwrap();
    }
    writer.fail(&failure, &mut out);
    let last = events_of(&out).pop().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["sequence_number"], out.len() - 1);
    assert_eq!(last["response"]["status"], "failed");
    assert_eq!(last["response"]["error"]["code"], "stream_error");
    assert_eq!(last["response"]["output"], json!([]));
    assert!(writer.is_over());
}

#[test]
fn k113_a_stream_may_be_nothing_but_a_failure() {
    use crate::protocol::failure::Kind;
    let failure = Failure::new(Kind::ContextOverflow, "too long");
    let events = events_of(&failed_stream(reply(), Ids::new("seed", 9), &failure));
    let kinds: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["response.created", "response.failed"]);
    assert_eq!(events[1]["response"]["error"]["code"], "context_length_exceeded");
}

#[test]
fn k168_the_whole_answer_is_the_terminal_events() {
    let (frames, _) = write([
        start(),
        Event::Text("x".into()),
        counted(),
        Event::Finish(Finish::Length),
    ]);
    let mut fold = Box::new(Fold::default());
    for frame in &frames {
        fold.feed(frame).unwrap();
    }
    let answer = fold.finish().unwrap();
    assert_eq!(answer, well_formed(&frames));
    assert_eq!(answer["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(answer["output"][0]["status"], "incomplete");
}

/// Any turn that keeps the contract of its events.
fn turns() -> impl Strategy<Value = Vec<Event>> {
    let names = prop::sample::select(vec![
        "f",
        "apply_patch",
        "local_shell",
        "shell",
        "patch_typed",
        "box__look",
    ]);
    let pieces = prop::sample::select(vec!["", "x", "{", "}", "{}", "{\"input\":\"a\"}", "\n"]);
    let step = (0..8_u8, 0..3_usize, names, pieces, any::<bool>());
    let endings = prop::sample::select(vec![Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::Refusal]);
    (prop::collection::vec(step, 0..24), endings).prop_map(|(steps, finish)| {
        let mut events = vec![start()];
        let (mut keys, mut unsealed, mut live) = (0, false, Vec::new());
        for (what, pick, name, piece, flag) in steps {
            if unsealed && what > 1 {
                events.push(Event::ReasonSeal { state: None });
                unsealed = false;
            }
            match what {
                0 => {
                    unsealed = true;
                    events.push(Event::Reason(piece.into()));
                }
                1 => {
                    unsealed = false;
                    let state = flag.then(|| "cpx1.n.e30.".into());
                    events.push(Event::ReasonSeal { state });
                }
                2 => events.push(Event::Text(piece.into())),
                3 => events.push(Event::Refusal(piece.into())),
                4 => {
                    events.push(open(keys, &format!("call_{keys}"), name));
                    live.push(keys);
                    keys += 1;
                }
                5 => events.push(Event::Search(Search::default())),
                6 if !live.is_empty() => events.push(args(live[pick % live.len()], piece)),
                7 if !live.is_empty() => {
                    let key = live.remove(pick % live.len());
                    events.push(Event::ToolClose { key, complete: flag });
                }
                _ => events.push(Event::Cite(Citation::default())),
            }
        }
        if unsealed {
            events.push(Event::ReasonSeal { state: None });
        }
        events.extend([counted(), Event::Finish(finish)]);
        events
    })
}

proptest! {
    #[test]
    fn k167_any_turn_makes_a_well_formed_stream(events in turns()) {
        well_formed(&write(events).0);
    }
}
