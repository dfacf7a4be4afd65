//! Anthropic's web search where the model has none of its own: another model searches, and the client hears of it as of
//! the search it asked for.

use std::time::Duration;

use copilot_proxy::protocol::Protocol;
use copilot_proxy::translate::fold;
use copilot_proxy::translate::invariants::{self, Ending};
use serde_json::{Value, json};

use crate::support::World;

const ON: &str = "web_search.mode = \"via_responses\"\nweb_search.model = \"gpt-5.4\"\n";

fn asking(model: &str, stream: bool, more: Value) -> Value {
    let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 3,
        "allowed_domains": ["a.example"], "user_location": {"type": "approximate", "city": "Oslo"}});
    let mut body = json!({"model": model, "max_tokens": 1000, "stream": stream, "tools": [search],
        "messages": [{"role": "user", "content": "Perform a web search for the query: otters"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// What a model says that has searched twice, once in vain.
fn found() -> String {
    let item = |at: u64, item: &Value| {
        let added = json!({"type": "response.output_item.added", "output_index": at, "item": item});
        let done = json!({"type": "response.output_item.done", "output_index": at, "item": item});
        [added, done]
    };
    let search = |query: &str, status: &str| json!({"type": "web_search_call", "id": "ws_1", "status": status, "action": {"type": "search", "query": query}});
    let cited = json!({"type": "url_citation", "url": "https://a.example/o", "title": "Otters", "start_index": 0, "end_index": 6});
    let part = json!({"type": "output_text", "text": "Otters swim.", "annotations": [cited]});
    let message =
        json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]});
    let usage = json!({"input_tokens": 9, "output_tokens": 4, "total_tokens": 13});
    let mut events =
        vec![json!({"type": "response.created", "response": {"id": "r", "status": "in_progress", "output": []}})];
    events.extend(item(0, &search("ottters", "failed")));
    events.extend(item(1, &search("otters", "completed")));
    events.push(
        json!({"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "Otters swim."}),
    );
    events.extend(item(2, &message).into_iter().skip(1));
    events.push(json!({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [], "usage": usage}}));
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

#[actix_rt::test]
async fn k037_a_search_goes_to_a_model_that_searches() {
    let world = World::with(ON).await;
    let learned = async || world.get("/admin/status").await.expect(200)["learned"].clone();
    assert_eq!(learned().await, json!({}));
    // Claude Sonnet 4.5 is served without a search, which is learned from its refusal; GPT-4.1 has no way to have one.
    for (model, refusals) in [("claude-sonnet-4.5", 1), ("claude-sonnet-4.5", 0), ("gpt-4.1", 0)] {
        world.plan_stream("responses", &found()).await;
        let whole = world
            .post("/v1/messages", &asking(model, false, json!({})))
            .await
            .expect(200);
        let asked = world.simulator.requests(0);
        assert_eq!(world.upstream("/v1/messages").len(), refusals, "{model}");
        let sent = &asked.last().unwrap()["body"];
        assert_eq!(
            (&sent["model"], &sent["max_tool_calls"]),
            (&json!("gpt-5.4"), &json!(3))
        );
        let location = json!({"type": "approximate", "city": "Oslo"});
        let tool =
            json!({"type": "web_search", "filters": {"allowed_domains": ["a.example"]}, "user_location": location});
        assert_eq!(sent["tools"], json!([tool]));

        assert_eq!(whole["model"], model);
        let blocks = whole["content"].as_array().unwrap();
        let kinds: Vec<&str> = blocks.iter().map(|block| block["type"].as_str().unwrap()).collect();
        let pair = ["server_tool_use", "web_search_tool_result"];
        assert_eq!(kinds, [&pair[..], &pair[..], &["text"]].concat(), "{whole:#}");
        assert_eq!(blocks[1]["content"]["error_code"], "unavailable");
        assert_eq!(blocks[2]["input"], json!({"query": "otters"}));
        assert_eq!(blocks[3]["tool_use_id"], blocks[2]["id"]);
        assert_eq!(
            blocks[3]["content"],
            json!([{"type": "web_search_result", "url": "https://a.example/o", "title": "Otters",
                "encrypted_content": "", "page_age": null}])
        );
        assert_eq!(blocks[4]["citations"][0]["type"], "web_search_result_location");
        assert_eq!(whole["usage"]["server_tool_use"], json!({"web_search_requests": 1}));
        assert_eq!(whole["stop_reason"], "end_turn");

        world.plan_stream("responses", &found()).await;
        let streamed = world.post("/v1/messages", &asking(model, true, json!({}))).await;
        assert!(streamed.text.contains("\"citations_delta\"") && streamed.text.contains("\"web_search_requests\":1"));

        // What was found is told to any model in words.
        for next in ["claude-sonnet-4.5", "gpt-4.1", "gpt-5.4"] {
            let history = json!({"tools": [], "messages": [{"role": "user", "content": "find otters"},
                {"role": "assistant", "content": blocks}, {"role": "user", "content": "thanks"}]});
            world.upstream("/");
            world
                .post("/v1/messages", &asking(next, false, history))
                .await
                .expect(200);
            let sent = world.simulator.requests(0).pop().unwrap()["body"].to_string();
            assert!(
                sent.contains("[web search: \\\\\"otters\\\\\"]") || sent.contains("[web search: \\\"otters\\\"]"),
                "{sent}"
            );
            assert!(
                sent.contains("Otters https://a.example/o") && sent.contains("Otters swim."),
                "{sent}"
            );
            assert!(
                !sent.contains("server_tool_use") && !sent.contains("encrypted_index"),
                "{sent}"
            );
        }
    }
    assert_eq!(
        learned().await,
        json!({"claude-sonnet-4.5": {"messages.tools": ["web_search_20250305"]}})
    );
}

#[actix_rt::test]
async fn a_searcher_that_does_not_search_says_so() {
    let world = World::with("web_search.mode = \"via_responses\"\nweb_search.model = \"gpt-5-mini\"\n").await;
    for calls in [1, 0] {
        let refused = world
            .post("/v1/messages", &asking("gpt-4.1", true, json!({})))
            .await
            .expect(400);
        let sentence = "web_search.model names gpt-5-mini, which does not search the web";
        assert_eq!(refused["error"]["message"], sentence);
        assert_eq!(world.upstream("/responses").len(), calls, "asked once, then known");
    }
}

/// The simulator's own search, with all its events.
#[actix_rt::test]
async fn k037_a_search_that_is_streamed_is_the_search_that_comes_whole() {
    let world = World::with(ON).await;
    for model in ["claude-sonnet-4.5", "gpt-5.2", "gpt-4.1"] {
        let whole = world
            .post("/v1/messages", &asking(model, false, json!({})))
            .await
            .expect(200);
        let kinds: Vec<&Value> = whole["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|block| &block["type"])
            .collect();
        assert_eq!(
            kinds,
            ["server_tool_use", "web_search_tool_result", "text"],
            "{whole:#}"
        );
        assert!(
            whole["content"][0]["input"]["query"]
                .as_str()
                .unwrap()
                .ends_with("otters")
        );
        let cited = &whole["content"][2]["citations"][0]["url"];
        assert_eq!(whole["content"][1]["content"][0]["url"], *cited, "{whole:#}");

        let streamed = world
            .post("/v1/messages", &asking(model, true, json!({})))
            .await
            .events();
        let of = |kind: &str| {
            streamed
                .iter()
                .filter(|event| event["type"] == kind)
                .cloned()
                .collect::<Vec<Value>>()
        };
        let started: Vec<Value> = of("content_block_start")
            .iter()
            .map(|event| event["content_block"]["type"].clone())
            .collect();
        assert_eq!(started, ["server_tool_use", "web_search_tool_result", "text"]);
        let cited = of("content_block_delta")
            .into_iter()
            .find(|event| event["delta"]["type"] == "citations_delta");
        assert_eq!(cited.unwrap()["delta"]["citation"], whole["content"][2]["citations"][0]);
        let last = of("message_delta").pop().unwrap();
        assert_eq!(last["usage"]["server_tool_use"], whole["usage"]["server_tool_use"]);
    }
}

#[actix_rt::test]
async fn k037_a_model_that_searches_is_asked_itself() {
    let world = World::with(ON).await;
    world
        .post("/v1/messages", &asking("claude-sonnet-4.6", false, json!({})))
        .await
        .expect(200);
    let asked = world.one("/v1/messages");
    assert_eq!(asked["body"]["tools"][0]["type"], "web_search_20250305");
    world.plan_stream("responses", &found()).await;
    world
        .post("/v1/messages", &asking("gpt-5.2", false, json!({})))
        .await
        .expect(200);
    let asked = world.one("/responses");
    assert_eq!(
        (&asked["body"]["model"], &asked["body"]["tools"][0]["type"]),
        (&json!("gpt-5.2"), &json!("web_search"))
    );
}

#[actix_rt::test]
async fn k036_without_the_setting_a_search_is_left_out_or_refused() {
    let world = World::new().await;
    for model in ["claude-sonnet-4.5", "gpt-4.1"] {
        world
            .post("/v1/messages", &asking(model, false, json!({})))
            .await
            .expect(200);
        let forced = json!({"tool_choice": {"type": "tool", "name": "web_search"}});
        let refused = world
            .post("/v1/messages", &asking(model, false, forced))
            .await
            .expect(400);
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("is not supported by model {model}")),
            "{message}"
        );
    }
}

/// The client's own tool beside the search, and what a person asks for.
fn beside(model: &str, stream: bool, prompt: &str) -> Value {
    let search = json!({"type": "web_search_20250305", "name": "web_search", "max_uses": 2});
    let own = json!({"name": "look", "input_schema": {"type": "object", "properties": {}}});
    let asked = json!({"tools": [search, own], "messages": [{"role": "user", "content": prompt}]});
    asking(model, stream, asked)
}

/// The message, gathered where it was streamed.
async fn message(world: &World, body: &Value) -> Value {
    let answer = world.post("/v1/messages", body).await;
    if body["stream"] == false {
        return answer.expect(200);
    }
    let frames = answer.frames();
    assert_eq!(
        invariants::check(Protocol::Messages, &frames),
        Ok(Ending::Complete),
        "{}",
        answer.text
    );
    let mut whole = fold::gather(Protocol::Messages);
    frames.iter().for_each(|frame| whole.feed(frame).unwrap());
    whole.finish().unwrap()
}

fn kinds(message: &Value) -> Vec<&str> {
    let blocks = message["content"]
        .as_array()
        .unwrap_or_else(|| panic!("no content: {message:#}"));
    blocks.iter().map(|block| block["type"].as_str().unwrap()).collect()
}

const SEARCHED: [&str; 2] = ["server_tool_use", "web_search_tool_result"];

#[actix_rt::test]
async fn beside_other_tools_a_model_has_another_one_search_and_goes_on() {
    let world = World::with(ON).await;
    for (model, path) in [
        ("gpt-4.1", "/chat/completions"),
        ("gemini-2.5-pro", "/chat/completions"),
        ("claude-sonnet-4.5", "/v1/messages"),
    ] {
        for stream in [false, true] {
            world.upstream("/");
            let told = message(&world, &beside(model, stream, "please search: otters")).await;
            let of_search: Vec<&str> = kinds(&told).into_iter().filter(|kind| *kind != "text").collect();
            assert_eq!(of_search, SEARCHED, "{told:#}");
            let blocks = told["content"].as_array().unwrap();
            let at = blocks.iter().position(|block| block["type"] == SEARCHED[0]).unwrap();
            assert_eq!(blocks[at]["input"], json!({"query": "otters"}));
            let title = blocks[at + 1]["content"][0]["title"].as_str().unwrap();
            assert!(title.ends_with("otters"), "{told:#}");
            let last = blocks.last().unwrap()["text"].as_str().unwrap();
            assert!(last.contains(title), "what was found reached the model: {last}");
            assert_eq!(
                (&told["model"], &told["stop_reason"]),
                (&json!(model), &json!("end_turn"))
            );
            assert_eq!(told["usage"]["server_tool_use"], json!({"web_search_requests": 1}));

            let asked = world.simulator.requests(0);
            let asked: Vec<&Value> = asked
                .iter()
                .rev()
                .filter(|asked| asked["path"] != "/models")
                .take(3)
                .collect();
            let of = |name: &str| {
                asked
                    .iter()
                    .rev()
                    .map(|asked| asked[name].as_str().unwrap())
                    .collect::<Vec<_>>()
            };
            assert_eq!(of("path"), [path, "/responses", path]);
            assert_eq!(of("initiator"), ["user", "agent", "agent"]);
            assert!(
                asked
                    .iter()
                    .all(|asked| !asked["body"].to_string().contains("web_search_2025"))
            );

            // What was searched is history, to the same model and to others.
            let mut next = beside(model, stream, "please search: otters");
            let messages = next["messages"].as_array_mut().unwrap();
            messages.push(json!({"role": "assistant", "content": told["content"]}));
            messages.push(json!({"role": "user", "content": "thanks"}));
            for other in [model, "gpt-5.4", "claude-sonnet-4.6"] {
                next["model"] = json!(other);
                let told = message(&world, &next).await;
                assert_eq!(told["stop_reason"], "end_turn", "{other}: {told:#}");
            }
        }
    }
    let requests = world.get("/admin/requests").await.expect(200);
    let searched = requests["requests"].as_array().unwrap().iter();
    let legs = searched.filter(|one| one["route"] == "messages → chat" && one["status"] == 200);
    assert!(
        legs.clone().count() >= 4 && requests["totals"]["errors"] == 0,
        "{requests:#}"
    );
    assert_eq!(world.get("/admin/status").await.expect(200)["calls"]["running"], 0);
}

#[actix_rt::test]
async fn beside_other_tools_searches_are_bounded_and_may_fail() {
    let world = World::with(ON).await;
    let many = "please search: one then search: two then search: three";
    let told = message(&world, &beside("gpt-4.1", true, many)).await;
    let results: Vec<&Value> = told["content"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|block| block["type"] == SEARCHED[1])
        .collect();
    assert_eq!(results.len(), 3, "{told:#}");
    assert!(results[0]["content"].is_array() && results[1]["content"].is_array());
    assert_eq!(results[2]["content"]["error_code"], "max_uses_exceeded");
    assert_eq!(told["usage"]["server_tool_use"]["web_search_requests"], 2);

    for (status, code) in [(500, "unavailable"), (429, "too_many_requests")] {
        world
            .plan(json!({"endpoint": "responses", "status": status, "body": {"error": {"message": "no"}}}))
            .await;
        let told = message(&world, &beside("gpt-4.1", true, "please search: otters")).await;
        let failed = told["content"]
            .as_array()
            .unwrap()
            .iter()
            .find(|block| block["type"] == SEARCHED[1])
            .unwrap();
        assert_eq!(
            failed["content"],
            json!({"type": "web_search_tool_result_error", "error_code": code})
        );
        assert_eq!(told["stop_reason"], "end_turn", "the model goes on without: {told:#}");
    }
}

#[actix_rt::test]
async fn beside_other_tools_the_clients_own_calls_come_to_the_client() {
    let world = World::with(ON).await;
    for model in ["gpt-4.1", "claude-sonnet-4.5"] {
        for stream in [false, true] {
            let both = "[[sim:parallel]] please call look {} then search: otters";
            let mut asked = beside(model, stream, both);
            let told = message(&world, &asked).await;
            let mut found = kinds(&told);
            found.retain(|kind| *kind != "text");
            assert_eq!(found, [&SEARCHED[..], &["tool_use"]].concat(), "{told:#}");
            assert_eq!(told["stop_reason"], "tool_use");
            let own = told["content"].as_array().unwrap().last().unwrap();
            assert_eq!(own["name"], "look");
            let result = json!({"type": "tool_result", "tool_use_id": own["id"], "content": "seen"});
            let messages = asked["messages"].as_array_mut().unwrap();
            messages.push(json!({"role": "assistant", "content": told["content"]}));
            messages.push(json!({"role": "user", "content": [result]}));
            assert_eq!(message(&world, &asked).await["type"], "message", "{model}");
        }
    }
}

/// A message that was paused goes on when its client sends it back, as the API has it.
#[actix_rt::test]
async fn beside_other_tools_a_model_that_only_searches_is_paused() {
    let world = World::with(ON).await;
    let many: Vec<String> = (0..9).map(|number| format!("search: number {number}")).collect();
    let prompt = format!("please {}", many.join(" then "));
    for model in ["gpt-4.1", "claude-sonnet-4.5"] {
        let mut asked = beside(model, true, &prompt);
        let told = message(&world, &asked).await;
        assert_eq!(told["stop_reason"], "pause_turn", "{told:#}");
        assert_eq!(told["usage"]["server_tool_use"]["web_search_requests"], 2);
        let messages = asked["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": told["content"]}));
        let told = message(&world, &asked).await;
        assert_eq!(told["type"], "message", "{model}: {told:#}");
    }
}

