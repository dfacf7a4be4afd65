//! The doors without a Copilot behind them: real middleware, real actors, lists and figures that are given.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actix_web::body::MessageBody;
use actix_web::http::header::{self, HeaderMap};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{self, TestRequest};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::actors::approval::{self, ApprovalActor, Ask, Verdict};
use crate::actors::catalog::CatalogActor;
use crate::actors::memory::MemoryActor;
use crate::actors::quota::QuotaActor;
use crate::actors::rate_limiter::{self, RateLimiterActor};
use crate::actors::recorder::RecorderActor;
use crate::actors::token::{ExchangeError, Exchanged, GetCredential, TokenActor};
use crate::actors::{Actors, Published};
use crate::protocol::catalog::Catalog;
use crate::secret::Secret;
use crate::upstream::{Copilot, Setup};

/// What the proxy under test is made of.
pub struct Proxy {
    pub settings: Settings,
    pub aliases: Vec<(&'static str, &'static str)>,
    pub signed_in: bool,
    pub usage: Result<Value, String>,
    /// Where Copilot would be.
    pub copilot: String,
    pub manual_approval: bool,
    pub draining: watch::Receiver<bool>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            aliases: Vec::new(),
            signed_in: true,
            usage: Ok(json!({"login": "octocat", "copilot_plan": "individual"})),
            copilot: "http://127.0.0.1:9".into(),
            manual_approval: true,
            draining: watch::channel(false).1,
        }
    }
}

impl Proxy {
    pub fn with_key(key: &str) -> Self {
        Self {
            settings: Settings {
                api_key: Some(Secret::new(key)),
                ..Settings::default()
            },
            ..Self::default()
        }
    }

    fn doors(self) -> Doors {
        self.start()()
    }

    /// Starts the actors; each worker makes its own doors to them.
    pub fn start(self) -> impl Fn() -> Doors + Clone + Send + 'static {
        let (signed_in, copilot) = (self.signed_in, self.copilot);
        let exchange = move || {
            let copilot = copilot.clone();
            Box::pin(async move {
                if !signed_in {
                    return Err(ExchangeError {
                        message: "bad credentials".into(),
                        permanent: true,
                        refused: true,
                        unreached: false,
                        retry_after: None,
                    });
                }
                Ok(Exchanged {
                    token: Secret::new("the-credential"),
                    base_url: copilot,
                    valid_for: Duration::from_secs(1800),
                    refresh_in: Duration::from_secs(1500),
                })
            }) as _
        };
        let fetch = || Box::pin(async { Ok(Catalog::read(&models())) }) as _;
        let usage = self.usage;
        let usage = move || {
            let usage = usage.clone();
            Box::pin(async move { usage }) as _
        };
        let approval = approval::Settings {
            on: self.manual_approval,
            timeout: Duration::from_secs(60),
        };
        let token = TokenActor::new(Rc::new(exchange), || 0.5);
        let catalog = CatalogActor::new(Rc::new(fetch), Duration::from_secs(600));
        let memory = MemoryActor::default();
        let rate_limiter = RateLimiterActor::new(rate_limiter::Settings::default());
        let recorder = RecorderActor::default();
        let published = Published {
            credential: token.published(),
            catalog: catalog.published(),
            facts: memory.published(),
            free: rate_limiter.published(),
            records: recorder.published(),
        };
        let actors = Actors {
            token: token.start(),
            catalog: catalog.start(),
            rate_limiter: rate_limiter.start(),
            approval: ApprovalActor::new(approval).start(),
            memory: memory.start(),
            recorder: recorder.start(),
            quota: QuotaActor::new(Rc::new(usage)).start(),
            archive: None,
            published,
        };
        let setup = Setup::new(crate::upstream::Settings::default()).unwrap();
        let aliases = self.aliases.iter();
        let relay = crate::relay::Settings {
            aliases: aliases
                .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                .collect(),
            manual_approval: self.manual_approval,
            ..crate::relay::Settings::default()
        };
        let (settings, draining) = (Arc::new(self.settings), self.draining);
        let closing = watch::channel(false).1;
        move || Doors {
            relay: Relay::new(Copilot::new(&setup), actors.clone(), relay.clone(), closing.clone()),
            settings: settings.clone(),
            draining: draining.clone(),
        }
    }
}

