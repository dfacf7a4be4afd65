//! What clients see, and how often upstream is asked, when Copilot fails: by status, before and inside an answer.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Answer, CLIENTS, Client, World};

/// Native and translated ways, and upstream's path of each.
const WAYS: [(Client, &str, &str); 8] = [
    (Client::Messages, "claude-sonnet-4.5", "/v1/messages"),
    (Client::Messages, "gpt-5.4", "/responses"),
    (Client::Messages, "gpt-4.1", "/chat/completions"),
    (Client::Chat, "gpt-4.1", "/chat/completions"),
    (Client::Chat, "gpt-5.4", "/responses"),
    (Client::Responses, "gpt-5.4", "/responses"),
    (Client::Responses, "claude-sonnet-4.5", "/v1/messages"),
    (Client::Responses, "gpt-4.1", "/chat/completions"),
];

/// A status by which Copilot fails, and what each client makes of it.
struct Row {
    fault: &'static str,
    /// For Messages, then for the others where it differs.
    status: (u16, u16),
    kind: &'static str,
    openai: (&'static str, &'static str),
    retry_after: bool,
    /// How often upstream is asked.
    asked: usize,
}

const fn row(
    fault: &'static str,
    status: u16,
    kind: &'static str,
    openai: (&'static str, &'static str),
    asked: usize,
) -> Row {
    Row {
        fault,
        status: (status, status),
        kind,
        openai,
        retry_after: false,
        asked,
    }
}

const BAD: &str = "invalid_request_error";

const TABLE: [Row; 11] = [
    row("403", 403, "permission_error", ("permission_error", ""), 2),
    Row {
        retry_after: true,
        ..row(
            "429 retry-after=7",
            429,
            "rate_limit_error",
            ("rate_limit_error", "rate_limit_exceeded"),
            1,
        )
    },
    row("500", 502, "api_error", ("server_error", "upstream_error"), 1),
    row("502", 502, "api_error", ("server_error", "upstream_error"), 1),
    Row {
        retry_after: true,
        ..row(
            "503 retry-after=7",
            503,
            "api_error",
            ("server_error", "upstream_error"),
            1,
        )
    },
    row("504", 504, "timeout_error", ("server_error", "upstream_timeout"), 1),
    Row {
        status: (529, 503),
        ..row(
            "529",
            529,
            "overloaded_error",
            ("server_error", "server_is_overloaded"),
            1,
        )
    },
    row(
        "402",
        402,
        "billing_error",
        ("insufficient_quota", "insufficient_quota"),
        1,
    ),
    row(
        "401",
        401,
        "authentication_error",
        ("authentication_error", "upstream_unauthorized"),
        2,
    ),
    row("413", 413, "request_too_large", (BAD, "payload_too_large"), 1),
    row("422", 400, BAD, (BAD, "content_filter"), 1),
];

#[actix_rt::test]
async fn each_status_reaches_each_client_in_its_own_words() {
    for (client, model, path) in WAYS {
        // Credentials that are refused again and again are not asked for again.
        let world = World::new().await;
        let tries = TABLE.iter().flat_map(|row| [(row, false), (row, true)]);
        for (row, stream) in tries.filter(|(row, stream)| row.asked == 1 || !stream) {
            let prompt = format!("[[sim:{}]] hi", row.fault);
            let answer = world.post(client.path(), &client.body(model, &prompt, stream)).await;
            // A body that chat finds too large is a full context, and Codex knows what to do about that.
            let is_full = client == Client::Responses && path == "/chat/completions" && row.fault == "413";
            let place = format!("{client:?} {model} {} stream={stream}", row.fault);
            let status = if client == Client::Messages {
                row.status.0
            } else if is_full {
                400
            } else {
                row.status.1
            };
            assert_eq!(answer.status, status, "{place}: {}", answer.text);
            let (kind, code, message) = client.refusal(&answer, status);
            if client == Client::Messages {
                assert_eq!(kind, row.kind, "{place}");
            } else if is_full {
                assert_eq!(code, "context_length_exceeded", "{place}");
            } else {
                assert_eq!((kind.as_str(), code.as_str()), row.openai, "{place}");
            }
            assert!(
                !message.is_empty() && !message.contains('<') && !message.contains('{'),
                "{place}: {message}"
            );
            if row.retry_after {
                assert_eq!(answer.header("retry-after"), Some("7"), "{place}");
            }
            if row.retry_after && client == Client::Responses && row.fault.starts_with("429") {
                assert!(message.contains("Please try again in 7s."), "{place}: {message}");
            }
            let asked = world.upstream(path);
            assert_eq!(asked.len(), row.asked, "{place}: {asked:#?}");
            assert!(
                asked.iter().all(|asked| asked["initiator"] == "user"),
                "{place}: {asked:#?}"
            );
        }
    }
}

