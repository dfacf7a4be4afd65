//! What to change in a request that upstream refused, so that it is worth sending once more. A table: each row knows one
//! refusal by its words, its fix, and the fact about the model that makes the fix unnecessary next time.
//!
//! Facts are remembered per model as `Memory::learned` and applied by [`apply`] before the first attempt:
//!
//! | key | value |
//! |---|---|
//! | `<way>.rejected` | paths that are deleted; `*` stands for every element of a list |
//! | `<way>.efforts` | the reasoning efforts that are accepted |
//! | `messages.betas` | `anthropic-beta` tokens that are not sent |
//! | `messages.thinking` | `adaptive` or `enabled`: the only form that is accepted |
//! | `messages.thinking_off` | false: thinking cannot be turned off, `disabled` is left out |
//! | `messages.system_role` | false: system messages between the others are folded |
//! | `chat.max_tokens` | the accepted name of the output limit |
//! | `chat.tools_need_responses` | true: tools go by Responses |
//! | `messages.tools` | types of the tools of a server's own that are not offered |
//! | `responses.tools` | tool types that are replaced by functions, or removed where nothing can stand for them |

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::rules::betas;
use super::rules::structured;
use super::rules::tools::plain;
use super::{ClientTool, Object, Outgoing};
use crate::protocol::Protocol;
use crate::protocol::effort::Effort;
use crate::protocol::failure::{Failure, Kind};

mod edits;

use edits::{
    clamp_effort, column, delete, drop_tools, efforts, leave_thinking_on, rename_limit, strip_thinking, switch_thinking,
};

/// What was changed, and what is now known.
#[derive(Clone, Debug, PartialEq)]
pub struct Healed {
    /// The row's name in the log.
    pub rule: &'static str,
    /// A fact to remember for the model, if the refusal taught one.
    pub learned: Option<(String, Value)>,
    /// Translate anew for this protocol, with what is now known; the body is unchanged.
    pub reroute: Option<Protocol>,
}

/// Retries of one request, over all rows.
pub const MAX_HEALS: usize = 3;

type Facts = BTreeMap<String, Value>;

/// One refusal, and all that a row may look at and change.
struct Case<'a> {
    way: Protocol,
    text: &'a str,
    code: &'a str,
    param: &'a str,
    body: &'a mut Object,
    betas: &'a mut Vec<String>,
    /// What the answer will know of the tools.
    tools: &'a mut BTreeMap<String, ClientTool>,
    facts: &'a Facts,
    best_effort: bool,
}

type Fix = fn(&mut Case) -> Option<Outcome>;

enum Outcome {
    Retry,
    Learned(String, Value),
    /// Translate anew for this protocol, knowing this.
    Anew(Protocol, String, Value),
}

/// Rows are tried in this order; each may act once per request.
const ROWS: [(&str, Fix); 16] = [
    ("unsupported beta", unsupported_beta),
    ("tools need responses", tools_need_responses),
    ("output limit's name", limit_name),
    ("reasoning effort", reasoning_effort),
    ("form of thinking", form_of_thinking),
    ("disabled thinking", disabled_thinking),
    ("stale thinking", stale_thinking),
    // Before the next: an id may be good on one connection only, the reasoning under it is good on each.
    ("item ids", item_ids),
    ("stale encrypted reasoning", stale_reasoning),
    ("stale compaction", stale_compaction),
    ("system message", system_role),
    ("temperature or top_p", sampling_pair),
    ("tool type", tool_type),
    ("server tool", server_tool),
    ("strict schema", strict_schema),
    ("unknown item", unknown_item),
];
/// Fields that are not taken may be several, one refusal each.
const REPEATED: [(&str, Fix); 2] = [
    ("extra input", extra_input),
    ("unsupported parameter", unsupported_parameter),
];

