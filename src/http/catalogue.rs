//! The models, as each family of clients reads them: one list for the OpenAI and Anthropic SDKs, Codex's own catalogue.
//! Knows the fields; not who asks, nor how names are explained.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::protocol::Protocol;
use crate::protocol::catalog::{Kind, Model};
use crate::protocol::effort::Effort;
use crate::protocol::failure::Failure;
use crate::routing::names::Names;
use crate::translate::Object;

/// What may be listed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Also what Copilot's picker hides and what a policy disables.
    pub all: bool,
    /// `GET /responses` opens a socket.
    pub sockets: bool,
}

/// One line of a list: a model, under its own id or under an alias of the user's.
struct Entry<'a> {
    id: &'a str,
    model: Arc<Model>,
}

/// The items of `GET /models`, in Copilot's order, the user's aliases last.
pub fn items(names: &Names, choice: Choice) -> Vec<Value> {
    entries(names, choice)
        .iter()
        .map(|entry| item(entry.id, &entry.model))
        .collect()
}

/// One model as both SDKs know it; `id` is the model's own or an alias.
pub fn item(id: &str, model: &Model) -> Value {
    let mut item = json!({
        "id": id,
        "object": "model",
        "type": "model",
        "created": 0,
        "created_at": "1970-01-01T00:00:00Z",
        "owned_by": model.vendor,
        "display_name": model.name,
        "max_input_tokens": model.limits.prompt.or(model.limits.context),
        "max_tokens": model.limits.output,
        "capabilities": model.raw["capabilities"],
        "supported_endpoints": model.endpoints.names(),
        "preview": model.preview,
        "policy_state": model.policy,
    });
    if id != model.id {
        item["alias_of"] = json!(model.id);
    }
    item
}

/// The list of `GET /v1beta/models`, in the same order.
pub fn google(names: &Names, choice: Choice) -> Value {
    let models = entries(names, choice);
    let models: Vec<Value> = models.iter().map(|entry| google_item(entry.id, &entry.model)).collect();
    json!({"models": models})
}

/// One model as Google's SDKs know it.
pub fn google_item(id: &str, model: &Model) -> Value {
    let methods: &[&str] = match model.kind {
        Kind::Embeddings => &["embedContent"],
        _ => &["generateContent", "countTokens"],
    };
    json!({
        "name": format!("models/{id}"),
        "version": model.id,
        "displayName": model.name,
        "description": description(model),
        "inputTokenLimit": model.limits.prompt.or(model.limits.context),
        "outputTokenLimit": model.limits.output,
        "supportedGenerationMethods": methods,
    })
}

/// Whether people are meant to choose this model.
pub fn is_listed(model: &Model, choice: Choice) -> bool {
    choice.all || model.policy != "disabled" && (model.picker || model.kind == Kind::Embeddings)
}

fn entries<'a>(names: &'a Names, choice: Choice) -> Vec<Entry<'a>> {
    let is_alias = |id: &str| names.aliases.keys().any(|alias| alias.eq_ignore_ascii_case(id));
    let models = names.catalog.models().iter();
    // An alias wins over a model of the same name, so that model cannot be had under it.
    let own = models.filter(|model| is_listed(model, choice) && !is_alias(&model.id));
    let entry = |id, model: &Arc<Model>| Entry {
        id,
        model: model.clone(),
    };
    let own = own.map(|model| entry(model.id.as_str(), model));
    // An alias that leads nowhere is told to whoever uses it; a list is no place for it.
    let meant = names.aliases.keys().filter_map(|alias| {
        let meant = names.resolve(alias, false).ok()?;
        Some(entry(alias.as_str(), &meant.model))
    });
    own.chain(meant).collect()
}

/// A part of the list, asked for as Anthropic's clients do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub limit: Option<usize>,
    pub after: Option<String>,
    pub before: Option<String>,
}

impl Page {
    const MOST: usize = 1000;

