use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::request;
use crate::protocol::catalog::Model;
use crate::protocol::failure::Failure;
use crate::translate::carrier::Carrier;
use crate::translate::rules::{Fixture, any_json, model};
use crate::translate::{Kept, Object, Outgoing};

fn claude(id: &str, supports: Value) -> Arc<Model> {
    let limits = json!({"max_output_tokens": 64000, "vision": {"max_prompt_images": 5}});
    model(json!({"id": id, "vendor": "Anthropic", "capabilities": {"limits": limits, "supports": supports}}))
}

fn haiku() -> Arc<Model> {
    let supports = json!({"max_thinking_budget": 32000, "min_thinking_budget": 1024, "vision": true});
    claude("claude-haiku-4.5", supports)
}

fn opus() -> Arc<Model> {
    let efforts = ["low", "medium", "high"];
    let supports = json!({"adaptive_thinking": true, "max_thinking_budget": 32000, "reasoning_effort": efforts});
    claude("claude-opus-4.8", supports)
}

/// A request of these fields on this model, with one message of a person if it names none.
fn outgoing(fixture: &Fixture, fields: Value) -> Result<Outgoing, Failure> {
    let mut body = Object::new();
    body.insert("model".into(), json!("asked"));
    body.insert("messages".into(), json!([{"role": "user", "content": "hi"}]));
    body.extend(fields.as_object().unwrap().clone());
    request(body.clone(), &fixture.context())
}

fn sent_by(fixture: &Fixture, fields: Value) -> Object {
    outgoing(fixture, fields).unwrap().body
}

fn sent(model: Arc<Model>, fields: Value) -> Object {
    sent_by(&Fixture::new(model), fields)
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn marked(mut block: Value) -> Value {
    block["cache_control"] = json!({"type": "ephemeral"});
    block
}

fn user(content: Value) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(blocks: Value) -> Value {
    json!({"role": "assistant", "content": blocks})
}

fn call(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "f", "input": {"z": 1, "a": 2}})
}

fn result(id: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "r"})
}

fn thinking(text: &str, signature: &str) -> Value {
    json!({"type": "thinking", "thinking": text, "signature": signature})
}

#[test]
fn what_copilot_takes_passes_as_it_is() {
    let body = json!({
        "model": "claude-opus-4.8", "max_tokens": 100,
        "system": [marked(text("S"))],
        "messages": [user(json!("hi")), assistant(json!([thinking("t", "Eq=="), call("t1")])), user(json!([result("t1")]))],
        "tools": [{"name": "f", "description": "d", "input_schema": {"z": 1, "type": "object"}, "future": {}}],
        "metadata": {"user_id": "u"}, "future_field": {"b": 1, "a": 2}, "stream": true,
        "stop_sequences": ["x"], "temperature": 0.2,
    });
    let fixture = Fixture::new(opus());
    let out = request(body.as_object().unwrap().clone(), &fixture.context())
        .unwrap()
        .body;
    assert_eq!(Value::Object(out).to_string(), body.to_string());
}

#[test]
fn k002_results_come_first() {
    let history = json!([
        user(json!("go")),
        assistant(json!([call("t1")])),
        user(json!([text("T"), result("t1")]))
    ]);
    let out = sent(haiku(), json!({"messages": history}));
    assert_eq!(out["messages"][2]["content"], json!([result("t1"), text("T")]));
}

#[test]
fn k005_a_result_that_says_nothing_has_no_content() {
    for content in [json!(""), json!([]), json!(null), json!([text("")])] {
        let mut silent = result("t1");
        silent["content"] = content;
        let history = json!([user(json!("go")), assistant(json!([call("t1")])), user(json!([silent]))]);
        let out = sent(haiku(), json!({"messages": history}));
        assert_eq!(
            out["messages"][2]["content"],
            json!([{"type": "tool_result", "tool_use_id": "t1"}])
        );
    }
}

#[test]
fn a_result_holds_only_what_results_may_hold() {
    let mut odd = result("t1");
    odd["content"] = json!([text("a"), {"type": "audio", "x": 1}]);
    let history = json!([user(json!("go")), assistant(json!([call("t1")])), user(json!([odd]))]);
    let out = sent(haiku(), json!({"messages": history}));
    assert_eq!(
        out["messages"][2]["content"][0]["content"],
        json!([text("a"), text("{\"type\":\"audio\",\"x\":1}")])
    );
}

#[test]
fn k013_k014_k015_a_history_is_mended() {
    let history = json!([
        user(json!("a")),
        assistant(json!([text("")])),
        user(json!("b")),
        assistant(json!("{"))
    ]);
    let out = sent(haiku(), json!({"messages": history}));
    assert_eq!(
        out["messages"],
        json!([
            user(json!([text("a"), text("b")])),
            assistant(json!("{")),
            user(json!([text("Please continue.")]))
        ])
    );
}