#[actix_rt::test]
async fn k144_payment_is_nothing_to_try_again() {
    let world = World::new().await;
    for client in CLIENTS {
        let answer = world
            .post(client.path(), &client.body("gpt-5.4", "[[sim:402]] hi", true))
            .await;
        client.refusal(&answer, 402);
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{client:?}");
    }
}

#[actix_rt::test]
async fn k146_one_refused_credential_costs_nothing_but_a_refresh() {
    let world = World::new().await;
    for (client, model, path) in WAYS {
        for fault in ["401-once", "403-once", "token-expired-once", "421-once"] {
            let body = client.body(model, &format!("[[sim:{fault}]] {client:?} hello"), false);
            let whole = world.post(client.path(), &body).await.expect(200);
            assert!(client.text(&whole).contains("hello"), "{whole}");
            let news = world.simulator.requests(0);
            let asked = world.upstream(path);
            assert_eq!(asked.len(), 2, "{client:?} {model} {fault}: {news:#?}");
            assert_eq!(asked[0]["initiator"], asked[1]["initiator"]);
            assert_eq!(asked[0]["body"], asked[1]["body"]);
        }
    }
}

#[actix_rt::test]
async fn a_wrong_host_that_stays_wrong_is_no_fault_of_the_request() {
    let world = World::new().await;
    for client in CLIENTS {
        let body = client.body("gpt-5.4", "[[sim:421]] hi", false);
        let answer = world.post(client.path(), &body).await;
        let (_, _, message) = client.refusal(&answer, 502);
        assert_eq!(message, "Misdirected Request");
    }
}

#[actix_rt::test]
async fn an_expired_token_is_replaced_unseen() {
    let world = World::new().await;
    world
        .post("/v1/messages", &Client::Messages.body("gpt-4.1", "hi", false))
        .await
        .expect(200);
    world.control("/_sim/settings", json!({"expire_tokens": true})).await;
    let answer = world
        .post("/v1/messages", &Client::Messages.body("gpt-4.1", "hi", true))
        .await;
    assert!(answer.text.contains("message_stop"), "{}", answer.text);
}

#[actix_rt::test]
async fn terms_of_service_are_told_as_such() {
    let world = World::new().await;
    for client in CLIENTS {
        let answer = world
            .post(client.path(), &client.body("gpt-5.4", "[[sim:tos]] hi", false))
            .await;
        let (_, _, message) = client.refusal(&answer, 403);
        assert!(message.contains("Terms of Service"), "{message}");
    }
}

#[actix_rt::test]
async fn k079_a_late_refusal_is_still_a_status() {
    let world = World::with("stream.heartbeat_secs = 0.02\n").await;
    for (client, model, path) in WAYS {
        let body = client.body(model, "[[sim:slow ms=150]] [[sim:429]] hi", true);
        let answer = world.post(client.path(), &body).await;
        client.refusal(&answer, 429);
        world.one(path);
    }
}

