//! A Messages request as Copilot takes it: what it refuses is removed, what it demands is put in order.
//!
//! [`request`] serves the client of the same protocol. [`settle`] and [`outgoing`] are the part of it that holds for a
//! request that was translated as well.

use serde_json::{Value, json};

use super::{betas, history, marks, tools};
use crate::protocol::Protocol::Messages;
use crate::protocol::failure::Failure;
use crate::translate::history::blocks_of;
use crate::translate::rules::reasoning::{self, Wish};
use crate::translate::rules::tools::alias_names;
use crate::translate::rules::{attribution, cache_marks, field, images, list, sampling};
use crate::translate::{Context, Object, Outgoing, Reply};

/// Fields that Copilot refuses, or that are none of its business.
const REFUSED: [&str; 12] = [
    "service_tier",
    "speed",
    "inference_geo",
    "container",
    "mcp_servers",
    "user_profile_id",
    "diagnostics",
    "fallbacks",
    "betas",
    "budget_tokens_max",
    "stream_options",
    "output_format",
];
const LONGEST_USER: usize = 256;

/// The request as Copilot takes it.
pub fn request(mut out: Object, context: &Context) -> Result<Outgoing, Failure> {
    images::admit(Messages, &mut out, context.model)?;
    if context.tuning.strip_attribution {
        attribution::strip(&mut out);
    }
    let wish = Wish::read(Messages, &out, context.hints, context.tuning);
    sampling::write_limit(Messages, sampling::limit(Messages, &out), &mut out, context);
    wish.write(Messages, &mut out, context);
    name_format(&mut out);
    tools::clean(&mut out, context)?;
    let aliased = alias_names(Messages, &mut out);
    settle(&mut out, context);
    marks::clean(&mut out, context);
    cache_marks::trim(&mut out);
    let reply = Reply {
        show_reasoning: wish.shows,
        tools: aliased,
        web_search: tools::searches(&out),
        ..Reply::default()
    };
    Ok(outgoing(out, reply, context))
}

/// Puts in order what every Messages body must have in order, whoever wrote it. The output limit, the tools and the
/// thinking are in it already.
pub(in crate::translate) fn settle(out: &mut Object, context: &Context) {
    out.insert("model".into(), context.model.id.clone().into());
    for field in REFUSED {
        out.shift_remove(field);
    }
    keep_user_only(out);
    betas::drop_unwelcome(out, context);
    let mut messages = match out.get_mut("messages").map(Value::take) {
        Some(Value::Array(messages)) => messages,
        _ => Vec::new(),
    };
    let leading = history::mend(&mut messages, thinks(out), context);
    add_system(out, leading);
    out.insert("messages".into(), Value::Array(messages));
    reasoning::settle_messages(out, context.model);
    keep_fitting_edits(out);
}

/// The finished request, with what goes beside its body.
pub(in crate::translate) fn outgoing(body: Object, reply: Reply, context: &Context) -> Outgoing {
    Outgoing {
        betas: betas::of(&body, context),
        vision: images::has_image(Messages, &body),
        reply: Reply {
            model: context.requested.to_owned(),
            ran: context.model.id.clone(),
            ..reply
        },
        body,
    }
}

/// Moves the form of the answer from where it used to be.
fn name_format(out: &mut Object) {
    let legacy = out.shift_remove("output_format").filter(Value::is_object);
    let Some(legacy) = legacy else { return };
    match out.get_mut("output_config").and_then(Value::as_object_mut) {
        Some(config) => drop(config.entry("format").or_insert(legacy)),
        None => drop(out.insert("output_config".into(), json!({"format": legacy}))),
    }
}

fn keep_user_only(out: &mut Object) {
    let user = field(out, "metadata")["user_id"].as_str();
    match user
        .filter(|user| user.chars().count() <= LONGEST_USER)
        .map(str::to_owned)
    {
        Some(user) => drop(out.insert("metadata".into(), json!({"user_id": user}))),
        None => drop(out.shift_remove("metadata")),
    }
}

/// Appends to the system prompt; blocks that say nothing are refused upstream.
fn add_system(out: &mut Object, more: Vec<Value>) {
    let is_blank = |block: &Value| block["text"].as_str().is_some_and(|text| text.trim().is_empty());
    match out.get_mut("system") {
        Some(Value::String(text)) if more.is_empty() && !text.trim().is_empty() => return,
        Some(Value::Array(blocks)) if more.is_empty() && !blocks.is_empty() && !blocks.iter().any(is_blank) => return,
        _ => {}
    }
    let mut system = blocks_of(out.get_mut("system").map(Value::take).unwrap_or_default());
    system.extend(more);
    system.retain(|block| !is_blank(block));
    if system.is_empty() {
        out.shift_remove("system");
    } else {
        out.insert("system".into(), Value::Array(system));
    }
}

fn thinks(out: &Object) -> bool {
    matches!(field(out, "thinking")["type"].as_str(), Some("enabled" | "adaptive"))
}

/// Without thinking, an edit that clears it is refused.
fn keep_fitting_edits(out: &mut Object) {
    if thinks(out) || list(&field(out, "context_management")["edits"]).is_empty() {
        return;
    }
    let edits = out
        .get_mut("context_management")
        .and_then(|management| management["edits"].as_array_mut());
    if let Some(edits) = edits {
        edits.retain(|edit| {
            !edit["type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("clear_thinking_"))
        });
        if edits.is_empty() {
            out.shift_remove("context_management");
        }
    }
}