fn models() -> Value {
    json!({"data": [
        {"id": "gpt-5.4", "name": "GPT-5.4", "vendor": "OpenAI", "model_picker_enabled": true,
         "supported_endpoints": ["/responses", "ws:/responses"],
         "billing": {"multiplier": 1, "token_prices": {"batch_size": 1_000_000, "default": {"input_price": 250, "output_price": 1500}}}},
        {"id": "claude-sonnet-4.5", "name": "Claude Sonnet 4.5", "vendor": "Anthropic", "model_picker_enabled": true,
         "supported_endpoints": ["/chat/completions", "/v1/messages"]},
        {"id": "off", "vendor": "OpenAI", "policy": {"state": "disabled"}},
        {"id": "socket-only", "vendor": "OpenAI", "supported_endpoints": ["ws:/responses"]},
    ]})
}

/// One answer, read whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request as a program on this machine sends it.
fn request(method: Method, path: &str) -> TestRequest {
    TestRequest::default()
        .method(method)
        .uri(path)
        .peer_addr("127.0.0.1:50000".parse().unwrap())
        .insert_header((header::HOST, "localhost:4399"))
}

fn get(path: &str) -> TestRequest {
    request(Method::GET, path)
}

fn post(path: &str, body: &Value) -> TestRequest {
    request(Method::POST, path).set_json(body)
}

