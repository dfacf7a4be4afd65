mod client;
mod deeds;

use std::time::Duration;

use actix_web::rt::time::sleep;
use awc::ws;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};

use super::*;
use client::{Answer, Client, answer};

fn chat(model: &str, prompt: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}]})
}

fn messages(model: &str, prompt: &str) -> Value {
    json!({"model": model, "max_tokens": 2000, "messages": [{"role": "user", "content": prompt}]})
}

fn responses(model: &str, prompt: &str) -> Value {
    json!({"model": model, "input": prompt, "store": false})
}

fn weather() -> Value {
    json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
}

fn text_of(events: &[Value], pointer: &str) -> String {
    events
        .iter()
        .filter_map(|event| event.pointer(pointer)?.as_str())
        .collect()
}

#[actix_web::test]
async fn a_person_signs_in() {
    let client = Client::new(Settings {
        approve_after_polls: 1,
        device_interval: Duration::from_millis(1),
        ..Settings::default()
    })
    .await;
    let start = json!({"client_id": "Iv1.b507a08c87ecfe98", "scope": "read:user"});
    let post = |path: &'static str, body: Value| {
        let request = client
            .http
            .post(client.url(path))
            .insert_header(("accept", "application/json"));
        async move { answer(request.send_json(&body).await.unwrap()).await }
    };
    let code = post("/login/device/code", start.clone()).await.json();
    let poll = json!({
        "client_id": "Iv1.b507a08c87ecfe98",
        "device_code": code["device_code"],
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    });
    let path = "/login/oauth/access_token";
    assert_eq!(post(path, poll.clone()).await.json()["error"], "authorization_pending");
    let granted = post(path, poll.clone()).await.json();
    let token = granted["access_token"].as_str().unwrap();
    assert!(token.starts_with("ghu_"), "{granted}");
    assert_eq!(client.github("/copilot_internal/v2/token", token).await.status, 200);
    assert_eq!(post(path, poll).await.json()["error"], "incorrect_device_code");

    client
        .control(
            "/_sim/settings",
            json!({"device": "deny", "device_interval": 5, "approve_after_polls": 0}),
        )
        .await;
    let code = post("/login/device/code", start).await.json();
    let poll = json!({
        "client_id": "Iv1.b507a08c87ecfe98",
        "device_code": code["device_code"],
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
    });
    assert_eq!(code["interval"], 5);
    assert_eq!(post(path, poll.clone()).await.json()["error"], "access_denied");
}

#[actix_web::test]
async fn early_polls_are_slowed_down() {
    let state = web::Data::new(State::new(Settings::default()));
    let app = actix_web::test::init_service(App::new().app_data(state.clone()).configure(routes)).await;
    let post = |path: &str, form: &str| {
        let request = actix_web::test::TestRequest::post()
            .uri(path)
            .insert_header(("content-type", "application/x-www-form-urlencoded"))
            .insert_header(("accept", "application/json"))
            .set_payload(form.to_owned())
            .to_request();
        actix_web::test::call_and_read_body_json(&app, request)
    };
    let code: Value = post("/login/device/code", "client_id=Iv1.b507a08c87ecfe98&scope=read%3Auser").await;
    let form = format!(
        "client_id=Iv1.b507a08c87ecfe98&device_code={}&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code",
        code["device_code"].as_str().unwrap()
    );
    let first: Value = post("/login/oauth/access_token", &form).await;
    assert_eq!(first["error"], "authorization_pending");
    let second: Value = post("/login/oauth/access_token", &form).await;
    assert_eq!(
        (&second["error"], &second["interval"]),
        (&json!("slow_down"), &json!(6))
    );
}

