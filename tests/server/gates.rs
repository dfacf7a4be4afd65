//! Who may go, and when: one credential for all, limits, a person's word; starting late and stopping gently.

use std::time::{Duration, Instant};

use copilot_proxy::server::Signals;
use copilot_proxy::simulator;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{self, Answer, CLIENTS, Client, World};

fn hello(client: Client) -> Value {
    client.body("gpt-4.1", "hello", false)
}

#[actix_rt::test]
async fn fifty_first_requests_share_one_exchange() {
    let world = World::unready("").await;
    let asks = (0..50).map(|at| {
        let client = CLIENTS[at % 3];
        world.ask("POST", client.path()).json(&hello(client)).send()
    });
    for answer in join_all(asks).await {
        answer.expect(200);
    }
    let exchanges = world.upstream("/copilot_internal/v2/token");
    assert_eq!(exchanges.len(), 1, "{exchanges:#?}");
}

#[actix_rt::test]
async fn fifty_requests_share_one_renewal() {
    let world = World::new().await;
    world.control("/_sim/settings", json!({"expire_tokens": true})).await;
    world.upstream("");
    let asks = (0..50).map(|_| world.post("/v1/messages", hello_messages()));
    let asks: Vec<_> = asks.collect();
    for answer in join_all(asks).await {
        answer.expect(200);
    }
    let exchanges = world.upstream("/copilot_internal/v2/token");
    assert_eq!(exchanges.len(), 1, "{exchanges:#?}");
}

fn hello_messages() -> &'static Value {
    static BODY: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| hello(Client::Messages));
    &BODY
}