#[actix_rt::test]
async fn an_error_as_first_event_is_still_a_status() {
    let world = World::new().await;
    for (client, model, _) in WAYS {
        let answer = world
            .post(
                client.path(),
                &client.body(model, "[[sim:error-in-stream after=0]] hi", true),
            )
            .await;
        assert!(
            answer.status >= 400,
            "{client:?} {model}: {} {}",
            answer.status,
            answer.text
        );
        client.refusal(&answer, answer.status);
    }
}

#[actix_rt::test]
async fn k058_k096_k133_a_stream_that_breaks_is_told_as_broken() {
    let world = World::new().await;
    for (client, model, path) in WAYS {
        for fault in ["cut after=3", "no-end", "error-in-stream after=3"] {
            for prompt in ["hi", "please call get_weather {\"city\": \"Oslo\"}"] {
                let prompt = format!("[[sim:{fault}]] {prompt}");
                let place = format!("{client:?} {model} {fault}");
                let answer = world
                    .post(client.path(), &client.body_with_tool(model, &prompt, true))
                    .await;
                let (kind, message) = client.stream_error(&answer);
                assert!(!message.is_empty() && !kind.is_empty(), "{place}: {}", answer.text);
                if fault == "no-end" {
                    assert_eq!(message, "upstream closed the stream before completion", "{place}");
                }
                world.one(path);
            }
        }
    }
}

#[actix_rt::test]
async fn a_whole_answer_that_breaks_is_a_bad_gateway() {
    let world = World::new().await;
    for (client, model, path) in WAYS {
        let answer = world
            .post(client.path(), &client.body(model, "[[sim:cut after=2]] hi", false))
            .await;
        client.refusal(&answer, 502);
        world.one(path);
    }
}

#[actix_rt::test]
async fn k059_k093_only_the_last_event_missing() {
    let world = World::new().await;
    for (client, model, path) in WAYS {
        let answer = world
            .post(client.path(), &client.body(model, "[[sim:no-done]] hello", true))
            .await;
        if path == "/responses" {
            client.stream_error(&answer);
            continue;
        }
        let events = answer.events();
        assert!(client.streamed_text(&events).contains("hello"), "{}", answer.text);
        let last = events.last().unwrap();
        match client {
            Client::Messages => assert_eq!(last["type"], "message_stop", "{}", answer.text),
            Client::Chat => assert!(answer.is_done() && answer.text.contains("\"stop\""), "{}", answer.text),
            Client::Responses => assert_eq!(last["type"], "response.completed", "{}", answer.text),
        }
    }
}

#[actix_rt::test]
async fn k093_done_without_a_finish_is_understood() {
    let world = World::new().await;
    let chunk = |delta: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        format!(
            "data: {}\n\n",
            json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})
        )
    };
    let text = chunk(json!({"role": "assistant", "content": "whole"}));
    world.plan_stream("chat", &format!("{text}data: [DONE]\n\n")).await;
    let answer = world
        .post(Client::Chat.path(), &Client::Chat.body("gpt-4.1", "hi", true))
        .await;
    assert!(
        answer.is_done() && answer.text.contains("\"finish_reason\":\"stop\""),
        "{}",
        answer.text
    );

    world.plan_stream("chat", &text).await;
    let answer = world
        .post(Client::Chat.path(), &Client::Chat.body("gpt-4.1", "hi", true))
        .await;
    let (code, message) = Client::Chat.stream_error(&answer);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("stream_error", "upstream closed the stream before completion")
    );
}

