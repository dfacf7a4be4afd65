//! What becomes of each field of a client's request on each of the three ways: the table of losses. Knows no
//! translation; its test holds the translation to it.
//!
//! A field that no table names goes through where the client's protocol is also upstream's, and is left out elsewhere.

use Fate::{Carried, Dropped, Here, Recast, Refused};

use crate::protocol::{Dialect, Protocol};

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Upstream gets its value, in whatever place is its own.
    Carried,
    /// Upstream gets what it means in a value of its own, such as an effort for a budget.
    Recast,
    /// Upstream has no such thing: its request is the same as without the field.
    Dropped,
    /// Upstream has no such thing: what it asks for is done on this side.
    Here,
    /// Leaving it out would change what the client asked for: the request is refused, naming the field.
    Refused,
}

/// A field of a client's request and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The field's path; what it holds in `example` is found in upstream's request as `trace`, wherever it is carried.
    pub field: &'static str,
    /// A request with this field in it, as JSON members beside the least request.
    pub example: &'static str,
    pub trace: &'static str,
    /// To a chat, a Messages and a Responses upstream.
    pub fates: [Fate; 3],
}

impl Row {
    pub fn fate(&self, way: Protocol) -> Fate {
        let [chat, messages, responses] = self.fates;
        match way {
            Protocol::Chat => chat,
            Protocol::Messages => messages,
            Protocol::Responses => responses,
        }
    }
}

const fn row(field: &'static str, example: &'static str, trace: &'static str, fates: [Fate; 3]) -> Row {
    Row {
        field,
        example,
        trace,
        fates,
    }
}

/// The rows of a client's dialect.
pub fn of(client: impl Into<Dialect>) -> &'static [Row] {
    match client.into() {
        Dialect::Of(Protocol::Chat) => CHAT,
        Dialect::Of(Protocol::Messages) => MESSAGES,
        Dialect::Of(Protocol::Responses) => RESPONSES,
        Dialect::Gemini => GEMINI,
    }
}

const EVERYWHERE: [Fate; 3] = [Carried; 3];
const NOWHERE: [Fate; 3] = [Dropped; 3];
const NEVER: [Fate; 3] = [Refused; 3];
const CHAT_ONLY: [Fate; 3] = [Carried, Dropped, Dropped];
const MESSAGES_ONLY: [Fate; 3] = [Dropped, Carried, Dropped];
const RESPONSES_ONLY: [Fate; 3] = [Dropped, Dropped, Carried];

