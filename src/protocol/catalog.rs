//! What each model can do, read from Copilot's own list. Knows no client and no route.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::Protocol;
use super::effort::Effort;

/// One seat's models, in Copilot's order, each id once.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    models: Vec<Arc<Model>>,
    by_id: HashMap<String, usize>,
}

/// One model: what it is, where it answers, what it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub id: String,
    pub name: String,
    pub vendor: String,
    /// `capabilities.family`, or the id where Copilot names none.
    pub family: String,
    pub kind: Kind,
    pub tokenizer: String,
    pub preview: bool,
    /// Copilot's own picker shows it.
    pub picker: bool,
    /// `enabled` where Copilot says nothing.
    pub policy: String,
    pub endpoints: Endpoints,
    pub limits: Limits,
    pub supports: Supports,
    /// Headers Copilot wants added for this model; rare.
    pub request_headers: Vec<(String, String)>,
    /// The entry as Copilot sent it.
    pub raw: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Chat,
    Embeddings,
    Completion,
}

/// Where a model answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    pub chat: bool,
    pub responses: bool,
    /// Responses over a WebSocket; says nothing about Responses over HTTP.
    pub websocket: bool,
    pub messages: bool,
    pub embeddings: bool,
}

/// Sizes, in tokens unless said otherwise; `None` where Copilot names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub context: Option<u64>,
    pub prompt: Option<u64>,
    pub output: Option<u64>,
    pub non_streaming_output: Option<u64>,
    /// Texts in one embeddings request.
    pub inputs: Option<u64>,
    /// Images in one prompt.
    pub images: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supports {
    pub streaming: bool,
    pub tool_calls: bool,
    pub parallel_tool_calls: bool,
    pub structured_outputs: bool,
    pub vision: bool,
    pub dimensions: bool,
    pub adaptive_thinking: bool,
    pub min_thinking_budget: Option<u64>,
    pub max_thinking_budget: Option<u64>,
    /// Reasoning efforts it takes, in rising order; empty where none is listed.
    pub efforts: Vec<Effort>,
}

impl Catalog {
    /// Reads the answer of `GET /models`; entries without an id are passed over, a repeated id counts once.
    pub fn read(list: &Value) -> Self {
        let mut catalog = Self::default();
        for entry in list["data"].as_array().into_iter().flatten() {
            if let Some(model) = Model::read(entry)
                && !catalog.by_id.contains_key(&model.id)
            {
                catalog.by_id.insert(model.id.clone(), catalog.models.len());
                catalog.models.push(Arc::new(model));
            }
        }
        catalog
    }

    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// The same models, each as `change` leaves it.
    pub fn map(&self, change: impl Fn(&mut Model)) -> Self {
        let mut catalog = self.clone();
        for model in &mut catalog.models {
            change(Arc::make_mut(model));
        }
        catalog
    }

    /// The model with exactly this id.
    pub fn get(&self, id: &str) -> Option<&Arc<Model>> {
        self.by_id.get(id).map(|&at| &self.models[at])
    }
}

impl Model {
    fn read(entry: &Value) -> Option<Self> {
        let id = entry["id"].as_str().filter(|id| !id.is_empty())?.to_owned();
        let capabilities = &entry["capabilities"];
        let text = |value: &Value, otherwise: &str| value.as_str().unwrap_or(otherwise).to_owned();
        let kind = match capabilities["type"].as_str() {
            Some("embeddings") => Kind::Embeddings,
            Some("completion") => Kind::Completion,
            _ => Kind::Chat,
        };
        Some(Self {
            name: text(&entry["name"], &id),
            vendor: text(&entry["vendor"], ""),
            family: text(&capabilities["family"], &id),
            kind,
            tokenizer: text(&capabilities["tokenizer"], "o200k_base"),
            preview: entry["preview"].as_bool().unwrap_or(false),
            picker: entry["model_picker_enabled"].as_bool().unwrap_or(false),
            policy: text(&entry["policy"]["state"], "enabled"),
            endpoints: Endpoints::read(&entry["supported_endpoints"], kind),
            limits: Limits::read(&capabilities["limits"]),
            supports: Supports::read(&capabilities["supports"]),
            request_headers: read_headers(&entry["request_headers"]),
            raw: entry.clone(),
            id,
        })
    }

    /// Whether the model answers this protocol over HTTP.
    pub fn speaks(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Chat => self.endpoints.chat,
            Protocol::Responses => self.endpoints.responses,
            Protocol::Messages => self.endpoints.messages,
        }
    }

    pub fn is_claude(&self) -> bool {
        self.vendor == "Anthropic" || self.id.starts_with("claude")
    }

    pub fn is_gemini(&self) -> bool {
        self.vendor == "Google" || self.id.starts_with("gemini")
    }

    /// GPT and the o-series.
    pub fn is_gpt(&self) -> bool {
        matches!(self.vendor.as_str(), "OpenAI" | "Azure OpenAI") || self.id.starts_with("gpt-")
    }

    /// The number behind `gpt-`: `gpt-5.4-mini` → (5, 4).
    pub fn gpt_version(&self) -> Option<(u32, u32)> {
        let number = self.id.strip_prefix("gpt-")?.split('-').next()?;
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    /// GPT-5 and later, and the o-series: they reason, and have their own names for limits and sampling.
    pub fn is_reasoning_gpt(&self) -> bool {
        let o_series = self
            .id
            .strip_prefix('o')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        o_series || self.is_gpt() && self.gpt_version().is_some_and(|(major, _)| major >= 5)
    }

    /// The house that made it; reasoning state never crosses between two.
    pub fn house(&self) -> &'static str {
        if self.is_claude() {
            "claude"
        } else if self.is_gemini() {
            "gemini"
        } else if self.is_gpt() || self.is_reasoning_gpt() {
            "gpt"
        } else {
            "other"
        }
    }
}

