use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::translate::rules::any_json;
use Protocol::{Chat, Messages, Responses};

fn plain(status: u16, body: &str) -> Failure {
    read(status, &[], body.as_bytes())
}

#[test]
fn k138_json_in_a_string_is_opened() {
    let failure = plain(
        400,
        r#"{"error":{"message":"{\"error\":{\"message\":\"X\",\"code\":\"c\"}}"}}"#,
    );
    assert_eq!((failure.message.as_str(), failure.code.as_deref()), ("X", Some("c")));
}

#[test]
fn k139_plain_text_is_the_message() {
    let body = plain(400, "bad request\n").body(Messages, "req_1");
    let error = json!({"type": "invalid_request_error", "message": "bad request"});
    assert_eq!(body, json!({"type": "error", "error": error, "request_id": "req_1"}));
}

#[test]
fn k140_too_long_a_prompt_is_said_so_that_clients_compact() {
    let body = r#"{"error":{"message":"prompt token count of 74490 exceeds the limit of 72000","code":"model_max_prompt_tokens_exceeded"}}"#;
    let failure = plain(400, body);
    assert_eq!(failure.kind, Kind::ContextOverflow);
    let said = |client| for_client(failure.clone(), client).message;
    assert_eq!(said(Messages), "prompt is too long: 74490 tokens > 72000 maximum");
    assert!(
        said(Chat).starts_with(
            "This model's maximum context length is 72000 tokens. However, your messages resulted in 74490"
        )
    );
    assert_eq!(said(Responses), EXCEEDS);
    let googles = "The input token count (74490) exceeds the maximum number of tokens allowed (72000).";
    assert_eq!(for_client(failure.clone(), Dialect::Gemini).message, googles);
    assert_eq!(
        for_client(failure, Responses).openai_code(),
        Some("context_length_exceeded")
    );
}

#[test]
fn k141_the_sum_is_said_with_backticks() {
    let failure = plain(
        400,
        "input length and max_tokens exceed context limit: 189727 + 16000 > 200000",
    );
    assert_eq!(
        for_client(failure, Messages).message,
        "input length and `max_tokens` exceed context limit: 189727 + 16000 > 200000, decrease input length or \
         `max_tokens` and try again"
    );
}

#[test]
fn every_shape_of_overflow_is_known() {
    for text in [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Your input exceeds the context window of this model.",
        "input length and `max_tokens` exceed context limit: 1 + 2 > 2",
        "Request body is too large for model context window",
        "This model's maximum context length is 8192 tokens",
    ] {
        assert_eq!(plain(400, text).kind, Kind::ContextOverflow, "{text}");
        assert_eq!(plain(413, text).kind, Kind::ContextOverflow, "{text}");
        assert_eq!(
            in_stream(&json!({"message": text})).kind,
            Kind::ContextOverflow,
            "{text}"
        );
    }
    let bare = for_client(plain(400, "it exceeds the context window"), Messages).message;
    assert!(bare.starts_with("prompt is too long: "));
    assert_eq!(plain(413, "too big").kind, Kind::TooLarge);
}