/// Changes a refused request so that it may pass. `None` where no row knows the refusal, or each that does has acted.
pub fn heal(
    way: Protocol,
    refusal: &Failure,
    request: &mut Outgoing,
    facts: &Facts,
    best_effort: bool,
    done: &[&'static str],
) -> Option<Healed> {
    if refusal.kind != Kind::BadRequest || done.len() >= MAX_HEALS {
        return None;
    }
    let text = refusal.message.clone();
    let mut case = Case {
        way,
        text: &text,
        code: refusal.code.as_deref().unwrap_or_default(),
        param: refusal.param.as_deref().unwrap_or_default(),
        body: &mut request.body,
        betas: &mut request.betas,
        tools: &mut request.reply.tools,
        facts,
        best_effort,
    };
    let rows = ROWS
        .into_iter()
        .filter(|(rule, _)| !done.contains(rule))
        .chain(REPEATED);
    for (rule, fix) in rows {
        let healed = |learned, reroute| Some(Healed { rule, learned, reroute });
        match fix(&mut case) {
            None => {}
            Some(Outcome::Retry) => return healed(None, None),
            Some(Outcome::Learned(key, value)) => return healed(Some((key, value)), None),
            Some(Outcome::Anew(way, key, value)) => return healed(Some((key, value)), Some(way)),
        }
    }
    None
}

/// Applies what is known about the model to a request that has not been sent yet.
pub fn apply(way: Protocol, facts: &Facts, request: &mut Outgoing) {
    let fact = |name: &str| facts.get(&key(way, name));
    for path in strings(fact("rejected")) {
        if path == FORM {
            structured::ask_in_words(&mut request.body);
        } else {
            delete(&mut request.body, &path);
        }
    }
    if let Some(list) = fact("efforts") {
        clamp_effort(way, &mut request.body, &efforts(list));
    }
    if let Some(name) = fact("max_tokens").and_then(Value::as_str) {
        rename_limit(&mut request.body, name);
    }
    if let Some(form) = fact("thinking").and_then(Value::as_str)
        && switch_thinking(&mut request.body, form)
    {
        betas::interleave(&request.body, &mut request.betas);
    }
    if fact("thinking_off") == Some(&json!(false)) {
        leave_thinking_on(&mut request.body);
    }
    let refused = strings(fact("tools"));
    if way == Protocol::Responses && !refused.is_empty() {
        request.reply.tools.extend(plain(&mut request.body, &refused));
        drop_tools(&mut request.body, |kind| refused.iter().any(|one| one == kind));
    }
    let refused = strings(facts.get("messages.betas"));
    request.betas.retain(|beta| !refused.contains(beta));
}

fn key(way: Protocol, name: &str) -> String {
    format!("{}.{name}", way.name())
}

/// What a list remembers at most, and the longest entry: refusals also name what clients made up.
const MAX_ENTRIES: usize = 64;
const MAX_ENTRY_BYTES: usize = 128;

/// The remembered list under a key, with one more entry.
fn grown(case: &Case, name: &str, more: impl IntoIterator<Item = String>) -> Outcome {
    let key = key(case.way, name);
    let mut list = strings(case.facts.get(&key));
    for entry in more {
        if !list.contains(&entry) && list.len() < MAX_ENTRIES && entry.len() <= MAX_ENTRY_BYTES {
            list.push(entry);
        }
    }
    Outcome::Learned(key, json!(list))
}

fn strings(list: Option<&Value>) -> Vec<String> {
    let entries = list.and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
}

// The rows.

fn unsupported_beta(case: &mut Case) -> Option<Outcome> {
    let named = match case.text.split_once("unsupported beta header(s):") {
        Some((_, named)) => named,
        // How Anthropic says it: Unexpected value(s) `a`, `b` for the `anthropic-beta` header.
        None => {
            let (_, named) = case.text.split_once("Unexpected value(s) ")?;
            named.split_once(" for the `anthropic-beta` header")?.0
        }
    };
    let named: Vec<String> = named
        .split(',')
        .map(|beta| beta.trim().trim_end_matches('.').trim_matches('`').to_owned())
        .collect();
    let before = case.betas.len();
    case.betas.retain(|beta| !named.contains(beta));
    (case.betas.len() < before).then(|| grown(case, "betas", named))
}

fn tools_need_responses(case: &mut Case) -> Option<Outcome> {
    let tells = case
        .text
        .contains("Function tools with reasoning_effort are not supported")
        || case.text.contains("tools") && case.text.contains("/v1/responses");
    (case.way == Protocol::Chat && tells)
        .then(|| Outcome::Anew(Protocol::Responses, key(case.way, "tools_need_responses"), json!(true)))
}

fn limit_name(case: &mut Case) -> Option<Outcome> {
    if case.way != Protocol::Chat {
        return None;
    }
    let bare: String = case
        .text
        .to_ascii_lowercase()
        .chars()
        .filter(|letter| !"'\"`".contains(*letter))
        .collect();
    let refused = unsupported_name(case.text);
    let name = if bare.contains("use max_completion_tokens") || refused == Some("max_tokens") {
        "max_completion_tokens"
    } else if bare.contains("use max_tokens") || refused == Some("max_completion_tokens") {
        "max_tokens"
    } else {
        return None;
    };
    rename_limit(case.body, name).then(|| Outcome::Learned(key(case.way, "max_tokens"), json!(name)))
}

fn reasoning_effort(case: &mut Case) -> Option<Outcome> {
    let lower = case.text.to_ascii_lowercase();
    let about_effort =
        case.code == "invalid_reasoning_effort" || lower.contains("effort") || case.param.contains("effort");
    let mut lists = [
        "supported values",
        "supported efforts",
        "input should be",
        "must be one of",
    ]
    .into_iter();
    let listed = lists.find_map(|words| Some(lower.split_once(words)?.1));
    let listed = listed.filter(|_| about_effort)?;
    let words = listed.split(|letter: char| !letter.is_ascii_lowercase());
    let mut accepted: Vec<Effort> = words.filter_map(Effort::read).collect();
    accepted.sort_unstable();
    accepted.dedup();
    if accepted.is_empty() || !clamp_effort(case.way, case.body, &accepted) {
        return None;
    }
    let names: Vec<&str> = accepted.iter().map(|effort| effort.name()).collect();
    Some(Outcome::Learned(key(case.way, "efforts"), json!(names)))
}

fn form_of_thinking(case: &mut Case) -> Option<Outcome> {
    let lower = case.text.to_ascii_lowercase();
    let form = if lower.contains("adaptive thinking is not supported") {
        "enabled"
    } else if lower.contains("thinking") && lower.contains("enabled") && lower.contains("not supported") {
        "adaptive"
    } else {
        return None;
    };
    if !switch_thinking(case.body, form) {
        return None;
    }
    betas::interleave(case.body, case.betas);
    Some(Outcome::Learned(key(case.way, "thinking"), json!(form)))
}

fn disabled_thinking(case: &mut Case) -> Option<Outcome> {
    let about = case.text.contains("thinking") && case.text.contains("disabled");
    (about && leave_thinking_on(case.body)).then(|| Outcome::Learned(key(case.way, "thinking_off"), json!(false)))
}

fn stale_thinking(case: &mut Case) -> Option<Outcome> {
    let lower = case.text.to_ascii_lowercase();
    let stale = lower.contains("signature") && lower.contains("thinking")
        || lower.contains("thinking") && lower.contains("cannot be modified")
        || lower.contains("must contain thinking")
        || lower.contains("signature: field required")
        || lower.contains("expected thinking or redacted_thinking")
        || lower.contains("expected `thinking` or `redacted_thinking`");
    if case.way != Protocol::Messages || !stale {
        return None;
    }
    let stripped = strip_thinking(case.body);
    let expected = lower.contains("expected");
    let was_on = case
        .body
        .get("thinking")
        .is_some_and(|thinking| thinking["type"] == "enabled");
    if expected && was_on {
        case.body.insert("thinking".into(), json!({"type": "disabled"}));
    }
    (stripped || expected && was_on).then_some(Outcome::Retry)
}

fn stale_reasoning(case: &mut Case) -> Option<Outcome> {
    (is_stale(case) && drop_items(case.body, "reasoning")).then_some(Outcome::Retry)
}

/// A compaction stands for the history before it, so it goes only when no reasoning is left to blame.
fn stale_compaction(case: &mut Case) -> Option<Outcome> {
    (is_stale(case) && drop_items(case.body, "compaction")).then_some(Outcome::Retry)
}

fn is_stale(case: &Case) -> bool {
    let lower = case.text.to_ascii_lowercase();
    let unreadable = ["could not be verified", "could not be decrypted"]
        .iter()
        .any(|words| lower.contains(words));
    case.way == Protocol::Responses
        && (case.code == "invalid_encrypted_content"
            || lower.contains("encrypted") && unreadable
            || lower.contains("item_id mismatch")
            || lower.contains("does not belong to this connection"))
}

fn drop_items(body: &mut Object, kind: &str) -> bool {
    let Some(input) = body.get_mut("input").and_then(Value::as_array_mut) else {
        return false;
    };
    let before = input.len();
    input.retain(|item| item["type"] != kind);
    input.len() < before
}

/// An item of a kind that this model does not know, named by its place. What the request is about is not left out.
fn unknown_item(case: &mut Case) -> Option<Outcome> {
    const CARRYING: [&str; 5] = [
        "message",
        "function_call",
        "function_call_output",
        "compaction",
        "compaction_trigger",
    ];
    let about = case.text.contains("Invalid value") || case.code == "invalid_value";
    if case.way != Protocol::Responses || !about {
        return None;
    }
    let place = [case.param, case.text].into_iter().find_map(|text| {
        let (_, rest) = text.split_once("input[")?;
        let (index, rest) = rest.split_once(']')?;
        let names_the_item = !rest.starts_with('.') || rest.starts_with(".type");
        index.parse::<usize>().ok().filter(|_| names_the_item)
    })?;
    let input = case.body.get_mut("input")?.as_array_mut()?;
    let kind = input.get(place)?["type"].as_str()?;
    if CARRYING.contains(&kind) {
        return None;
    }
    input.remove(place);
    Some(Outcome::Retry)
}

fn item_ids(case: &mut Case) -> Option<Outcome> {
    let malformed = case.text.contains("Invalid 'input[") && case.text.contains("].id'");
    let of_another_connection = case.text.contains("does not belong to this connection");
    if case.way != Protocol::Responses || !(malformed || of_another_connection) {
        return None;
    }
    delete(case.body, "input.*.id").then(|| grown(case, "rejected", ["input.*.id".to_owned()]))
}

fn system_role(case: &mut Case) -> Option<Outcome> {
    let lower = case.text.to_ascii_lowercase();
    let about = lower.contains("messages")
        && (lower.contains("role") && lower.contains("system") || lower.contains(".role: input should be"));
    if case.way != Protocol::Messages || !about {
        return None;
    }
    let messages = case.body.get_mut("messages")?.as_array_mut()?;
    if !super::history::fold_system(messages) {
        return None;
    }
    case.betas.retain(|beta| beta != betas::SYSTEM_ROLE);
    Some(Outcome::Learned(key(case.way, "system_role"), json!(false)))
}

/// The form of an answer. Without it the client gets something else than it asked for, so it goes only where settings
/// allow that it is asked for in words.
const FORM: &str = "output_config.format";

fn form_in_words(case: &mut Case) -> Option<Outcome> {
    (case.best_effort && structured::ask_in_words(case.body)).then(|| grown(case, "rejected", [FORM.to_owned()]))
}

fn extra_input(case: &mut Case) -> Option<Outcome> {
    const TEXT: &str = ": Extra inputs are not permitted";
    let mut paths = Vec::new();
    for (at, _) in case.text.match_indices(TEXT) {
        let before = &case.text[..at];
        let start = before
            .rfind(|letter: char| !is_path_letter(letter))
            .map_or(0, |end| end + before[end..].chars().next().map_or(1, char::len_utf8));
        let path = column(&before[start..]);
        if is_form(case, &path) {
            return form_in_words(case);
        }
        if may_go(case, &path) && delete(case.body, &path) {
            paths.push(path);
        }
    }
    (!paths.is_empty()).then(|| grown(case, "rejected", paths))
}

/// Whether a field may be left out. The form of the answer is a promise to the client: only with the setting for it is
/// it broken.
fn may_go(case: &Case, path: &str) -> bool {
    case.best_effort || !is_form(case, path)
}

fn is_form(case: &Case, path: &str) -> bool {
    let holds_it = |name: &str| case.body.get(name).is_some_and(|holder| holder["format"].is_object());
    match path {
        "response_format" | FORM | "text.format" => true,
        "output_config" | "text" => holds_it(path),
        _ => false,
    }
}

fn is_path_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "._$-".contains(letter)
}

