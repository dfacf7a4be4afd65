//! Google's clients: their paths, their key, their answers and their errors, by every kind of model.

use serde_json::{Value, json};

use crate::support::{Answer, World};

/// A Claude that is reached by Messages only.
const MESSAGES_ONLY: &str = "models.overrides = {\"claude-haiku-4.5\" = [\"/v1/messages\"]}\n";
const ROUTES: [(&str, &str); 3] = [
    ("gemini-2.5-pro", "/chat/completions"),
    ("claude-haiku-4.5", "/v1/messages"),
    ("gpt-5.4", "/responses"),
];

fn at(model: &str, method: &str) -> String {
    format!("/v1beta/models/{model}:{method}")
}

fn says(text: &str) -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": text}]}]})
}

fn with_tool(text: &str) -> Value {
    let parameters = json!({"type": "OBJECT", "properties": {"city": {"type": "STRING"}}});
    let mut body = says(text);
    body["tools"] = json!([{"functionDeclarations": [{"name": "get_weather", "parameters": parameters}]}]);
    body
}

fn parts(answer: &Value) -> Vec<Value> {
    answer["candidates"][0]["content"]["parts"].as_array().unwrap().clone()
}

fn text(chunks: &[Value]) -> String {
    let parts = chunks.iter().flat_map(parts);
    let shown = parts.filter(|part| part["thought"].is_null());
    shown
        .filter_map(|part| part["text"].as_str().map(str::to_owned))
        .collect()
}

/// The refusal's status, in Google's own shape, and its sentence.
fn refusal(answer: &Answer, status: u16) -> (String, String) {
    let error = &answer.expect(status)["error"];
    let names: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(names, ["code", "message", "status"], "{error}");
    assert_eq!(error["code"], status, "{error}");
    let word = |name: &str| error[name].as_str().unwrap().to_owned();
    (word("status"), word("message"))
}