#[actix_web::test]
async fn the_exchange_refuses_as_github_does() {
    let client = Client::new(Settings::default()).await;
    assert_eq!(
        client.github("/copilot_internal/v2/token", "ghu_unknown").await.status,
        401
    );
    assert_eq!(
        client.github("/copilot_internal/v2/token", "ghp_personal").await.status,
        404
    );
    assert_eq!(client.github("/copilot_internal/user", &client.token).await.status, 401);
    assert_eq!(
        client.github("/user", DEMO_GITHUB_TOKEN).await.json()["login"],
        "example-user"
    );
    client
        .control("/_sim/settings", json!({"exchange_error": "feature_flag_blocked"}))
        .await;
    let refused = client.exchange().await;
    assert_eq!(refused.status, 403);
    assert_eq!(
        refused.json()["error_details"]["notification_id"],
        "feature_flag_blocked"
    );
    client.control("/_sim/settings", json!({"exchange_error": null})).await;
    let anonymous = client.http.get(client.url("/copilot_internal/v2/token"));
    let anonymous = anonymous.insert_header(("user-agent", "Go-http-client/1.1"));
    let anonymous = anonymous.insert_header(("authorization", format!("token {DEMO_GITHUB_TOKEN}")));
    let refused = answer(anonymous.send().await.unwrap()).await;
    assert_eq!(refused.json()["error_details"]["notification_id"], "go_http_client");
}

#[actix_web::test]
async fn the_gate_has_its_order() {
    let mut client = Client::new(Settings::default()).await;
    let good = chat("gpt-4.1", "hi");
    let refusal = |answer: &Answer| (answer.status, answer.text.clone());
    let token = std::mem::replace(&mut client.token, "nonsense".into());
    assert_eq!(
        refusal(&client.post("/chat/completions", good.clone()).await),
        (401, "unauthorized: invalid token\n".into())
    );
    client.token = "ghp_x".into();
    assert_eq!(client.post("/chat/completions", good.clone()).await.status, 400);
    client.token = token;
    client
        .control("/_sim/settings", json!({"host": "api.business.githubcopilot.com"}))
        .await;
    assert_eq!(
        refusal(&client.post("/chat/completions", good.clone()).await),
        (421, "Misdirected Request\n".into())
    );
    client.control("/_sim/settings", json!({"host": null})).await;
    client.extra = vec![("editor-version", "")];
    let missing = client.post("/chat/completions", good.clone()).await;
    assert_eq!(
        refusal(&missing),
        (400, "bad request: missing Editor-Version header for IDE auth\n".into())
    );
    assert_eq!(missing.kind, "text/plain; charset=utf-8");
    client.extra = vec![("copilot-integration-id", "my-own")];
    assert_eq!(
        client.post("/chat/completions", good.clone()).await.text,
        "unknown Copilot-Integration-Id\n"
    );
    client.extra.clear();
    // Without quota, an unknown model costs nothing, so it is the model that is refused.
    client.control("/_sim/settings", json!({"quota": 0})).await;
    let unknown = client.post("/chat/completions", chat("nobody", "hi")).await;
    assert_eq!(unknown.json()["error"]["code"], "model_not_supported");
    let broke = client
        .post("/v1/messages", messages("claude-sonnet-4.5", "[[sim:429]]"))
        .await;
    assert_eq!(
        (broke.status, &broke.json()["error"]["code"]),
        (402, &json!("quota_exceeded"))
    );
    assert!(broke.headers.contains_key("x-quota-snapshot-premium_interactions"));
    client.control("/_sim/settings", json!({"quota": 5})).await;
    let limited = client
        .post("/chat/completions", chat("nobody", "[[sim:429 retry-after=7]]"))
        .await;
    assert_eq!(
        (limited.status, limited.headers.get("retry-after").unwrap()),
        (429, &"7".parse().unwrap())
    );
    let elsewhere = client
        .post("/chat/completions", chat("gpt-5.3-codex", &"x".repeat(4_000_000)))
        .await;
    assert_eq!(elsewhere.json()["error"]["code"], "unsupported_api_for_model");
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    let long = json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "x".repeat(600_000)}, image,
    ]}]});
    let code = client.post("/chat/completions", long).await.json()["error"]["code"].clone();
    assert_eq!(code, "model_max_prompt_tokens_exceeded");
    let seen = json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": [image]}]});
    let blind = client.post("/chat/completions", seen.clone()).await;
    assert!(
        blind.text.contains("missing required Copilot-Vision-Request header"),
        "{}",
        blind.text
    );
    client.extra = vec![("copilot-vision-request", "true")];
    assert_eq!(client.post("/chat/completions", seen).await.status, 200);
    let disabled = client.post("/responses", responses("gpt-5.5", "hi")).await;
    assert_eq!(disabled.json()["error"]["code"], "model_not_supported");
    assert_eq!(
        client
            .post("/models/gpt-5.5/policy", json!({"state": "enabled"}))
            .await
            .json()["state"],
        "enabled"
    );
    assert_eq!(client.post("/responses", responses("gpt-5.5", "hi")).await.status, 200);
}