#[actix_rt::test]
async fn a_client_hears_of_a_later_leg_that_fails_and_may_leave_in_any() {
    let world = World::with(ON).await;
    for leaves in [false, true] {
        world
            .plan(json!({"endpoint": "responses", "fault": "slow ms=400"}))
            .await;
        let body = beside("gpt-4.1", true, "please search: otters");
        let mut asked = world.ask("POST", "/v1/messages").json(&body).open().await;
        while world.upstream("/responses").is_empty() {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
        if leaves {
            drop(asked);
            world.open_streams(0).await;
            continue;
        }
        world.plan(json!({"endpoint": "chat", "fault": "500"})).await;
        let heard = asked.until("event: error").await;
        assert!(heard.contains("web_search_tool_result"), "{heard}");
    }
    world.open_streams(0).await;
    assert_eq!(world.get("/admin/status").await.expect(200)["calls"]["running"], 0);
}

#[actix_rt::test]
async fn other_clients_searches_go_where_there_is_one() {
    let world = World::new().await;
    let responses = |model: &str, choice: Value| {
        json!({"model": model, "input": "hi", "tool_choice": choice,
        "tools": [{"type": "web_search"}, {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]})
    };
    for (model, path, kept) in [
        ("gpt-5.4", "/responses", 2),
        ("claude-sonnet-4.6", "/v1/messages", 1),
        ("gpt-4.1", "/chat/completions", 1),
    ] {
        world
            .post("/v1/responses", &responses(model, json!("auto")))
            .await
            .expect(200);
        assert_eq!(
            world.one(path)["body"]["tools"].as_array().unwrap().len(),
            kept,
            "{model}"
        );
        let forced = world
            .post("/v1/responses", &responses(model, json!({"type": "web_search"})))
            .await;
        let refused = format!("Tool type web_search is not supported by model {model}");
        assert_eq!(forced.text.contains(&refused), kept == 1, "{}", forced.text);
        world.upstream(path);

        let chat = json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "web_search_options": {}});
        world.post("/v1/chat/completions", &chat).await.expect(200);
        let asked = world.one(if model.starts_with("claude") {
            "/chat/completions"
        } else {
            path
        });
        assert!(asked["body"].get("web_search_options").is_none(), "{asked}");
    }
}
