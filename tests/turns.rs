//! Any turn that a model can take, written for each of the four clients: a stream that keeps the client's grammar, and
//! in it every word and every call of the turn.

use copilot_proxy::protocol::sse::Frame;
use copilot_proxy::protocol::{Dialect, Protocol};
use copilot_proxy::translate::ids::Ids;
use copilot_proxy::translate::invariants::{self, Ending};
use copilot_proxy::translate::turn::{Citation, Event, Finish, Search, SearchResult, ToolKind, Usage};
use copilot_proxy::translate::{Reply, Writer, fold, to_chat, to_gemini, to_messages, to_responses};
use proptest::prelude::*;
use serde_json::{Value, json};

/// One thing that happens in a turn, as far as it can be made up apart from the others.
#[derive(Clone, Debug)]
enum Step {
    /// Words of reasoning, and the state at its end.
    Thought(Vec<String>, Option<&'static str>),
    Said(String),
    /// A call with its arguments cut into pieces of so many bytes.
    Called {
        arguments: String,
        size: usize,
    },
    Searched(String),
    Cited(String),
    Counted(u64),
}

fn words() -> impl Strategy<Value = String> {
    // Words that would break a line, a frame or a string, were they not written with care.
    let odd = [
        "",
        "a",
        "b c",
        "\n\n",
        "data: [DONE]\n\n",
        "\"}",
        "\\",
        "é😀",
        "\u{2028}",
        "<|end|>",
    ];
    prop::collection::vec(prop::sample::select(odd.to_vec()), 1..4).prop_map(|words| words.concat())
}

fn step() -> impl Strategy<Value = Step> {
    let state = prop::sample::select(vec![None, Some("cpx1.r.e30.c3RhdGU"), Some("cpx1.n.e30.")]);
    let arguments = words().prop_map(|word| json!({"z": word, "a": [1, {"b": null}]}).to_string());
    prop_oneof![
        (prop::collection::vec(words(), 0..3), state).prop_map(|(words, state)| Step::Thought(words, state)),
        words().prop_map(Step::Said),
        words().prop_map(Step::Said),
        (arguments, 1..40_usize).prop_map(|(arguments, size)| Step::Called { arguments, size }),
        words().prop_map(Step::Searched),
        words().prop_map(Step::Cited),
        (0..1000_u64).prop_map(Step::Counted),
    ]
}

/// Ways to end a turn that has made calls, or none.
fn finish() -> impl Strategy<Value = Finish> {
    prop::sample::select(vec![
        Finish::Stop,
        Finish::ToolCalls,
        Finish::Length,
        Finish::StopSequence(Some("END".into())),
        Finish::StopSequence(None),
        Finish::ContentFilter,
        Finish::Refusal,
        Finish::Pause,
        Finish::ContextFull,
    ])
}

/// The pieces of a text, none longer than so many bytes but for one letter.
fn pieces(text: &str, size: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for letter in text.chars() {
        if pieces.last().is_some_and(|piece| piece.len() >= size) {
            pieces.push(String::new());
        }
        pieces.last_mut().unwrap().push(letter);
    }
    pieces
}

/// The turn's events. With `parallel`, calls that follow each other are open at once and grow in turns.
fn events(steps: &[Step], parallel: bool, finish: &Finish) -> Vec<Event> {
    let mut events = vec![Event::Start {
        upstream_id: "up_1".into(),
        created: Some(1_767_225_600),
    }];
    let mut open: Vec<(usize, Vec<String>)> = Vec::new();
    let mut calls = 0;
    for step in steps {
        if !(parallel && matches!(step, Step::Called { .. })) {
            grow(&mut open, &mut events);
        }
        match step.clone() {
            Step::Thought(words, state) => {
                events.extend(words.into_iter().map(Event::Reason));
                events.push(Event::ReasonSeal {
                    state: state.map(str::to_owned),
                });
            }
            Step::Said(words) => events.push(Event::Text(words)),
            Step::Called { arguments, size } => {
                events.push(Event::ToolOpen {
                    key: calls,
                    id: format!("call_{calls}"),
                    name: format!("tool_{calls}"),
                    kind: ToolKind::Function,
                });
                open.push((calls, pieces(&arguments, size)));
                calls += 1;
            }
            Step::Searched(query) => events.push(Event::Search(Search {
                id: format!("ws_{calls}"),
                query,
                results: vec![SearchResult {
                    url: "https://a.example".into(),
                    ..SearchResult::default()
                }],
                error: None,
            })),
            Step::Cited(cited_text) => events.push(Event::Cite(Citation {
                url: "https://a.example".into(),
                cited_text,
                ..Citation::default()
            })),
            Step::Counted(output) => events.push(Event::Usage(Usage {
                input: Some(7),
                output: Some(output),
                ..Usage::default()
            })),
        }
    }
    grow(&mut open, &mut events);
    events.push(Event::Finish(finish.clone()));
    events.push(Event::Usage(Usage {
        input: Some(7),
        cached: Some(2),
        output: Some(11),
        ..Usage::default()
    }));
    events
}

/// Gives the open calls their arguments, a piece for each by turns, and closes them.
fn grow(open: &mut Vec<(usize, Vec<String>)>, events: &mut Vec<Event>) {
    let longest = open.iter().map(|(_, pieces)| pieces.len()).max().unwrap_or(0);
    for at in 0..longest {
        for (key, pieces) in open.iter() {
            if let Some(piece) = pieces.get(at) {
                let (key, piece) = (*key, piece.clone());
                events.push(Event::ToolArgs { key, piece });
            }
        }
    }
    for (key, _) in open.drain(..) {
        events.push(Event::ToolClose { key, complete: true });
    }
}

fn writer(client: Dialect, reply: Reply) -> Box<dyn Writer> {
    let ids = Ids::new("req_1", 1_767_225_600);
    match client {
        Dialect::Of(Protocol::Chat) => Box::new(to_chat::ToChat::new(reply, ids)),
        Dialect::Of(Protocol::Messages) => Box::new(to_messages::ToMessages::new(reply, ids)),
        Dialect::Of(Protocol::Responses) => Box::new(to_responses::ToResponses::new(reply, ids)),
        Dialect::Gemini => Box::new(to_gemini::ToGemini::new(reply, ids)),
    }
}

fn written(client: Dialect, events: Vec<Event>, show_reasoning: bool) -> Vec<Frame> {
    let reply = Reply {
        model: "the-model".into(),
        ran: "a-model".into(),
        include_usage: true,
        web_search: true,
        show_reasoning,
        ..Reply::default()
    };
    let (mut writer, mut frames) = (writer(client, reply), Vec::new());
    for event in events {
        writer.feed(event, &mut frames).unwrap();
    }
    writer.end(&mut frames);
    assert!(writer.is_over());
    frames
}

/// All that was said in an answer, and the name, id and arguments of each call.
fn content(client: Dialect, answer: &Value) -> (String, Vec<[Value; 3]>) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let parsed = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    let (mut text, mut calls) = (String::new(), Vec::new());
    match client {
        Dialect::Of(Protocol::Messages) => {
            for block in list(&answer["content"]) {
                match block["type"].as_str() {
                    Some("text") => text += block["text"].as_str().unwrap(),
                    Some("tool_use") => calls.push([&block["name"], &block["id"], &block["input"]].map(Value::clone)),
                    _ => {}
                }
            }
        }
        Dialect::Of(Protocol::Chat) => {
            let message = &answer["choices"][0]["message"];
            text += message["content"].as_str().unwrap_or_default();
            for call in list(&message["tool_calls"]) {
                let function = &call["function"];
                calls.push([
                    function["name"].clone(),
                    call["id"].clone(),
                    parsed(&function["arguments"]),
                ]);
            }
        }
        Dialect::Of(Protocol::Responses) => {
            for item in list(&answer["output"]) {
                for part in list(&item["content"]) {
                    text += part["text"]
                        .as_str()
                        .filter(|_| part["type"] == "output_text")
                        .unwrap_or_default();
                }
                if item["type"] == "function_call" {
                    calls.push([
                        item["name"].clone(),
                        item["call_id"].clone(),
                        parsed(&item["arguments"]),
                    ]);
                }
            }
        }
        Dialect::Gemini => {
            for part in list(&answer["candidates"][0]["content"]["parts"]) {
                text += part["text"]
                    .as_str()
                    .filter(|_| part["thought"].is_null())
                    .unwrap_or_default();
                let call = &part["functionCall"];
                if call.is_object() {
                    calls.push([&call["name"], &call["id"], &call["args"]].map(Value::clone));
                }
            }
        }
    }
    (text, calls)
}

