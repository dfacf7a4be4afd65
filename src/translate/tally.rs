//! What of a request costs tokens: its texts, calls, tools, images and documents, for any client protocol. Counts
//! nothing itself.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::Object;
use crate::protocol::Protocol;

/// The costly parts of one request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// One role per message.
    pub roles: Vec<String>,
    pub texts: Vec<String>,
    /// Name and arguments of each call in the history.
    pub calls: Vec<(String, String)>,
    /// Each tool on offer, as one text: name, description and schema.
    pub tools: Vec<String>,
    /// Tools that Anthropic runs itself.
    pub hosted_tools: usize,
    pub images: Vec<Image>,
    /// Sizes in bytes.
    pub documents: Vec<u64>,
}

/// One image, as far as its header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub size: Option<(u64, u64)>,
    /// The client asked for the cheap rendering.
    pub low_detail: bool,
}

/// How much of an image is looked at for its size, in base64 characters; a JPEG may keep it behind its metadata.
const IMAGE_HEAD: usize = 128 << 10;

impl Tally {
    pub fn of(client: Protocol, body: &Object) -> Self {
        let mut tally = Self::default();
        match client {
            Protocol::Messages => tally.messages(body),
            Protocol::Chat => tally.chat(body),
            Protocol::Responses => tally.responses(body),
        }
        tally
    }

    /// The bytes of all that is text.
    pub fn text_bytes(&self) -> usize {
        let calls = self.calls.iter().flat_map(|(name, arguments)| [name, arguments]);
        self.texts.iter().chain(&self.tools).chain(calls).map(String::len).sum()
    }

    fn messages(&mut self, body: &Object) {
        if let Some(system) = body.get("system") {
            self.role("system");
            self.content(system, true);
        }
        let messages = list(field(body, "messages"));
        let last_answer = messages.iter().rposition(|message| message["role"] == "assistant");
        for (at, message) in messages.iter().enumerate() {
            self.role(message["role"].as_str().unwrap_or_default());
            self.content(&message["content"], Some(at) == last_answer);
        }
        for tool in list(field(body, "tools")) {
            match tool["type"].as_str() {
                None | Some("custom") => self.tool(&tool["name"], &tool["description"], &tool["input_schema"]),
                Some(_) => self.hosted_tools += 1,
            }
        }
    }

    fn chat(&mut self, body: &Object) {
        for message in list(field(body, "messages")) {
            self.role(message["role"].as_str().unwrap_or_default());
            self.content(&message["content"], true);
            for call in list(&message["tool_calls"]) {
                let function = if call["custom"].is_object() {
                    &call["custom"]
                } else {
                    &call["function"]
                };
                let arguments = if function["input"].is_null() {
                    &function["arguments"]
                } else {
                    &function["input"]
                };
                self.call(&function["name"], arguments);
            }
        }
        for tool in list(field(body, "tools")) {
            let function = if tool["custom"].is_object() {
                &tool["custom"]
            } else {
                &tool["function"]
            };
            self.tool(&function["name"], &function["description"], &function["parameters"]);
        }
    }

    fn responses(&mut self, body: &Object) {
        if let Some(text) = field(body, "instructions").as_str() {
            self.role("system");
            self.text(text);
        }
        if let Some(text) = field(body, "input").as_str() {
            self.role("user");
            self.text(text);
        }
        for item in list(field(body, "input")) {
            self.item(item);
        }
        self.response_tools(field(body, "tools"), 0);
    }

    fn item(&mut self, item: &Value) {
        match item["type"].as_str() {
            None | Some("message") => {
                self.role(item["role"].as_str().unwrap_or_default());
                self.content(&item["content"], true);
            }
            Some("function_call") => self.call(&item["name"], &item["arguments"]),
            Some("custom_tool_call") => self.call(&item["name"], &item["input"]),
            Some("local_shell_call") => self.call(&item["type"], &item["action"]),
            Some("reasoning") => self.content(&item["summary"], true),
            Some(kind) if kind.ends_with("_output") => self.content(&item["output"], true),
            Some(_) => {}
        }
    }

    /// Tools of a Responses request; a namespace holds tools of its own.
    fn response_tools(&mut self, tools: &Value, depth: u8) {
        for tool in list(tools) {
            match tool["type"].as_str() {
                Some("namespace") if depth < 4 => self.response_tools(&tool["tools"], depth + 1),
                Some("custom") => self.tool(&tool["name"], &tool["description"], &tool["format"]),
                _ => self.tool(&tool["name"], &tool["description"], &tool["parameters"]),
            }
        }
    }

    /// A content in any protocol: a text, or parts. `thoughts` says whether thinking counts here.
    fn content(&mut self, content: &Value, thoughts: bool) {
        if let Some(text) = content.as_str() {
            self.text(text);
        }
        for part in list(content) {
            self.part(part, thoughts);
        }
    }

    fn part(&mut self, part: &Value, thoughts: bool) {
        match part["type"].as_str().unwrap_or_default() {
            "thinking" if thoughts => self.text(part["thinking"].as_str().unwrap_or_default()),
            "thinking" | "redacted_thinking" => {}
            "tool_use" | "server_tool_use" => self.call(&part["name"], &part["input"]),
            "tool_result" | "search_result" => self.content(&part["content"], thoughts),
            "image" => self.image(part["source"]["data"].as_str(), false),
            "image_url" => self.image(data_of(&part["image_url"]["url"]), part["image_url"]["detail"] == "low"),
            "input_image" => self.image(data_of(&part["image_url"]), part["detail"] == "low"),
            "document" => self.document(&part["source"]),
            "file" => self.file(&part["file"]["file_data"]),
            "input_file" => self.file(&part["file_data"]),
            _ => self.text(part["text"].as_str().unwrap_or_default()),
        }
    }