#[actix_web::test]
async fn only_a_persons_turns_are_charged() {
    let mut client = Client::new(Settings::default()).await;
    let before = client.premium().await;
    let asked = client.post("/v1/messages", messages("claude-opus-4.6", "hi")).await;
    assert_eq!(asked.status, 200);
    assert_eq!(client.premium().await, before - 3.0);
    client.initiator = "agent";
    client.post("/v1/messages", messages("claude-opus-4.6", "hi")).await;
    assert_eq!(client.premium().await, before - 3.0);
    client.initiator = "user";
    client.post("/chat/completions", chat("gpt-4.1", "hi")).await;
    assert_eq!(client.premium().await, before - 3.0);
    client.control("/_sim/settings", json!({"plan": "free"})).await;
    client.post("/chat/completions", chat("gpt-4.1", "hi")).await;
    let account = client.github("/copilot_internal/user", DEMO_GITHUB_TOKEN).await.json();
    assert_eq!(account["limited_user_quotas"]["chat"], 149);
}

#[actix_web::test]
async fn chat_answers_whole_and_in_chunks() {
    let client = Client::new(Settings::default()).await;
    let whole = client.post("/chat/completions", chat("gpt-4o", "hello there")).await;
    assert_eq!(whole.kind, "application/json");
    assert!(whole.headers.contains_key("x-github-request-id"));
    let whole = whole.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "You said: hello there");
    let names: Vec<&String> = whole.as_object().unwrap().keys().collect();
    assert!(names.is_sorted() && whole.get("object").is_none(), "{names:?}");
    let mut body = chat("gpt-4o", "hello there");
    body["stream"] = json!(true);
    let stream = client.post("/chat/completions", body).await;
    assert_eq!(stream.kind, "text/event-stream");
    assert!(stream.frames().last().unwrap().is_done());
    let events = stream.events();
    assert_eq!((&events[0]["id"], &events[0]["created"]), (&json!(""), &json!(0)));
    assert_eq!(text_of(&events, "/choices/0/delta/content"), "You said: hello there");
    let finish = events
        .iter()
        .find(|event| event["choices"][0]["finish_reason"] == "stop")
        .unwrap();
    assert!(
        finish["usage"]["prompt_tokens"].as_u64().unwrap() > 0,
        "usage on the finish chunk"
    );
}

#[actix_web::test]
async fn claude_on_chat_calls_in_a_choice_of_its_own() {
    let client = Client::new(Settings::default()).await;
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "parameters": weather()}}]);
    let mut body = chat("claude-sonnet-4.5", "please call get_weather {\"city\": \"Oslo\"}");
    body["tools"] = tools.clone();
    let whole = client.post("/chat/completions", body.clone()).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "I will use get_weather.");
    let call = whole["choices"][1]["message"]["tool_calls"][0].clone();
    assert_eq!(call["function"]["arguments"], "{\"city\":\"Oslo\"}");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let events = client.post("/chat/completions", body.clone()).await.events();
    assert_eq!(
        text_of(&events, "/choices/0/delta/tool_calls/0/function/arguments"),
        "{\"city\":\"Oslo\"}"
    );
    assert!(
        events
            .iter()
            .any(|event| event["choices"] == json!([]) && event["usage"].is_object())
    );
    let mut body = chat("claude-sonnet-4.5", "please call get_weather {\"city\": \"Oslo\"}");
    body["tools"] = tools;
    let list = body["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    let refused = client.post("/chat/completions", body.clone()).await;
    assert!(
        refused.text.contains("did not have response messages"),
        "{}",
        refused.text
    );
    let list = body["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "4 degrees"}));
    let whole = client.post("/chat/completions", body).await.json();
    assert_eq!(
        whole["choices"][0]["message"]["content"],
        "The tool answered: 4 degrees"
    );
}

#[actix_web::test]
async fn messages_think_and_know_their_signatures() {
    let client = Client::new(Settings::default()).await;
    let mut body = messages("claude-sonnet-4.5", "hello");
    body["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    let whole = client.post("/v1/messages", body.clone()).await.json();
    assert_eq!(whole["content"][0]["type"], "thinking");
    assert_eq!(
        (&whole["content"][1]["text"], &whole["stop_reason"]),
        (&json!("You said: hello"), &json!("end_turn"))
    );
    body["stream"] = json!(true);
    let stream = client.post("/v1/messages", body.clone()).await;
    assert!(
        stream.text.contains("event: message_start\ndata: {\"message\":"),
        "{}",
        stream.text
    );
    let events = stream.events();
    assert_eq!(text_of(&events, "/delta/text"), "You said: hello");
    assert_eq!(
        text_of(&events, "/delta/thinking"),
        whole["content"][0]["thinking"].as_str().unwrap()
    );
    let list = body["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": whole["content"]}));
    list.push(json!({"role": "user", "content": "and again"}));
    assert_eq!(client.post("/v1/messages", body.clone()).await.status, 200);
    body["messages"][1]["content"][0]["thinking"] = json!("something else");
    let refused = client.post("/v1/messages", body).await;
    assert!(
        refused.text.contains("Invalid `signature` in `thinking` block"),
        "{}",
        refused.text
    );
}

