//! How hard a client wants the model to think, and how each upstream is told. The reasoning of a history is in
//! [`thoughts`](super::thoughts).

use serde_json::{Value, json};

use super::{field, list, sampling};
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::effort::Effort;
use crate::translate::{Context, Hints, Object, Tuning};

/// Copilot's least thinking budget where a model names none.
const LEAST_BUDGET: u64 = 1024;
/// An answer that may be no longer than this is given no budget for thinking.
const LEAST_LIMIT: u64 = 2048;

/// What a client asks of the model's thinking.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    pub effort: Option<Effort>,
    /// An exact thinking budget in tokens.
    pub budget: Option<u64>,
    /// The client turned thinking on, with or without an effort.
    pub on: bool,
    /// The client can show thinking.
    pub shows: bool,
    /// What a Messages client said of thinking, in its own words.
    spoken: Option<Value>,
    /// The effort was named, and not only guessed from a budget.
    named: bool,
    /// How reasoning is to be summarised, whether or not it is shown.
    summary: Option<String>,
}

impl Wish {
    pub fn read(client: Protocol, body: &Object, hints: &Hints, tuning: &Tuning) -> Self {
        let mut wish = match client {
            Protocol::Messages => Self::of_messages(body, hints),
            Protocol::Chat => Self::of_chat(body, tuning),
            Protocol::Responses => Self::of_responses(body),
        };
        wish.named |= wish.effort.is_none() && hints.effort.is_some();
        wish.effort = wish.effort.or(hints.effort);
        // Elsewhere an effort is the only way to ask for thinking; in Messages it is a wish of its own.
        if client != Protocol::Messages {
            wish.on = wish.effort.is_some_and(|effort| effort != Effort::None);
        }
        wish
    }

    fn of_messages(body: &Object, hints: &Hints) -> Self {
        let thinking = field(body, "thinking");
        let kind = thinking["type"].as_str();
        let asked = field(body, "output_config")["effort"].as_str().and_then(Effort::read);
        let budget = thinking["budget_tokens"].as_u64();
        let (effort, budget) = match kind {
            Some("disabled") => (Some(Effort::None), None),
            Some("enabled") => (asked.or(budget.map(Effort::of_budget)), budget),
            _ => (asked, None),
        };
        let on = match kind {
            Some("disabled") => false,
            Some(_) => true,
            None => hints.thinking,
        };
        Self {
            effort,
            budget,
            on,
            shows: on,
            spoken: kind.map(|_| thinking.clone()),
            named: asked.is_some(),
            summary: asked.map(|_| "auto".to_owned()),
        }
    }

    fn of_chat(body: &Object, tuning: &Tuning) -> Self {
        let named = [field(body, "reasoning_effort"), &field(body, "reasoning")["effort"]];
        let budget = field(body, "thinking_budget").as_u64();
        let effort = named.into_iter().find_map(|name| Effort::read(name.as_str()?));
        Self {
            effort: effort.or(budget.map(Effort::of_budget)),
            budget,
            shows: tuning.show_reasoning && field(body, "reasoning")["exclude"] != true,
            named: effort.is_some(),
            ..Self::default()
        }
    }

