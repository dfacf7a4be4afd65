//! GitHub, as far as it is asked: what goes out, and that no answer of it can hurt.

use std::{cell::RefCell, rc::Rc};

use serde_json::{Value, json};

use super::fake::{Fake, header, serve, settings, within};
use crate::{
    secret::Secret,
    upstream::{
        GitHub, Settings, Setup,
        github::{DeviceFlow, Polled, RefusalKind, Step},
    },
};

type Log = Rc<RefCell<Vec<String>>>;

/// A GitHub that gives these answers one after the other, and writes down what it was asked.
async fn github(answers: Vec<(u16, Value)>) -> (GitHub, Log, Fake) {
    let log = Log::default();
    let asked = log.clone();
    let answers = Rc::new(RefCell::new(answers.into_iter()));
    let fake = serve(move |mut peer| {
        let (asked, answers) = (asked.clone(), answers.clone());
        async move {
            while let Some(request) = peer.request().await {
                asked.borrow_mut().push(request);
                let (status, body) = answers.borrow_mut().next().unwrap();
                peer.answer(status, &body.to_string()).await;
            }
        }
    })
    .await;
    let settings = Settings {
        github_url: fake.url() + "/",
        github_api_url: fake.url(),
        ..settings()
    };
    (GitHub::new(&Setup::new(settings).unwrap()), log, fake)
}

#[actix_web::test]
async fn somebody_signs_in_with_a_code() {
    let (github, log, _fake) = github(vec![
        (
            200,
            json!({"device_code": "D", "user_code": "ABCD-1234", "verification_uri": "https://github.com/login/device",
                "expires_in": 899, "interval": 5}),
        ),
        (200, json!({"error": "authorization_pending"})),
        (
            200,
            json!({"access_token": "ghu_1", "token_type": "bearer", "scope": ""}),
        ),
    ])
    .await;
    let start = within(github.start_device_flow()).await.unwrap();
    assert_eq!(start.user_code, "ABCD-1234");
    let mut flow = DeviceFlow::new(&start);
    let pending = within(github.poll_device_flow(&start)).await;
    assert!(matches!(flow.decide(&pending, flow.pause()), Step::Wait(_)));
    let agreed = within(github.poll_device_flow(&start)).await;
    let Step::SignedIn(token) = flow.decide(&agreed, flow.pause()) else {
        panic!("not signed in")
    };
    assert_eq!(token.expose(), "ghu_1");

    let asked: Vec<_> = log
        .borrow()
        .iter()
        .map(|request| {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            assert_eq!(header(head, "accept"), Some("application/json"));
            assert_eq!(header(head, "content-type"), Some("application/json"));
            assert_eq!(header(head, "authorization"), None);
            let body: Value = serde_json::from_str(body).unwrap();
            (head.lines().next().unwrap().to_string(), body)
        })
        .collect();
    let id = "Iv1.b507a08c87ecfe98";
    let poll = (
        "POST /login/oauth/access_token HTTP/1.1".to_string(),
        json!({"client_id": id, "device_code": "D", "grant_type": "urn:ietf:params:oauth:grant-type:device_code"}),
    );
    let start = (
        "POST /login/device/code HTTP/1.1".to_string(),
        json!({"client_id": id, "scope": "read:user"}),
    );
    assert_eq!(asked, [start, poll.clone(), poll]);
}

#[actix_web::test]
async fn a_token_is_exchanged_by_somebody_who_looks_like_an_editor() {
    let (github, log, _fake) = github(vec![(
        200,
        json!({"token": "tid=1", "expires_at": 1893457800, "refresh_in": 1500}),
    )])
    .await;
    let token = within(github.exchange(&Secret::new("ghu_1"))).await.unwrap();
    assert_eq!((token.token.expose(), token.refresh_in), ("tid=1", 1500));
    let request = log.borrow()[0].clone();
    assert!(
        request.starts_with("GET /copilot_internal/v2/token HTTP/1.1\r\n"),
        "{request}"
    );
    assert_eq!(header(&request, "authorization"), Some("token ghu_1"));
    assert_eq!(header(&request, "x-github-api-version"), Some("2025-04-01"));
    assert_eq!(header(&request, "editor-version"), Some("vscode/1.116.0"));
}

#[actix_web::test]
async fn a_refusal_is_asked_for_once_and_never_repeats_the_token() {
    let (github, log, _fake) = github(vec![(401, json!({"message": "Bad credentials: ghu_secret"}))]).await;
    let error = within(github.user(&Secret::new("ghu_secret"))).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().kind, RefusalKind::SignedOut);
    assert_eq!(
        error.to_string(),
        "GitHub does not accept the token (401: Bad credentials: [redacted])"
    );
    assert!(!format!("{error:?}").contains("ghu_secret"));
    assert_eq!(log.borrow().len(), 1);
}

#[actix_web::test]
async fn an_answer_without_end_is_given_up() {
    let fake = serve(|mut peer| async move {
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\n\r\n").await;
        let piece = vec![b' '; 64 << 10];
        for _ in 0..64 {
            peer.say(&piece).await;
        }
        peer.closed().await;
    })
    .await;
    let settings = Settings {
        github_url: fake.url(),
        github_api_url: fake.url(),
        ..settings()
    };
    let github = GitHub::new(&Setup::new(settings).unwrap());
    let error = within(github.usage(&Secret::new("t"))).await.unwrap_err();
    assert_eq!(error.to_string(), "upstream's answer is larger than 1048576 bytes");
    assert!(!error.is_permanent());
}

#[actix_web::test]
async fn a_github_that_is_away_is_no_answer_to_a_poll() {
    let (github, _log, fake) = github(vec![(
        200,
        json!({"device_code": "D", "user_code": "U", "verification_uri": "V"}),
    )])
    .await;
    let start = within(github.start_device_flow()).await.unwrap();
    drop(fake);
    actix_rt::time::sleep(std::time::Duration::from_millis(50)).await;
    let polled = within(github.poll_device_flow(&start)).await;
    assert!(matches!(polled, Polled::Nothing), "{polled:?}");
}
