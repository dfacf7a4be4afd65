//! A Messages upstream's stream, as the client should see it: frames that need no edit pass as they are.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::protocol::failure::{Failure, Kind};
use crate::protocol::sse::Frame;
use crate::translate::carrier::Carrier;
use crate::translate::chunk::Text;
use crate::translate::fold::messages::{event, unfold};
use crate::translate::from_messages::check_whole;
use crate::translate::ids::Ids;
use crate::translate::rules::usage::update_messages;
use crate::translate::to_messages::failed;
use crate::translate::{Heard, Kept, Object, Reply, Translator, upstream_failure};

/// What became of the context. Copilot always tells it; clients that did not ask may stumble over it, as LangChain does.
const CONTEXT: &str = "context_management";

/// The stream as the client should see it.
pub struct Relay {
    reply: Reply,
    ids: Ids,
    heard: Heard,
    /// The thinking block that is open: its text and signature so far.
    thinking: Option<(String, String)>,
    /// What was thought so far in this turn.
    thought: Kept,
    /// Bytes of thinking that were listened to; a model that thinks without end is let go.
    listened: usize,
    /// The ending was announced.
    ending: bool,
    over: bool,
}

impl Relay {
    pub fn new(reply: Reply, ids: Ids) -> Self {
        let thought = Kept {
            model: reply.ran.clone(),
            text: String::new(),
            carriers: Vec::new(),
        };
        Self {
            reply,
            ids,
            heard: Heard::default(),
            thinking: None,
            thought,
            listened: 0,
            ending: false,
            over: false,
        }
    }

    fn count(&mut self, usage: Option<&Value>) {
        if let Some(usage) = usage {
            update_messages(&mut self.heard.usage, usage);
        }
    }

    fn start(&mut self, frame: Frame) -> Result<Frame, Failure> {
        let mut start = tree(&frame)?;
        if let Some(Value::Object(message)) = start.get_mut("message") {
            message.insert("model".into(), self.reply.model.clone().into());
            message.shift_remove("copilot_usage");
            message.entry("content").or_insert_with(|| json!([]));
            message.entry("stop_reason").or_insert(Value::Null);
            self.count(message.get("usage"));
            fill_usage(message, &USAGE, 0);
        }
        Ok(named("message_start", start))
    }

    /// A block begins: its call gets its own name back, its thinking is listened to.
    fn open(&mut self, frame: Frame) -> Result<Frame, Failure> {
        let mut start = tree(&frame)?;
        let Some(Value::Object(block)) = start.get_mut("content_block") else {
            return Ok(frame);
        };
        let text = |key: &str| block.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match text("type").as_str() {
            "thinking" => self.thinking = Some((text("thinking"), text("signature"))),
            "redacted_thinking" => {
                let carrier = Carrier::Redacted {
                    model: self.reply.ran.clone(),
                    data: text("data"),
                };
                self.thought.carriers.push(carrier.encode());
            }
            "tool_use" => {
                if !self.thought.carriers.is_empty() {
                    self.heard.kept.push((text("id"), self.thought.clone()));
                }
                if let Some(tool) = self.reply.tools.get(&text("name")) {
                    block.insert("name".into(), tool.name.clone().into());
                    return Ok(named("content_block_start", start));
                }
            }
            _ => {}
        }
        Ok(frame)
    }

    /// A delta passes unread, unless it is of thinking.
    fn listen(&mut self, frame: &Frame) {
        if let Some((text, signature)) = &mut self.thinking
            && let Ok(Grown { delta }) = serde_json::from_slice(&frame.data)
        {
            text.push_str(&delta.thinking);
            signature.push_str(&delta.signature);
            self.listened += delta.thinking.len() + delta.signature.len();
            if self.listened > Kept::MOST_BYTES {
                self.thinking = None;
            }
        }
    }

