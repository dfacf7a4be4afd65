//! What is written down of each request, as `/admin/requests` and the log tell it: how it went, and no word of what was
//! said.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{CLIENTS, Client, World, logged};

/// The entry of the request with this id, once it is over.
async fn entry(world: &World, id: &str) -> Value {
    let since = Instant::now();
    loop {
        let news = world.get("/admin/requests?after=0").await.expect(200);
        let requests = news["requests"].as_array().unwrap();
        let found = requests.iter().find(|request| request["id"] == id);
        if let Some(over) = found.filter(|request| request["duration_ms"].is_u64()) {
            return over.clone();
        }
        assert!(since.elapsed() < Duration::from_secs(5), "{id}: {news:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix_rt::test]
async fn each_answer_is_written_down_with_its_counts() {
    let world = World::new().await;
    for client in CLIENTS {
        for (model, way) in [("gpt-5.4", "responses"), ("gpt-4.1", "chat")] {
            for stream in [false, true] {
                let body = client.body(model, "the word is heliotrope", stream);
                let ask = world.ask("POST", client.path()).header("user-agent", "my-agent/7");
                let answer = ask.json(&body).send().await;
                assert_eq!(answer.status, 200, "{}", answer.text);
                let entry = entry(&world, answer.header("x-request-id").unwrap()).await;
                let place = format!("{client:?} {model} stream={stream}: {entry:#}");
                assert_eq!(
                    (&entry["status"], &entry["client"]),
                    (&json!(200), &json!("my-agent/7")),
                    "{place}"
                );
                assert_eq!(
                    (&entry["model_asked"], &entry["model_run"]),
                    (&json!(model), &json!(model)),
                    "{place}"
                );
                let own = client.path().rsplit("v1/").next().unwrap().split('/').next().unwrap();
                assert_eq!(entry["route"], format!("{own} → {way}"), "{place}");
                for count in ["tokens_in", "tokens_out"] {
                    assert!(entry[count].as_u64() > Some(0), "{count}: {place}");
                }
                // gpt-4.1 is part of every plan.
                let price = entry["nano_aiu"].as_u64();
                assert_eq!(price.map(|price| price > 0), Some(model != "gpt-4.1"), "{place}");
                assert!(entry["error"].is_null() && entry["healed"] == json!([]), "{place}");
                assert!(entry["first_byte_ms"].is_u64() || !stream, "{place}");
            }
        }
    }
    let news = world.get("/admin/requests?after=0").await.text;
    assert!(
        !news.contains("heliotrope") && !logged().contains("heliotrope"),
        "{news}"
    );
}

#[actix_rt::test]
async fn what_went_wrong_is_written_down() {
    let world = World::new().await;
    let client = Client::Messages;
    let answer = world
        .post(client.path(), &client.body("gpt-4.1", "[[sim:429]] hi", true))
        .await;
    let refused = entry(&world, answer.header("x-request-id").unwrap()).await;
    assert_eq!(refused["status"], 429, "{refused:#}");
    assert!(
        refused["error"].as_str().is_some_and(|why| !why.is_empty()),
        "{refused:#}"
    );

    let answer = world
        .post(client.path(), &client.body("gpt-4.1", "[[sim:cut after=3]] hi", true))
        .await;
    client.stream_error(&answer);
    let broken = entry(&world, answer.header("x-request-id").unwrap()).await;
    assert!(broken["status"].as_u64() >= Some(500), "{broken:#}");

    let mut body = client.body("claude-sonnet-4.5", "hi", false);
    body["odd"] = json!(1);
    let answer = world.post(client.path(), &body).await;
    let mended = entry(&world, answer.header("x-request-id").unwrap()).await;
    assert_eq!(mended["status"], 200, "{mended:#}");
    assert_eq!(mended["healed"], json!(["extra input"]), "{mended:#}");

    let body = client.body("gpt-4.1", "[[sim:silence after=3]] hi", true);
    let mut left = world.ask("POST", client.path()).json(&body).open().await;
    let head = left.until("\r\n\r\n").await;
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap()
        .to_owned();
    drop(left);
    let left = entry(&world, &id).await;
    assert_eq!(left["status"], 499, "{left:#}");
}
