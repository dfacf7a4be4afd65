//! Anthropic's web search where the model has none of its own: another model searches, and the client hears of it as of
//! the search it asked for.

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

/// Beside other tools the search stays with the model that was asked, which keeps the others.
#[actix_rt::test]
async fn beside_other_tools_a_search_is_left_out_where_the_model_has_none() {
    let world = World::with(ON).await;
    let tools = |choice: &str| {
        let search = json!({"type": "web_search_20250305", "name": "web_search"});
        let own = json!({"name": "f", "input_schema": {"type": "object", "properties": {}}});
        json!({"tools": [search, own], "tool_choice": {"type": choice}})
    };
    for (model, path, kept) in [
        ("claude-sonnet-4.5", "/v1/messages", 1),
        ("gpt-4.1", "/chat/completions", 1),
        ("gpt-5.2", "/responses", 2),
    ] {
        world
            .post("/v1/messages", &asking(model, false, tools("auto")))
            .await
            .expect(200);
        let asked = world.upstream(path).pop().unwrap();
        assert_eq!(asked["body"]["tools"].as_array().unwrap().len(), kept, "{model}");
    }
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