fn unsupported_parameter(case: &mut Case) -> Option<Outcome> {
    let by_code = matches!(
        case.code,
        "unsupported_parameter" | "unsupported_value" | "unknown_parameter"
    );
    let named = unsupported_name(case.text).or(by_code.then_some(case.param));
    // OpenAI writes `input[3].id` where Anthropic writes `input.3.id`.
    let path = column(&named?.replace('[', ".").replace(']', ""));
    (may_go(case, &path) && delete(case.body, &path)).then(|| grown(case, "rejected", [path]))
}

/// The name in `Unsupported parameter: 'name'`, in `Unsupported value: 'name' does not support 0.2`, or, as Anthropic has
/// it, in "`name` is deprecated for this model".
fn unsupported_name(text: &str) -> Option<&str> {
    const OPENINGS: [&str; 4] = [
        "Unsupported parameter: ",
        "Unknown parameter: ",
        "Unsupported value: ",
        "Unrecognized request argument supplied: ",
    ];
    const ENDINGS: [&str; 2] = ["` is deprecated for this model", "` is not supported for this model"];
    let is_end = |letter: char| letter.is_whitespace() || "'\"`".contains(letter);
    if let Some((_, rest)) = OPENINGS.iter().find_map(|opening| text.split_once(opening)) {
        let name = rest.trim_start().trim_start_matches(['\'', '"', '`']);
        return name.split(is_end).next();
    }
    let (before, _) = ENDINGS.iter().find_map(|ending| text.split_once(ending))?;
    before.rsplit('`').next()
}