    fn document(&mut self, source: &Value) {
        match source["type"].as_str() {
            Some("base64") => self
                .documents
                .push(bytes_behind(source["data"].as_str().unwrap_or_default())),
            Some("content") => self.content(&source["content"], false),
            _ => self.text(source["data"].as_str().unwrap_or_default()),
        }
    }

    fn file(&mut self, data: &Value) {
        self.documents.push(bytes_behind(data_of(data).unwrap_or_default()));
    }

    fn image(&mut self, base64: Option<&str>, low_detail: bool) {
        self.images.push(Image {
            size: base64.and_then(size_of),
            low_detail,
        });
    }

    fn call(&mut self, name: &Value, arguments: &Value) {
        let arguments = arguments.as_str().map_or_else(|| arguments.to_string(), str::to_owned);
        self.calls
            .push((name.as_str().unwrap_or_default().to_owned(), arguments));
    }

    fn tool(&mut self, name: &Value, description: &Value, schema: &Value) {
        let mut text = format!(
            "{}\n{}",
            name.as_str().unwrap_or_default(),
            description.as_str().unwrap_or_default()
        );
        if !schema.is_null() {
            text.push('\n');
            text.push_str(&schema.to_string());
        }
        self.tools.push(text);
    }

    fn role(&mut self, role: &str) {
        self.roles.push(role.to_owned());
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() {
            self.texts.push(text.to_owned());
        }
    }
}

fn field<'a>(body: &'a Object, name: &str) -> &'a Value {
    body.get(name).unwrap_or(&Value::Null)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The base64 behind the comma of a data URL.
fn data_of(url: &Value) -> Option<&str> {
    url.as_str()?
        .strip_prefix("data:")?
        .split_once(',')
        .map(|(_, data)| data)
}

fn bytes_behind(base64: &str) -> u64 {
    (base64.len() as u64).saturating_mul(3) / 4
}

/// Width and height from the image's own header.
fn size_of(base64: &str) -> Option<(u64, u64)> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let head: Vec<u8> = base64
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .take(IMAGE_HEAD)
        .collect();
    let bytes = engine.decode(&head[..head.len() - head.len() % 4]).ok()?;
    let size = imagesize::blob_size(&bytes).ok()?;
    Some((size.width as u64, size.height as u64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_protocol_tells_the_same_story() {
        let messages = json!({
            "system": "S",
            "messages": [
                {"role": "user", "content": "U"},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "A"},
                    {"type": "tool_use", "name": "f", "input": {"x": 1}},
                ]},
                {"role": "user", "content": [{"type": "tool_result", "content": "R"}]},
            ],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        });
        let chat = json!({
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": "U"},
                {"role": "assistant", "content": "A",
                 "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\":1}"}}]},
                {"role": "tool", "content": "R"},
            ],
            "tools": [{"type": "function",
                       "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        });
        let responses = json!({
            "instructions": "S",
            "input": [
                {"role": "user", "content": "U"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
                {"type": "function_call", "name": "f", "arguments": "{\"x\":1}"},
                {"type": "function_call_output", "output": "R"},
            ],
            "tools": [{"type": "namespace", "tools": [
                {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
            ]}],
        });
        let tallies = [
            Tally::of(Protocol::Messages, messages.as_object().unwrap()),
            Tally::of(Protocol::Chat, chat.as_object().unwrap()),
            Tally::of(Protocol::Responses, responses.as_object().unwrap()),
        ];
        for tally in &tallies {
            assert_eq!(tally.texts, ["S", "U", "A", "R"]);
            assert_eq!(tally.calls, [("f".to_owned(), "{\"x\":1}".to_owned())]);
            assert_eq!(tally.tools, ["f\nd\n{\"type\":\"object\"}"]);
        }
    }

    #[test]
    fn an_image_is_measured_and_its_bytes_are_no_text() {
        let png = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAYAAAC56t6BAAAADElEQVR4nGNgoBwAAABEAAHX40j9AAAAAElFTkSuQmCC";
        let image = json!({"type": "image", "source": {"type": "base64", "data": png}});
        let body = json!({"messages": [{"role": "user", "content": [image]}]});
        let tally = Tally::of(Protocol::Messages, body.as_object().unwrap());
        assert_eq!(
            tally.images,
            [Image {
                size: Some((2, 3)),
                low_detail: false
            }]
        );
        assert!(tally.texts.is_empty());
    }

    #[test]
    fn only_the_last_answer_keeps_its_thoughts() {
        let thought = |text: &str| json!({"role": "assistant", "content": [{"type": "thinking", "thinking": text}]});
        let body = json!({"messages": [thought("old"), {"role": "user", "content": "x"}, thought("new")]});
        assert_eq!(
            Tally::of(Protocol::Messages, body.as_object().unwrap()).texts,
            ["x", "new"]
        );
    }

    #[test]
    fn nonsense_costs_nothing_and_harms_nobody() {
        for client in Protocol::ALL {
            for body in [
                json!({"messages": 3, "input": {}}),
                json!({"messages": [null, [1]], "input": [7]}),
            ] {
                assert!(Tally::of(client, body.as_object().unwrap()).texts.is_empty());
            }
        }
    }
}
