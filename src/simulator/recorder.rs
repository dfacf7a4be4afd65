//! What was asked of the simulator, for whoever tests: a bounded list, secrets left out. Knows no meaning.

use std::collections::{BTreeMap, VecDeque};

use actix_web::HttpRequest;
use bytes::Bytes;
use serde_json::{Value, json};

/// The most requests kept.
const KEPT: usize = 1000;

/// The most bytes of bodies kept.
const KEPT_BYTES: usize = 64 << 20;

/// Headers whose value is a secret; only their presence, and the scheme, is kept.
const SECRET: [&str; 5] = [
    "authorization",
    "cookie",
    "x-api-key",
    "proxy-authorization",
    "copilot-session-token",
];

/// The list.
#[derive(Default)]
pub struct Recorder {
    entries: VecDeque<Entry>,
    next: u64,
    bytes: usize,
}

struct Entry {
    seq: u64,
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl Recorder {
    pub fn record(&mut self, request: &HttpRequest, body: Bytes) {
        let headers = request.headers().iter().map(|(name, value)| {
            let value = value.to_str().unwrap_or("[binary]");
            let value = if SECRET.contains(&name.as_str()) {
                redacted(value)
            } else {
                value.to_owned()
            };
            (name.as_str().to_owned(), value)
        });
        let headers = headers.collect();
        self.push(
            request.method().as_str(),
            request.path(),
            request.query_string(),
            headers,
            body,
        );
    }

    /// A frame of a socket, which has no head of its own.
    pub fn record_frame(&mut self, path: &str, body: Bytes) {
        self.push("FRAME", path, "", BTreeMap::new(), body);
    }

    fn push(&mut self, method: &str, path: &str, query: &str, headers: BTreeMap<String, String>, body: Bytes) {
        self.next += 1;
        self.bytes += body.len();
        self.entries.push_back(Entry {
            seq: self.next,
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body,
        });
        while self.entries.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(old) = self.entries.pop_front() else { break };
            self.bytes -= old.body.len();
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What came after the request with this number.
    pub fn since(&self, seq: u64) -> Vec<Value> {
        self.entries
            .iter()
            .filter(|entry| entry.seq > seq)
            .map(Entry::show)
            .collect()
    }
}

impl Entry {
    fn show(&self) -> Value {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        let initiator = body["initiator"].as_str().map(str::to_owned);
        json!({
            "seq": self.seq,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "initiator": self.headers.get("x-initiator").cloned().or(initiator),
            "headers": self.headers,
            "body": body,
        })
    }
}

/// The scheme of a credential, the rest hidden.
fn redacted(value: &str) -> String {
    match value.split_once(' ') {
        Some((scheme, _)) => format!("{scheme} [redacted]"),
        None => "[redacted]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn secrets_are_left_out() {
        let request = TestRequest::post()
            .uri("/chat/completions?x=1")
            .insert_header(("authorization", "Bearer tid=secret"))
            .insert_header(("x-initiator", "agent"))
            .to_http_request();
        let mut recorder = Recorder::default();
        recorder.record(&request, Bytes::from_static(b"{\"model\":\"m\"}"));
        let shown = recorder.since(0).remove(0);
        assert_eq!(shown["headers"]["authorization"], "Bearer [redacted]");
        assert_eq!(
            (&shown["initiator"], &shown["body"]["model"]),
            (&json!("agent"), &json!("m"))
        );
        assert!(recorder.since(1).is_empty());
    }
}