    /// Reads `limit`, `after_id` and `before_id`.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Failure> {
        let limit = match get("limit") {
            None => None,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| (1..=Self::MOST).contains(limit));
                let bad = || Failure::bad("limit", format!("limit: must be a number from 1 to {}", Self::MOST));
                Some(limit.ok_or_else(bad)?)
            }
        };
        let id = |name| get(name).filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(Self {
            limit,
            after: id("after_id"),
            before: id("before_id"),
        })
    }

    /// The part of the items, and whether there are more in the direction asked for.
    fn cut(&self, mut items: Vec<Value>) -> Result<(Vec<Value>, bool), Failure> {
        let position = |id: &str, param: &str, items: &[Value]| {
            let found = items.iter().position(|item| item["id"] == id);
            found.ok_or_else(|| Failure::bad(param, format!("{param}: no model with this id is listed")))
        };
        if let Some(after) = &self.after {
            let at = position(after, "after_id", &items)?;
            items.drain(..=at);
        }
        if let Some(before) = &self.before {
            let at = position(before, "before_id", &items)?;
            items.truncate(at);
        }
        let more = self.limit.map_or(0, |limit| items.len().saturating_sub(limit));
        if self.before.is_some() && self.after.is_none() {
            items.drain(..more);
        } else {
            items.truncate(items.len() - more);
        }
        Ok((items, more > 0))
    }
}

/// The envelope that both SDKs read.
pub fn list(items: Vec<Value>, page: &Page) -> Result<Value, Failure> {
    let (items, has_more) = page.cut(items)?;
    let id = |item: Option<&Value>| item.map_or(Value::Null, |item| item["id"].clone());
    let (first, last) = (id(items.first()), id(items.last()));
    Ok(json!({"object": "list", "data": items, "has_more": has_more, "first_id": first, "last_id": last}))
}

/// Whether this is a version as Codex writes one: three numbers, perhaps with a suffix behind `-` or `+`.
pub fn is_version(text: &str) -> bool {
    let (numbers, suffix) = match text.find(['-', '+']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_number = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_suffix = |part: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
        (1..=64).contains(&part.len()) && part.bytes().all(legal)
    };
    let mut parts = numbers.split('.');
    let three = parts.by_ref().take(3).filter(|part| is_number(part)).count() == 3;
    three && parts.next().is_none() && suffix.is_none_or(is_suffix)
}

/// Codex's catalogue. What Responses reaches natively comes first, and with it the models Codex should prefer.
pub fn codex(names: &Names, choice: Choice) -> Value {
    let entries = entries(names, choice);
    let reachable = |entry: &&Entry| {
        entry.model.kind == Kind::Chat && Protocol::ALL.into_iter().any(|protocol| entry.model.speaks(protocol))
    };
    let mut entries: Vec<&Entry> = entries.iter().filter(reachable).collect();
    entries.sort_by_key(|entry| !entry.model.endpoints.responses);
    let models = (0..)
        .zip(entries)
        .map(|(priority, entry)| codex_entry(entry, priority, choice));
    json!({"models": models.collect::<Vec<Value>>()})
}

/// Codex refuses the whole catalogue for one entry without a field it needs; these are all of them.
fn codex_entry(Entry { id, model }: &Entry, priority: u32, choice: Choice) -> Value {
    let native_gpt = model.endpoints.responses && model.is_gpt();
    let socket = choice.sockets && model.endpoints.websocket;
    let efforts = codex_efforts(model);
    let levels = efforts
        .iter()
        .map(|&effort| json!({"effort": effort.name(), "description": describe(effort)}));
    let default = efforts
        .iter()
        .find(|&&effort| effort == Effort::Medium)
        .or(efforts.first());
    let modalities = if model.supports.vision {
        json!(["text", "image"])
    } else {
        json!(["text"])
    };
    let mut entry = json!({
        "slug": id,
        "display_name": if *id == model.id { model.name.as_str() } else { id },
        "description": description(model),
        "default_reasoning_level": default.map(|effort| effort.name()),
        "supported_reasoning_levels": levels.collect::<Vec<Value>>(),
        "shell_type": "shell_command",
        "visibility": "list",
        "supported_in_api": true,
        "priority": priority,
        "upgrade": null,
        "base_instructions": INSTRUCTIONS,
        "supports_reasoning_summaries": model.endpoints.responses && !efforts.is_empty(),
        "support_verbosity": native_gpt && model.is_reasoning_gpt(),
        "default_verbosity": null,
        // The other value there was, "function", costs a Codex of today the whole catalogue.
        "apply_patch_tool_type": native_gpt.then_some("freeform"),
        "truncation_policy": {"mode": "tokens", "limit": 10_000},
        "supports_parallel_tool_calls": model.supports.parallel_tool_calls,
        "supports_websockets": socket,
        "prefer_websockets": socket,
        "experimental_supported_tools": [],
        "input_modalities": modalities,
    });
    if let Some(sizes) = entry.as_object_mut() {
        add_sizes(sizes, model);
    }
    entry
}

