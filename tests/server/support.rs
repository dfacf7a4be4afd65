//! The real proxy before the real simulator, in one process, and a client that asks. A failed assertion shows both what
//! was asked for and what came.

use std::cell::Cell;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use copilot_proxy::config::{self, Sources};
use copilot_proxy::protocol::sse::{Decoder, Frame};
use copilot_proxy::secret::Secret;
use copilot_proxy::server::{self, Options, Running};
use copilot_proxy::simulator::{self, DEMO_GITHUB_TOKEN, Simulator};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(15);

/// A proxy, and the Copilot it stands before.
pub struct World {
    pub simulator: Simulator,
    pub proxy: Running,
    /// The last of the simulator's requests that a test has seen.
    seen: Cell<u64>,
    _home: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// With these lines in its `config.toml`, and ready to serve.
    pub async fn with(lines: &str) -> Self {
        let world = Self::unready(lines).await;
        world.until("/readyz", 200).await;
        world
    }

    async fn before(simulator: Simulator, lines: &str) -> Self {
        let (proxy, home) = proxy(&simulator.url, lines).await;
        Self::of(simulator, proxy, home)
    }

    /// Before anything has been fetched from upstream.
    pub async fn unready(lines: &str) -> Self {
        Self::before(simulator::start(simulator::Settings::default()).await.unwrap(), lines).await
    }