#[actix_rt::test]
async fn k064_k172_a_refusal_and_a_filter_are_no_ordinary_ending() {
    let world = World::new().await;
    for (client, model, _) in WAYS {
        for fault in ["refusal", "filter"] {
            let prompt = format!("[[sim:{fault}]] hi");
            let place = format!("{client:?} {model} {fault}");
            let whole = world
                .post(client.path(), &client.body(model, &prompt, false))
                .await
                .expect(200);
            let streamed = world.post(client.path(), &client.body(model, &prompt, true)).await;
            let events = streamed.events();
            let place = format!("{place}: {whole:#}\n{}", streamed.text);
            match client {
                Client::Messages => {
                    assert_eq!(whole["stop_reason"], "refusal", "{place}");
                    assert!(
                        events.iter().any(|event| event["delta"]["stop_reason"] == "refusal"),
                        "{place}"
                    );
                }
                Client::Chat => {
                    let choice = &whole["choices"][0];
                    assert!(
                        choice["finish_reason"] == "content_filter" || choice["message"]["refusal"].is_string(),
                        "{place}"
                    );
                    assert!(streamed.is_done(), "{place}");
                }
                Client::Responses => {
                    let refused = |response: &Value| {
                        response["incomplete_details"]["reason"] == "content_filter"
                            || response["output"].to_string().contains("\"refusal\"")
                    };
                    assert!(refused(&whole), "{place}");
                    assert!(refused(&events.last().unwrap()["response"]), "{place}");
                }
            }
        }
    }
}

#[actix_rt::test]
async fn k084_a_call_cut_by_the_limit_is_never_offered_as_whole() {
    let world = World::new().await;
    for (client, model, _) in WAYS {
        let prompt = "[[sim:length]] please call get_weather {\"city\": \"a city with a rather long name\"}";
        let body = client.body_with_tool(model, prompt, false);
        let whole = world.post(client.path(), &body).await.expect(200);
        let streamed = world
            .post(client.path(), &client.body_with_tool(model, prompt, true))
            .await;
        let place = format!("{client:?} {model}: {whole:#}\n{}", streamed.text);
        match client {
            Client::Messages => {
                assert_eq!(whole["stop_reason"], "max_tokens", "{place}");
                // What Copilot says in Anthropic's words is passed on as it is.
                let native = model.starts_with("claude");
                assert_eq!(client.calls(&whole).len(), usize::from(native), "{place}");
                assert!(streamed.text.contains("\"stop_reason\":\"max_tokens\""), "{place}");
            }
            Client::Chat => {
                assert_eq!(whole["choices"][0]["finish_reason"], "length", "{place}");
                assert!(streamed.text.contains("\"finish_reason\":\"length\""), "{place}");
            }
            Client::Responses => {
                for response in [&whole, &streamed.events().last().unwrap()["response"]] {
                    assert_eq!(response["status"], "incomplete", "{place}");
                    let output = response["output"].as_array().unwrap();
                    let calls: Vec<&Value> = output.iter().filter(|item| item["type"] == "function_call").collect();
                    assert!(calls.iter().all(|call| call["status"] == "incomplete"), "{place}");
                }
            }
        }
    }
}

#[actix_rt::test]
async fn an_answer_that_never_begins_times_out() {
    let world = World::with("upstream.first_byte_secs = 0.05\n").await;
    for (client, model, path) in WAYS {
        for stream in [false, true] {
            let answer = world
                .post(client.path(), &client.body(model, "[[sim:hang]] hi", stream))
                .await;
            let (kind, code, _) = client.refusal(&answer, 504);
            if client == Client::Messages {
                assert_eq!(kind, "timeout_error");
            } else {
                assert_eq!((kind.as_str(), code.as_str()), ("server_error", "upstream_timeout"));
            }
            world.one(path);
        }
    }
    world.open_streams(0).await;
}

#[actix_rt::test]
async fn silence_in_an_answer_ends_it_as_an_error() {
    // Long enough that a busy machine is not taken for a silent upstream.
    let world = World::with("upstream.silence_secs = 1\nstream.heartbeat_secs = 0.2\n").await;
    let tries = WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]);
    let asked = tries.map(|((client, model, _), stream)| {
        let body = client.body(model, "[[sim:silence]] hi", stream);
        let answer = world.ask("POST", client.path()).json(&body).send();
        async move { (client, stream, answer.await) }
    });
    for (client, stream, answer) in futures_util::future::join_all(asked).await {
        if stream {
            let (kind, message) = client.stream_error(&answer);
            assert!(!kind.is_empty() && !message.is_empty(), "{}", answer.text);
        } else {
            client.refusal(&answer, 504);
        }
    }
    world.open_streams(0).await;
}