impl Endpoints {
    /// The endpoints of these names, in any of their spellings; unknown names are passed over.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut found = Self::default();
        for name in names {
            let name = name.trim().to_ascii_lowercase();
            let path = name.trim_start_matches("https:").trim_end_matches('/');
            match path.strip_prefix("/v1").unwrap_or(path) {
                "/chat/completions" => found.chat = true,
                "/responses" => found.responses = true,
                "ws:/responses" => found.websocket = true,
                "/messages" => found.messages = true,
                "/embeddings" => found.embeddings = true,
                _ => {}
            }
        }
        found
    }

    /// The endpoints by name, as Copilot spells them.
    pub fn names(&self) -> Vec<&'static str> {
        let all = [
            (self.chat, "/chat/completions"),
            (self.responses, "/responses"),
            (self.websocket, "ws:/responses"),
            (self.messages, "/v1/messages"),
            (self.embeddings, "/embeddings"),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
    }

    /// No list at all means the one endpoint that every model of its kind has.
    fn read(list: &Value, kind: Kind) -> Self {
        let named = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut found = Self::named(named.iter().filter_map(Value::as_str));
        if named.is_empty() {
            match kind {
                Kind::Embeddings => found.embeddings = true,
                Kind::Chat => found.chat = true,
                Kind::Completion => {}
            }
        }
        found
    }
}

impl Limits {
    fn read(limits: &Value) -> Self {
        let size = |name: &str| limits[name].as_u64();
        Self {
            context: size("max_context_window_tokens"),
            prompt: size("max_prompt_tokens"),
            output: size("max_output_tokens"),
            non_streaming_output: size("max_non_streaming_output_tokens"),
            inputs: size("max_inputs"),
            images: limits["vision"]["max_prompt_images"].as_u64(),
        }
    }
}

impl Supports {
    fn read(supports: &Value) -> Self {
        let has = |name: &str| match &supports[name] {
            Value::Bool(yes) => *yes,
            Value::Null => false,
            _ => true,
        };
        let mut efforts: Vec<Effort> = supports["reasoning_effort"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|name| Effort::read(name.as_str()?))
            .collect();
        efforts.sort_unstable();
        Self {
            streaming: has("streaming"),
            tool_calls: has("tool_calls"),
            parallel_tool_calls: has("parallel_tool_calls"),
            structured_outputs: has("structured_outputs"),
            vision: has("vision"),
            dimensions: has("dimensions"),
            adaptive_thinking: has("adaptive_thinking"),
            min_thinking_budget: supports["min_thinking_budget"].as_u64(),
            max_thinking_budget: supports["max_thinking_budget"].as_u64(),
            efforts,
        }
    }
}

fn read_headers(headers: &Value) -> Vec<(String, String)> {
    let pairs = headers.as_object().into_iter().flatten();
    pairs
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints_are_read_in_every_spelling() {
        let list = json!({"data": [
            {"id": "a", "supported_endpoints": ["/v1/messages", "/chat/completions/"]},
            {"id": "b", "supported_endpoints": ["ws:/responses", "/new/thing"]},
            {"id": "c"},
            {"id": "d", "capabilities": {"type": "embeddings"}, "supported_endpoints": []},
        ]});
        let catalog = Catalog::read(&list);
        let of = |id: &str| catalog.get(id).unwrap().endpoints;
        assert_eq!(
            of("a"),
            Endpoints {
                chat: true,
                messages: true,
                ..Default::default()
            }
        );
        assert_eq!(
            of("b"),
            Endpoints {
                websocket: true,
                ..Default::default()
            }
        );
        assert_eq!(
            of("c"),
            Endpoints {
                chat: true,
                ..Default::default()
            }
        );
        assert_eq!(
            of("d"),
            Endpoints {
                embeddings: true,
                ..Default::default()
            }
        );
    }

    #[test]
    fn a_repeated_id_counts_once_and_nonsense_is_passed_over() {
        let catalog = Catalog::read(&json!({"data": [{"id": "a"}, {"id": "a"}, {"id": ""}, 7, {"name": "x"}]}));
        assert_eq!(catalog.models().len(), 1);
        assert!(Catalog::read(&json!("nothing")).is_empty());
    }

    #[test]
    fn versions_are_numbers() {
        let model = |id: &str| Model::read(&json!({"id": id, "vendor": "OpenAI"})).unwrap();
        assert_eq!(model("gpt-5.4-mini").gpt_version(), Some((5, 4)));
        assert_eq!(model("gpt-4o").gpt_version(), None);
        assert!(model("gpt-5-mini").is_reasoning_gpt() && model("o4-mini").is_reasoning_gpt());
        assert!(!model("gpt-4.1").is_reasoning_gpt() && !model("gpt-4o").is_reasoning_gpt());
    }
}
