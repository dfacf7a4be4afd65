//! What Responses does by itself, as a client sees it.

use serde_json::{Value, json};

use super::client::Client;
use super::responses;
use crate::simulator::Settings;

fn kinds(output: &Value) -> Vec<&str> {
    let items = output.as_array().unwrap();
    items.iter().map(|item| item["type"].as_str().unwrap()).collect()
}

#[actix_web::test]
async fn a_search_is_told_event_by_event_and_cited() {
    let client = Client::new(Settings::default()).await;
    let mut body = responses("gpt-5.4", "please search: tallest tower");
    body["tools"] = json!([{"type": "web_search"}]);
    let whole = client.post("/responses", body.clone()).await.json();
    assert_eq!(kinds(&whole["output"]), ["web_search_call", "message"]);
    assert_eq!(whole["output"][0]["action"]["query"], "tallest tower");
    body["stream"] = json!(true);
    let events = client.post("/responses", body).await.events();
    let told: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .filter(|kind| kind.contains("web_search") || kind.contains("annotation"))
        .collect();
    assert_eq!(
        told,
        [
            "response.web_search_call.in_progress",
            "response.web_search_call.searching",
            "response.web_search_call.completed",
            "response.output_text.annotation.added"
        ]
    );
    let last = &events.last().unwrap()["response"]["output"];
    let part = &last[1]["content"][0];
    let cited = &part["annotations"][0];
    let range = cited["start_index"].as_u64().unwrap() as usize..cited["end_index"].as_u64().unwrap() as usize;
    assert_eq!(part["text"].as_str().unwrap()[range], *cited["title"].as_str().unwrap());
}

#[actix_web::test]
async fn histories_are_made_short_by_those_models_that_can() {
    let client = Client::new(Settings::default()).await;
    let asked = |model: &str| {
        let said = json!({"type": "message", "role": "user", "content": "hello"});
        json!({"model": model, "store": false, "input": [said, {"type": "compaction_trigger"}]})
    };
    for (model, items) in [("gpt-5.4", 1), ("gpt-5-mini", 2)] {
        let whole = client.post("/responses", asked(model)).await.json();
        assert_eq!(kinds(&whole["output"]), vec!["compaction"; items], "{model}");
        let mut next = asked(model);
        let mut item = whole["output"][0].clone();
        item.as_object_mut().unwrap().shift_remove("id");
        next["input"][1] = json!({"type": "message", "role": "user", "content": "go on"});
        next["input"].as_array_mut().unwrap().insert(0, item);
        assert_eq!(client.post("/responses", next.clone()).await.status, 200, "{model}");
        next["input"][0]["encrypted_content"] = json!("made up");
        let refused = client.post("/responses", next).await.json();
        assert_eq!(refused["error"]["code"], "invalid_encrypted_content", "{model}");
    }
    let refused = client.post("/responses", asked("gpt-5.1")).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
}