#[rustfmt::skip]
const MESSAGES: &[Row] = &[
    row("messages", r#""messages":[{"role":"user","content":"mark"}]"#, "mark", EVERYWHERE),
    row("system", r#""system":[{"type":"text","text":"mark"}]"#, "mark", EVERYWHERE),
    row("max_tokens", r#""max_tokens":1234"#, "1234", EVERYWHERE),
    row("temperature", r#""temperature":0.125"#, "0.125", EVERYWHERE),
    row("top_p", r#""top_p":0.125"#, "0.125", EVERYWHERE),
    row("top_k", r#""top_k":1234"#, "1234", MESSAGES_ONLY),
    row("stop_sequences", r#""stop_sequences":["mark"]"#, "mark", [Carried, Carried, Here]),
    row("stream", r#""stream":true"#, r#""stream":true"#, EVERYWHERE),
    row("metadata.user_id", r#""metadata":{"user_id":"u_session_mark"}"#, "mark", [Recast, Carried, Carried]),
    row("tools", r#""tools":[{"name":"mark","input_schema":{"type":"object"}}]"#, "mark", EVERYWHERE),
    row("tools.description", r#""tools":[{"name":"f","description":"mark","input_schema":{"type":"object"}}]"#, "mark", EVERYWHERE),
    row("tools.input_schema", r#""tools":[{"name":"f","input_schema":{"type":"object","properties":{"mark":{}}}}]"#, "mark", EVERYWHERE),
    row("tools.input_examples", r#""tools":[{"name":"f","input_schema":{"type":"object"},"input_examples":[{"a":"mark"}]}]"#, "mark", MESSAGES_ONLY),
    row("tools.eager_input_streaming", r#""tools":[{"name":"f","input_schema":{"type":"object"},"eager_input_streaming":true}]"#, "eager", NOWHERE),
    row("tools of type bash_20250124", r#""tools":[{"type":"bash_20250124","name":"bash"}]"#, r#""bash""#, EVERYWHERE),
    row("tools of type web_search_20250305", r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "web_search", [Dropped, Carried, Carried]),
    row("tools of type code_execution_20250825", r#""tools":[{"type":"code_execution_20250825","name":"code_execution"}]"#, "code_execution", MESSAGES_ONLY),
    row("tool_choice", r#""tools":[{"name":"f","input_schema":{"type":"object"}},{"name":"g","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f"}"#, r#""tool_choice":{"type":""#, EVERYWHERE),
    row("thinking", r#""max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":1234}"#, "1234", [Recast, Carried, Recast]),
    row("output_config.effort", r#""output_config":{"effort":"low"}"#, r#"low""#, [Carried, Dropped, Carried]),
    row("output_config.format", r#""output_config":{"format":{"type":"json_schema","schema":{"type":"object","properties":{"mark":{"type":"string"}}}}}"#, "mark", EVERYWHERE),
    row("context_management", r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#, "clear_tool_uses", MESSAGES_ONLY),
    row("service_tier", r#""service_tier":"mark""#, "mark", NOWHERE),
    row("container", r#""container":"mark""#, "mark", NOWHERE),
    row("mcp_servers", r#""mcp_servers":[{"type":"url","url":"https://mark","name":"m"}]"#, "mark", NOWHERE),
    row("inference_geo", r#""inference_geo":"mark""#, "mark", NOWHERE),
    row("speed", r#""speed":"mark""#, "mark", NOWHERE),
    row("images", r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}]"#, "iVBORw0KGgo=", EVERYWHERE),
    row("images by url", r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://a.example/b.png"}}]}]"#, "messages.0.content.0", NEVER),
    row("images by file_id", r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"file","file_id":"file_1"}}]}]"#, "messages.0.content.0", NEVER),
];

#[rustfmt::skip]
const CHAT: &[Row] = &[
    row("messages", r#""messages":[{"role":"user","content":"mark"}]"#, "mark", EVERYWHERE),
    row("max_tokens", r#""max_tokens":1234"#, "1234", EVERYWHERE),
    row("max_completion_tokens", r#""max_completion_tokens":1234"#, "1234", EVERYWHERE),
    row("temperature", r#""temperature":0.125"#, "0.125", EVERYWHERE),
    row("top_p", r#""top_p":0.125"#, "0.125", EVERYWHERE),
    row("stop", r#""stop":"mark""#, "mark", [Carried, Carried, Here]),
    row("stream", r#""stream":true"#, r#""stream":true"#, EVERYWHERE),
    row("n", r#""n":2"#, "n", NEVER),
    row("presence_penalty", r#""presence_penalty":0.125"#, "0.125", CHAT_ONLY),
    row("frequency_penalty", r#""frequency_penalty":0.125"#, "0.125", CHAT_ONLY),
    row("logit_bias", r#""logit_bias":{"1234":1}"#, "1234", CHAT_ONLY),
    row("seed", r#""seed":1234"#, "1234", CHAT_ONLY),
    row("logprobs", r#""logprobs":true"#, "logprobs", CHAT_ONLY),
    row("top_logprobs", r#""top_logprobs":3"#, "top_logprobs", CHAT_ONLY),
    row("user", r#""user":"mark""#, "mark", [Carried, Carried, Dropped]),
    row("metadata", r#""metadata":{"a":"mark"}"#, "mark", NOWHERE),
    row("store", r#""store":true"#, r#""store":true"#, NOWHERE),
    row("service_tier", r#""service_tier":"mark""#, "mark", NOWHERE),
    row("prediction", r#""prediction":{"type":"content","content":"mark"}"#, "mark", NOWHERE),
    row("modalities", r#""modalities":["mark"]"#, "mark", NOWHERE),
    row("web_search_options", r#""web_search_options":{"a":"mark"}"#, "mark", NOWHERE),
    row("prompt_cache_key", r#""prompt_cache_key":"mark""#, "mark", [Carried, Dropped, Carried]),
    row("response_format json_schema", r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"mark":{"type":"string"}}}}}"#, "mark", EVERYWHERE),
    row("response_format json_object", r#""response_format":{"type":"json_object"}"#, "json_object", [Carried, Recast, Carried]),
    row("tools", r#""tools":[{"type":"function","function":{"name":"mark"}}]"#, "mark", EVERYWHERE),
    row("tools.parameters", r#""tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"mark":{}}}}}]"#, "mark", EVERYWHERE),
    row("tool_choice", r#""tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"f"}}"#, r#""tool_choice":{"type":""#, EVERYWHERE),
    row("parallel_tool_calls", r#""tools":[{"type":"function","function":{"name":"f"}}],"parallel_tool_calls":false"#, "parallel_tool", EVERYWHERE),
    row("reasoning_effort", r#""reasoning_effort":"low""#, r#"low""#, [Carried, Recast, Carried]),
    row("images", r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]"#, "iVBORw0KGgo=", EVERYWHERE),
    row("images by url", r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a.example/b.png"}}]}]"#, "messages[0].content[0]", NEVER),
    row("input_audio", r#""messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]"#, "messages[0].content[0]", NEVER),
];

#[rustfmt::skip]
const RESPONSES: &[Row] = &[
    row("input", r#""input":[{"role":"user","content":"mark"}]"#, "mark", EVERYWHERE),
    row("instructions", r#""instructions":"mark""#, "mark", EVERYWHERE),
    row("max_output_tokens", r#""max_output_tokens":1234"#, "1234", EVERYWHERE),
    row("temperature", r#""temperature":0.125"#, "0.125", EVERYWHERE),
    row("top_p", r#""top_p":0.125"#, "0.125", EVERYWHERE),
    row("stream", r#""stream":true"#, r#""stream":true"#, EVERYWHERE),
    row("store", r#""store":true"#, r#""store":true"#, NOWHERE),
    row("include", r#""include":["reasoning.encrypted_content"]"#, "encrypted_content", RESPONSES_ONLY),
    row("prompt_cache_key", r#""prompt_cache_key":"mark""#, "mark", RESPONSES_ONLY),
    row("client_metadata", r#""client_metadata":{"a":"mark"}"#, "mark", NOWHERE),
    row("metadata", r#""metadata":{"a":"mark"}"#, "mark", RESPONSES_ONLY),
    row("service_tier", r#""service_tier":"mark""#, "mark", NOWHERE),
    row("safety_identifier", r#""safety_identifier":"mark""#, "mark", NOWHERE),
    row("max_tool_calls", r#""max_tool_calls":1234"#, "1234", NOWHERE),
    row("top_logprobs", r#""top_logprobs":3"#, "top_logprobs", NOWHERE),
    row("truncation", r#""truncation":"auto""#, "truncation", RESPONSES_ONLY),
    row("context_management", r#""context_management":[{"type":"compaction","compact_threshold":1234}]"#, "1234", RESPONSES_ONLY),
    row("text.verbosity", r#""text":{"verbosity":"low"}"#, "verbosity", RESPONSES_ONLY),
    row("text.format", r#""text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object","properties":{"mark":{"type":"string"}}}}}"#, "mark", EVERYWHERE),
    row("reasoning.effort", r#""reasoning":{"effort":"low"}"#, r#"low""#, [Carried, Recast, Carried]),
    row("reasoning.summary", r#""reasoning":{"summary":"detailed"}"#, "detailed", RESPONSES_ONLY),
    row("tools of type function", r#""tools":[{"type":"function","name":"mark","parameters":{"type":"object","properties":{}}}]"#, "mark", EVERYWHERE),
    row("tools of type custom", r#""tools":[{"type":"custom","name":"mark"}]"#, "mark", EVERYWHERE),
    row("tools of type local_shell", r#""tools":[{"type":"local_shell"}]"#, "local_shell", EVERYWHERE),
    row("tools of type namespace", r#""tools":[{"type":"namespace","name":"box","tools":[{"type":"function","name":"mark","parameters":{"type":"object","properties":{}}}]}]"#, "mark", EVERYWHERE),
    row("tools of type web_search", r#""tools":[{"type":"web_search"}]"#, "web_search", RESPONSES_ONLY),
    row("tools of type image_generation", r#""tools":[{"type":"image_generation"}]"#, "image_generation", NOWHERE),
    row("tool_choice", r#""tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{}}}],"tool_choice":{"type":"function","name":"f"}"#, r#""tool_choice":{"type":""#, EVERYWHERE),
    row("parallel_tool_calls", r#""tools":[{"type":"function","name":"f","parameters":{"type":"object","properties":{}}}],"parallel_tool_calls":false"#, "parallel_tool", EVERYWHERE),
    row("background", r#""background":true"#, "background", NEVER),
    row("conversation", r#""conversation":"c""#, "conversation", NEVER),
    row("prompt", r#""prompt":{"id":"p"}"#, "prompt", NEVER),
    row("images", r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}]"#, "iVBORw0KGgo=", EVERYWHERE),
    row("images by file_id", r#""input":[{"role":"user","content":[{"type":"input_image","file_id":"file_1"}]}]"#, "input[0].content[0]", NEVER),
    row("input of type item_reference", r#""input":[{"type":"item_reference","id":"msg_1"},{"role":"user","content":"a"}]"#, "input", NEVER),
];

#[rustfmt::skip]
const GEMINI: &[Row] = &[
    row("contents", r#""contents":[{"role":"user","parts":[{"text":"mark"}]}]"#, "mark", EVERYWHERE),
    row("systemInstruction", r#""systemInstruction":{"parts":[{"text":"mark"}]}"#, "mark", EVERYWHERE),
    row("generationConfig.maxOutputTokens", r#""generationConfig":{"maxOutputTokens":1234}"#, "1234", EVERYWHERE),
    row("generationConfig.temperature", r#""generationConfig":{"temperature":0.125}"#, "0.125", EVERYWHERE),
    row("generationConfig.topP", r#""generationConfig":{"topP":0.125}"#, "0.125", EVERYWHERE),
    row("generationConfig.topK", r#""generationConfig":{"topK":1234}"#, "1234", NOWHERE),
    row("generationConfig.seed", r#""generationConfig":{"seed":1234}"#, "1234", NOWHERE),
    row("generationConfig.presencePenalty", r#""generationConfig":{"presencePenalty":0.125}"#, "0.125", CHAT_ONLY),
    row("generationConfig.frequencyPenalty", r#""generationConfig":{"frequencyPenalty":0.125}"#, "0.125", CHAT_ONLY),
    row("generationConfig.stopSequences", r#""generationConfig":{"stopSequences":["mark"]}"#, "mark", [Carried, Carried, Here]),
    row("generationConfig.candidateCount", r#""generationConfig":{"candidateCount":2}"#, "generationConfig.candidateCount", NEVER),
    row("generationConfig.responseMimeType", r#""generationConfig":{"responseMimeType":"application/json"}"#, "json_object", [Carried, Recast, Carried]),
    row("generationConfig.responseMimeType of an enum", r#""generationConfig":{"responseMimeType":"text/x.enum"}"#, "generationConfig.responseMimeType", NEVER),
    row("generationConfig.responseSchema", r#""generationConfig":{"responseMimeType":"application/json","responseSchema":{"type":"OBJECT","properties":{"mark":{"type":"STRING"}}}}"#, "mark", EVERYWHERE),
    row("generationConfig.responseJsonSchema", r#""generationConfig":{"responseMimeType":"application/json","responseJsonSchema":{"type":"object","properties":{"mark":{"type":"string"}}}}"#, "mark", EVERYWHERE),
    row("generationConfig.responseModalities", r#""generationConfig":{"responseModalities":["IMAGE"]}"#, "generationConfig.responseModalities", NEVER),
    row("generationConfig.responseLogprobs", r#""generationConfig":{"responseLogprobs":true}"#, "logprobs", NOWHERE),
    row("generationConfig.mediaResolution", r#""generationConfig":{"mediaResolution":"mark"}"#, "mark", NOWHERE),
    row("generationConfig.speechConfig", r#""generationConfig":{"speechConfig":{"languageCode":"mark"}}"#, "mark", NOWHERE),
    row("generationConfig.thinkingConfig", r#""generationConfig":{"thinkingConfig":{"thinkingLevel":"LOW"}}"#, r#"low""#, [Carried, Recast, Carried]),
    row("tools.functionDeclarations", r#""tools":[{"functionDeclarations":[{"name":"mark"}]}]"#, "mark", EVERYWHERE),
    row("tools.functionDeclarations with parameters", r#""tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT","properties":{"mark":{"type":"STRING"}}}}]}]"#, "mark", EVERYWHERE),
    row("tools.googleSearch", r#""tools":[{"googleSearch":{}}]"#, "oogle", NOWHERE),
    row("tools.codeExecution", r#""tools":[{"codeExecution":{}}]"#, "xecution", NOWHERE),
    row("tools.urlContext", r#""tools":[{"urlContext":{}}]"#, "ontext", NOWHERE),
    row("toolConfig", r#""tools":[{"functionDeclarations":[{"name":"f"},{"name":"g"}]}],"toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["f"]}}"#, r#""tool_choice":{"type":""#, EVERYWHERE),
    row("safetySettings", r#""safetySettings":[{"category":"mark"}]"#, "mark", NOWHERE),
    row("cachedContent", r#""cachedContent":"mark""#, "mark", NOWHERE),
    row("labels", r#""labels":{"a":"mark"}"#, "mark", NOWHERE),
    row("images", r#""contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}]}]"#, "iVBORw0KGgo=", EVERYWHERE),
    row("images by url", r#""contents":[{"parts":[{"fileData":{"mimeType":"image/png","fileUri":"https://a.example/b.png"}}]}]"#, "contents[0].parts[0].fileData", NEVER),
    row("audio", r#""contents":[{"parts":[{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}]}]"#, "contents[0].parts[0].inlineData", NEVER),
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::catalog::Model;
    use crate::translate::request::gemini_to_chat;
    use crate::translate::rules::{Fixture, model};
    use crate::translate::{Object, pairs, validate};

    /// A model of each way that takes whatever its protocol can say.
    fn answering(client: Dialect, way: Protocol, field: &str) -> Arc<Model> {
        let (id, endpoint) = match way {
            Protocol::Chat => ("gpt-4.1", "/chat/completions"),
            Protocol::Messages => ("claude-sonnet-4.5", "/v1/messages"),
            Protocol::Responses => ("gpt-4.1", "/responses"),
        };
        let mut supports = json!({"vision": true, "tool_calls": true, "structured_outputs": true});
        let reasons = ["thinking", "reasoning", "effort", "include", "verbosity"];
        if reasons.iter().any(|word| field.contains(word)) {
            match way {
                Protocol::Messages => supports["max_thinking_budget"] = json!(32000),
                _ => supports["reasoning_effort"] = json!(["low", "medium", "high"]),
            }
        }
        let id = if way == Protocol::Responses && field.contains("verbosity")
            || client == way.into() && field.contains("namespace")
        {
            "gpt-5.4"
        } else {
            id
        };
        let capabilities = json!({"supports": supports, "limits": {"max_output_tokens": 64000}});
        model(json!({"id": id, "vendor": "x", "supported_endpoints": [endpoint], "capabilities": capabilities}))
    }

    fn least(client: Dialect) -> Object {
        let body = match client {
            Dialect::Of(Protocol::Messages) => json!({"model": "m", "messages": [{"role": "user", "content": "a"}]}),
            Dialect::Of(Protocol::Chat) => json!({"model": "m", "messages": [{"role": "user", "content": "a"}]}),
            Dialect::Of(Protocol::Responses) => json!({"model": "m", "input": "a"}),
            Dialect::Gemini => json!({"model": "m", "contents": [{"parts": [{"text": "a"}]}]}),
        };
        body.as_object().unwrap().clone()
    }

    /// A request without a field, but with what none can do without.
    fn bare(client: Dialect, mut body: Object, field: &str) -> Object {
        let path = field.split(' ').next().unwrap();
        match path.split_once('.') {
            Some((holder, name)) => match &mut body[holder] {
                Value::Array(holders) => holders.iter_mut().for_each(|holder| {
                    holder.as_object_mut().unwrap().shift_remove(name);
                }),
                holder => drop(holder.as_object_mut().unwrap().shift_remove(name)),
            },
            None => {
                body.shift_remove(path);
                body.extend(least(client).shift_remove_entry(path));
            }
        }
        body
    }

    /// What truly becomes of a field; nothing, where the request fails for another reason.
    fn happens(client: Dialect, way: Protocol, row: &Row) -> (Option<Fate>, String) {
        let example: Object = serde_json::from_str(&format!("{{{}}}", row.example)).unwrap();
        let mut body = least(client);
        body.extend(example);
        let fixture = Fixture::new(answering(client, way, row.field));
        let sent = |body: &Object| {
            let body = match client {
                Dialect::Of(_) => body.clone(),
                Dialect::Gemini => gemini_to_chat::request(body.clone())?,
            };
            let client = client.travels_as();
            validate::body(client, &body)?;
            pairs::outgoing(client, way, body, &fixture.context())
        };
        match sent(&body) {
            Err(failure) => {
                let named = failure.param.as_deref() == Some(row.trace)
                    // Anthropic's errors have no parameter of their own: the sentence names the field.
                    || client == Dialect::Of(Protocol::Messages) && failure.message.starts_with(row.trace);
                let what = format!("{failure:?}");
                (named.then_some(Refused), what)
            }
            Ok(outgoing) => {
                let without = Value::Object(sent(&bare(client, body, row.field)).unwrap().body);
                let stops = outgoing.reply.stops;
                let with = Value::Object(outgoing.body);
                let fate = match () {
                    () if with.to_string().contains(row.trace) => Carried,
                    () if stops.iter().any(|stop| stop == row.trace) => Here,
                    () if with == without => Dropped,
                    () => Recast,
                };
                (Some(fate), with.to_string())
            }
        }
    }

    #[test]
    fn every_row_is_true() {
        let mut wrong = Vec::new();
        for client in Dialect::ALL {
            for row in of(client) {
                for way in Protocol::ALL {
                    let (fate, what) = happens(client, way, row);
                    if fate != Some(row.fate(way)) {
                        let pair = format!("{} to {}", client.name(), way.name());
                        wrong.push(format!("{pair}: {} is {fate:?}: {what}", row.field));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