/// Asks a proxy that has had its time to start, one question after the other.
async fn ask_all(doors: Doors, requests: Vec<TestRequest>) -> Vec<Answer> {
    let actors = doors.relay.actors().clone();
    let (_, _) = (actors.token.send(GetCredential).await, doors.relay.catalog().await);
    let app = test::init_service(app(doors)).await;
    let mut answers = Vec::new();
    for request in requests {
        let response = test::call_service(&app, request.to_request()).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().boxed();
        let body = actix_web::body::to_bytes(body).await.unwrap_or_default();
        answers.push(Answer {
            status,
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
    }
    answers
}

async fn ask(proxy: Proxy, request: TestRequest) -> Answer {
    ask_all(proxy.doors(), vec![request]).await.remove(0)
}

#[actix_web::test]
async fn k161_one_list_serves_three_families() {
    let doors = Proxy {
        aliases: vec![("mine", "claude-sonnet-4.5")],
        ..Proxy::default()
    }
    .doors();
    let requests = vec![
        get("/v1/models"),
        get("/models/?limit=1"),
        get("/v1/models?limit=1").insert_header(("anthropic-version", "2023-06-01")),
        get("/v1/models?limit=x").insert_header(("anthropic-version", "2023-06-01")),
        get("/v1/models?client_version=0.150.0"),
        get("/v1/models?client_version=abc"),
    ];
    let answers = ask_all(doors, requests).await;
    let list = answers[0].json();
    assert_eq!(
        (&list["object"], &list["first_id"], &list["last_id"]),
        (&json!("list"), &json!("gpt-5.4"), &json!("mine"))
    );
    assert_eq!(list["data"][0]["type"], "model");
    assert_eq!(
        answers[1].json()["data"].as_array().unwrap().len(),
        3,
        "only Anthropic's clients page"
    );
    assert_eq!(
        (
            &answers[2].json()["data"].as_array().unwrap().len(),
            &answers[2].json()["has_more"]
        ),
        (&1, &json!(true))
    );
    assert_eq!(
        (answers[3].status.as_u16(), answers[3].json()["type"] == "error"),
        (400, true)
    );
    assert_eq!(answers[4].json()["models"][0]["slug"], "gpt-5.4");
    assert_eq!(answers[5].status, 400);
}

#[actix_web::test]
async fn codex_keeps_a_catalogue_that_has_not_changed() {
    let path = "/models?client_version=1.0.0-alpha.2";
    let doors = Proxy::default().doors();
    let first = ask_all(doors.clone(), vec![get(path)]).await.remove(0);
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "{tag}");
    let again = get(path).insert_header((header::IF_NONE_MATCH, format!("\"x\", {tag}")));
    let other = get(path).insert_header((header::IF_NONE_MATCH, "\"x\""));
    let answers = ask_all(doors, vec![again, other]).await;
    assert_eq!((answers[0].status.as_u16(), answers[0].body.as_str()), (304, ""));
    assert_eq!(answers[0].header("etag"), tag);
    assert_eq!(answers[1].status, 200);
}

#[actix_web::test]
async fn one_model_is_found_by_any_of_its_names() {
    let doors = Proxy {
        aliases: vec![("team/fast", "gpt-5.4")],
        ..Proxy::default()
    }
    .doors();
    let requests = vec![
        get("/v1/models/claude-sonnet-4-5-20250929"),
        get("/models/anthropic%2Fclaude-sonnet-4.5"),
        get("/models/anthropic/claude-sonnet-4.5"),
        get("/models/claude%2Dsonnet%2D4.5%5B1m%5D"),
        get("/models/team%2Ffast"),
        get("/models/nothing"),
        get("/models/nothing").insert_header(("anthropic-version", "2023-06-01")),
    ];
    let answers = ask_all(doors, requests).await;
    for answer in &answers[..4] {
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["id"]),
            (200, &json!("claude-sonnet-4.5"))
        );
    }
    let alias = answers[4].json();
    assert_eq!(
        (&alias["id"], &alias["alias_of"]),
        (&json!("team/fast"), &json!("gpt-5.4"))
    );
    assert_eq!(
        (answers[5].status.as_u16(), &answers[5].json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    assert_eq!(answers[6].json()["error"]["type"], "not_found_error");
}

#[actix_web::test]
async fn it_says_that_it_lives_and_whether_it_can_serve() {
    let paths = ["/livez", "/healthz", "/v1/health", "/version", "/readyz"];
    let answers = ask_all(Proxy::default().doors(), paths.map(get).into()).await;
    for answer in &answers[..3] {
        assert_eq!(answer.json(), json!({"status": "ok"}));
    }
    assert_eq!(answers[3].json(), json!({"version": env!("CARGO_PKG_VERSION")}));
    assert_eq!(answers[4].json(), json!({"status": "ready"}));
    let out = Proxy {
        signed_in: false,
        ..Proxy::default()
    };
    let answer = ask(out, get("/readyz")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({"status": "starting", "reason": "no copilot credential: bad credentials"})
    );
}

#[actix_web::test]
async fn telemetry_is_swallowed() {
    let answers = ask_all(
        Proxy::default().doors(),
        vec![
            post("/api/event_logging/batch", &json!({"events": [1, 2]})),
            request(Method::POST, "/api/event_logging/v2/batch").set_payload("not json"),
        ],
    )
    .await;
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({})));
    }
}