    fn close(&mut self) {
        if let Some((text, signature)) = self.thinking.take()
            && !signature.is_empty()
        {
            self.thought.text.push_str(&text);
            let carrier = Carrier::Thinking {
                model: self.reply.ran.clone(),
                text,
                signature,
            };
            self.thought.carriers.push(carrier.encode());
        }
    }

    fn amend(&mut self, frame: Frame) -> Result<Frame, Failure> {
        let mut change = tree(&frame)?;
        let price = change.shift_remove("copilot_usage");
        let unasked = !self.reply.manages_context && change.shift_remove(CONTEXT).is_some();
        let nano_aiu = price.as_ref().and_then(|price| price["total_nano_aiu"].as_u64());
        self.heard.nano_aiu = nano_aiu.or(self.heard.nano_aiu);
        self.count(change.get("usage"));
        let filled = fill_usage(&mut change, &["output_tokens"], self.heard.usage.output.unwrap_or(0));
        self.ending |= change
            .get("delta")
            .is_some_and(|delta| delta["stop_reason"].is_string());
        Ok(if filled || unasked || price.is_some() {
            named("message_delta", change)
        } else {
            frame
        })
    }

    /// A whole answer as a client may rely on it: with an ending, without what only Copilot knows.
    fn ended(&self, mut answer: Value) -> Value {
        let Some(message) = answer.as_object_mut() else {
            return answer;
        };
        message.shift_remove("copilot_annotations");
        if !self.reply.manages_context || message.get(CONTEXT).is_some_and(Value::is_null) {
            message.shift_remove(CONTEXT);
        }
        if message.get("stop_reason").is_none_or(Value::is_null) {
            let blocks = message.get("content").and_then(Value::as_array);
            let calls = blocks.is_some_and(|blocks| blocks.iter().any(|block| block["type"] == "tool_use"));
            let reason = if calls { "tool_use" } else { "end_turn" };
            message.insert("stop_reason".into(), reason.into());
        }
        answer
    }
}

impl Translator for Relay {
    fn feed(&mut self, mut frame: Frame, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if self.over || frame.is_done() || frame.data.trim_ascii().is_empty() {
            return Ok(());
        }
        frame.name = Some(name_of(&frame)?);
        let frame = match frame.name.as_deref().unwrap_or_default() {
            b"content_block_delta" => {
                self.listen(&frame);
                frame
            }
            b"content_block_start" => self.open(frame)?,
            b"content_block_stop" => {
                self.close();
                frame
            }
            b"message_start" => self.start(frame)?,
            b"message_delta" => self.amend(frame)?,
            b"message_stop" => {
                self.over = true;
                frame
            }
            b"error" => return Err(upstream_failure::in_stream(&Value::Object(tree(&frame)?))),
            _ => frame,
        };
        out.push(frame);
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Frame>) -> Result<(), Failure> {
        if !self.over && !self.ending {
            return Err(Failure::truncated());
        }
        if !self.over {
            self.over = true;
            out.push(event("message_stop", json!({})));
        }
        Ok(())
    }

    fn whole(&mut self, answer: Value, out: &mut Vec<Frame>) -> Result<(), Failure> {
        check_whole(&answer)?;
        let answer = self.ended(answer);
        unfold(&answer).into_iter().try_for_each(|frame| self.feed(frame, out))
    }

    fn answer(&mut self, answer: Value) -> Result<Value, Failure> {
        self.whole(answer.clone(), &mut Vec::new())?;
        let mut answer = self.ended(answer);
        if let Some(message) = answer.as_object_mut() {
            message.shift_remove("copilot_usage");
            message.insert("model".into(), self.reply.model.clone().into());
            fill_usage(message, &USAGE, 0);
            for block in message
                .get_mut("content")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                if let Some(tool) = block["name"].as_str().and_then(|name| self.reply.tools.get(name)) {
                    block["name"] = tool.name.clone().into();
                }
            }
        }
        Ok(answer)
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        if !self.over {
            self.over = true;
            out.push(failed(failure, &self.ids.request));
        }
    }

    fn is_over(&self) -> bool {
        self.over
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}