fn sampling_pair(case: &mut Case) -> Option<Outcome> {
    let both = case.text.contains("temperature") && case.text.contains("top_p") && case.text.contains("cannot both");
    (both && delete(case.body, "top_p")).then(|| grown(case, "rejected", ["top_p".to_owned()]))
}

/// How an organisation's policy is told.
const POLICY: [&str; 3] = [
    "allowedPartnerModelFeatures",
    "disallowed feature",
    "organization policy constraint",
];

fn tool_type(case: &mut Case) -> Option<Outcome> {
    const REPLACEABLE: [&str; 5] = ["custom", "local_shell", "shell", "apply_patch", "namespace"];
    if case.way != Protocol::Responses {
        return None;
    }
    // What follows is what the model does take.
    let refusal = case.text.split("Supported values").next().unwrap_or_default();
    let is_named = |kind: &str| quotes(refusal, kind);
    let by_policy = POLICY.iter().any(|words| case.text.contains(words));
    let is_refused = |kind: &str| {
        let is_search = kind.starts_with("web_search");
        let is_hosted = is_search || matches!(kind, "tool_search" | "mcp");
        is_hosted && (is_named(kind) || is_search && (by_policy || says_no(refusal) && refusal.contains(kind)))
    };
    let removed = offered(case.body, is_refused);
    if !removed.is_empty() {
        drop_tools(case.body, |kind| removed.iter().any(|one| one == kind));
        return Some(grown(case, "tools", removed));
    }
    let kind = (*REPLACEABLE.iter().find(|kind| is_named(kind))?).to_owned();
    let replaced = plain(case.body, std::slice::from_ref(&kind));
    if replaced.is_empty() {
        return None;
    }
    case.tools.extend(replaced);
    Some(grown(case, "tools", [kind]))
}