    pub fn of(simulator: Simulator, proxy: Running, home: tempfile::TempDir) -> Self {
        Self {
            simulator,
            proxy,
            seen: Cell::new(0),
            _home: home,
        }
    }

    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(self.proxy.address, method, path)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send().await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path).json(body).send().await
    }

    /// Plans what befalls the next request to an endpoint of the simulator.
    pub async fn plan(&self, fault: Value) {
        self.control("/_sim/fault", fault).await;
    }

    pub async fn control(&self, path: &str, body: Value) {
        let address = self.simulator.url.strip_prefix("http://").unwrap().parse().unwrap();
        let answer = Ask::new(address, "POST", path).json(&body).send().await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    }

    /// The next answer of this endpoint is a stream of these frames.
    pub async fn plan_stream(&self, endpoint: &str, frames: &str) {
        let headers = json!({"content-type": "text/event-stream"});
        self.plan(json!({"endpoint": endpoint, "status": 200, "headers": headers, "body": frames}))
            .await;
    }

    /// What upstream was asked since the last time.
    fn news(&self) -> Vec<Value> {
        let news = self.simulator.requests(self.seen.get());
        if let Some(last) = news.last() {
            self.seen.set(last["seq"].as_u64().unwrap());
        }
        news
    }

    /// What upstream was asked at this path since the last time.
    pub fn upstream(&self, path: &str) -> Vec<Value> {
        let news = self.news().into_iter();
        news.filter(|request| request["path"] == path).collect()
    }

    /// By which ways upstream was asked for an answer since the last time, in order.
    pub fn ways(&self) -> Vec<String> {
        let news = self.news().into_iter();
        let paths = news.filter_map(|request| Some(request["path"].as_str()?.to_owned()));
        paths
            .filter(|path| ["/chat/completions", "/responses", "/v1/messages"].contains(&path.as_str()))
            .collect()
    }

    /// The one request at this path since the last time.
    #[track_caller]
    pub fn one(&self, path: &str) -> Value {
        let mut news = self.upstream(path);
        assert_eq!(news.len(), 1, "requests at {path}: {news:#?}");
        news.remove(0)
    }

    /// Waits until upstream has so many answers under way.
    pub async fn open_streams(&self, wanted: usize) {
        let start = Instant::now();
        while self.simulator.open_streams() != wanted {
            let open = self.simulator.open_streams();
            assert!(start.elapsed() < Duration::from_secs(1), "{open} open, not {wanted}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until this request is answered with this status.
    pub async fn until(&self, path: &str, status: u16) -> Answer {
        let start = Instant::now();
        loop {
            let answer = self.get(path).await;
            if answer.status == status {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "{path}: {} {}", answer.status, answer.text);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// A proxy before the Copilot at this address, with these lines in its `config.toml`.
pub async fn proxy(url: &str, lines: &str) -> (Running, tempfile::TempDir) {
    log();
    let home = tempfile::tempdir().unwrap();
    let base = format!(
        "server.port = 0\nserver.workers = 1\nupstream.github_url = {url:?}\nupstream.github_api_url = {url:?}\n"
    );
    std::fs::write(home.path().join("config.toml"), base + lines).unwrap();
    let sources = Sources {
        data_dir: home.path().to_owned(),
        ..Sources::default()
    };
    let options = Options {
        settings: config::load(&sources).unwrap().settings,
        github_token: Secret::new(DEMO_GITHUB_TOKEN.to_owned()),
        asker: None,
    };
    (server::start(options).await.unwrap(), home)
}

/// One request by a connection of its own.
pub struct Ask {
    address: std::net::SocketAddr,
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask {
    pub fn new(address: std::net::SocketAddr, method: &str, path: &str) -> Self {
        Self {
            address,
            line: format!("{method} {path} HTTP/1.1"),
            headers: vec![("host".into(), address.to_string())],
            body: Vec::new(),
        }
    }

    /// Sets a header in place of one of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").bytes(body.to_string())
    }

    pub fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and leaves the answer to the caller.
    pub async fn open(self) -> Connection {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut head = self.line;
        for (name, value) in self.headers {
            head.push_str(&format!("\r\n{name}: {value}"));
        }
        if !self.body.is_empty() {
            head.push_str(&format!("\r\ncontent-length: {}", self.body.len()));
        }
        head.push_str("\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // A body that is refused before its end may find the line closed.
        let _ = stream.write_all(&self.body).await;
        Connection {
            stream,
            received: Vec::new(),
        }
    }

    pub async fn send(self) -> Answer {
        let line = self.line.clone();
        let sent = self.header("connection", "close").open().await;
        let answered = tokio::time::timeout(PATIENCE, sent.answer()).await;
        answered.unwrap_or_else(|_| panic!("{line}: no answer"))
    }
}

/// A request that has been sent.
pub struct Connection {
    pub stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    /// Everything until the server closes.
    pub async fn answer(mut self) -> Answer {
        let _ = self.stream.read_to_end(&mut self.received).await;
        Answer::read(&self.received)
    }

    /// An answer with a length, on a line that stays open.
    pub async fn first_answer(mut self) -> Answer {
        self.until("}").await;
        Answer::read(&self.received)
    }

    /// Reads on until these words have come.
    pub async fn until(&mut self, words: &str) -> String {
        let start = Instant::now();
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if text.contains(words) {
                return text;
            }
            let mut piece = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await;
            let read = read.unwrap_or_else(|_| panic!("no {words:?} after {:?}, only {text}", start.elapsed()));
            match read.unwrap() {
                0 => panic!("closed before {words:?}: {text}"),
                read => self.received.extend_from_slice(&piece[..read]),
            }
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
    /// The chunked body has its ending.
    pub complete: bool,
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let split = split.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.contains(&("transfer-encoding".to_owned(), "chunked".to_owned()));
        let (body, complete) = if chunked {
            dechunk(&bytes[split + 4..])
        } else {
            (bytes[split + 4..].to_vec(), true)
        };
        Self {
            status,
            headers,
            text: String::from_utf8(body).unwrap(),
            complete,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}: no JSON: {}", self.status, self.text))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The frames of a stream, comments left out.
    #[track_caller]
    pub fn frames(&self) -> Vec<Frame> {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(
            self.header("content-type"),
            Some("text/event-stream; charset=utf-8"),
            "{}",
            self.text
        );
        assert!(self.complete, "cut off: {}", self.text);
        let (mut decoder, mut frames) = (Decoder::default(), Vec::new());
        decoder.feed(self.text.clone().into(), &mut frames).unwrap();
        decoder.finish(&mut frames);
        frames
    }

    /// The payloads of a stream, without `[DONE]`.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let frames = self.frames().into_iter().filter(|frame| !frame.is_done());
        frames
            .map(|frame| serde_json::from_slice(&frame.data).unwrap())
            .collect()
    }

    pub fn is_done(&self) -> bool {
        self.text.ends_with("data: [DONE]\n\n")
    }
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return (body, false);
        };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let from = end + 2;
        let to = (from + size).min(rest.len());
        body.extend_from_slice(&rest[from..to]);
        rest = rest.get(to + 2..).unwrap_or_default();
    }
}

/// The three ways to ask a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Messages,
    Chat,
    Responses,
}

pub const CLIENTS: [Client; 3] = [Client::Messages, Client::Chat, Client::Responses];

impl Client {
    pub fn path(self) -> &'static str {
        match self {
            Self::Messages => "/v1/messages",
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
        }
    }

    pub fn body(self, model: &str, prompt: &str, stream: bool) -> Value {
        match self {
            Self::Messages => json!({"model": model, "max_tokens": 1000, "stream": stream,
                "messages": [{"role": "user", "content": prompt}]}),
            Self::Chat => json!({"model": model, "stream": stream,
                "messages": [{"role": "user", "content": prompt}]}),
            Self::Responses => json!({"model": model, "stream": stream, "input": prompt}),
        }
    }

    /// With a tool that can be called as `please call get_weather {…}`.
    pub fn body_with_tool(self, model: &str, prompt: &str, stream: bool) -> Value {
        let mut body = self.body(model, prompt, stream);
        let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        body["tools"] = match self {
            Self::Messages => json!([{"name": "get_weather", "description": "d", "input_schema": schema}]),
            Self::Chat => json!([{"type": "function",
                "function": {"name": "get_weather", "description": "d", "parameters": schema}}]),
            Self::Responses => json!([{"type": "function", "name": "get_weather", "description": "d",
                "parameters": schema, "strict": false}]),
        };
        body
    }

    /// A refusal in this client's envelope: its type, code and message.
    #[track_caller]
    pub fn refusal(self, answer: &Answer, status: u16) -> (String, String, String) {
        let body = answer.expect(status);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let error = &body["error"];
        if self == Self::Messages {
            assert_eq!(body["type"], "error", "{body}");
            assert_eq!(body["request_id"], answer.header("request-id").unwrap(), "{body}");
        } else {
            let keys: Vec<&String> = error.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["message", "type", "param", "code"], "{body}");
        }
        assert!(error["message"].is_string() && error["type"].is_string(), "{body}");
        (text(&error["type"]), text(&error["code"]), text(&error["message"]))
    }

    /// The text of a whole answer.
    pub fn text(self, whole: &Value) -> String {
        let texts = |list: &Value, kind: &str| {
            let list = list.as_array().into_iter().flatten();
            list.filter(|block| block["type"] == kind)
                .filter_map(|block| block["text"].as_str())
                .collect::<String>()
        };
        match self {
            Self::Messages => texts(&whole["content"], "text"),
            Self::Chat => whole["choices"][0]["message"]["content"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            Self::Responses => {
                let items = whole["output"].as_array().into_iter().flatten();
                items.map(|item| texts(&item["content"], "output_text")).collect()
            }
        }
    }

    /// The text of a stream.
    pub fn streamed_text(self, events: &[Value]) -> String {
        let pieces = events.iter().filter_map(|event| match self {
            Self::Messages => event["delta"]["text"].as_str(),
            Self::Chat => event["choices"][0]["delta"]["content"].as_str(),
            Self::Responses if event["type"] == "response.output_text.delta" => event["delta"].as_str(),
            Self::Responses => None,
        });
        pieces.collect()
    }

    /// The name and the arguments of each call in a whole answer.
    pub fn calls(self, whole: &Value) -> Vec<(String, Value)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parsed = |value: &Value| serde_json::from_str(value.as_str().unwrap_or_default()).unwrap_or(Value::Null);
        let each = |list: &Value| list.as_array().cloned().unwrap_or_default();
        match self {
            Self::Messages => each(&whole["content"])
                .iter()
                .filter(|block| block["type"] == "tool_use")
                .map(|block| (text(&block["name"]), block["input"].clone()))
                .collect(),
            Self::Chat => each(&whole["choices"][0]["message"]["tool_calls"])
                .iter()
                .map(|call| (text(&call["function"]["name"]), parsed(&call["function"]["arguments"])))
                .collect(),
            Self::Responses => each(&whole["output"])
                .iter()
                .filter(|item| item["type"] == "function_call")
                .map(|item| (text(&item["name"]), parsed(&item["arguments"])))
                .collect(),
        }
    }

    /// The error that ended a stream: type or code, and message. Nothing that says success may be near it.
    #[track_caller]
    pub fn stream_error(self, answer: &Answer) -> (String, String) {
        let events = answer.events();
        let last = events.last().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match self {
            Self::Messages => {
                assert_eq!(last["type"], "error", "{}", answer.text);
                assert!(answer.text.contains("event: error\n"), "{}", answer.text);
                assert!(!answer.text.contains("message_stop"), "{}", answer.text);
                assert_eq!(last["request_id"], answer.header("request-id").unwrap());
                (text(&last["error"]["type"]), text(&last["error"]["message"]))
            }
            Self::Chat => {
                assert!(answer.is_done(), "{}", answer.text);
                assert!(!answer.text.contains("\"finish_reason\":\""), "{}", answer.text);
                (text(&last["error"]["code"]), text(&last["error"]["message"]))
            }
            Self::Responses => {
                assert!(!answer.text.contains("[DONE]"), "{}", answer.text);
                if events.len() == 1 {
                    assert!(
                        last["type"] == "error" && last["sequence_number"] == 0,
                        "{}",
                        answer.text
                    );
                    return (text(&last["code"]), text(&last["message"]));
                }
                assert_eq!(last["type"], "response.failed", "{}", answer.text);
                for (at, event) in events.iter().enumerate() {
                    assert_eq!(event["sequence_number"], at, "{}", answer.text);
                }
                let error = &last["response"]["error"];
                assert_eq!(last["response"]["status"], "failed", "{last}");
                (text(&error["code"]), text(&error["message"]))
            }
        }
    }
}

/// Everything that was logged in this process so far.
pub fn logged() -> String {
    LOG.lines.lock().unwrap().clone()
}

struct Log {
    lines: Mutex<String>,
}

static LOG: Log = Log {
    lines: Mutex::new(String::new()),
};

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.target().starts_with("copilot_proxy")
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            self.lines.lock().unwrap().push_str(&format!("{}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

fn log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}