proptest! {
    #[test]
    fn k167_any_turn_is_a_whole_stream_for_every_client(
        steps in prop::collection::vec(step(), 0..12),
        finish in finish(),
        parallel: bool,
        show_reasoning: bool,
    ) {
        let mut said = String::new();
        let mut called = Vec::new();
        for step in &steps {
            match step {
                Step::Said(words) => said += words,
                Step::Called { arguments, .. } => {
                    let arguments: Value = serde_json::from_str(arguments).unwrap();
                    let at = called.len();
                    called.push([json!(format!("tool_{at}")), json!(format!("call_{at}")), arguments]);
                }
                _ => {}
            }
        }
        for client in Dialect::ALL {
            let frames = written(client, events(&steps, parallel, &finish), show_reasoning);
            prop_assert_eq!(invariants::check(client, &frames), Ok(Ending::Complete), "{}", client.name());
            let mut whole = fold::gather(client);
            for frame in &frames {
                whole.feed(frame).unwrap();
            }
            let answer = whole.finish().unwrap();
            let (text, calls) = content(client, &answer);
            prop_assert_eq!(&text, &said, "{} {:#}", client.name(), answer);
            prop_assert_eq!(&calls, &called, "{} {:#}", client.name(), answer);
        }
    }

    /// Wherever the turn breaks off, the client is told so, and told nothing else.
    #[test]
    fn a_turn_that_breaks_off_is_told_as_broken_to_every_client(
        steps in prop::collection::vec(step(), 0..8),
        parallel: bool,
        at in any::<prop::sample::Index>(),
    ) {
        let events = events(&steps, parallel, &Finish::Stop);
        // The last two are the ending and the counts after it.
        let told = 1 + at.index(events.len() - 2);
        for client in Dialect::ALL {
            let (mut writer, mut frames) = (writer(client, Reply::default()), Vec::new());
            for event in &events[..told] {
                writer.feed(event.clone(), &mut frames).unwrap();
            }
            writer.fail(&copilot_proxy::protocol::failure::Failure::truncated(), &mut frames);
            prop_assert!(writer.is_over());
            let ending = invariants::check(client, &frames);
            prop_assert_eq!(ending, Ok(Ending::Failed), "{}", client.name());
        }
    }
}