#[actix_web::test]
async fn tokens_are_counted_as_they_are_billed() {
    let client = Client::new(Settings::default()).await;
    let body = messages("claude-sonnet-4.5", &"hello ".repeat(50));
    let count = client.post("/v1/messages/count_tokens", body.clone()).await.json();
    let billed = client.post("/v1/messages", body).await.json();
    assert_eq!(count["input_tokens"], billed["usage"]["input_tokens"]);
}

#[actix_web::test]
async fn responses_make_ids_anew_and_check_them() {
    let client = Client::new(Settings::default()).await;
    let mut body = responses("gpt-5.3-codex", "hello");
    body["reasoning"] = json!({"effort": "medium", "summary": "auto"});
    body["include"] = json!(["reasoning.encrypted_content"]);
    body["stream"] = json!(true);
    let events = client.post("/responses", body.clone()).await.events();
    assert_eq!(events.first().unwrap()["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert!(last["copilot_usage"]["total_nano_aiu"].is_u64());
    assert_ne!(events[0]["response"]["id"], last["response"]["id"]);
    let ids: std::collections::HashSet<&str> = events.iter().filter_map(|event| event["item_id"].as_str()).collect();
    assert_eq!(
        ids.len(),
        events.iter().filter(|event| event["item_id"].is_string()).count()
    );
    let numbers: Vec<u64> = events
        .iter()
        .map(|event| event["sequence_number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let texts: Vec<Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .cloned()
        .collect();
    assert_eq!(text_of(&texts, "/delta"), "You said: hello");
    // What was given out comes back: without ids it is welcome, with those of another connection it is not.
    let output = last["response"]["output"].as_array().unwrap().clone();
    let mut items = output.clone();
    items
        .iter_mut()
        .for_each(|item| drop(item.as_object_mut().unwrap().shift_remove("id")));
    items.push(json!({"role": "user", "content": "and again"}));
    body["input"] = items.into();
    body["stream"] = json!(false);
    let again = client.post("/responses", body.clone()).await.json();
    assert_eq!(again["output"][1]["content"][0]["text"], "You said: and again");
    body["input"][0]["encrypted_content"] = json!("AAAA");
    assert_eq!(
        client.post("/responses", body.clone()).await.json()["error"]["code"],
        "invalid_encrypted_content"
    );
    let elsewhere = awc::Client::builder().disable_timeout().finish();
    body["input"] =
        json!([{"type": "message", "role": "assistant", "id": output[1]["id"], "content": output[1]["content"]}]);
    let other = Client {
        http: elsewhere,
        token: client.token.clone(),
        initiator: "user",
        extra: Vec::new(),
        simulator: client.simulator,
    };
    let refused = other.post("/responses", body).await;
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (401, "input item ID does not belong to this connection\n")
    );
}

#[actix_web::test]
async fn codex_tools_are_called_in_their_own_kind() {
    let client = Client::new(Settings::default()).await;
    let mut body = responses("gpt-5.4", "please run: ls then write a.txt: hi");
    let exec = json!({"type": "function", "name": "exec_command", "parameters": {
        "type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"],
    }});
    let patch = json!({"type": "custom", "name": "apply_patch", "format": {"type": "text"}});
    let namespace = json!({"type": "namespace", "name": "box", "description": "A box.", "tools": [exec]});
    body["tools"] = json!([namespace, patch]);
    let whole = client.post("/responses", body.clone()).await.json();
    let call = whole["output"][0].clone();
    assert_eq!(
        (&call["type"], &call["namespace"]),
        (&json!("function_call"), &json!("box"))
    );
    let prompt = json!({"role": "user", "content": "please run: ls then write a.txt: hi"});
    let output = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "a b"});
    body["input"] = json!([prompt, call, output]);
    let whole = client.post("/responses", body).await.json();
    assert_eq!(whole["output"][0]["type"], "custom_tool_call");
    assert!(
        whole["output"][0]["input"]
            .as_str()
            .unwrap()
            .starts_with("*** Begin Patch")
    );
}