#[actix_rt::test]
async fn what_is_no_answer_is_a_bad_gateway() {
    let world = World::new().await;
    for (client, model, path) in WAYS {
        for fault in ["html", "empty", "gzip"] {
            for stream in [false, true] {
                let prompt = format!("[[sim:{fault}]] hi");
                let answer = world.post(client.path(), &client.body(model, &prompt, stream)).await;
                let (kind, code, message) = client.refusal(&answer, 502);
                let place = format!("{client:?} {model} {fault} stream={stream}: {message}");
                assert!(!message.contains('<'), "{place}");
                if client == Client::Messages {
                    assert_eq!(kind, "api_error", "{place}");
                } else {
                    assert_eq!(
                        (kind.as_str(), code.as_str()),
                        ("server_error", "upstream_invalid_response"),
                        "{place}"
                    );
                }
                world.one(path);
            }
        }
    }
}

async fn overflow(world: &World, client: Client, model: &str, stream: bool, agent: &str) -> Answer {
    let ask = world.ask("POST", client.path()).header("user-agent", agent);
    ask.json(&client.body(model, "[[sim:overflow]] hi", stream))
        .send()
        .await
}

#[actix_rt::test]
async fn k113_a_full_context_is_told_as_each_client_hears_it() {
    let world = World::new().await;
    for (client, model, _) in WAYS {
        for stream in [false, true] {
            let answer = overflow(&world, client, model, stream, "sdk/1").await;
            let (kind, code, message) = client.refusal(&answer, 400);
            assert_eq!(kind, BAD);
            match client {
                Client::Messages => assert_eq!(message, "prompt is too long: 210000 tokens > 200000 maximum"),
                _ => assert_eq!(code, "context_length_exceeded", "{message}"),
            }
        }
    }
    for model in ["gpt-5.4", "claude-sonnet-4.5", "gpt-4.1"] {
        let answer = overflow(&world, Client::Responses, model, true, "codex_cli_rs/0.150.0").await;
        let (code, _) = Client::Responses.stream_error(&answer);
        assert_eq!(code, "context_length_exceeded");
        let kinds: Vec<Value> = answer.events().iter().map(|event| event["type"].clone()).collect();
        assert_eq!(kinds.first(), Some(&json!("response.created")), "{kinds:?}");
        let answer = overflow(&world, Client::Responses, model, false, "codex_cli_rs/0.150.0").await;
        Client::Responses.refusal(&answer, 400);
    }
    let text = "Your input exceeds the context window of this model. Please adjust your input and try again.";
    let body = json!({"error": {"message": text, "code": "invalid_request_body"}});
    world
        .plan(json!({"endpoint": "responses", "status": 400, "body": body}))
        .await;
    let answer = world
        .post("/v1/messages", &Client::Messages.body("gpt-5.4", "hi", true))
        .await;
    let (_, _, message) = Client::Messages.refusal(&answer, 400);
    assert!(message.starts_with("prompt is too long"), "{message}");
}

/// Refuses the next call of `endpoint`, and what a client of `model` hears.
async fn refused(world: &World, client: Client, model: &str, fault: Value) -> Answer {
    world.plan(fault).await;
    world.post(client.path(), &client.body(model, "hi", true)).await
}

#[actix_rt::test]
async fn k138_json_in_a_message_is_unwrapped() {
    let world = World::new().await;
    let body = json!({"error": {"message": "{\"error\":{\"message\":\"X\"}}"}});
    for client in CLIENTS {
        let fault = json!({"endpoint": "*", "status": 400, "body": body});
        let answer = refused(&world, client, "gpt-4.1", fault).await;
        assert_eq!(client.refusal(&answer, 400).2, "X");
    }
}