#[actix_web::test]
async fn a_browser_is_led_to_the_dashboard_and_a_program_is_not() {
    let browser = |path| get(path).insert_header((header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8"));
    let requests = vec![
        get("/"),
        browser("/"),
        browser("/?a=1&endpoint=http%3A%2F%2Fx%2Fusage"),
        get("/dashboard?endpoint=http%3A%2F%2Fx%2Fusage"),
        get("/dashboard/script.js"),
        request(Method::POST, "/dashboard"),
    ];
    let answers = ask_all(Proxy::default().doors(), requests).await;
    assert_eq!(
        (answers[0].status.as_u16(), answers[0].body.as_str()),
        (200, "Server running")
    );
    assert_eq!(
        (answers[1].status.as_u16(), answers[1].header("location")),
        (302, "/dashboard")
    );
    assert_eq!(
        answers[2].header("location"),
        "/dashboard?endpoint=http%3A%2F%2Fx%2Fusage"
    );
    let policy = answers[3].header("content-security-policy");
    assert!(policy.contains("connect-src 'self' http://x/usage;"), "{policy}");
    assert!(answers[4].header("content-type").starts_with("text/javascript"));
    assert_eq!(
        (answers[5].status.as_u16(), answers[5].header("allow")),
        (405, "GET, HEAD")
    );
}

#[actix_web::test]
async fn usage_is_githubs_own_word() {
    let answer = ask(Proxy::default(), get("/v1/usage")).await;
    assert_eq!(answer.json(), json!({"login": "octocat", "copilot_plan": "individual"}));
    assert_eq!(answer.header("cache-control"), "no-store");
    let down = Proxy {
        usage: Err("down".into()),
        ..Proxy::default()
    };
    let answer = ask(down, get("/usage")).await;
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.json(),
        json!({"error": {"message": "Failed to fetch Copilot usage", "type": "api_error", "param": null,
            "code": "usage_unavailable"}})
    );
    let down = Proxy {
        usage: Err("GitHub is down".into()),
        ..Proxy::default()
    };
    let answers = ask_all(down.doors(), vec![get("/usage"), get("/admin/status")]).await;
    assert_eq!(answers[1].json()["usage"], json!({"last_error": "GitHub is down"}));
}

#[actix_web::test]
async fn the_credential_is_shown_to_this_machine_only_and_only_where_it_is_allowed() {
    let forbidden = json!({"error": "Forbidden", "token": null});
    let answer = ask(Proxy::default(), get("/token")).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (403, forbidden.clone()));
    let on = || Proxy {
        settings: Settings {
            token_endpoint: true,
            loopback: false,
            allowed_origins: vec!["https://ui.example".into()],
            ..Settings::default()
        },
        ..Proxy::default()
    };
    let answer = ask(on(), get("/v1/token")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, json!({"token": "the-credential"}))
    );
    assert_eq!(answer.header("cache-control"), "no-store");
    let elsewhere = "192.0.2.1:50000".parse().unwrap();
    for request in [
        get("/token").peer_addr(elsewhere),
        get("/token").insert_header((header::ORIGIN, "https://ui.example")),
        get("/token").insert_header((header::ORIGIN, "http://localhost:3000")),
        get("/token").insert_header((header::HOST, "evil.example")),
        get("/token").insert_header(("x-forwarded-for", "192.0.2.1")),
    ] {
        let answer = ask(on(), request).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (403, forbidden.clone()));
    }
}

#[actix_web::test]
async fn a_waiting_request_is_decided_once() {
    let doors = Proxy::default().doors();
    let actors = doors.relay.actors().clone();
    let asking = actix_rt::spawn(async move {
        let ask = Ask {
            model: "gpt-5.4".into(),
            client: "curl".into(),
            bytes: 10,
            estimated_tokens: 3,
        };
        actors.approve(ask).await.unwrap()
    });
    tokio::task::yield_now().await;
    let approve = || json!({"decision": "approve"});
    let requests = vec![
        get("/admin/approvals"),
        post("/admin/approvals/1", &json!({"decision": "maybe"})),
        post("/admin/approvals/1", &json!({})),
        request(Method::POST, "/admin/approvals/1")
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .set_payload("{"),
        request(Method::POST, "/admin/approvals/1")
            .insert_header((header::CONTENT_TYPE, "text/plain"))
            .set_payload(r#"{"decision":"approve"}"#),
        request(Method::POST, "/admin/approvals/1").set_payload(r#"{"decision":"approve"}"#),
        post("/admin/approvals/2", &approve()),
        post("/admin/approvals/x", &approve()),
        post("/admin/approvals/1", &approve()),
        post("/admin/approvals/1", &approve()),
        get("/admin/approvals"),
    ];
    let answers = ask_all(doors, requests).await;
    let pending = &answers[0].json()[0];
    let fields: Vec<&str> = pending.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "id",
            "model",
            "client",
            "bytes",
            "estimated_tokens",
            "age_secs",
            "expires_in_secs"
        ]
    );
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [200, 400, 400, 400, 415, 415, 404, 404, 200, 409, 200]);
    assert_eq!(answers[10].json(), json!([]));
    assert_eq!(asking.await.unwrap(), Verdict::Approved);
}