#[test]
fn k016_k017_k018_attribution_leaves_the_system_prompt_and_nothing_else() {
    let said = |mark: &str| json!({"system": [text(&format!("x-anthropic-billing-header: cc_version=1; cch={mark};")), text("S")]});
    let out = sent(haiku(), said("abcde"));
    assert_eq!(out["system"], json!([text("S")]));
    assert_eq!(out, sent(haiku(), said("fghij")));
    let out = sent(haiku(), json!({"system": "x-anthropic-billing-header: x\nS"}));
    assert_eq!(out["system"], "S");
    let quoted = json!([user(json!("x-anthropic-billing-header: x"))]);
    assert_eq!(sent(haiku(), json!({"messages": quoted}))["messages"], quoted);
}

#[test]
fn k019_k021_marks_are_only_what_copilot_knows() {
    let mut block = text("S");
    block["cache_control"] = json!({"type": "ephemeral", "scope": "global", "ttl": "1h"});
    let history = json!([
        user(json!("a")),
        assistant(json!([marked(thinking("t", "E")), text("b")])),
        user(json!("c"))
    ]);
    let body = json!({"system": [block], "messages": history});
    let out = sent(opus(), body.clone());
    assert_eq!(out["system"], json!([marked(text("S"))]));
    assert_eq!(out["messages"][1]["content"][0], thinking("t", "E"));

    let mut fixture = Fixture::new(opus());
    fixture.tuning.keep_cache_ttl = true;
    let outgoing = outgoing(&fixture, body).unwrap();
    assert_eq!(
        outgoing.body["system"][0]["cache_control"],
        json!({"type": "ephemeral", "ttl": "1h"})
    );
    assert_eq!(outgoing.betas, ["extended-cache-ttl-2025-04-11"]);
}