#[actix_web::test]
async fn a_socket_continues_its_own_responses() {
    let client = Client::new(Settings::default()).await;
    let open = || {
        let request = client.http.ws(client.url("/responses").replace("http://", "ws://"));
        let request = request.set_header("authorization", format!("Bearer {}", client.token));
        request
            .set_header("editor-version", "vscode/1")
            .max_frame_size(1 << 20)
            .connect()
    };
    let (_, mut socket) = open().await.unwrap();
    let mut ask = async |frame: Value| -> Vec<Value> {
        socket.send(ws::Message::Text(frame.to_string().into())).await.unwrap();
        let mut events: Vec<Value> = Vec::new();
        while let Some(Ok(frame)) = socket.next().await {
            let ws::Frame::Text(text) = frame else { continue };
            events.push(serde_json::from_slice(&text).unwrap());
            let kind = events.last().unwrap()["type"].as_str().unwrap();
            if ["response.completed", "error"].contains(&kind) {
                break;
            }
        }
        events
    };
    let tools = json!([{"type": "function", "name": "weather", "parameters": weather()}]);
    let first = ask(json!({
        "type": "response.create", "model": "gpt-5.4", "store": false, "tools": tools, "initiator": "user",
        "input": [{"role": "user", "content": "please call weather {\"city\": \"Oslo\"}"}],
    }))
    .await;
    let done = first.last().unwrap();
    assert!(done["copilot_quota_snapshots"]["premium_interactions"].is_object());
    let call_id = done["response"]["output"][0]["call_id"].clone();
    let output = json!([{"type": "function_call_output", "call_id": call_id, "output": "4 degrees"}]);
    let next = json!({
        "type": "response.create", "model": "gpt-5.4", "store": false, "tools": tools, "initiator": "agent",
        "previous_response_id": done["response"]["id"], "input": output,
    });
    let second = ask(next.clone()).await;
    let text = &second.last().unwrap()["response"]["output"][0]["content"][0]["text"];
    assert_eq!(text, "The tool answered: 4 degrees");
    let warm_up = ask(json!({"type": "response.create", "model": "gpt-5.4", "generate": false, "input": "x"})).await;
    assert_eq!(warm_up[0]["param"], "generate");
    let mut stale = next;
    stale["previous_response_id"] = first[0]["response"]["id"].clone();
    assert_eq!(ask(stale).await[0]["code"], "previous_response_not_found");
    assert!(
        ask(json!({"type": "response.create", "model": "nobody", "input": "x"})).await[0]["code"]
            == "model_not_supported"
    );
    let refused = client
        .http
        .ws(client.url("/responses").replace("http://", "ws://"))
        .connect()
        .await;
    assert!(refused.is_err(), "no bearer, no socket");
}

#[actix_web::test]
async fn streams_are_cut_and_counted() {
    let client = Client::new(Settings::default()).await;
    let mut body = chat("gpt-4.1", "[[sim:cut after=4]] hello there my friend");
    body["stream"] = json!(true);
    let mut response = client
        .request("/chat/completions")
        .send_body(body.to_string())
        .await
        .unwrap();
    let mut text = String::new();
    while let Some(Ok(piece)) = response.next().await {
        text.push_str(std::str::from_utf8(&piece).unwrap());
    }
    assert_eq!(text.matches("\n\n").count(), 4, "{text}");
    body["messages"][0]["content"] = json!("[[sim:silence secs=60]] hello");
    let mut response = client
        .request("/chat/completions")
        .send_body(body.to_string())
        .await
        .unwrap();
    response.next().await.unwrap().unwrap();
    assert_eq!(client.simulator.open_streams(), 1);
    drop(response);
    for _ in 0..100 {
        if client.simulator.open_streams() == 0 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.simulator.open_streams(), 0, "a client who leaves is noticed");
    body["messages"][0]["content"] = json!("[[sim:long chunks=500]]");
    let events = client.post("/chat/completions", body).await.events();
    assert!(text_of(&events, "/choices/0/delta/content").ends_with("word499 "));
}

