//! Images that a request names by their address, where they are fetched and where not.

use serde_json::{Value, json};

use crate::support::{CLIENTS, Client, World};

fn body(client: Client, url: &str) -> Value {
    let mut body = client.body("gpt-5.4", "look", false);
    let (history, part) = match client {
        Client::Messages => (
            "messages",
            json!({"type": "image", "source": {"type": "url", "url": url}}),
        ),
        Client::Chat => ("messages", json!({"type": "image_url", "image_url": {"url": url}})),
        Client::Responses => ("input", json!({"type": "input_image", "image_url": url})),
    };
    body[history] = json!([{"role": "user", "content": [part]}]);
    body
}

#[actix_rt::test]
async fn k040_an_image_elsewhere_is_refused_or_fetched_from_the_public_network_only() {
    let (off, on) = (World::new().await, World::with("images.fetch = true\n").await);
    for client in CLIENTS {
        for (url, why) in [
            ("https://127.0.0.1/cat.png", "its host has no public address"),
            ("https://nobody.invalid/cat.png", "its host has no public address"),
            ("http://127.0.0.1/cat.png", "only https addresses are fetched"),
            ("file:///etc/passwd", "only https addresses are fetched"),
        ] {
            let refused = off.post(client.path(), &body(client, url)).await;
            let (_, _, message) = client.refusal(&refused, 400);
            assert!(
                message.ends_with("External image URLs are not supported; send base64 data"),
                "{message}"
            );

            let refused = on.post(client.path(), &body(client, url)).await;
            let (_, _, message) = client.refusal(&refused, 400);
            assert!(
                message.ends_with(&format!("the image could not be fetched: {why}")),
                "{message}"
            );
        }
        let many: Vec<Value> = (0..21)
            .map(|number| body(client, &format!("https://127.0.0.1/{number}")))
            .collect();
        let history = if client == Client::Responses {
            "input"
        } else {
            "messages"
        };
        let parts: Vec<Value> = many.iter().map(|one| one[history][0]["content"][0].clone()).collect();
        let mut body = many[0].clone();
        body[history] = json!([{"role": "user", "content": parts}]);
        let (_, _, message) = client.refusal(&on.post(client.path(), &body).await, 400);
        assert!(
            message.ends_with("names 21 images by their addresses; 20 are fetched"),
            "{message}"
        );
    }
    assert!(on.ways().is_empty() && off.ways().is_empty());
}