/// A tool that Anthropic's servers run, where this model is served without it.
fn server_tool(case: &mut Case) -> Option<Outcome> {
    const RUN_BY_SERVERS: [&str; 4] = ["web_search_20", "web_fetch_20", "code_execution_20", "computer_20"];
    // What follows is what the model does take.
    let refusal = case.text.split("expected tags").next().unwrap_or_default();
    let by_policy = POLICY.iter().any(|words| refusal.contains(words));
    let is_named = |kind: &str, start: &str| {
        let family = start.trim_end_matches("_20");
        quotes(refusal, kind) || (by_policy || says_no(refusal)) && refusal.contains(family)
    };
    let is_refused = |kind: &str| {
        let mut families = RUN_BY_SERVERS.iter().filter(|start| kind.starts_with(**start));
        families.any(|start| is_named(kind, start))
    };
    let refused = match case.way {
        Protocol::Messages => offered(case.body, is_refused),
        _ => Vec::new(),
    };
    if refused.is_empty() {
        return None;
    }
    match grown(case, "tools", refused) {
        Outcome::Learned(key, value) => Some(Outcome::Anew(case.way, key, value)),
        other => Some(other),
    }
}

/// Whether a refusal names a type as such, not as a step of a path to some field.
fn quotes(refusal: &str, kind: &str) -> bool {
    ["'", "\"", "`"]
        .iter()
        .any(|quote| refusal.contains(&format!("{quote}{kind}{quote}")))
}

/// Whether a refusal says that something is not to be had, not that it is wrong.
fn says_no(refusal: &str) -> bool {
    let lower = refusal.to_ascii_lowercase();
    [
        "not support",
        "unsupported",
        "not enabled",
        "not available",
        "not allowed",
    ]
    .iter()
    .any(|words| lower.contains(words))
}

/// The types of the offered tools that are such.
fn offered(body: &Object, is_such: impl Fn(&str) -> bool) -> Vec<String> {
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let mut kinds: Vec<String> = tools
        .filter_map(|tool| tool["type"].as_str().filter(|kind| is_such(kind)).map(str::to_owned))
        .collect();
    kinds.dedup();
    kinds
}

fn strict_schema(case: &mut Case) -> Option<Outcome> {
    let about = case.text.contains("FAILED_PRECONDITION")
        || case.text.contains("allowedPartnerModelFeatures")
        || case.text.contains("strict") && case.text.contains("not supported");
    if case.way != Protocol::Messages || !about {
        return None;
    }
    if delete(case.body, "tools.*.strict") {
        return Some(grown(case, "rejected", ["tools.*.strict".to_owned()]));
    }
    form_in_words(case)
}

#[cfg(test)]
mod tests;