#[actix_rt::test]
async fn k139_plain_text_is_passed_on() {
    let world = World::new().await;
    let fault = json!({"endpoint": "messages", "status": 400, "body": "bad request"});
    let answer = refused(&world, Client::Messages, "claude-sonnet-4.5", fault).await;
    let (kind, _, message) = Client::Messages.refusal(&answer, 400);
    assert_eq!((kind.as_str(), message.as_str()), (BAD, "bad request"));
}

#[actix_rt::test]
async fn k140_a_long_prompt_is_told_in_anthropics_words() {
    let world = World::new().await;
    let body = json!({"error": {"message": "prompt token count of 74490 exceeds the limit of 72000",
        "code": "model_max_prompt_tokens_exceeded"}});
    let fault = json!({"endpoint": "chat", "status": 400, "body": body});
    let answer = refused(&world, Client::Messages, "gpt-4.1", fault).await;
    assert_eq!(
        Client::Messages.refusal(&answer, 400).2,
        "prompt is too long: 74490 tokens > 72000 maximum"
    );
}

#[actix_rt::test]
async fn k141_the_sum_that_is_too_large_gets_its_backticks() {
    let world = World::new().await;
    let body = json!({"error": {"message":
        "input length and max_tokens exceed context limit: 189727 + 16000 > 200000"}});
    let fault = json!({"endpoint": "messages", "status": 400, "body": body});
    let answer = refused(&world, Client::Messages, "claude-sonnet-4.5", fault).await;
    let (_, _, message) = Client::Messages.refusal(&answer, 400);
    let wanted = "input length and `max_tokens` exceed context limit: 189727 + 16000 > 200000";
    assert!(message.starts_with(wanted), "{message}");
}

#[actix_rt::test]
async fn k142_that_code_alone_is_no_overflow() {
    let world = World::new().await;
    let body = json!({"error": {"message": "tools.0 is odd", "code": "invalid_request_body"}});
    for client in CLIENTS {
        let fault = json!({"endpoint": "*", "status": 400, "body": body});
        let answer = refused(&world, client, "gpt-5.4", fault).await;
        let (_, code, message) = client.refusal(&answer, 400);
        assert_eq!(message, "tools.0 is odd");
        assert_ne!(code, "context_length_exceeded");
    }
}

#[actix_rt::test]
async fn k143_a_rate_limit_by_any_other_status() {
    let world = World::new().await;
    let headers = json!({"retry-after": "9"});
    for client in CLIENTS {
        let body = json!({"error": {"message": "slow down", "code": "rate_limited"}});
        let fault = json!({"endpoint": "*", "status": 400, "headers": headers, "body": body});
        let answer = refused(&world, client, "gpt-5.4", fault).await;
        client.refusal(&answer, 429);
        assert_eq!(answer.header("retry-after"), Some("9"));
        let body = json!({"error": {"message": "You have been rate limited, rate limit exceeded"}});
        let fault = json!({"endpoint": "*", "status": 503, "body": body});
        let answer = refused(&world, client, "gpt-5.4", fault).await;
        client.refusal(&answer, 429);
    }
}

#[actix_rt::test]
async fn k145_overloaded() {
    let world = World::new().await;
    for client in CLIENTS {
        let answer = world
            .post(client.path(), &client.body("gpt-5.4", "[[sim:529]] hi", false))
            .await;
        match client {
            Client::Messages => assert_eq!(client.refusal(&answer, 529).0, "overloaded_error"),
            _ => assert_eq!(client.refusal(&answer, 503).1, "server_is_overloaded"),
        }
    }
}