const USAGE: [&str; 4] = [
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
];

/// What of a delta is listened to.
#[derive(Deserialize)]
struct Grown {
    delta: Thought,
}

#[derive(Deserialize)]
struct Thought {
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    signature: String,
}

/// Gives `usage` the counts among these that it lacks. True if it lacked one.
fn fill_usage(message: &mut Object, counts: &[&str], known: u64) -> bool {
    let usage = message.entry("usage").or_insert(Value::Null);
    if !usage.is_object() {
        *usage = json!({});
    }
    let mut filled = false;
    for count in counts {
        if !usage[*count].is_u64() {
            usage[*count] = json!(known);
            filled = true;
        }
    }
    filled
}

/// The name of an event: its own `type`, or else what stood before it. Reads the data to its end, so that nothing goes on
/// which no client can read.
fn name_of(frame: &Frame) -> Result<Bytes, Failure> {
    #[derive(Deserialize)]
    struct Named<T> {
        #[serde(rename = "type")]
        name: Option<T>,
    }
    if !frame.data.trim_ascii_start().starts_with(b"{") {
        return Err(garbage());
    }
    let Named::<Text> { name } = serde_json::from_slice(&frame.data).map_err(|_| garbage())?;
    match (name, &frame.name) {
        (Some(name), Some(before)) if **before == *name.as_bytes() => Ok(before.clone()),
        // A name is one line, whatever its escapes say.
        (Some(name), _) if name.is_empty() || name.contains(char::is_control) => Err(garbage()),
        (Some(name), _) => Ok(Bytes::copy_from_slice(name.as_bytes())),
        (None, Some(before)) if std::str::from_utf8(before).is_err() => Err(garbage()),
        (None, Some(before)) => Ok(before.clone()),
        (None, None) => Ok(Bytes::from_static(b"error")),
    }
}

fn tree(frame: &Frame) -> Result<Object, Failure> {
    serde_json::from_slice(&frame.data).map_err(|_| garbage())
}

fn named(name: &'static str, data: Object) -> Frame {
    Frame::named(name, Value::Object(data).to_string())
}