/// The window and how much of it a prompt may fill. Codex has its own figures for what upstream does not name.
fn add_sizes(entry: &mut Object, model: &Model) {
    let Some(window) = model
        .limits
        .context
        .or(model.limits.prompt)
        .filter(|&window| window > 0)
    else {
        return;
    };
    let prompt = model.limits.prompt.unwrap_or(window).min(window);
    let share = |part: u64, whole: u64, of: u64| (u128::from(part) * u128::from(of) / u128::from(whole)) as u64;
    entry.insert("context_window".into(), json!(window));
    entry.insert("max_context_window".into(), json!(window));
    entry.insert("auto_compact_token_limit".into(), json!(share(9, 10, prompt)));
    entry.insert(
        "effective_context_window_percent".into(),
        json!(share(prompt, window, 100)),
    );
}

/// The efforts that every Codex knows; a name it does not know costs it the whole catalogue.
fn codex_efforts(model: &Model) -> Vec<Effort> {
    let known = |effort: &Effort| *effort != Effort::Max;
    model.supports.efforts.iter().copied().filter(known).collect()
}

fn describe(effort: Effort) -> &'static str {
    match effort {
        Effort::None => "Answers without reasoning",
        Effort::Minimal => "Reasons as little as it can",
        Effort::Low => "Quick answers with light reasoning",
        Effort::Medium => "A balance of speed and depth",
        Effort::High => "Deeper reasoning for hard problems",
        Effort::Xhigh | Effort::Max => "The deepest reasoning, for the hardest problems",
    }
}

fn description(model: &Model) -> String {
    let mut words = vec![format!("{} by {}, through Copilot", model.name, model.vendor)];
    if !model.endpoints.responses {
        words.push("translated".into());
    }
    if model.preview {
        words.push("preview".into());
    }
    words.join(", ")
}