#[actix_rt::test]
async fn k085_whitespace_without_end_is_cut_off() {
    let world = World::new().await;
    let event = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    let item =
        json!({"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "arguments": ""});
    let frames = [
        event(json!({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "output": []}})),
        event(json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item})),
        event(
            json!({"type": "response.function_call_arguments.delta", "sequence_number": 2, "output_index": 0,
            "item_id": "fc_1", "delta": format!("{{{}", "\n".repeat(30))}),
        ),
    ];
    world.plan_stream("responses", &frames.concat()).await;
    let body = Client::Messages.body_with_tool("gpt-5.4", "hi", true);
    let answer = world.post("/v1/messages", &body).await;
    let (_, message) = Client::Messages.stream_error(&answer);
    assert_eq!(message, "upstream produced an unbounded whitespace sequence");
}

#[actix_rt::test]
async fn k086_a_failure_inside_a_stream_keeps_its_kind() {
    let world = World::new().await;
    let event = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    let created =
        event(json!({"type": "response.created", "sequence_number": 0, "response": {"id": "r", "output": []}}));
    let text = event(
        json!({"type": "response.output_text.delta", "sequence_number": 1, "output_index": 0,
        "content_index": 0, "item_id": "m", "delta": "a"}),
    );
    let failed = event(
        json!({"type": "response.failed", "sequence_number": 2, "response": {"id": "r",
        "status": "failed", "output": [], "error": {"code": "rate_limit_exceeded", "message": "slow down"}}}),
    );
    let body = Client::Messages.body("gpt-5.4", "hi", true);
    world
        .plan_stream("responses", &[created, text, failed.clone()].concat())
        .await;
    let answer = world.post("/v1/messages", &body).await;
    assert_eq!(Client::Messages.stream_error(&answer).0, "rate_limit_error");
    world.plan_stream("responses", &failed).await;
    let answer = world.post("/v1/messages", &body).await;
    Client::Messages.refusal(&answer, 429);
}

/// What comes before a stream's first event: nothing that its client would have to understand.
const COMMENT: &str = ": keepalive";
const PING: &str = "event: ping\ndata: {\"type\":\"ping\"}";

#[actix_rt::test]
async fn k080_heartbeats_come_only_between_frames() {
    let world = World::with("stream.heartbeat_secs = 0.05\n").await;
    let silences = ["silence secs=1", "silence secs=1 after=3"];
    let ways = WAYS.into_iter().flat_map(|way| silences.map(|silence| (way, silence)));
    let asked = ways.map(|((client, model, _), silence)| {
        let body = client.body(model, &format!("[[sim:{silence}]] hello there"), true);
        let answer = world.ask("POST", client.path()).json(&body).send();
        async move { (client, format!("{client:?} {model} {silence}"), answer.await) }
    });
    for (client, place, answer) in futures_util::future::join_all(asked).await {
        let events = answer.events();
        assert!(
            client.streamed_text(&events).contains("hello there"),
            "{place}: {}",
            answer.text
        );
        // Between two blank lines stands one heartbeat or one whole event, and nothing else.
        let blocks: Vec<&str> = answer.text.split_terminator("\n\n").collect();
        let is_event = |block: &str| block.starts_with("event: ") || block.starts_with("data: ");
        let begun = blocks.iter().position(|block| is_event(block)).unwrap();
        let (mut comments, mut pings) = (0, 0);
        for (at, &block) in blocks.iter().enumerate() {
            match block {
                COMMENT => comments += 1,
                PING => pings += 1,
                event => assert!(is_event(event) && !event.contains(COMMENT), "{place}: {}", answer.text),
            }
            let early = at < begun && block != COMMENT;
            assert!(!early, "{place}: {}", answer.text);
            // Once a Messages client has its beginning, its heartbeat is an event of its own.
            let strange = client == Client::Messages && at > begun && block == COMMENT;
            assert!(!strange, "{place}: {}", answer.text);
        }
        if client == Client::Messages && place.ends_with("after=3") {
            assert!(
                blocks[begun].starts_with("event: message_start\n"),
                "{place}: {}",
                answer.text
            );
            // Copilot's own Messages stream has a ping of its own.
            let own = usize::from(place.contains("claude"));
            assert!(pings >= 2 + own, "{place}: {}", answer.text);
        } else {
            assert!(comments + pings >= 2, "{place}: {}", answer.text);
        }
        assert!(client == Client::Messages || pings == 0, "{place}: {}", answer.text);
    }
}