#[actix_web::test]
async fn faults_happen_as_planned() {
    let client = Client::new(Settings::default()).await;
    let once = chat("gpt-4.1", "[[sim:401-once]] hi");
    assert_eq!(client.post("/chat/completions", once.clone()).await.status, 401);
    assert_eq!(client.post("/chat/completions", once).await.status, 200);
    let fault = json!({"endpoint": "chat", "status": 503, "headers": {"retry-after": "2"}, "body": {"error": {"message": "x"}}});
    client.control("/_sim/fault", fault).await;
    let failed = client.post("/chat/completions", chat("gpt-4.1", "hi")).await;
    assert_eq!(
        (failed.status, failed.text.as_str()),
        (503, "{\"error\":{\"message\":\"x\"}}\n")
    );
    assert_eq!(
        client.post("/chat/completions", chat("gpt-4.1", "hi")).await.status,
        200
    );
    let mut body = messages("claude-sonnet-4.6", "[[sim:error-in-stream after=5]] hello");
    body["stream"] = json!(true);
    let events = client.post("/v1/messages", body.clone()).await.events();
    assert_eq!((events.len(), &events.last().unwrap()["type"]), (6, &json!("error")));
    body["messages"][0]["content"] = json!("[[sim:refusal]]");
    let events = client.post("/v1/messages", body).await.events();
    let kinds: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(kinds, ["message_start", "message_delta", "message_stop"]);
    assert_eq!(events[1]["delta"]["stop_reason"], "refusal");
    let mut body = responses("gpt-5.4", "[[sim:no-done]] hello");
    body["stream"] = json!(true);
    let events = client.post("/responses", body).await.events();
    assert_eq!(events.last().unwrap()["type"], "response.output_item.done");
    let long = client
        .post("/responses", responses("gpt-5.4", "[[sim:filter]]"))
        .await
        .json();
    assert_eq!(long["incomplete_details"]["reason"], "content_filter");
}

#[actix_web::test]
async fn tokens_expire_and_requests_are_recorded() {
    let client = Client::new(Settings::default()).await;
    client.control("/_sim/settings", json!({"expire_tokens": true})).await;
    let expired = client.post("/chat/completions", chat("gpt-4.1", "hi")).await;
    assert_eq!(
        (expired.status, expired.text.as_str()),
        (401, "IDE token expired: unauthorized: token expired\n")
    );
    let recorded = client.simulator.requests(0);
    let last = recorded.last().unwrap();
    assert_eq!(
        (&last["path"], &last["body"]["model"]),
        (&json!("/chat/completions"), &json!("gpt-4.1"))
    );
    assert_eq!(last["headers"]["authorization"], "Bearer [redacted]");
    assert!(!json!(recorded).to_string().contains(&client.token));
    let stats = answer(client.http.get(client.url("/_sim/stats")).send().await.unwrap())
        .await
        .json();
    assert_eq!((&stats["exchanges"], &stats["open_streams"]), (&json!(1), &json!(0)));
}