/// What Codex tells a model of itself, where the catalogue has to say it.
const INSTRUCTIONS: &str = "You are a coding agent at work in the user's terminal, inside the Codex CLI. \
You read and change files and run commands with the tools you are given. \
Understand the code before you change it; keep changes small, correct and in the style that is there; check your work \
by running it or its tests where that is possible. Never undo changes you did not make. \
Go on until the task is done, then say briefly what you did and what remains.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::protocol::catalog::Catalog;
    use crate::routing::names::Fallback;

    fn catalog() -> Catalog {
        Catalog::read(&json!({"data": [
            {"id": "gpt-4.1", "name": "GPT-4.1", "vendor": "Azure OpenAI", "model_picker_enabled": true,
             "capabilities": {"type": "chat", "limits": {"max_context_window_tokens": 128_000, "max_prompt_tokens": 111_111,
              "max_output_tokens": 16_384}, "supports": {"vision": true, "parallel_tool_calls": true}}},
            {"id": "gpt-5.4", "name": "GPT-5.4", "vendor": "OpenAI", "model_picker_enabled": true,
             "supported_endpoints": ["/responses", "ws:/responses"],
             "capabilities": {"supports": {"reasoning_effort": ["max", "low", "medium"]}}},
            {"id": "hidden", "vendor": "OpenAI"},
            {"id": "off", "vendor": "OpenAI", "model_picker_enabled": true, "policy": {"state": "disabled"}},
            {"id": "embed", "vendor": "OpenAI", "capabilities": {"type": "embeddings"}},
        ]}))
    }

    fn aliases(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect()
    }

    fn ids(items: &[Value]) -> Vec<&str> {
        items.iter().map(|item| item["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_list_is_what_people_may_choose_then_the_aliases() {
        let (catalog, aliases) = (
            catalog(),
            aliases(&[("fast", "gpt-4.1"), ("lost", "nothing"), ("GPT-5.4", "gpt-4.1")]),
        );
        let names = Names {
            catalog: &catalog,
            aliases: &aliases,
            fallback: Fallback::Off,
        };
        let listed = items(&names, Choice::default());
        assert_eq!(ids(&listed), ["gpt-4.1", "embed", "GPT-5.4", "fast"]);
        assert_eq!(listed[3]["alias_of"], "gpt-4.1");
        assert_eq!(listed[0].get("alias_of"), None);
        let all = Choice {
            all: true,
            ..Choice::default()
        };
        assert_eq!(
            ids(&items(&names, all)),
            ["gpt-4.1", "hidden", "off", "embed", "GPT-5.4", "fast"]
        );
    }

    #[test]
    fn k161_an_item_has_the_fields_of_both_sdks() {
        let catalog = catalog();
        let item = item("gpt-4.1", catalog.get("gpt-4.1").unwrap());
        let fields: Vec<&str> = item.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            fields,
            [
                "id",
                "object",
                "type",
                "created",
                "created_at",
                "owned_by",
                "display_name",
                "max_input_tokens",
                "max_tokens",
                "capabilities",
                "supported_endpoints",
                "preview",
                "policy_state"
            ]
        );
        assert_eq!((&item["object"], &item["type"]), (&json!("model"), &json!("model")));
        assert_eq!(
            (&item["max_input_tokens"], &item["max_tokens"]),
            (&json!(111_111), &json!(16_384))
        );
        assert_eq!(item["supported_endpoints"], json!(["/chat/completions"]));
        assert_eq!(item["capabilities"]["type"], "chat");
    }

    #[test]
    fn a_page_is_cut_from_either_end() {
        let of = |limit: Option<&'static str>, after: Option<&'static str>, before: Option<&'static str>| {
            let page = Page::read(|name| match name {
                "limit" => limit,
                "after_id" => after,
                "before_id" => before,
                _ => None,
            })?;
            let items = ["a", "b", "c", "d"].map(|id| json!({"id": id})).into();
            list(items, &page).map(|list| (ids(list["data"].as_array().unwrap()).concat(), list["has_more"] == true))
        };
        assert_eq!(of(None, None, None).unwrap(), ("abcd".into(), false));
        assert_eq!(of(Some("2"), None, None).unwrap(), ("ab".into(), true));
        assert_eq!(of(Some("2"), Some("b"), None).unwrap(), ("cd".into(), false));
        assert_eq!(of(Some("1"), Some("b"), None).unwrap(), ("c".into(), true));
        assert_eq!(of(Some("2"), None, Some("d")).unwrap(), ("bc".into(), true));
        assert_eq!(of(Some("9"), None, Some("a")).unwrap(), (String::new(), false));
        for limit in ["0", "1001", "-1", "many", ""] {
            assert_eq!(
                of(Some(limit), None, None).unwrap_err().param.as_deref(),
                Some("limit"),
                "{limit}"
            );
        }
        assert_eq!(
            of(None, Some("z"), None).unwrap_err().param.as_deref(),
            Some("after_id")
        );
    }

    #[test]
    fn an_empty_list_has_no_ends() {
        let list = list(Vec::new(), &Page::default()).unwrap();
        assert_eq!(
            list,
            json!({"object": "list", "data": [], "has_more": false, "first_id": null, "last_id": null})
        );
    }

    #[test]
    fn k161_codex_gives_its_version() {
        for good in ["0.150.0", "1.2.3-alpha.4", "0.0.0+build", "10.20.30-rc.1+x"] {
            assert!(is_version(good), "{good}");
        }
        for bad in [
            "abc", "", "1.2", "1.2.3.4", "1.2.", "1.2.3-", "v1.2.3", "1.2.x", "-1.2.3", "1..3", "1.2.3 ", "1.2.3-ß",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
    }

    #[test]
    fn codex_sees_what_responses_reaches_first() {
        let (catalog, aliases) = (catalog(), BTreeMap::new());
        let names = Names {
            catalog: &catalog,
            aliases: &aliases,
            fallback: Fallback::Off,
        };
        let sockets = Choice {
            sockets: true,
            ..Choice::default()
        };
        let list = codex(&names, sockets);
        let models = list["models"].as_array().unwrap();
        assert_eq!(
            models.iter().map(|model| &model["slug"]).collect::<Vec<_>>(),
            ["gpt-5.4", "gpt-4.1"]
        );
        let (native, translated) = (&models[0], &models[1]);
        assert_eq!((&native["priority"], &translated["priority"]), (&json!(0), &json!(1)));
        assert_eq!(
            (&native["supports_websockets"], &native["prefer_websockets"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(
            (&native["apply_patch_tool_type"], &translated["apply_patch_tool_type"]),
            (&json!("freeform"), &Value::Null)
        );
        assert_eq!(native["default_reasoning_level"], "medium");
        assert_eq!(native["supported_reasoning_levels"].as_array().unwrap().len(), 2);
        assert_eq!(native.get("context_window"), None);
        assert_eq!(translated["supports_websockets"], false);
        assert_eq!(translated["default_reasoning_level"], Value::Null);
        assert_eq!(translated["context_window"], 128_000);
        assert_eq!(translated["auto_compact_token_limit"], 99_999);
        assert_eq!(translated["effective_context_window_percent"], 86);
        assert_eq!(translated["input_modalities"], json!(["text", "image"]));
        let off = codex(&names, Choice::default());
        assert_eq!(off["models"][0]["supports_websockets"], false);
    }
}