fn garbage() -> Failure {
    Failure::new(Kind::UpstreamGarbage, "upstream sent an event that is no JSON object")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::{ClientTool, ToolShape, fold};

    fn relay() -> Relay {
        let own = ClientTool {
            name: "own.name".into(),
            namespace: None,
            shape: ToolShape::Function,
        };
        let reply = Reply {
            model: "claude-sonnet-4-5-20250929".into(),
            ran: "claude-sonnet-4.5".into(),
            tools: [("alias".to_owned(), own)].into(),
            ..Reply::default()
        };
        Relay::new(reply, Ids::new("req_1", 0))
    }

    /// Upstream's frame: keys in alphabetical order, with a space no writer of ours would put.
    fn sent(name: &'static str, data: &str) -> Frame {
        Frame::named(name, data.to_owned())
    }

    fn start() -> Frame {
        sent(
            "message_start",
            r#"{"message": {"id":"msg_1","model":"claude-sonnet-4-5","usage":{"input_tokens":3}},"type":"message_start"}"#,
        )
    }

    fn ending() -> Frame {
        sent(
            "message_delta",
            r#"{"copilot_usage": {"total_nano_aiu":42},"delta":{"stop_details":null,"stop_reason":"end_turn"},"type":"message_delta","usage":{"output_tokens":7}}"#,
        )
    }

    fn stop() -> Frame {
        sent(
            "message_stop",
            r#"{"amazon-bedrock-invocationMetrics": {}, "type":"message_stop"}"#,
        )
    }

    fn pass(relay: &mut Relay, frames: &[Frame]) -> Result<Vec<Frame>, Failure> {
        let mut out = Vec::new();
        for frame in frames {
            relay.feed(frame.clone(), &mut out)?;
        }
        relay.end(&mut out)?;
        Ok(out)
    }

    fn data(frame: &Frame) -> Value {
        serde_json::from_slice(&frame.data).unwrap()
    }

    #[test]
    fn what_needs_no_edit_passes_byte_for_byte() {
        let untouched = [
            sent("ping", r#"{"type": "ping"}"#),
            sent(
                "content_block_start",
                r#"{"content_block": {"text":"","type":"text"},"index":0,"type":"content_block_start"}"#,
            ),
            sent(
                "content_block_delta",
                r#"{"copilot_annotations": 1,"delta":{"new":1,"type":"future_delta"},"index":0}"#,
            ),
            sent("content_block_stop", r#"{"index": 0,"type":"content_block_stop"}"#),
            sent("future_event", r#"{"type": "future_event"}"#),
            sent(
                "message_delta",
                r#"{"delta": {"stop_reason":"end_turn"},"type":"message_delta","usage":{"output_tokens":7}}"#,
            ),
            stop(),
        ];
        assert_eq!(pass(&mut relay(), &untouched).unwrap(), untouched);
    }

    #[test]
    fn k078_k171_the_start_names_the_model_as_asked_and_counts_in_numbers() {
        let out = pass(&mut relay(), &[start(), ending(), stop()]).unwrap();
        let message = &data(&out[0])["message"];
        assert_eq!(message["model"], "claude-sonnet-4-5-20250929");
        assert_eq!(
            message["usage"],
            json!({"input_tokens": 3, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0})
        );
        assert_eq!(
            (&message["content"], &message["stop_reason"]),
            (&json!([]), &Value::Null)
        );
    }

    #[test]
    fn the_end_keeps_its_details_and_tells_us_the_price() {
        let mut relay = relay();
        let out = pass(&mut relay, &[start(), ending(), stop()]).unwrap();
        assert_eq!(
            data(&out[1]),
            json!({"delta": {"stop_details": null, "stop_reason": "end_turn"}, "type": "message_delta", "usage": {"output_tokens": 7}})
        );
        let heard = relay.heard();
        assert_eq!(
            (heard.nano_aiu, heard.usage.input, heard.usage.output),
            (Some(42), Some(3), Some(7))
        );
    }

    #[test]
    fn k056_done_is_swallowed() {
        let frames = [start(), ending(), stop(), Frame::data("[DONE]")];
        assert_eq!(pass(&mut relay(), &frames).unwrap().len(), 3);
        let early = [start(), Frame::data("[DONE]"), ending(), stop()];
        assert_eq!(pass(&mut relay(), &early).unwrap().len(), 3);
    }

    #[test]
    fn k057_an_event_is_named_by_its_data_where_its_name_is_none() {
        let renames: [fn(Bytes) -> Frame; 2] = [Frame::data, |data| Frame::named("message", data)];
        for rename in renames {
            let frames: Vec<Frame> = [start(), ending(), stop()]
                .into_iter()
                .map(|frame| rename(frame.data))
                .collect();
            let passed = pass(&mut relay(), &frames).unwrap();
            assert_eq!(passed.len(), 3);
            for frame in passed {
                assert_eq!(frame.name.as_deref(), data(&frame)["type"].as_str().map(str::as_bytes));
            }
        }
    }

    #[test]
    fn endless_thinking_passes_and_is_not_kept() {
        let opened = sent(
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking"}}"#,
        );
        let delta = |kind: &str, piece: &str| {
            let delta = json!({"type": "content_block_delta", "index": 0, "delta": {kind: piece}});
            sent("content_block_delta", &delta.to_string())
        };
        let closed = sent("content_block_stop", r#"{"type":"content_block_stop","index":0}"#);
        let kept_of = |thoughts: usize| {
            let mut frames = vec![start(), opened.clone()];
            frames.extend((0..thoughts).map(|_| delta("thinking", &"x".repeat(1 << 16))));
            frames.extend([delta("signature", "s"), closed.clone(), ending(), stop()]);
            let mut relay = relay();
            assert_eq!(pass(&mut relay, &frames).unwrap().len(), frames.len());
            relay.thought.carriers.len()
        };
        assert_eq!((kept_of(2), kept_of(20)), (1, 0));
    }

    #[test]
    fn what_an_event_says_of_itself_counts_more_than_the_name_before_it() {
        let misnamed = sent("ping", r#"{"type":"content_block_stop","index":0}"#);
        let out = pass(&mut relay(), &[start(), misnamed, ending(), stop()]).unwrap();
        assert_eq!(out[1].name.as_deref(), Some(&b"content_block_stop"[..]));
        let failed = sent("message_stop", r#"{"type":"error","error":{"message":"no"}}"#);
        assert_eq!(pass(&mut relay(), &[start(), failed]).unwrap_err().message, "no");
    }

    #[test]
    fn k058_a_cut_stream_is_an_error_and_never_an_ending() {
        let delta = sent(
            "content_block_delta",
            r#"{"delta":{"partial_json":"{\"a"},"index":0,"type":"content_block_delta"}"#,
        );
        let mut relay = relay();
        let failure = pass(&mut relay, &[start(), delta]).unwrap_err();
        let mut out = Vec::new();
        relay.fail(&failure, &mut out);
        assert_eq!(
            (out.len(), data(&out[0])["error"]["type"].as_str()),
            (1, Some("api_error"))
        );
        assert!(relay.is_over());
    }

    #[test]
    fn k059_an_announced_ending_is_completed() {
        let out = pass(&mut relay(), &[start(), ending()]).unwrap();
        assert_eq!(out.last(), Some(&event("message_stop", json!({}))));
    }

    #[test]
    fn a_call_gets_its_own_name_back() {
        let call = sent(
            "content_block_start",
            r#"{"content_block":{"id":"t","input":{},"name":"alias","type":"tool_use"},"index":0,"type":"content_block_start"}"#,
        );
        let out = pass(&mut relay(), &[call, ending()]).unwrap();
        assert_eq!(data(&out[0])["content_block"]["name"], "own.name");
    }

    #[test]
    fn thinking_is_kept_for_the_calls_it_preceded() {
        let answer = json!({
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "Eq=="},
                {"type": "redacted_thinking", "data": "D"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            ],
            "stop_reason": "tool_use",
        });
        let mut relay = relay();
        relay.whole(answer, &mut Vec::new()).unwrap();
        let model = "claude-sonnet-4.5".to_owned();
        let kept = Kept {
            model: model.clone(),
            text: "hm".into(),
            carriers: vec![
                Carrier::Thinking {
                    model: model.clone(),
                    text: "hm".into(),
                    signature: "Eq==".into(),
                }
                .encode(),
                Carrier::Redacted {
                    model,
                    data: "D".into(),
                }
                .encode(),
            ],
        };
        assert_eq!(relay.heard().kept, [("t".to_owned(), kept)]);
    }

    #[test]
    fn k088_k168_a_whole_answer_replays_as_the_stream_it_would_have_been() {
        let answer = json!({
            "content": [{"text": "hi", "type": "text"}, {"id": "t", "input": {"z": 1, "a": 2}, "name": "f", "type": "tool_use"}],
            "context_management": {"applied_edits": []}, "copilot_usage": {"total_nano_aiu": 5}, "copilot_annotations": {},
            "id": "msg_1", "model": "claude-sonnet-4-5", "role": "assistant",
            "stop_reason": null, "type": "message", "usage": {"input_tokens": 1, "output_tokens": 2, "inference_geo": "global"},
        });
        let (mut relay, mut out) = (relay(), Vec::new());
        relay.whole(answer, &mut out).unwrap();
        assert_eq!((relay.is_over(), relay.heard().nano_aiu), (true, Some(5)));
        let mut gathered = fold::gather(crate::protocol::Protocol::Messages);
        for frame in &out {
            gathered.feed(frame).unwrap();
        }
        assert_eq!(
            gathered.finish().unwrap(),
            json!({
                "content": [{"text": "hi", "type": "text"}, {"id": "t", "input": {"z": 1, "a": 2}, "name": "f", "type": "tool_use"}],
                "id": "msg_1", "model": "claude-sonnet-4-5-20250929", "role": "assistant", "type": "message",
                "stop_reason": "tool_use", "stop_sequence": null,
                "usage": {
                    "input_tokens": 1, "output_tokens": 2, "inference_geo": "global",
                    "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                },
            })
        );
    }

    #[test]
    fn only_who_asked_is_told_what_became_of_the_context() {
        let told = r#"{"context_management":{"applied_edits":[]},"delta":{"stop_reason":"end_turn"},"type":"message_delta","usage":{"output_tokens":1}}"#;
        for asked in [false, true] {
            let mut relay = relay();
            relay.reply.manages_context = asked;
            let out = pass(&mut relay, &[start(), sent("message_delta", told), stop()]).unwrap();
            assert_eq!(data(&out[1]).get(CONTEXT).is_some(), asked);
        }
    }

    #[test]
    fn k076_a_whole_answer_has_its_counts_even_if_upstream_gave_none() {
        let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"});
        for usage in [Value::Null, json!({"output_tokens": 2}), json!({"input_tokens": null})] {
            let mut answer = answer.clone();
            if !usage.is_null() {
                answer["usage"] = usage;
            }
            let whole = relay().answer(answer).unwrap();
            for count in USAGE {
                assert!(whole["usage"][count].is_u64(), "{count}: {whole}");
            }
        }
    }

    #[test]
    fn a_refusal_in_either_form_passes() {
        let refused = sent(
            "message_delta",
            r#"{"delta":{"stop_details":{"type":"refusal"},"stop_reason":"refusal"},"type":"message_delta","usage":{"output_tokens":0}}"#,
        );
        let out = pass(&mut relay(), &[start(), refused.clone(), stop()]).unwrap();
        assert_eq!(out[1], refused);
    }

    #[test]
    fn an_error_event_is_read_and_said_in_our_words() {
        let overloaded = sent(
            "error",
            r#"{"error":{"message":"Overloaded","type":"overloaded_error"},"type":"error"}"#,
        );
        let mut relay = relay();
        let failure = pass(&mut relay, &[start(), overloaded]).unwrap_err();
        let mut out = Vec::new();
        relay.fail(&failure, &mut out);
        let error = json!({"type": "overloaded_error", "message": "Overloaded"});
        assert_eq!(
            data(&out[0]),
            json!({"type": "error", "error": error, "request_id": "req_1"})
        );
        assert_eq!(
            relay.heard().usage.output,
            None,
            "what upstream did not count is not known"
        );
        assert!(relay.whole(json!({"error": {"message": "x"}}), &mut out).is_err());
    }

    #[test]
    fn nonsense_goes_no_further() {
        let named = |name: &'static [u8], data: &'static str| Frame {
            name: Some(Bytes::from_static(name)),
            data: data.into(),
        };
        for frame in [
            sent("message_start", "nonsense"),
            Frame::data("nonsense"),
            sent("message_delta", "[]"),
            sent(
                "content_block_delta",
                r#"{"type":"content_block_delta","index":0,"delta":{"#,
            ),
            sent("content_block_stop", r#"{"type":"content_block_stop"} x"#),
            sent("ping", r#"["ping"]"#),
            sent("future_event", "1"),
            sent("future_event", r#"{"type":["future_event"]}"#),
            named(b"p\xffng", "{}"),
            Frame::data(r#"{"type":"ping\nevent: message_stop"}"#),
        ] {
            assert!(
                pass(&mut relay(), &[frame.clone(), ending(), stop()]).is_err(),
                "{frame:?}"
            );
        }
        let empty = [
            sent("message_start", "{}"),
            sent("content_block_start", "{}"),
            sent("ping", " "),
            ending(),
        ];
        assert!(pass(&mut relay(), &empty).is_ok());
    }
}