#[actix_rt::test]
async fn comments_and_slow_pieces_from_upstream_change_nothing() {
    let world = World::new().await;
    for (client, model, _) in WAYS {
        let plain = world
            .post(client.path(), &client.body(model, "[[sim:comments]] hello", true))
            .await;
        let text = client.streamed_text(&plain.events());
        assert!(text.contains("hello"), "{client:?} {model}: {}", plain.text);
    }
}

#[actix_rt::test]
async fn k089_a_client_that_leaves_frees_upstream_at_once() {
    let world = World::with("stream.heartbeat_secs = 0.05\n").await;
    for (client, model, _) in WAYS {
        for fault in ["hang", "silence"] {
            for stream in [false, true] {
                let body = client.body(model, &format!("[[sim:{fault}]] hi"), stream);
                let mut asked = world.ask("POST", client.path()).json(&body).open().await;
                world.open_streams(1).await;
                if fault == "silence" && stream {
                    asked.until("\r\n\r\n").await;
                }
                let left = Instant::now();
                drop(asked);
                world.open_streams(0).await;
                assert!(left.elapsed() < Duration::from_secs(1));
            }
        }
    }
}

#[actix_rt::test]
async fn an_upstream_that_fails_is_asked_again_only_where_that_is_set() {
    let (off, on) = (World::new().await, World::with("upstream.retry_5xx = 2\n").await);
    let ways = || WAYS.into_iter().step_by(3);
    for (client, model, path) in ways() {
        for stream in [false, true] {
            let body = client.body(model, &format!("[[sim:500-once]] {client:?} {stream}"), stream);
            assert_eq!(off.post(client.path(), &body).await.status, 502, "{client:?}");
            assert_eq!(off.upstream(path).len(), 1);

            assert_eq!(on.post(client.path(), &body).await.status, 200, "{client:?}");
            let asked = on.upstream(path);
            assert_eq!((asked.len(), &asked[0]["initiator"]), (2, &asked[1]["initiator"]));
        }
        let status = |fault: &str| client.body(model, &format!("[[sim:{fault}]] hi"), false);
        assert_eq!(on.post(client.path(), &status("429")).await.status, 429);
        assert_eq!(on.upstream(path).len(), 1, "{client:?}");
    }
    let requests = on.get("/admin/requests").await.expect(200);
    let mended = requests["requests"].as_array().unwrap().iter();
    let mended = mended.filter(|one| one["healed"] == json!(["retry"]));
    assert_eq!(mended.count(), 2 * ways().count(), "{requests:#}");
}

/// Whoever leaves, and when, no call upstream outlives its client.
#[actix_rt::test]
async fn k089_of_a_thousand_clients_that_leave_none_is_served_on() {
    let world = World::new().await;
    let leave = async |number: u64| {
        let (client, model, _) = WAYS[number as usize % WAYS.len()];
        let body = client.body(model, "[[sim:long chunks=1000]] [[sim:trickle ms=50]]", true);
        // From before the request has arrived to well inside its stream, in an order that is none.
        let moment = Duration::from_millis(number * 7919 % 400);
        let asked = world.ask("POST", client.path()).json(&body).open().await;
        actix_rt::time::sleep(moment).await;
        drop(asked);
    };
    for hundreds in 0..10 {
        let leaving = (0..100).map(|number| leave(hundreds * 100 + number));
        futures_util::future::join_all(leaving).await;
    }
    assert!(
        world.simulator.requests(0).len() > 100,
        "most of them were asked upstream"
    );
    world.open_streams(0).await;
}