#[actix_web::test]
async fn embeddings_and_models_answer() {
    let client = Client::new(Settings::default()).await;
    let body = json!({"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 8});
    let embedded = client.post("/embeddings", body).await.json();
    assert_eq!(embedded["data"][1]["embedding"].as_array().unwrap().len(), 8);
    assert!(embedded.get("object").is_none() && embedded.get("model").is_none());
    let scalar = client
        .post(
            "/embeddings",
            json!({"model": "text-embedding-3-small", "input": "one"}),
        )
        .await;
    assert_eq!(scalar.status, 400);
    let request = client.http.get(client.url("/models"));
    let request = request.insert_header(("authorization", format!("Bearer {}", client.token)));
    let list = answer(
        request
            .insert_header(("editor-version", "vscode/1"))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(list.json()["data"].as_array().unwrap().len(), 35);
}

#[actix_web::test]
async fn gemini_and_kimi_have_their_own_way_with_calls() {
    let client = Client::new(Settings::default()).await;
    let ask = async |model: &str| {
        let mut body = chat(model, "[[sim:parallel]] please call weather {\"city\": \"Oslo\"}");
        body["tools"] = json!([{"type": "function", "function": {"name": "weather", "parameters": weather()}}]);
        body["stream"] = json!(true);
        let events = client.post("/chat/completions", body).await.events();
        let calls = events
            .iter()
            .filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0").cloned());
        (
            calls.collect::<Vec<Value>>(),
            text_of(&events, "/choices/0/delta/reasoning_opaque"),
        )
    };
    let (calls, opaque) = ask("gemini-3.1-pro-preview").await;
    assert_eq!(calls.len(), 2);
    assert!(
        calls
            .iter()
            .all(|call| call["index"] == 0 && call["function"]["arguments"] == "{\"city\":\"Oslo\"}")
    );
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    assert!(seals::is_seal(&opaque, "opaque", "gemini"));
    let (calls, _) = ask("kimi-k2.7-code").await;
    assert!(calls.len() > 4 && calls.iter().all(|call| call["function"]["name"] == "weather"));
}

#[actix_web::test]
async fn whole_answers_have_accidents_too() {
    let client = Client::new(Settings::default()).await;
    let cut = client
        .post("/chat/completions", chat("gpt-4.1", "[[sim:cut]] hi"))
        .await;
    assert!(
        cut.status == 200 && cut.text.starts_with('{') && !cut.text.ends_with('}'),
        "half of it"
    );
    let page = client
        .post("/chat/completions", chat("gpt-4.1", "[[sim:html]] hi"))
        .await;
    assert_eq!((page.status, page.kind.as_str()), (200, "text/html"));
    let packed = client
        .request("/chat/completions")
        .send_body(chat("gpt-4.1", "[[sim:gzip]]").to_string());
    assert_eq!(packed.await.unwrap().headers().get("content-encoding").unwrap(), "gzip");
    client
        .control("/_sim/fault", json!({"endpoint": "token", "fault": "slow ms=80"}))
        .await;
    let begun = std::time::Instant::now();
    assert_eq!(client.exchange().await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(80));
}

#[actix_web::test]
async fn free_plans_have_fewer_models() {
    let client = Client::new(Settings {
        plan: "free".to_owned(),
        ..Settings::default()
    })
    .await;
    let refused = client.post("/v1/messages", messages("claude-sonnet-4.5", "hi")).await;
    assert_eq!(refused.json()["error"]["code"], "model_not_supported");
    assert_eq!(
        client
            .post("/v1/messages", messages("claude-haiku-4.5", "hi"))
            .await
            .status,
        200
    );
}

#[actix_web::test]
async fn a_repeated_beginning_is_cached() {
    let client = Client::new(Settings::default()).await;
    let mut body = chat("gpt-4.1", &"tell me more ".repeat(100));
    let first = client.post("/chat/completions", body.clone()).await.json()["usage"].clone();
    assert_eq!(first["prompt_tokens_details"]["cached_tokens"], 0);
    let list = body["messages"].as_array_mut().unwrap();
    list.push(json!({"role": "assistant", "content": "more"}));
    list.push(json!({"role": "user", "content": "and more"}));
    let second = client.post("/chat/completions", body).await.json()["usage"].clone();
    assert_eq!(second["prompt_tokens_details"]["cached_tokens"], first["prompt_tokens"]);
}

#[actix_web::test]
async fn a_stopped_simulator_is_gone() {
    let client = Client::new(Settings::default()).await;
    let url = client.url("/_ping");
    let mut stream = chat("gpt-4.1", "[[sim:silence secs=60]]");
    stream["stream"] = json!(true);
    let mut open = client
        .request("/chat/completions")
        .send_body(stream.to_string())
        .await
        .unwrap();
    open.next().await.unwrap().unwrap();
    client.simulator.stop().await;
    assert!(
        open.next().await.is_none_or(|piece| piece.is_err()),
        "its streams end with it"
    );
    assert!(
        client.http.get(url).send().await.is_err(),
        "and nobody listens any more"
    );
}
