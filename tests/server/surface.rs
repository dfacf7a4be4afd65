//! What every path answers before any model is asked: paths and methods, bodies, keys, hosts and origins, ids.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{CLIENTS, Client, World};

fn hello(client: Client) -> Value {
    client.body("gpt-4.1", "hello", false)
}

#[actix_rt::test]
async fn k163_slashes_and_queries_change_no_route() {
    let world = World::new().await;
    for path in [
        "/messages",
        "//messages?beta=true",
        "/v1/messages/",
        "/v1//messages",
        "/messages?beta=true",
    ] {
        let body = world.post(path, &hello(Client::Messages)).await.expect(200);
        assert_eq!(body["type"], "message", "{path}");
    }
    for path in ["/chat/completions", "/v1/chat/completions/", "//v1//chat/completions"] {
        assert_eq!(
            world.post(path, &hello(Client::Chat)).await.expect(200)["object"],
            "chat.completion"
        );
    }
    for path in ["/responses", "/v1/responses/"] {
        assert_eq!(
            world.post(path, &hello(Client::Responses)).await.expect(200)["object"],
            "response"
        );
    }
}

#[actix_rt::test]
async fn the_wrong_method_is_told_the_right_one() {
    let world = World::new().await;
    let cases = [
        ("GET", "/v1/messages", "POST"),
        ("GET", "/chat/completions", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("POST", "/usage", "GET, HEAD"),
        ("PUT", "/v1/responses", "GET, POST"),
        ("POST", "/v1/responses/resp_1", "GET, DELETE"),
        ("POST", "/healthz", "GET, HEAD"),
    ];
    for (method, path, allow) in cases {
        let answer = world.ask(method, path).send().await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
        assert!(answer.json()["error"]["message"].is_string(), "{}", answer.text);
    }
}

#[actix_rt::test]
async fn nothing_there_is_said_in_the_right_envelope() {
    let world = World::new().await;
    for path in [
        "/v1/nothing",
        "/v1/files",
        "/v1/conversations/x",
        "/v1/audio/speech",
        "/v1/images/generations",
    ] {
        for method in ["GET", "POST"] {
            let answer = world.ask(method, path).send().await;
            Client::Chat.refusal(&answer, 404);
            let answer = world
                .ask(method, path)
                .header("anthropic-version", "2023-06-01")
                .send()
                .await;
            Client::Messages.refusal(&answer, 404);
            let answer = world.ask(method, path).header("x-api-key", "k").send().await;
            Client::Messages.refusal(&answer, 404);
        }
    }
    for path in ["/v1/messages/batches", "/messages/batches/x/results"] {
        Client::Messages.refusal(&world.get(path).await, 404);
    }
    let answer = world
        .post("/v1/completions", &json!({"model": "gpt-4.1", "prompt": "x"}))
        .await;
    let (_, code, message) = Client::Chat.refusal(&answer, 404);
    assert_eq!(code, "unsupported_endpoint");
    assert!(message.contains("chat/completions"), "{message}");
    for (method, path) in [
        ("GET", "/v1/responses/resp_1"),
        ("DELETE", "/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
    ] {
        let answer = world.ask(method, path).send().await;
        assert_eq!(
            Client::Responses.refusal(&answer, 404).1,
            "response_not_found",
            "{method} {path}"
        );
    }
}

#[actix_rt::test]
async fn health_is_answered_to_everyone() {
    let world = World::with("server.api_key = \"secret-key\"\n").await;
    for path in ["/livez", "/healthz", "/health", "/v1/healthz"] {
        assert_eq!(world.get(path).await.expect(200), json!({"status": "ok"}));
        let head = world.ask("HEAD", path).send().await;
        assert_eq!((head.status, head.text.as_str()), (200, ""));
    }
    assert_eq!(world.get("/readyz").await.expect(200), json!({"status": "ready"}));
    let root = world.get("/").await;
    assert_eq!((root.status, root.text.trim()), (200, "Server running"));
    assert_eq!(world.get("/version").await.status, 401);
    let version = world
        .ask("GET", "/version")
        .header("x-api-key", "secret-key")
        .send()
        .await;
    assert_eq!(version.expect(200), json!({"version": env!("CARGO_PKG_VERSION")}));
}

#[actix_rt::test]
async fn telemetry_is_swallowed() {
    let world = World::new().await;
    for path in ["/api/event_logging/batch", "/api/event_logging/v2/batch"] {
        assert_eq!(world.post(path, &json!({"events": [1]})).await.expect(200), json!({}));
    }
}

#[actix_rt::test]
async fn k148_a_key_opens_and_stays_here() {
    let world = World::with("server.api_key = \"Zq7-very-secret\"\n").await;
    for client in CLIENTS {
        for (name, value) in [
            ("x-api-key", "Zq7-very-secret"),
            ("authorization", "bearer Zq7-very-secret"),
            ("authorization", "Bearer Zq7-very-secret"),
        ] {
            let ask = world
                .ask("POST", client.path())
                .header(name, value)
                .json(&hello(client));
            ask.send().await.expect(200);
        }
        for wrong in [
            None,
            Some("Bearer wrong"),
            Some("Bearer "),
            Some("Basic Zq7-very-secret"),
        ] {
            let ask = world.ask("POST", client.path()).json(&hello(client));
            let ask = wrong.map_or_else(
                || world.ask("POST", client.path()),
                |wrong| ask.header("authorization", wrong),
            );
            let answer = ask.send().await;
            let (kind, code, _) = client.refusal(&answer, 401);
            assert_eq!(kind, "authentication_error");
            assert!(client == Client::Messages || code == "invalid_api_key", "{code}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    for request in world.simulator.requests(0) {
        assert!(!request.to_string().contains("Zq7-very-secret"), "{request:#}");
        assert!(request["headers"].get("x-api-key").is_none(), "{request:#}");
    }
    assert!(!crate::support::logged().contains("Zq7-very-secret"));
}

#[actix_rt::test]
async fn nothing_a_client_says_about_itself_goes_upstream() {
    let world = World::new().await;
    for client in CLIENTS {
        let ask = world.ask("POST", client.path()).json(&hello(client));
        let ask = ask
            .header("user-agent", "my-agent/1")
            .header("cookie", "a=b")
            .header("x-stainless-lang", "rust")
            .header("openai-organization", "org")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-initiator", "agent")
            .header("copilot-integration-id", "mine")
            .header("authorization", "Bearer client-key");
        ask.send().await.expect(200);
        let upstream = world.one("/chat/completions");
        let headers = &upstream["headers"];
        for name in [
            "cookie",
            "x-stainless-lang",
            "openai-organization",
            "x-forwarded-for",
            "x-api-key",
        ] {
            assert!(headers.get(name).is_none(), "{name}: {headers:#}");
        }
        assert_eq!(headers["copilot-integration-id"], "vscode-chat");
        assert_eq!(headers["x-initiator"], "user");
        assert_eq!(headers["openai-intent"], "conversation-agent");
        assert!(
            headers["user-agent"]
                .as_str()
                .unwrap()
                .starts_with("GitHubCopilotChat/"),
            "{headers:#}"
        );
        assert!(
            headers["editor-version"].as_str().unwrap().starts_with("vscode/"),
            "{headers:#}"
        );
        assert!(headers["x-request-id"].is_string());
        assert!(headers.get("anthropic-version").is_none() && headers.get("copilot-vision-request").is_none());
    }
}

#[actix_rt::test]
async fn k147_every_answer_has_its_id() {
    let world = World::new().await;
    let answers = [
        world.get("/healthz").await,
        world.get("/v1/nothing").await,
        world.post("/v1/messages", &json!({})).await,
        world.post("/v1/messages", &hello(Client::Messages)).await,
        world
            .post("/v1/chat/completions", &Client::Chat.body("gpt-4.1", "hi", true))
            .await,
        world.ask("GET", "/").header("host", "evil.example").send().await,
    ];
    let mut seen = Vec::new();
    for answer in answers {
        let id = answer.header("request-id").map(str::to_owned);
        assert!(id.as_ref().is_some_and(|id| !id.is_empty()), "{:?}", answer.headers);
        assert_eq!(answer.header("x-request-id"), id.as_deref());
        assert!(!seen.contains(&id));
        seen.push(id);
    }
    let refused = world.post("/v1/messages", &json!({})).await;
    Client::Messages.refusal(&refused, 400);
}

#[actix_rt::test]
async fn k149_foreign_origins_and_hosts_are_refused() {
    let world =
        World::with("server.allowed_origins = [\"https://app.example\"]\nserver.allowed_hosts = [\"proxy.example\"]\n")
            .await;
    for client in CLIENTS {
        let ask = || world.ask("POST", client.path()).json(&hello(client));
        let answer = ask().header("origin", "https://evil.example").send().await;
        let (_, code, _) = client.refusal(&answer, 403);
        assert!(client == Client::Messages || code == "origin_not_allowed", "{code}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let answer = ask().header("host", "evil.example").send().await;
        let (_, code, _) = client.refusal(&answer, 403);
        assert!(client == Client::Messages || code == "host_not_allowed", "{code}");
        for host in [
            "localhost:1",
            "127.0.0.1",
            "[::1]:4399",
            "proxy.example",
            "proxy.example:443",
        ] {
            ask().header("host", host).send().await.expect(200);
        }
        for origin in ["http://localhost:3000", "http://127.0.0.1", "https://app.example"] {
            let answer = ask().header("origin", origin).send().await;
            answer.expect(200);
            assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
            assert!(answer.header("vary").is_some_and(|vary| vary.contains("Origin")));
        }
    }
    let preflight = world
        .ask("OPTIONS", "/v1/messages")
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-api-key, anthropic-version");
    let answer = preflight.send().await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("x-api-key, anthropic-version")
    );
    assert_eq!(answer.header("access-control-max-age"), Some("600"));
    let evil = world
        .ask("OPTIONS", "/v1/messages")
        .header("origin", "https://evil.example");
    assert_eq!(evil.send().await.status, 403);
}

#[actix_rt::test]
async fn k162_what_is_no_json_is_refused() {
    let world = World::with("server.max_body_bytes = 100000\n").await;
    for client in CLIENTS {
        let body = hello(client).to_string();
        let ask = |kind: &str, body: Vec<u8>| {
            world
                .ask("POST", client.path())
                .header("content-type", kind)
                .bytes(body)
        };
        let answer = ask("text/xml", body.clone().into()).send().await;
        client.refusal(&answer, 415);
        for text in ["", "{", "[]", "null", "3", "{\"model\":"] {
            let answer = ask("application/json", text.into()).send().await;
            let (kind, _, message) = client.refusal(&answer, 400);
            assert_eq!(
                (kind.as_str(), message.as_str()),
                ("invalid_request_error", "Invalid JSON body"),
                "{text}"
            );
        }
        ask("application/json", b"{\"model\":\"\xff\"}".to_vec())
            .send()
            .await
            .expect(400);
        let deep = format!(
            "{{\"model\":\"gpt-4.1\",\"x\":{}{}}}",
            "[".repeat(5000),
            "]".repeat(5000)
        );
        client.refusal(&ask("application/json", deep.into()).send().await, 400);
        ask("application/json; charset=utf-8", body.clone().into())
            .send()
            .await
            .expect(200);
        let answer = ask("application/json", vec![b' '; 200_000]).send().await;
        let (kind, code, _) = client.refusal(&answer, 413);
        assert_eq!(
            kind,
            if client == Client::Messages {
                "request_too_large"
            } else {
                "invalid_request_error"
            }
        );
        assert!(client == Client::Messages || code == "payload_too_large", "{code}");
        world.ask("POST", client.path()).bytes(body).send().await.expect(200);
    }
}

#[actix_rt::test]
async fn a_body_announced_as_too_large_is_not_waited_for() {
    let world = World::new().await;
    for client in CLIENTS {
        let ask = world.ask("POST", client.path());
        let started = Instant::now();
        let answer = ask.header("content-length", "1000000000000").send().await;
        client.refusal(&answer, 413);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

fn gzipped(text: &str) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap()
}

#[actix_rt::test]
async fn k137_bodies_may_be_compressed() {
    let world = World::with("server.max_body_bytes = 100000\n").await;
    for client in CLIENTS {
        let body = hello(client).to_string();
        let mut brotli = Vec::new();
        brotli::BrotliCompress(&mut body.as_bytes(), &mut brotli, &Default::default()).unwrap();
        let zstd = zstd::encode_all(body.as_bytes(), 1).unwrap();
        for (name, bytes) in [("gzip", gzipped(&body)), ("br", brotli), ("zstd", zstd)] {
            let ask = world
                .ask("POST", client.path())
                .header("content-type", "application/json");
            let answer = ask.header("content-encoding", name).bytes(bytes).send().await;
            assert!(client.text(&answer.expect(200)).contains("hello"), "{name}");
        }
        let ask = || {
            world
                .ask("POST", client.path())
                .header("content-type", "application/json")
        };
        let bomb = gzipped(&" ".repeat(10_000_000));
        client.refusal(&ask().header("content-encoding", "gzip").bytes(bomb).send().await, 413);
        client.refusal(
            &ask().header("content-encoding", "gzip").bytes("nonsense").send().await,
            400,
        );
        client.refusal(
            &ask()
                .header("content-encoding", "compress")
                .bytes(body.clone())
                .send()
                .await,
            415,
        );
    }
}

#[actix_rt::test]
async fn k055_a_lone_surrogate_becomes_a_replacement() {
    let world = World::new().await;
    for client in CLIENTS {
        let body = client
            .body("gpt-4.1", "hello LONE", false)
            .to_string()
            .replace("LONE", "\\ud83d!");
        let ask = world
            .ask("POST", client.path())
            .header("content-type", "application/json");
        ask.bytes(body).send().await.expect(200);
        let asked = world.one("/chat/completions");
        assert!(asked["body"].to_string().contains("hello \u{fffd}!"), "{asked:#}");
    }
}

#[actix_rt::test]
async fn k161_models_for_each_family_of_clients() {
    let world = World::new().await;
    let list = world.get("/v1/models").await.expect(200);
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().unwrap();
    let claude = models.iter().find(|model| model["id"] == "claude-sonnet-4.5").unwrap();
    assert_eq!((&claude["object"], &claude["type"]), (&json!("model"), &json!("model")));
    assert!(claude["display_name"].is_string() && claude["created"].is_number() && claude["created_at"].is_string());
    let codex = world.get("/v1/models?client_version=0.150.0").await.expect(200);
    assert!(
        codex["models"].as_array().is_some_and(|models| !models.is_empty()),
        "{codex}"
    );
    assert_eq!(world.get("/models?client_version=abc").await.status, 400);
    assert_eq!(
        world.get("/v1/models/claude-sonnet-4.5").await.expect(200)["id"],
        "claude-sonnet-4.5"
    );
    assert_eq!(
        world.get("/models/anthropic%2Fclaude-sonnet-4.5").await.expect(200)["id"],
        "claude-sonnet-4.5"
    );
    assert_eq!(
        world.get("/v1/models/nonesuch").await.expect(404)["error"]["code"],
        "model_not_found"
    );
}

#[actix_rt::test]
async fn usage_and_token_are_told_to_whom_they_concern() {
    let world = World::new().await;
    let usage = world.get("/usage").await.expect(200);
    assert!(usage["quota_snapshots"].is_object(), "{usage}");
    assert_eq!(
        world.get("/token").await.expect(403),
        json!({"error": "Forbidden", "token": null})
    );
    let world = World::with("server.token_endpoint = true\n").await;
    let token = world.get("/token").await.expect(200);
    assert!(token["token"].as_str().is_some_and(|token| token.len() > 20), "{token}");
    let foreign = world
        .ask("GET", "/token")
        .header("x-forwarded-for", "10.0.0.1")
        .send()
        .await;
    assert_eq!(foreign.status, 403);
}

#[actix_rt::test]
async fn k160_embeddings() {
    let world = World::new().await;
    let ask = |more: Value| {
        let mut body = json!({"model": "text-embedding-3-small", "input": "hello"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let floats = world.post("/v1/embeddings", &ask(json!({}))).await.expect(200);
    assert_eq!(
        (&floats["object"], &floats["model"]),
        (&json!("list"), &json!("text-embedding-3-small"))
    );
    assert_eq!(world.one("/embeddings")["body"]["input"], json!(["hello"]));
    let packed = world
        .post("/embeddings", &ask(json!({"encoding_format": "base64"})))
        .await
        .expect(200);
    use base64::Engine;
    let text = packed["data"][0]["embedding"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let values: Vec<f32> = bytes
        .chunks(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    let wanted = floats["data"][0]["embedding"].as_array().unwrap();
    let wanted: Vec<f32> = wanted.iter().map(|value| value.as_f64().unwrap() as f32).collect();
    assert_eq!(values, wanted);
    for input in [json!([]), json!(""), json!([1, 2]), json!([[1]]), Value::Null] {
        let answer = world.post("/embeddings", &ask(json!({"input": input}))).await;
        assert_eq!(answer.expect(400)["error"]["param"], "input", "{input}");
    }
    let answer = world
        .post("/embeddings", &json!({"model": "gpt-4.1", "input": "x"}))
        .await;
    assert_eq!(Client::Chat.refusal(&answer, 400).1, "unsupported_endpoint");
}

#[actix_rt::test]
async fn k157_counting_asks_upstream_where_it_can() {
    let world = World::new().await;
    let body = |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "some words to count"}]});
    let path = "/v1/messages/count_tokens";
    let native = world.post(path, &body("claude-sonnet-4.5")).await.expect(200);
    assert!(
        native["input_tokens"].as_u64().is_some_and(|count| count > 1),
        "{native}"
    );
    world.one(path);
    world
        .plan(json!({"endpoint": "count_tokens", "status": 500, "body": "no"}))
        .await;
    let estimated = world.post(path, &body("claude-sonnet-4.5")).await.expect(200);
    assert!(
        estimated["input_tokens"].as_u64().is_some_and(|count| count > 1),
        "{estimated}"
    );
    for model in ["gpt-4.1", "nonesuch"] {
        let counted = world.post(path, &body(model)).await.expect(200);
        assert!(
            counted["input_tokens"].as_u64().is_some_and(|count| count > 1),
            "{model}: {counted}"
        );
    }
    for named in [json!({"model": "gpt-5.4"}), json!({"model": "nonesuch"}), json!({})] {
        let mut body = named;
        body["input"] = json!("some words");
        let counted = world.post("/v1/responses/input_tokens", &body).await.expect(200);
        assert_eq!(counted["object"], "response.input_tokens");
        assert!(
            counted["input_tokens"].as_u64().is_some_and(|count| count > 1),
            "{counted}"
        );
    }
}

#[actix_rt::test]
async fn nonsense_is_refused_before_upstream_is_asked() {
    let world = World::new().await;
    let cases = [
        (
            Client::Messages,
            json!({"messages": [{"role": "user", "content": "x"}]}),
        ),
        (Client::Messages, json!({"model": "gpt-4.1", "messages": []})),
        (
            Client::Messages,
            json!({"model": "gpt-4.1", "max_tokens": 0, "messages": [{"role": "user", "content": "x"}]}),
        ),
        (
            Client::Messages,
            json!({"model": "gpt-4.1", "messages": [{"role": "robot", "content": "x"}]}),
        ),
        (Client::Chat, json!({"model": "gpt-4.1"})),
        (
            Client::Chat,
            json!({"model": "gpt-4.1", "n": 2, "messages": [{"role": "user", "content": "x"}]}),
        ),
        (Client::Responses, json!({"model": "gpt-5.4"})),
        (
            Client::Responses,
            json!({"model": "gpt-5.4", "input": "x", "background": true}),
        ),
        (
            Client::Responses,
            json!({"model": "gpt-5.4", "input": "x", "conversation": "c"}),
        ),
    ];
    let before = world.simulator.requests(0).len();
    for (client, body) in cases {
        let answer = world.post(client.path(), &body).await;
        assert_eq!(client.refusal(&answer, 400).0, "invalid_request_error", "{body}");
    }
    let answer = world
        .post(
            "/v1/responses",
            &json!({"model": "gpt-5.4", "input": "x", "previous_response_id": "resp_x"}),
        )
        .await;
    let body = answer.expect(400);
    assert_eq!(body["error"]["code"], "previous_response_not_found", "k114");
    assert_eq!(body["error"]["param"], "previous_response_id", "k114");
    for client in CLIENTS {
        let answer = world.post(client.path(), &client.body("nonesuch-9", "hi", true)).await;
        let (kind, code, _) = client.refusal(&answer, 404);
        assert!(kind == "not_found_error" || code == "model_not_found", "{kind} {code}");
    }
    let after = world.simulator.requests(0);
    assert_eq!(after.len(), before, "{after:#?}");
}