#[test]
fn k142_a_code_alone_is_no_overflow() {
    let failure = plain(400, r#"{"error":{"message":"no","code":"invalid_request_body"}}"#);
    assert_eq!(
        (failure.kind, failure.openai_code()),
        (Kind::BadRequest, Some("invalid_request_body"))
    );
}

#[test]
fn k143_rate_limits_are_known_by_code_and_by_words() {
    let wait = [("Retry-After".to_owned(), "30".to_owned())];
    let failure = read(400, &wait, br#"{"error":{"message":"slow","code":"rate_limited"}}"#);
    assert_eq!((failure.kind, failure.status(Chat)), (Kind::RateLimited, 429));
    assert_eq!(failure.retry_after.as_deref(), Some("30"));
    assert_eq!(for_client(failure, Responses).message, "slow. Please try again in 30s.");
    assert_eq!(plain(503, "you hit a rate limit").kind, Kind::RateLimited);
    let body = r#"{"error":{"message":"Sorry","code":"user_global_rate_limited:pro"}}"#;
    assert_eq!(plain(403, body).openai_code(), Some("rate_limit_exceeded"));
    assert_eq!(plain(429, "Please try again in 1.2s").retry_after.as_deref(), Some("2"));
    assert_eq!(
        plain(429, r#"{"retry_after":7,"message":"m"}"#).retry_after.as_deref(),
        Some("7")
    );
    let date = [("retry-after".to_owned(), "Wed, 21 Oct 2026 07:28:00 GMT".to_owned())];
    assert!(read(429, &date, b"").retry_after.unwrap().starts_with("Wed"));
}

#[test]
fn k144_a_used_up_quota_is_payment() {
    let failure = plain(
        402,
        r#"{"error":{"message":"You have no quota","code":"quota_exceeded"}}"#,
    );
    assert_eq!(
        (failure.status(Messages), failure.anthropic_type()),
        (402, "billing_error")
    );
    assert_eq!(
        (failure.openai_type(), failure.openai_code()),
        ("insufficient_quota", Some("insufficient_quota"))
    );
    assert!(failure.message.contains("used up") && failure.message.ends_with("You have no quota"));
    let wait = [("retry-after".to_owned(), "99999".to_owned())];
    let failure = read(
        429,
        &wait,
        br#"{"error":{"message":"x","code":"quota_exceeded:free"},"retry_after":5}"#,
    );
    assert_eq!((failure.kind, failure.retry_after), (Kind::Payment, None));
}

#[test]
fn k145_overload() {
    let failure = plain(529, "x");
    assert_eq!((failure.status(Messages), failure.status(Chat)), (529, 503));
    assert_eq!(
        (failure.anthropic_type(), failure.openai_code()),
        ("overloaded_error", Some("server_is_overloaded"))
    );
    assert_eq!(plain(503, "server at capacity").kind, Kind::Overloaded);
    assert_eq!(plain(503, "").kind, Kind::UpstreamUnavailable);
}

#[test]
fn other_statuses() {
    for (status, body, kind) in [
        (401, "unauthorized: token expired", Kind::UpstreamAuth),
        (
            401,
            "input item ID does not belong to this connection",
            Kind::BadRequest,
        ),
        (403, "Forbidden\n", Kind::Forbidden),
        (421, "Misdirected Request\n", Kind::UpstreamFailed),
        (404, "404 page not found", Kind::NotFound),
        (
            404,
            r#"{"error":{"message":"m","code":"model_not_found"}}"#,
            Kind::ModelNotFound,
        ),
        (
            400,
            r#"{"error":{"message":"m","code":"model_not_supported"}}"#,
            Kind::ModelNotFound,
        ),
        (
            400,
            "model \"x\" is not accessible via the /chat/completions endpoint",
            Kind::UnsupportedEndpoint,
        ),
        (422, "blocked", Kind::ContentFiltered),
        (400, "off_topic", Kind::ContentFiltered),
        (409, "x", Kind::Conflict),
        (466, "upgrade", Kind::Forbidden),
        (500, "<html><b>x</b></html>", Kind::UpstreamFailed),
        (302, "", Kind::UpstreamFailed),
        (504, "", Kind::UpstreamTimeout),
    ] {
        assert_eq!(plain(status, body).kind, kind, "{status} {body}");
    }
    assert_eq!(plain(500, "<html><b>x</b></html>").message, "Internal Server Error");
    assert_eq!(plain(403, "Forbidden\n").message, "Forbidden");
    assert_ne!(for_client(plain(403, "Forbidden\n"), Chat).message, "Forbidden");
    assert_eq!(plain(466, "").code.as_deref(), Some("upgrade_required"));
}

#[test]
fn k086_errors_inside_a_stream_have_their_kind() {
    for (error, kind) in [
        (
            json!({"error": {"code": "rate_limit_exceeded", "message": "m"}}),
            Kind::RateLimited,
        ),
        (
            json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}}),
            Kind::RateLimited,
        ),
        (
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            Kind::Overloaded,
        ),
        (
            json!({"type": "error", "code": "server_error", "message": "m"}),
            Kind::Stream,
        ),
        (json!({"code": "cyber_policy", "message": "m"}), Kind::BadRequest),
        (json!({"message": "m"}), Kind::Stream),
        (
            json!({"type": "error", "status": 429, "error": {"message": "m"}}),
            Kind::RateLimited,
        ),
        (json!(null), Kind::Stream),
    ] {
        assert_eq!(in_stream(&error).kind, kind, "{error}");
    }
    assert_eq!(
        in_stream(&json!({"code": "cyber_policy", "message": "m"})).openai_code(),
        Some("cyber_policy")
    );
}

#[test]
fn no_credential_gets_through() {
    let text = "bad gho_0123456789abcdefABCD and 'tid=1;exp=2;sku=x:sig', Bearer abcdefghijklmnop1 end";
    assert_eq!(redacted(text), "bad [redacted] and '[redacted]', Bearer [redacted] end");
    assert_eq!(
        redacted("the bearer of news, gho_ and ä"),
        "the bearer of news, gho_ and ä"
    );
}

proptest! {
    #[test]
    fn nothing_upstream_says_harms(status in any::<u16>(), body in prop::collection::vec(any::<u8>(), 0..60), text in "\\PC{0,80}", value in any_json()) {
        for body in [body, text.into_bytes(), value.to_string().into_bytes()] {
            let failure = read(status, &[("retry-after".into(), "x".into())], &body);
            for client in Protocol::ALL {
                for_client(failure.clone(), client);
            }
        }
        in_stream(&value);
        in_stream(&json!({"error": value}));
    }

    #[test]
    fn a_message_is_bounded(text in "\\PC{0,3000}") {
        prop_assert!(plain(400, &text.repeat(3)).message.len() <= LONGEST);
    }
}