#[actix_web::test]
async fn without_a_key_the_admin_api_answers_this_machine_only() {
    let open = || Proxy {
        settings: Settings {
            loopback: false,
            ..Settings::default()
        },
        ..Proxy::default()
    };
    let elsewhere = "192.0.2.1:50000".parse().unwrap();
    assert_eq!(ask(open(), get("/admin/status")).await.status, 200);
    let mapped = get("/admin/status").peer_addr("[::ffff:127.0.0.1]:5".parse().unwrap());
    assert_eq!(ask(open(), mapped).await.status, 200);
    for request in [
        get("/admin/status").peer_addr(elsewhere),
        get("/admin/status").insert_header((header::HOST, "evil.example")),
        get("/admin/status").insert_header(("forwarded", "for=192.0.2.1")),
    ] {
        let answer = ask(open(), request).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (403, &json!("loopback_only"))
        );
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[actix_web::test]
async fn only_our_own_page_may_decide() {
    let decide =
        |origin| post("/admin/approvals/7", &json!({"decision": "approve"})).insert_header((header::ORIGIN, origin));
    assert_eq!(ask(Proxy::default(), decide("http://localhost:4399")).await.status, 404);
    for origin in [
        "null",
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:4399",
    ] {
        assert_eq!(ask(Proxy::default(), decide(origin)).await.status, 403, "{origin}");
    }
    let foreign = decide("http://evil.example").insert_header((header::HOST, "evil.example"));
    assert_eq!(ask(Proxy::default(), foreign).await.status, 403);
}

#[actix_web::test]
async fn the_page_shows_the_key_once_and_keeps_a_cookie() {
    let doors = Proxy::with_key("sesame, ÖPEN").doors();
    let requests = vec![
        get("/admin/status"),
        get("/dashboard"),
        post("/admin/session", &json!({"key": "wrong"})),
        post("/admin/session", &json!({"key": "sesame, ÖPEN"})),
    ];
    let answers = ask_all(doors.clone(), requests).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses, [401, 200, 401, 200]);
    assert!(answers[2].headers.get(header::SET_COOKIE).is_none());
    let cookie = answers[3].header("set-cookie").to_owned();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("sesame"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let shown = |path: &str| get(path).insert_header((header::COOKIE, cookie.clone()));
    let elsewhere = "192.0.2.1:50000".parse().unwrap();
    let requests = vec![
        shown("/admin/status"),
        shown("/usage"),
        shown("/v1/models"),
        shown("/admin/status").peer_addr(elsewhere),
        get("/admin/status").insert_header((header::COOKIE, format!("{}=sesame", caller::COOKIE))),
        get("/admin/status").insert_header(("x-api-key", "sesame")),
    ];
    let answers = ask_all(doors, requests).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(
        statuses,
        [200, 200, 401, 200, 401, 401],
        "the cookie opens the dashboard's data and no model"
    );
}

#[actix_web::test]
async fn the_dashboard_hears_how_things_stand() {
    let doors = Proxy::default().doors();
    let requests = vec![
        get("/admin/status"),
        get("/admin/models"),
        get("/admin/requests?after=0"),
        get("/admin/requests?after=x"),
        get("/admin/nothing"),
    ];
    let answers = ask_all(doors, requests).await;
    let status = answers[0].json();
    assert_eq!(
        (&status["ready"], &status["token"]["state"]),
        (&json!(true), &json!("fresh"))
    );
    assert_eq!(
        (&status["models"]["count"], &status["calls"]["running"]),
        (&json!(4), &json!(0))
    );
    let models = answers[1].json();
    assert_eq!(
        models.as_array().unwrap().len(),
        2,
        "what a policy disables is not offered"
    );
    assert_eq!(
        models[0]["routes"],
        json!({"messages": "responses", "chat": "responses", "responses": "responses"})
    );
    assert_eq!(
        models[1]["routes"],
        json!({"messages": "messages", "chat": "chat", "responses": "messages"})
    );
    assert_eq!(
        models[0]["token_prices"],
        json!({"input": 250.0, "cached": null, "output": 1500.0})
    );
    assert_eq!(answers[2].json()["requests"], json!([]));
    assert_eq!((answers[3].status.as_u16(), answers[4].status.as_u16()), (200, 404));
}
