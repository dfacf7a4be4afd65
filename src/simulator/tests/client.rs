//! A client as an editor would be one, for the tests.

use actix_web::http::header::HeaderMap;
use serde_json::Value;

use crate::protocol::sse::{Decoder, Frame};
use crate::simulator::{DEMO_GITHUB_TOKEN, Settings, Simulator, start};

/// A client of a simulator of its own.
pub struct Client {
    pub simulator: Simulator,
    pub http: awc::Client,
    pub token: String,
    pub initiator: &'static str,
    pub extra: Vec<(&'static str, &'static str)>,
}

pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}: {}", self.status, self.text))
    }

    pub fn frames(&self) -> Vec<Frame> {
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        decoder.feed(self.text.clone().into(), &mut frames).unwrap();
        decoder.finish(&mut frames);
        frames
    }

    pub fn events(&self) -> Vec<Value> {
        let frames = self.frames().into_iter().filter(|frame| !frame.is_done());
        frames
            .map(|frame| serde_json::from_slice(&frame.data).unwrap())
            .collect()
    }
}

impl Client {
    pub async fn new(settings: Settings) -> Self {
        let simulator = start(settings).await.unwrap();
        let http = awc::Client::builder().disable_timeout().finish();
        let mut client = Self {
            simulator,
            http,
            token: String::new(),
            initiator: "user",
            extra: Vec::new(),
        };
        let exchanged = client.exchange().await;
        client.token = exchanged.json()["token"].as_str().unwrap().to_owned();
        client
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.url)
    }

    pub async fn github(&self, path: &str, token: &str) -> Answer {
        let request = self
            .http
            .get(self.url(path))
            .insert_header(("user-agent", "GitHubCopilotChat/1"));
        let request = request.insert_header(("authorization", format!("token {token}")));
        answer(request.send().await.unwrap()).await
    }

    pub async fn exchange(&self) -> Answer {
        self.github("/copilot_internal/v2/token", DEMO_GITHUB_TOKEN).await
    }

    pub fn request(&self, path: &str) -> awc::ClientRequest {
        let mut request = self
            .http
            .post(self.url(path))
            .insert_header(("authorization", format!("Bearer {}", self.token)))
            .insert_header(("editor-version", "vscode/1.116.0"))
            .insert_header(("copilot-integration-id", "vscode-chat"))
            .insert_header(("x-initiator", self.initiator));
        for header in &self.extra {
            request = request.insert_header(*header);
        }
        request
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        answer(self.request(path).send_body(body.to_string()).await.unwrap()).await
    }

    pub async fn control(&self, path: &str, body: Value) {
        let response = self.http.post(self.url(path)).send_json(&body).await.unwrap();
        assert_eq!(response.status(), 200, "{body}");
    }

    pub async fn premium(&self) -> f64 {
        let account = self.github("/copilot_internal/user", DEMO_GITHUB_TOKEN).await.json();
        account["quota_snapshots"]["premium_interactions"]["quota_remaining"]
            .as_f64()
            .unwrap()
    }
}

pub async fn answer<S>(mut response: awc::ClientResponse<S>) -> Answer
where
    S: futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + Unpin,
{
    let body = response.body().limit(64 << 20).await.unwrap_or_default();
    Answer {
        status: response.status().as_u16(),
        kind: response
            .headers()
            .get("content-type")
            .map_or("", |kind| kind.to_str().unwrap())
            .to_owned(),
        headers: response.headers().clone(),
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}