#[actix_rt::test]
async fn every_kind_of_model_answers_whole_as_events_and_as_an_array() {
    let world = World::with(MESSAGES_ONLY).await;
    for (model, path) in ROUTES {
        let whole = world
            .post(&at(model, "generateContent"), &says("hello there"))
            .await
            .expect(200);
        let said = text(std::slice::from_ref(&whole));
        assert!(said.contains("hello there"), "{whole:#}");
        assert_eq!(whole["modelVersion"], model);
        assert_eq!(whole["candidates"][0]["finishReason"], "STOP");
        assert!(
            whole["usageMetadata"]["promptTokenCount"].as_u64() > Some(0),
            "{whole:#}"
        );
        assert_eq!(world.one(path)["initiator"], "user", "{model}");

        let events = world
            .post(&at(model, "streamGenerateContent?alt=sse"), &says("hello there"))
            .await;
        assert_eq!(events.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert!(events.frames().iter().all(|frame| frame.name.is_none()) && !events.is_done());
        assert_eq!(text(&events.events()), said, "{}", events.text);
        assert_eq!(world.one(path)["body"]["stream"], true);

        for path in [
            at(model, "streamGenerateContent"),
            format!("/v1/models/{model}/streamGenerateContent"),
        ] {
            let array = world.post(&path, &says("hello there")).await;
            assert_eq!(array.header("content-type"), Some("application/json"));
            assert_eq!(text(array.expect(200).as_array().unwrap()), said);
        }
        world.upstream(path);
    }
}

#[actix_rt::test]
async fn every_kind_of_model_gets_its_tools_called_and_its_thoughts_back() {
    let world = World::with(MESSAGES_ONLY).await;
    for (model, path) in ROUTES {
        let mut body = with_tool(
            "[[sim:parallel]] please call get_weather {\"city\": \"Oslo\"} then call get_weather {\"city\": \"Rome\"}",
        );
        body["generationConfig"] = json!({"thinkingConfig": {"thinkingBudget": 4000, "includeThoughts": true}});
        let whole = world.post(&at(model, "generateContent"), &body).await.expect(200);
        let said = parts(&whole);
        let calls: Vec<&Value> = said.iter().filter(|part| part["functionCall"].is_object()).collect();
        let cities: Vec<&Value> = calls.iter().map(|part| &part["functionCall"]["args"]["city"]).collect();
        assert_eq!(cities, ["Oslo", "Rome"], "{model}: {whole:#}");
        assert_eq!(said[0]["thought"], true, "{model}: {whole:#}");
        assert!(calls[0]["thoughtSignature"].is_string(), "{model}: {whole:#}");
        assert!(
            whole["usageMetadata"]["thoughtsTokenCount"].as_u64() > Some(0),
            "{model}: {whole:#}"
        );
        world.one(path);

        // Without ids and in another order, as old clients may send them.
        let result = |city: &str| json!({"functionResponse": {"name": "get_weather", "response": {"output": city}}});
        let mut silent = said.clone();
        for part in &mut silent {
            if let Some(call) = part.get_mut("functionCall") {
                call.as_object_mut().unwrap().shift_remove("id");
            }
        }
        for model_said in [said, silent] {
            let contents = body["contents"].as_array().unwrap().iter().cloned().chain([
                json!({"role": "model", "parts": model_said}),
                json!({"role": "function", "parts": [result("it rains"), result("it snows")]}),
            ]);
            let mut next = body.clone();
            next["contents"] = contents.collect();
            let answer = world.post(&at(model, "generateContent"), &next).await.expect(200);
            let words = text(&[answer]);
            assert!(
                words.contains("it rains") && words.contains("it snows"),
                "{model}: {words}"
            );
            let asked = world.one(path);
            assert_eq!(asked["initiator"], "agent", "{model}");
            let states = ["\"signature\":", "\"encrypted_content\":\"", "\"reasoning_opaque\":"];
            let sent = asked["body"].to_string();
            assert!(states.iter().any(|state| sent.contains(state)), "{model}: {sent}");
        }
    }
}

#[actix_rt::test]
async fn thoughts_are_shown_to_those_who_ask_for_them() {
    let world = World::with(MESSAGES_ONLY).await;
    for (model, _) in ROUTES {
        let mut body = says("hello");
        body["generation_config"] = json!({"thinking_config": {"thinking_budget": 4000}});
        let whole = world.post(&at(model, "generateContent"), &body).await.expect(200);
        assert!(
            parts(&whole).iter().all(|part| part["thought"].is_null()),
            "{model}: {whole:#}"
        );
    }
}

#[actix_rt::test]
async fn every_refusal_has_googles_shape() {
    let world = World::new().await;
    let ask = |path: &str| world.ask("POST", path);
    let model = "gemini-2.5-pro";
    let path = at(model, "generateContent");
    let named = |answer: &Answer, status| refusal(answer, status).0;

    assert_eq!(
        named(&world.post("/v1beta/nothing", &json!({})).await, 404),
        "NOT_FOUND"
    );
    assert_eq!(
        named(&world.post(&at(model, "embedNothing"), &json!({})).await, 404),
        "NOT_FOUND"
    );
    assert_eq!(
        named(&world.post(&at("nonesuch", "generateContent"), &says("a")).await, 404),
        "NOT_FOUND"
    );
    let wrong = world.get(&path).await;
    assert_eq!(named(&wrong, 405), "INVALID_ARGUMENT");
    assert_eq!(wrong.header("allow"), Some("POST"));
    let typed = ask(&path).header("content-type", "text/plain").bytes("{}").send().await;
    assert_eq!(named(&typed, 415), "INVALID_ARGUMENT");
    let broken = ask(&path)
        .header("content-type", "application/json")
        .bytes("{")
        .send()
        .await;
    assert_eq!(
        refusal(&broken, 400),
        ("INVALID_ARGUMENT".into(), "Invalid JSON body".into())
    );
    for (body, about) in [
        (json!({}), "contents"),
        (json!({"contents": [1]}), "contents[0]"),
        (
            json!({"contents": [{"role": "robot", "parts": [{"text": "a"}]}]}),
            "contents[0].role",
        ),
        (
            json!({"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}]}]}),
            "contents[0].parts[0].inlineData",
        ),
    ] {
        let (status, words) = refusal(&world.post(&path, &body).await, 400);
        assert!(status == "INVALID_ARGUMENT" && words.starts_with(about), "{words}");
    }
    for (fault, status, name) in [
        ("429 retry-after=7", 429, "RESOURCE_EXHAUSTED"),
        ("402", 402, "RESOURCE_EXHAUSTED"),
        ("403", 403, "PERMISSION_DENIED"),
        ("500", 502, "INTERNAL"),
        ("503", 503, "UNAVAILABLE"),
        ("overflow", 400, "INVALID_ARGUMENT"),
    ] {
        for method in ["generateContent", "streamGenerateContent?alt=sse"] {
            let answer = world
                .post(&at(model, method), &says(&format!("[[sim:{fault}]] hello")))
                .await;
            assert_eq!(named(&answer, status), name, "{fault}");
        }
    }
}

#[actix_rt::test]
async fn a_stream_that_breaks_ends_with_an_error_in_either_framing() {
    let world = World::new().await;
    let body = says("[[sim:cut after=8]] one two three four five six seven eight nine");
    let events = world.post(&at("gpt-5.4", "streamGenerateContent?alt=sse"), &body).await;
    let array = world
        .post(&at("gpt-5.4", "streamGenerateContent"), &body)
        .await
        .expect(200);
    let chunks = [events.events(), array.as_array().unwrap().clone()];
    for chunks in chunks {
        let (last, before) = chunks.split_last().unwrap();
        assert_eq!(
            (&last["error"]["code"], &last["error"]["status"]),
            (&json!(502), &json!("INTERNAL"))
        );
        assert!(!before.is_empty() && before.iter().all(|chunk| chunk["error"].is_null()));
    }
}

#[actix_rt::test]
async fn k148_a_key_may_come_as_google_sends_it_and_stays_here() {
    let world = World::with("server.api_key = \"Kx4-very-secret\"\n").await;
    let path = at("gemini-2.5-pro", "generateContent");
    let post = |path: &str| world.ask("POST", path).json(&says("hello"));
    post(&path)
        .header("x-goog-api-key", "Kx4-very-secret")
        .send()
        .await
        .expect(200);
    post(&format!("{path}?key=Kx4-very-secret")).send().await.expect(200);
    let forwarded = post(&format!("{path}?key=Kx4-very-secret")).header("x-forwarded-for", "10.0.0.1");
    let wrong = [
        post(&path),
        post(&path).header("x-goog-api-key", "Kx4"),
        post(&format!("{path}?key=")),
        forwarded,
    ];
    for ask in wrong {
        assert_eq!(refusal(&ask.send().await, 401).0, "UNAUTHENTICATED");
    }
    // On other paths it is a word like any other.
    assert_eq!(world.get("/v1/usage?key=Kx4-very-secret").await.status, 401);
    let usage = world.ask("GET", "/usage").header("x-goog-api-key", "Kx4-very-secret");
    assert_eq!(usage.send().await.status, 401);
    for request in world.simulator.requests(0) {
        assert!(!request.to_string().contains("Kx4-very-secret"), "{request:#}");
    }
    let records = world
        .ask("GET", "/admin/requests")
        .header("x-api-key", "Kx4-very-secret")
        .send()
        .await;
    assert!(!records.text.contains("Kx4-very-secret"));
    assert!(!crate::support::logged().contains("Kx4-very-secret"));
}

#[actix_rt::test]
async fn prompts_are_counted_wrapped_or_not() {
    let world = World::new().await;
    let path = at("claude-sonnet-4.5", "countTokens");
    let count = async |body: &Value| {
        world.post(&path, body).await.expect(200)["totalTokens"]
            .as_u64()
            .unwrap()
    };
    let plain = count(&says("hello there")).await;
    assert!(plain > 3 && plain < 50, "{plain}");
    let mut inner = says("hello there");
    inner["model"] = json!("models/claude-sonnet-4.5");
    assert_eq!(count(&json!({"generateContentRequest": inner})).await, plain);
    assert!(count(&with_tool("hello there")).await > plain + 10);
    refusal(&world.post(&path, &json!({})).await, 400);
}

#[actix_rt::test]
async fn texts_become_vectors_one_by_one_or_at_once() {
    let world = World::new().await;
    let model = "text-embedding-3-small";
    let one = |text: &str| json!({"content": {"parts": [{"text": text}]}, "outputDimensionality": 256});
    let answer = world.post(&at(model, "embedContent"), &one("a")).await.expect(200);
    assert_eq!(answer["embedding"]["values"].as_array().unwrap().len(), 256);
    let batch = json!({"requests": [one("a"), one("b")]});
    let many = world.post(&at(model, "batchEmbedContents"), &batch).await.expect(200);
    assert_eq!(many["embeddings"][0], answer["embedding"]);
    assert_ne!(many["embeddings"][1], answer["embedding"]);
    refusal(&world.post(&at(model, "embedContent"), &json!({})).await, 400);
    refusal(&world.post(&at("gpt-4.1", "embedContent"), &one("a")).await, 400);
}

#[actix_rt::test]
async fn googles_sdks_find_the_models_at_either_version() {
    let world = World::new().await;
    let list = world.get("/v1beta/models").await.expect(200);
    let google = world
        .ask("GET", "/v1/models")
        .header("x-goog-api-key", "dummy")
        .send()
        .await;
    assert_eq!(google.expect(200), list);
    let models = list["models"].as_array().unwrap();
    let claude = models
        .iter()
        .find(|model| model["name"] == "models/claude-sonnet-4.5")
        .unwrap();
    assert!(
        claude["inputTokenLimit"].is_u64() && claude["outputTokenLimit"].is_u64(),
        "{claude}"
    );
    let methods = claude["supportedGenerationMethods"].as_array().unwrap();
    assert!(methods.contains(&json!("generateContent")));
    assert_eq!(world.get("/v1beta/models/claude-sonnet-4.5").await.expect(200), *claude);
    refusal(&world.get("/v1beta/models/nonesuch").await, 404);
    assert_eq!(world.get("/v1/models").await.expect(200)["object"], "list");
}