#[actix_rt::test]
async fn too_soon_is_refused_with_the_time_to_come_back() {
    let world = World::with("rate_limit.seconds = 60\n").await;
    world.post("/v1/messages", &hello(Client::Messages)).await.expect(200);
    for client in CLIENTS {
        let answer = world.post(client.path(), &hello(client)).await;
        let (kind, _, _) = client.refusal(&answer, 429);
        assert_eq!(kind, "rate_limit_error");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(world.upstream("/chat/completions").len(), 1);
    world.get("/v1/models").await.expect(200);
    world.get("/usage").await.expect(200);
}

#[actix_rt::test]
async fn requests_that_may_wait_go_one_after_the_other() {
    let world = World::with("rate_limit.seconds = 0.15\nrate_limit.wait = true\n").await;
    let start = Instant::now();
    let asks = (0..4).map(|_| world.post("/v1/messages", hello_messages()));
    for answer in join_all(asks.collect::<Vec<_>>()).await {
        answer.expect(200);
    }
    assert!(start.elapsed() >= Duration::from_millis(440), "{:?}", start.elapsed());
}

#[actix_rt::test]
async fn no_more_are_under_way_than_allowed() {
    let world = World::with("rate_limit.max_concurrent = 2\n").await;
    let hang = Client::Chat.body("gpt-4.1", "[[sim:hang]] hi", true);
    let first = world.ask("POST", "/v1/chat/completions").json(&hang).open().await;
    let second = world.ask("POST", "/v1/chat/completions").json(&hang).open().await;
    world.open_streams(2).await;
    let answer = world.post("/v1/messages", &hello(Client::Messages)).await;
    Client::Messages.refusal(&answer, 429);
    drop(first);
    world.open_streams(1).await;
    world.post("/v1/messages", &hello(Client::Messages)).await.expect(200);
    drop(second);
    world.open_streams(0).await;
}

#[actix_rt::test]
async fn a_place_that_a_leaving_client_frees_goes_to_the_next_in_line() {
    let world = World::with("rate_limit.max_concurrent = 1\nrate_limit.wait = true\n").await;
    let hang = Client::Chat.body("gpt-4.1", "[[sim:hang]] hi", true);
    let first = world.ask("POST", "/v1/chat/completions").json(&hang).open().await;
    world.open_streams(1).await;
    let waiting = world
        .ask("POST", "/v1/messages")
        .json(&hello(Client::Messages))
        .open()
        .await;
    let waiting = actix_rt::spawn(waiting.first_answer());
    drop(first);
    waiting.await.unwrap().expect(200);
}

/// Asks, and hands out the question that a person is asked.
async fn asked(world: &World, client: Client) -> (tokio::task::JoinHandle<Answer>, Value) {
    let ask = world
        .ask("POST", client.path())
        .json(&client.body("gpt-4.1", "a secret prompt", false));
    let answer = actix_rt::spawn(ask.send());
    let start = Instant::now();
    loop {
        let pending = world.get("/admin/approvals").await.expect(200);
        if let Some(question) = pending.as_array().unwrap().last() {
            return (answer, question.clone());
        }
        assert!(start.elapsed() < Duration::from_secs(15), "{pending}");
    }
}

#[actix_rt::test]
async fn a_person_approves_and_denies() {
    let world = World::with("approval.manual = true\n").await;
    for client in CLIENTS {
        let (answer, question) = asked(&world, client).await;
        assert_eq!(question["model"], "gpt-4.1", "{question}");
        assert!(!question.to_string().contains("secret"), "{question}");
        let door = format!("/admin/approvals/{}", question["id"]);
        world.post(&door, &json!({"decision": "maybe"})).await.expect(400);
        world.post(&door, &json!({"decision": "approve"})).await.expect(200);
        answer.await.unwrap().expect(200);
        world.post(&door, &json!({"decision": "approve"})).await.expect(409);

        let (answer, question) = asked(&world, client).await;
        let door = format!("/admin/approvals/{}", question["id"]);
        world.post(&door, &json!({"decision": "deny"})).await.expect(200);
        client.refusal(&answer.await.unwrap(), 403);
    }
    world
        .post("/admin/approvals/999999", &json!({"decision": "approve"}))
        .await
        .expect(404);
    world
        .post("/admin/approvals/x", &json!({"decision": "approve"}))
        .await
        .expect(404);
    assert_eq!(world.upstream("/chat/completions").len(), 3);
    assert_eq!(world.get("/admin/approvals").await.expect(200), json!([]));
    world.get("/v1/models").await.expect(200);
}

#[actix_rt::test]
async fn nobody_approves_in_time() {
    let world = World::with("approval.manual = true\napproval.timeout_secs = 0.1\n").await;
    for client in CLIENTS {
        let answer = world.post(client.path(), &hello(client)).await;
        assert_eq!(answer.status, 403, "{}", answer.text);
        client.refusal(&answer, answer.status);
    }
    assert!(world.upstream("/chat/completions").is_empty());
}

#[actix_rt::test]
async fn a_question_goes_with_the_client_that_leaves() {
    let world = World::with("approval.manual = true\n").await;
    let (answer, question) = asked(&world, Client::Chat).await;
    answer.abort();
    let start = Instant::now();
    while world.get("/admin/approvals").await.expect(200) != json!([]) {
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    let door = format!("/admin/approvals/{}", question["id"]);
    world.post(&door, &json!({"decision": "approve"})).await.expect(409);
    assert!(world.upstream("/chat/completions").is_empty());
}

#[actix_rt::test]
async fn it_is_ready_once_upstream_is_there() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let (proxy, home) = support::proxy(&format!("http://127.0.0.1:{free}"), "").await;
    let address = proxy.address;
    let answer = support::Ask::new(address, "GET", "/readyz").send().await;
    assert_eq!(answer.expect(503)["status"], "starting");
    assert!(answer.json()["reason"].is_string());
    assert_eq!(support::Ask::new(address, "GET", "/healthz").send().await.status, 200);
    for client in CLIENTS {
        let answer = support::Ask::new(address, "POST", client.path())
            .json(&hello(client))
            .send()
            .await;
        assert!(matches!(answer.status, 502 | 503), "{} {}", answer.status, answer.text);
        client.refusal(&answer, answer.status);
    }
    let settings = simulator::Settings {
        port: free,
        ..simulator::Settings::default()
    };
    let simulator = simulator::start(settings).await.unwrap();
    let world = World::of(simulator, proxy, home);
    let ready = world.until("/readyz", 200).await;
    assert_eq!(ready.json(), json!({"status": "ready"}));
    world.post("/v1/messages", &hello(Client::Messages)).await.expect(200);
}

#[actix_rt::test]
async fn what_is_under_way_may_finish_before_the_end() {
    let world = World::with("stream.heartbeat_secs = 0.05\n").await;
    let body = Client::Messages.body("claude-sonnet-4.5", "[[sim:trickle ms=50]] hello there", true);
    let mut running = world.ask("POST", "/v1/messages").json(&body).open().await;
    running.until("message_start").await;
    let address = world.proxy.address;
    let ending = actix_rt::spawn(world.proxy.finish(Signals::listen().unwrap()));
    let text = running.until("message_stop").await;
    assert!(text.contains("there"), "{text}");
    ending.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[actix_rt::test]
async fn what_does_not_finish_is_told_that_it_ends() {
    let lines = "server.shutdown_grace_secs = 1.2\nstream.heartbeat_secs = 0.05\n";
    for client in CLIENTS {
        let world = World::with(lines).await;
        let body = client.body("gpt-5.4", "[[sim:silence]] hello", true);
        let running = world
            .ask("POST", client.path())
            .header("connection", "close")
            .json(&body)
            .open()
            .await;
        world.open_streams(1).await;
        let ending = actix_rt::spawn(world.proxy.finish(Signals::listen().unwrap()));
        let answer = running.answer().await;
        let (_, message) = client.stream_error(&answer);
        assert_eq!(message, "the proxy is shutting down");
        ending.await.unwrap().unwrap();
    }
}

/// Waits until the dashboard hears that the requests are in these phases, the oldest first.
async fn phases(world: &World, wanted: &[&str]) {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let news = world.get("/admin/requests?after=0").await.json();
        let requests = news["requests"].as_array().unwrap().iter();
        let phases: Vec<&str> = requests.filter_map(|request| request["phase"].as_str()).collect();
        if phases == wanted {
            return;
        }
        assert!(Instant::now() < patience, "{phases:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_rt::test]
async fn it_is_told_where_each_request_is() {
    let lines = "rate_limit.max_concurrent = 2\nrate_limit.wait = true\nstream.heartbeat_secs = 30\n";
    let world = World::with(lines).await;
    let open = |prompt: &str| {
        let body = Client::Messages.body("claude-sonnet-4.5", prompt, true);
        world.ask("POST", "/v1/messages").json(&body).open()
    };
    let mut streaming = open("[[sim:silence]] hello").await;
    streaming.until("message_start").await;
    phases(&world, &["streaming"]).await;
    let _hanging = open("[[sim:hang]] hello").await;
    phases(&world, &["streaming", "upstream"]).await;
    let _waiting = open("hello").await;
    phases(&world, &["streaming", "upstream", "queued"]).await;
    drop(streaming);
    phases(&world, &["ended", "upstream", "ended"]).await;

    let world = World::with("approval.manual = true\n").await;
    let body = hello(Client::Messages);
    let asked = actix_rt::spawn(world.ask("POST", "/v1/messages").json(&body).send());
    phases(&world, &["waiting_for_approval"]).await;
    while world.get("/admin/approvals").await.json() == json!([]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world
        .post("/admin/approvals/1", &json!({"decision": "approve"}))
        .await
        .expect(200);
    asked.await.unwrap().expect(200);
    phases(&world, &["ended"]).await;
}
