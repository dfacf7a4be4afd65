//! Whole answers that upstream gives only piece by piece.

use serde_json::json;

use crate::support::{Client, World};

#[actix_rt::test]
async fn k170_a_limit_too_high_for_a_whole_answer_is_streamed_and_gathered() {
    let world = World::new().await;
    for (asked, streamed) in [(16_000, false), (32_000, true)] {
        let mut body = Client::Messages.body("claude-sonnet-4.5", "hello there", false);
        body["max_tokens"] = json!(asked);
        let answer = world.post("/v1/messages", &body).await.expect(200);
        assert_eq!(answer["type"], "message");
        assert!(Client::Messages.text(&answer).contains("hello there"), "{answer:#}");
        assert!(answer["usage"]["output_tokens"].as_u64() > Some(0), "{answer:#}");
        let sent = world.one("/v1/messages");
        assert_eq!(sent["body"]["stream"] == true, streamed, "{sent:#}");
        assert_eq!(sent["body"]["max_tokens"], asked);
    }
}