#[test]
fn k020_six_marks_become_four() {
    let tool = |name: &str| marked(json!({"name": name, "input_schema": {"type": "object"}}));
    let body = json!({
        "system": [marked(text("S"))],
        "tools": [tool("a"), tool("b")],
        "messages": [user(json!([marked(text("1"))])), assistant(json!([marked(text("2"))])), user(json!([marked(text("3"))]))],
    });
    let out = sent(haiku(), body);
    let has = |value: &Value| value.get("cache_control").is_some();
    assert_eq!(
        [&out["tools"][0], &out["tools"][1], &out["system"][0]].map(has),
        [false, true, true]
    );
    let of_messages: Vec<bool> = out["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| has(&message["content"][0]))
        .collect();
    assert_eq!(of_messages, [false, true, true]);
}

#[test]
fn one_mark_for_all_is_placed_where_the_model_does_not() {
    let body = json!({"cache_control": {"type": "ephemeral", "scope": "x"}});
    let out = sent(haiku(), body.clone());
    assert_eq!(
        (out.get("cache_control"), &out["messages"][0]["content"]),
        (None, &json!([marked(text("hi"))]))
    );
    assert_eq!(sent(opus(), body)["cache_control"], json!({"type": "ephemeral"}));
}

#[test]
fn k022_k173_tools_lose_what_is_refused_and_nothing_else() {
    let tool =
        json!({"name": "f", "eager_input_streaming": true, "input_schema": {"$schema": "s", "z": 1, "type": "object"}});
    let out = sent(
        haiku(),
        json!({"tools": [tool, {"name": "g"}, {"name": "f"}, {"type": "mcp_toolset"}]}),
    );
    assert_eq!(
        out["tools"].to_string(),
        json!([
            {"name": "f", "input_schema": {"z": 1, "type": "object"}},
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        ])
        .to_string()
    );
}

#[test]
fn k024_adaptive_thinking_on_an_older_model() {
    let body = json!({"max_tokens": 64000, "thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}});
    let outgoing = outgoing(&Fixture::new(haiku()), body).unwrap();
    assert_eq!(outgoing.body["thinking"]["type"], "enabled");
    assert!(outgoing.body["thinking"]["budget_tokens"].as_u64().unwrap() >= 1024);
    assert_eq!(outgoing.body.get("output_config"), None);
    assert_eq!(outgoing.betas, ["interleaved-thinking-2025-05-14"]);
    assert!(outgoing.reply.show_reasoning);
}

#[test]
fn k025_a_budget_on_a_newer_model() {
    let mut fixture = Fixture::new(opus());
    fixture.hints.betas = vec!["interleaved-thinking-2025-05-14".into()];
    let body = json!({"max_tokens": 64000, "thinking": {"type": "enabled", "budget_tokens": 31999}});
    let outgoing = outgoing(&fixture, body).unwrap();
    assert_eq!(outgoing.body["thinking"], json!({"type": "adaptive"}));
    assert_eq!(outgoing.body["output_config"], json!({"effort": "high"}));
    assert!(outgoing.betas.is_empty());
}

#[test]
fn k026_k027_efforts_and_budgets_fit() {
    let one = claude(
        "claude-opus-4.8",
        json!({"adaptive_thinking": true, "reasoning_effort": ["medium"]}),
    );
    let out = sent(
        one,
        json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
    );
    assert_eq!(out["output_config"], json!({"effort": "medium"}));
    let out = sent(
        haiku(),
        json!({"max_tokens": 8000, "thinking": {"type": "enabled", "budget_tokens": 31999}}),
    );
    assert!(out["thinking"]["budget_tokens"].as_u64().unwrap() <= 7999);
}

#[test]
fn k028_k029_thinking_gives_way_to_a_forced_tool_and_not_to_a_temperature() {
    let thinks = json!({"type": "enabled", "budget_tokens": 2000});
    let out = sent(
        haiku(),
        json!({"thinking": thinks, "tools": [{"name": "f"}], "tool_choice": {"type": "any"}}),
    );
    assert_eq!(
        (&out["thinking"], &out["tool_choice"]),
        (&json!({"type": "disabled"}), &json!({"type": "any"}))
    );
    let out = sent(haiku(), json!({"thinking": thinks, "temperature": 0.2, "top_k": 3}));
    assert_eq!((out.get("temperature"), out.get("top_k")), (None, None));
}

#[test]
fn k030_k031_only_its_own_thinking_is_shown_to_a_model() {
    let carrier = Carrier::Opaque {
        model: "gpt".into(),
        opaque: "x".into(),
    }
    .encode();
    let own = [
        thinking("t", "Eq+/-_=="),
        json!({"type": "redacted_thinking", "data": "AA=="}),
    ];
    let history = |first: Value| {
        json!([
            user(json!("a")),
            assistant(json!([first, own[0], text("b"), own[1], text("c")])),
            user(json!("d"))
        ])
    };
    let foreign = [
        thinking("t", ""),
        json!({"type": "thinking", "thinking": "t"}),
        thinking("Thinking...", "E"),
        thinking("t", &carrier),
        thinking("t", "a@b#1"),
        json!({"type": "redacted_thinking", "data": carrier}),
    ];
    for block in foreign {
        let out = sent(opus(), json!({"messages": history(block)}));
        assert_eq!(
            out["messages"][1]["content"],
            json!([own[0], text("b"), own[1], text("c")])
        );
    }
    let omitted = thinking("", "E");
    let kept =
        |model| sent(model, json!({"messages": history(omitted.clone())}))["messages"][1]["content"][0] == omitted;
    assert_eq!((kept(opus()), kept(haiku())), (true, false));
}

#[test]
fn k033_a_loop_that_lost_its_thinking_gets_it_back_or_does_without() {
    let body = json!({
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [user(json!("a")), assistant(json!([call("t1")])), user(json!([result("t1")]))],
    });
    let mut fixture = Fixture::new(haiku());
    assert_eq!(sent_by(&fixture, body.clone())["thinking"], json!({"type": "disabled"}));

    let state = Carrier::Thinking {
        model: "claude-haiku-4.5".into(),
        text: "hm".into(),
        signature: "Eq==".into(),
    };
    let kept = Kept {
        model: "claude-haiku-4.5".into(),
        text: "hm".into(),
        carriers: vec![state.encode()],
    };
    fixture.memory.kept.insert("t1".into(), kept);
    let out = sent_by(&fixture, body);
    assert_eq!(out["thinking"]["type"], "enabled");
    assert_eq!(
        out["messages"][1]["content"],
        json!([thinking("hm", "Eq=="), call("t1")])
    );
}

#[test]
fn k034_a_system_message_is_kept_where_it_is_taken() {
    let body = json!({"messages": [
        user(json!("go")), assistant(json!([call("t1")])), user(json!([result("t1")])), {"role": "system", "content": "mind"},
    ]});
    let reminder = text("<system-reminder>\nmind\n</system-reminder>");
    let mut fixture = Fixture::new(opus());
    let folded = sent_by(&fixture, body.clone());
    assert_eq!(folded["messages"][2]["content"], json!([result("t1"), reminder]));

    fixture.hints.betas = vec!["mid-conversation-system-2026-04-07".into()];
    let kept = outgoing(&fixture, body.clone()).unwrap();
    assert_eq!(kept.body["messages"][3], json!({"role": "system", "content": "mind"}));
    assert_eq!(kept.betas, ["mid-conversation-system-2026-04-07"]);

    for (key, fact) in [
        ("messages.system_role", json!(false)),
        ("messages.betas", json!(["mid-conversation-system-2026-04-07"])),
    ] {
        fixture.memory.learned = [(key.to_owned(), fact)].into();
        assert_eq!(sent_by(&fixture, body.clone()), folded, "{key}");
    }
}

#[test]
fn a_leading_system_message_joins_the_system_prompt() {
    let history = json!([{"role": "system", "content": "T"}, user(json!("a"))]);
    let out = sent(haiku(), json!({"system": "S", "messages": history}));
    assert_eq!(out["system"], json!([text("S"), text("T")]));
    assert_eq!(sent(haiku(), json!({"system": [text(" ")]})).get("system"), None);
}

#[test]
fn k036_a_tool_that_the_model_is_served_without_is_left_out() {
    let mut fixture = Fixture::new(haiku());
    fixture
        .memory
        .learned
        .insert("messages.tools".into(), json!(["web_search_20250305"]));
    let search = json!({"type": "web_search_20250305", "name": "web_search"});
    let alone = sent_by(&fixture, json!({"tools": [search], "tool_choice": {"type": "auto"}}));
    assert_eq!((alone.get("tools"), alone.get("tool_choice")), (None, None));
    let beside = sent_by(
        &fixture,
        json!({"tools": [search, {"name": "f"}], "tool_choice": {"type": "any"}}),
    );
    assert_eq!(beside["tools"].as_array().unwrap().len(), 1);
    for choice in [json!({"type": "tool", "name": "web_search"}), json!({"type": "any"})] {
        let failure = outgoing(&fixture, json!({"tools": [search], "tool_choice": choice})).unwrap_err();
        assert_eq!(
            failure.message,
            "Tool type web_search_20250305 is not supported by model claude-haiku-4.5"
        );
    }
}

#[test]
fn k035_k051_tools_that_nobody_can_serve_are_refused() {
    let advisor = json!({"tools": [{"type": "advisor_20260301", "name": "advisor"}]});
    let failure = outgoing(&Fixture::new(haiku()), advisor).unwrap_err();
    assert!(failure.message.contains("advisor_20260301"), "{failure:?}");
    let many: Vec<Value> = (0..129).map(|at| json!({"name": format!("f{at}")})).collect();
    let failure = outgoing(&Fixture::new(haiku()), json!({"tools": many})).unwrap_err();
    assert!(failure.message.contains("128"), "{failure:?}");
    let absent = json!({"tools": [{"name": "f"}], "tool_choice": {"type": "tool", "name": "g"}});
    assert!(outgoing(&Fixture::new(haiku()), absent).is_err());
    let idle = sent(haiku(), json!({"tools": [], "tool_choice": {"type": "auto"}}));
    assert_eq!((idle.get("tools"), idle.get("tool_choice")), (None, None));
}

#[test]
fn k038_what_is_refused_always_goes_always() {
    let body = json!({
        "service_tier": "auto", "inference_geo": "eu", "speed": "fast", "container": "c", "mcp_servers": [], "betas": ["b"],
        "stream_options": {}, "metadata": {"user_id": "u", "more": 1},
    });
    let out = sent(haiku(), body);
    assert_eq!(
        out.keys().collect::<Vec<_>>(),
        ["model", "messages", "metadata", "max_tokens"]
    );
    assert_eq!(out["metadata"], json!({"user_id": "u"}));
    let long = json!({"metadata": {"user_id": "x".repeat(257)}});
    assert_eq!(sent(haiku(), long).get("metadata"), None);
}

#[test]
fn k039_only_known_betas_pass() {
    let mut fixture = Fixture::new(haiku());
    fixture.hints.betas = [
        "claude-code-20250219",
        "interleaved-thinking-2025-05-14",
        " interleaved-thinking-2025-05-14",
        "context-1m-2025-08-07",
        "fine-grained-tool-streaming-2025-05-14",
    ]
    .map(str::to_owned)
    .to_vec();
    assert_eq!(
        outgoing(&fixture, json!({})).unwrap().betas,
        ["interleaved-thinking-2025-05-14"]
    );
}

#[test]
fn betas_follow_what_the_body_holds() {
    let body = json!({
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "tools": [{"name": "f", "defer_loading": true}],
    });
    let mut fixture = Fixture::new(haiku());
    let betas = ["context-management-2025-06-27", "advanced-tool-use-2025-11-20"];
    assert_eq!(outgoing(&fixture, body.clone()).unwrap().betas, betas);
    fixture.memory.learned = [("messages.betas".to_owned(), json!(betas))].into();
    let refused = outgoing(&fixture, body).unwrap();
    assert!(refused.betas.is_empty());
    assert_eq!(refused.body.get("context_management"), None);
    assert_eq!(refused.body["tools"][0].get("defer_loading"), None);
}

#[test]
fn thinking_is_cleared_only_where_there_is_some() {
    let edits = json!({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}});
    assert_eq!(sent(haiku(), edits.clone()).get("context_management"), None);
    let mut thinks = edits.clone();
    thinks["thinking"] = json!({"type": "adaptive"});
    assert_eq!(sent(opus(), thinks)["context_management"], edits["context_management"]);
}

#[test]
fn k040_k041_images_tell_their_true_type() {
    let png = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAYAAAC56t6BAAAADElEQVR4nGNgoBwAAABEAAHX40j9AAAAAElFTkSuQmCC";
    let image = |source: Value| json!({"messages": [user(json!([{"type": "image", "source": source}]))]});
    let body = image(json!({"type": "base64", "media_type": "image/jpeg", "data": png}));
    let seen = outgoing(&Fixture::new(haiku()), body).unwrap();
    assert_eq!(
        seen.body["messages"][0]["content"][0]["source"]["media_type"],
        "image/png"
    );
    assert!(seen.vision);
    let external = image(json!({"type": "url", "url": "https://x.test/a.png"}));
    let failure = outgoing(&Fixture::new(haiku()), external).unwrap_err();
    assert!(failure.message.starts_with("messages.0.content.0"), "{failure:?}");
}

#[test]
fn k043_without_a_limit_the_model_s_own_is_asked_for() {
    assert_eq!(sent(haiku(), json!({}))["max_tokens"], 64000);
    assert_eq!(sent(haiku(), json!({"max_tokens": 99999}))["max_tokens"], 64000);
}

#[test]
fn k050_names_and_ids_that_upstream_refuses_are_replaced_everywhere() {
    let mut odd = call("a|b");
    odd["name"] = json!("mcp__srv.x/y");
    let history = json!([user(json!("go")), assistant(json!([odd])), user(json!([result("a|b")]))]);
    let body = json!({"tools": [{"name": "mcp__srv.x/y"}], "messages": history});
    let outgoing = outgoing(&Fixture::new(haiku()), body).unwrap();
    let name = outgoing.body["tools"][0]["name"].as_str().unwrap();
    assert_eq!(outgoing.reply.tools[name].name, "mcp__srv.x/y");
    let messages = &outgoing.body["messages"];
    let called = &messages[1]["content"][0];
    assert_eq!(
        (called["name"].as_str(), &called["id"]),
        (Some(name), &messages[2]["content"][0]["tool_use_id"])
    );
    assert!(called["id"].as_str().unwrap().starts_with("tid_"));
}

#[test]
fn k164_no_foreign_state_comes_back_from_another_model() {
    let of = |id: &str| {
        Carrier::Item {
            model: id.into(),
            id: None,
            content: "E".into(),
        }
        .encode()
    };
    let history = json!([
        user(json!("a")),
        assistant(json!([thinking("one", "Eq=="), text("A")])),
        user(json!("b")),
        assistant(json!([thinking("two", &of("gpt-5.4")), text("B"), call("t1")])),
        user(json!([result("t1")])),
    ]);
    let out = sent(opus(), json!({"messages": history, "thinking": {"type": "adaptive"}}));
    assert_eq!(
        out["messages"][1]["content"],
        json!([thinking("one", "Eq=="), text("A")])
    );
    assert_eq!(out["messages"][3]["content"], json!([text("B"), call("t1")]));
    assert_eq!(out["thinking"], json!({"type": "adaptive"}));
}

#[test]
fn a_legacy_form_moves() {
    let form = json!({"type": "json_schema", "schema": {}});
    let out = sent(haiku(), json!({"output_format": form}));
    assert_eq!(
        (out.get("output_format"), &out["output_config"]["format"]),
        (None, &form)
    );
}

proptest! {
    #[test]
    fn nonsense_harms_nobody(messages in any_json(), tools in any_json(), system in any_json(), rest in any_json()) {
        for model in [haiku(), opus()] {
            let fields = json!({
                "messages": messages, "tools": tools, "system": system, "thinking": rest, "output_config": rest,
                "tool_choice": rest, "context_management": rest, "metadata": rest, "cache_control": rest,
            });
            let _ = outgoing(&Fixture::new(model), fields);
        }
    }
}