    fn of_responses(body: &Object) -> Self {
        let reasoning = field(body, "reasoning");
        let effort = reasoning["effort"].as_str().and_then(Effort::read);
        let summary = [&reasoning["summary"], &reasoning["generate_summary"]]
            .into_iter()
            .find_map(Value::as_str)
            .filter(|summary| *summary != "none");
        Self {
            effort,
            shows: summary.is_some(),
            named: effort.is_some(),
            summary: summary.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Puts the wish into an upstream body that already has its output limit.
    pub fn write(&self, way: Protocol, out: &mut Object, context: &Context) {
        match way {
            Protocol::Chat => self.write_chat(out, context.model),
            Protocol::Responses => self.write_responses(out, context.model),
            Protocol::Messages => self.write_messages(out, context.model),
        }
    }

    fn write_chat(&self, out: &mut Object, model: &Model) {
        if let Some(most) = model.supports.max_thinking_budget.filter(|_| !model.is_gpt()) {
            let limit = sampling::limit(Protocol::Chat, out);
            if let Some(budget) = self.tokens().and_then(|budget| within(budget, model, most, limit)) {
                out.insert("thinking_budget".into(), json!(budget));
            }
        } else if let Some(effort) = self.effort.filter(|_| reasons(model)) {
            out.insert(
                "reasoning_effort".into(),
                json!(effort.clamp(&model.supports.efforts).name()),
            );
        }
    }

    fn write_responses(&self, out: &mut Object, model: &Model) {
        if !reasons(model) {
            return;
        }
        let mut reasoning = Object::new();
        if let Some(effort) = self.effort {
            reasoning.insert("effort".into(), json!(effort.clamp(&model.supports.efforts).name()));
        }
        let summary = self.summary.as_deref().or(self.shows.then_some("auto"));
        if let Some(summary) = summary.filter(|_| self.effort != Some(Effort::None)) {
            reasoning.insert("summary".into(), json!(summary));
        }
        if !reasoning.is_empty() {
            out.insert("reasoning".into(), Value::Object(reasoning));
        }
    }

    /// Writes `thinking` and `output_config.effort`; whatever else `output_config` holds stays. Serves the client of
    /// the same protocol too.
    fn write_messages(&self, out: &mut Object, model: &Model) {
        let thinking = if !model.raw["capabilities"]["supports"].is_object() {
            // Nothing is known of the model: the client's own words are the best guess.
            self.spoken.clone()
        } else if self.effort == Some(Effort::None) {
            reasons(model).then(|| self.in_form(json!({"type": "disabled"})))
        } else if !self.on {
            None
        } else if self.wants_budget(model) {
            Some(self.enabled(out, model))
        } else {
            model
                .supports
                .adaptive_thinking
                .then(|| self.in_form(json!({"type": "adaptive"})))
        };
        let has_budget = thinking.as_ref().is_some_and(|thinking| thinking["type"] == "enabled");
        let effort = self
            .effort
            .filter(|effort| *effort != Effort::None && (self.named || !has_budget));
        let efforts = &model.supports.efforts;
        set_effort(
            out,
            effort
                .filter(|_| !efforts.is_empty())
                .map(|effort| effort.clamp(efforts)),
        );
        match thinking {
            Some(thinking) => drop(out.insert("thinking".into(), thinking)),
            None => drop(out.shift_remove("thinking")),
        }
    }

    /// Whether the model is given a budget: it knows nothing else, or the client named one and the model takes it.
    fn wants_budget(&self, model: &Model) -> bool {
        if model.supports.adaptive_thinking {
            let enabled = self
                .spoken
                .as_ref()
                .is_some_and(|thinking| thinking["type"] == "enabled");
            return enabled && !only_adaptive(&model.id);
        }
        model.supports.max_thinking_budget.is_some()
    }

    /// Thinking with a budget, if the output limit leaves room for one.
    fn enabled(&self, out: &Object, model: &Model) -> Value {
        let most = model.supports.max_thinking_budget.unwrap_or(u64::MAX);
        let asked = self
            .budget
            .or_else(|| self.effort.and_then(Effort::budget))
            .unwrap_or(LEAST_BUDGET);
        let limit = sampling::limit(Protocol::Messages, out);
        let budget = within(asked, model, most, limit).filter(|_| limit.is_none_or(|limit| limit >= LEAST_LIMIT));
        match budget {
            Some(budget) => self.in_form(json!({"type": "enabled", "budget_tokens": budget})),
            None => json!({"type": "disabled"}),
        }
    }

    /// A form of thinking, with whatever else the client said of it.
    fn in_form(&self, mut thinking: Value) -> Value {
        let spoken = self.spoken.as_ref().and_then(Value::as_object);
        for (key, value) in spoken.into_iter().flatten() {
            if !matches!(key.as_str(), "type" | "budget_tokens") {
                thinking[key] = value.clone();
            }
        }
        thinking
    }

    /// The thinking budget that stands for the wish. Thinking without an effort is medium.
    fn tokens(&self) -> Option<u64> {
        let effort = self.effort.or(self.on.then_some(Effort::Medium));
        self.budget.or_else(|| effort.and_then(Effort::budget))
    }
}

/// Whether the client shows thinking, for `Reply.show_reasoning`.
pub fn shows(client: Protocol, body: &Object, context: &Context) -> bool {
    Wish::read(client, body, context.hints, context.tuning).shows
}

/// Whether a Messages client wants the state of thinking without its text, for `Reply.omit_thinking`.
pub fn omits_text(body: &Object) -> bool {
    field(body, "thinking")["display"] == "omitted"
}

/// Whether a model reasons at all.
pub fn reasons(model: &Model) -> bool {
    let supports = &model.supports;
    let can = supports.adaptive_thinking || supports.max_thinking_budget.is_some() || !supports.efforts.is_empty();
    can || model.is_reasoning_gpt()
}

/// A budget inside the model's range and below the output limit; none where that leaves no room.
fn within(budget: u64, model: &Model, most: u64, limit: Option<u64>) -> Option<u64> {
    let least = model.supports.min_thinking_budget.unwrap_or(LEAST_BUDGET);
    let least = if model.is_claude() {
        least.max(LEAST_BUDGET)
    } else {
        least
    };
    let most = most.min(limit.map_or(u64::MAX, |limit| limit.saturating_sub(1)));
    (least <= most).then(|| budget.clamp(least, most))
}

fn set_effort(out: &mut Object, effort: Option<Effort>) {
    let mut config = match out.get_mut("output_config").map(Value::take) {
        Some(Value::Object(config)) => config,
        _ => Object::new(),
    };
    match effort {
        Some(effort) => drop(config.insert("effort".into(), json!(effort.name()))),
        None => drop(config.shift_remove("effort")),
    }
    if config.is_empty() {
        out.shift_remove("output_config");
    } else {
        out.insert("output_config".into(), Value::Object(config));
    }
}

/// From 4.7 on Claude chooses its depth itself and refuses a budget.
pub fn only_adaptive(id: &str) -> bool {
    claude_version(id).is_some_and(|version| version >= (4, 7))
}

/// The version in `claude-opus-4.7-high` and in `claude-sonnet-5`.
pub fn claude_version(id: &str) -> Option<(u32, u32)> {
    let rest = id.strip_prefix("claude-")?;
    let number = rest
        .split('-')
        .find(|part| part.starts_with(|letter: char| letter.is_ascii_digit()))?;
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Settles what thinking does not go with in a finished Messages body: a forced tool turns it off, and so does a loop
/// of calls whose answer has lost its thinking. Then the rules of sampling follow.
pub fn settle_messages(out: &mut Object, model: &Model) {
    let kind = field(out, "thinking")["type"].as_str();
    let forced = matches!(field(out, "tool_choice")["type"].as_str(), Some("any" | "tool"));
    let thinks = matches!(kind, Some("enabled" | "adaptive"));
    let lost = kind == Some("enabled") && lacks_thinking(list(field(out, "messages")));
    if thinks && forced || lost {
        out.insert("thinking".into(), json!({"type": "disabled"}));
    }
    sampling::settle_messages(out, model);
}

/// Whether a Messages history ends inside a loop of calls whose answer does not begin with thinking.
pub fn lacks_thinking(messages: &[Value]) -> bool {
    let Some(at) = messages.iter().rposition(|message| message["role"] == "assistant") else {
        return false;
    };
    let answered = messages[at..].iter().flat_map(|message| list(&message["content"]));
    let in_loop = answered.clone().any(|block| block["type"] == "tool_result");
    let first = list(&messages[at]["content"]).first();
    let thinks = first.is_some_and(|block| matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking")));
    in_loop && !thinks
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::translate::rules::{Fixture, model};
    use Protocol::{Chat, Messages, Responses};

    fn old_claude() -> Arc<Model> {
        let supports = json!({"min_thinking_budget": 1024, "max_thinking_budget": 32000});
        model(json!({"id": "claude-haiku-4.5", "capabilities": {"supports": supports}}))
    }

    fn new_claude(efforts: &[&str]) -> Arc<Model> {
        let supports = json!({"adaptive_thinking": true, "min_thinking_budget": 1024, "max_thinking_budget": 32000,
            "reasoning_effort": efforts});
        model(json!({"id": "claude-opus-4.8", "capabilities": {"supports": supports}}))
    }

    fn gpt(efforts: &[&str]) -> Arc<Model> {
        model(json!({"id": "gpt-5.4", "vendor": "OpenAI", "capabilities": {"supports": {"reasoning_effort": efforts}}}))
    }

    fn written(client: Protocol, way: Protocol, model: Arc<Model>, asked: Value, mut out: Value) -> Value {
        let fixture = Fixture::new(model);
        let wish = Wish::read(client, asked.as_object().unwrap(), &fixture.hints, &fixture.tuning);
        wish.write(way, out.as_object_mut().unwrap(), &fixture.context());
        out
    }

    #[test]
    fn k024_adaptive_becomes_a_budget_on_an_older_model() {
        let asked = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "max_tokens": 64000});
        let out = written(Messages, Messages, old_claude(), asked.clone(), asked);
        assert_eq!(
            out,
            json!({"thinking": {"type": "enabled", "budget_tokens": 24576}, "max_tokens": 64000})
        );
        let asked = json!({"thinking": {"type": "adaptive"}});
        let out = written(Messages, Messages, old_claude(), asked.clone(), asked);
        assert_eq!(out["thinking"]["budget_tokens"], 1024);
    }

    #[test]
    fn k025_a_budget_becomes_an_effort_where_only_that_is_taken() {
        let asked = json!({"thinking": {"type": "enabled", "budget_tokens": 31999}});
        let out = written(Messages, Messages, new_claude(&["low", "medium"]), asked.clone(), asked);
        assert_eq!(
            out,
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}})
        );
    }

    #[test]
    fn k026_an_effort_stays_in_the_list() {
        let asked = json!({"output_config": {"effort": "max", "format": {}}, "thinking": {"type": "adaptive", "budget_tokens": 9}});
        let out = written(Messages, Messages, new_claude(&["medium"]), asked.clone(), asked);
        assert_eq!(out["output_config"], json!({"format": {}, "effort": "medium"}));
        assert_eq!(out["thinking"], json!({"type": "adaptive"}));
    }

    #[test]
    fn k024_k025_what_else_the_client_says_of_thinking_stays() {
        let asked = json!({"thinking": {"type": "adaptive", "display": "omitted", "new": 1}});
        let out = written(Messages, Messages, new_claude(&[]), asked.clone(), asked.clone());
        assert_eq!(out, asked);
        let out = written(Messages, Messages, old_claude(), asked.clone(), asked);
        assert_eq!(
            out["thinking"],
            json!({"type": "enabled", "budget_tokens": 1024, "display": "omitted", "new": 1})
        );
    }

    #[test]
    fn k027_a_budget_stays_below_the_limit() {
        let asked = json!({"thinking": {"type": "enabled", "budget_tokens": 31999}, "max_tokens": 8000});
        let out = written(Messages, Messages, old_claude(), asked.clone(), asked);
        assert_eq!(out["thinking"]["budget_tokens"], 7999);
        let asked = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 1000});
        let out = written(Messages, Messages, old_claude(), asked.clone(), asked);
        assert_eq!(out["thinking"], json!({"type": "disabled"}));
    }

    #[test]
    fn k028_a_forced_tool_turns_thinking_off() {
        let mut out = json!({"thinking": {"type": "adaptive"}, "tool_choice": {"type": "any"}});
        settle_messages(out.as_object_mut().unwrap(), &old_claude());
        assert_eq!(
            out,
            json!({"thinking": {"type": "disabled"}, "tool_choice": {"type": "any"}})
        );
    }

    #[test]
    fn k033_a_loop_without_its_thinking_goes_on_without() {
        let mut out = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}, "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t"}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]});
        settle_messages(out.as_object_mut().unwrap(), &old_claude());
        assert_eq!(out["thinking"], json!({"type": "disabled"}));
    }

    #[test]
    fn k128_minimal_and_none_are_said_to_claude() {
        let effort = |effort: &str| json!({"reasoning": {"effort": effort}});
        let out = written(Responses, Messages, old_claude(), effort("minimal"), json!({}));
        assert_eq!(out["thinking"], json!({"type": "enabled", "budget_tokens": 1024}));
        let out = written(
            Responses,
            Messages,
            new_claude(&["low", "high"]),
            effort("minimal"),
            json!({}),
        );
        assert_eq!(
            out,
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}})
        );
        let out = written(Responses, Messages, old_claude(), effort("none"), json!({}));
        assert_eq!(out, json!({"thinking": {"type": "disabled"}}));
    }

    #[test]
    fn what_claude_is_not_asked_it_is_not_told() {
        let efforts = ["low", "high"];
        for client in Protocol::ALL {
            assert_eq!(
                written(client, Messages, new_claude(&efforts), json!({}), json!({})),
                json!({})
            );
            assert_eq!(written(client, Messages, old_claude(), json!({}), json!({})), json!({}));
        }
        // An effort alone asks Claude for thoroughness, not for thinking.
        let asked = json!({"output_config": {"effort": "high"}});
        assert_eq!(
            written(Messages, Messages, new_claude(&efforts), asked.clone(), asked.clone()),
            asked
        );
        assert_eq!(
            written(Messages, Messages, old_claude(), asked.clone(), asked),
            json!({})
        );
    }

    #[test]
    fn a_named_budget_stays_beside_an_effort_where_both_are_taken() {
        let supports =
            json!({"adaptive_thinking": true, "max_thinking_budget": 32000, "reasoning_effort": ["low", "high"]});
        let claude = model(json!({"id": "claude-opus-4.6", "capabilities": {"supports": supports}}));
        let thinking = json!({"type": "enabled", "budget_tokens": 5000, "display": "omitted"});
        let asked = json!({"thinking": thinking, "output_config": {"effort": "max"}});
        let out = written(Messages, Messages, claude.clone(), asked.clone(), asked);
        assert_eq!(out, json!({"thinking": thinking, "output_config": {"effort": "high"}}));
        let asked = json!({"thinking": thinking});
        assert_eq!(written(Messages, Messages, claude, asked.clone(), asked.clone()), asked);
    }

    #[test]
    fn gpt_is_told_an_effort() {
        let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 10000}});
        let out = written(
            Messages,
            Responses,
            gpt(&["low", "medium", "high"]),
            budget.clone(),
            json!({}),
        );
        assert_eq!(out, json!({"reasoning": {"effort": "medium", "summary": "auto"}}));
        let out = written(Messages, Chat, gpt(&["low"]), budget, json!({}));
        assert_eq!(out, json!({"reasoning_effort": "low"}));
        let off = json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}});
        let out = written(Messages, Responses, gpt(&["low", "high"]), off, json!({}));
        assert_eq!(out, json!({"reasoning": {"effort": "low"}}));
        assert_eq!(
            written(Messages, Responses, gpt(&["low"]), json!({}), json!({})),
            json!({})
        );
        let plain = model(json!({"id": "gpt-4.1"}));
        assert_eq!(
            written(Chat, Responses, plain, json!({"reasoning_effort": "low"}), json!({})),
            json!({})
        );
    }

    #[test]
    fn gemini_is_told_a_budget() {
        let supports = json!({"min_thinking_budget": 128, "max_thinking_budget": 32000});
        let gemini = model(json!({"id": "gemini-2.5-pro", "capabilities": {"supports": supports}}));
        let asked = json!({"thinking": {"type": "enabled", "budget_tokens": 50000}});
        let out = written(Messages, Chat, gemini.clone(), asked, json!({"max_tokens": 20000}));
        assert_eq!(out["thinking_budget"], 19999);
        assert_eq!(written(Messages, Chat, gemini, json!({}), json!({})), json!({}));
    }

    #[test]
    fn versions_of_claude_are_read() {
        assert_eq!(claude_version("claude-opus-4.7-high"), Some((4, 7)));
        assert_eq!(claude_version("claude-sonnet-5"), Some((5, 0)));
        assert!(only_adaptive("claude-sonnet-5") && !only_adaptive("claude-sonnet-4.6"));
    }
}
