//! What a person said, told from what their program put around it. Knows no tools and no answers.

/// The texts of a person without what programs put beside them.
pub fn human_text(texts: &[String]) -> String {
    let own: Vec<String> = texts
        .iter()
        .map(|text| without_additions(text))
        .filter(|text| !text.is_empty() && !is_machine_text(text))
        .collect();
    let said = own.join("\n");
    unquoted(since_summary(&said))
}

/// How clients and proxies begin a summary that stands for everything before it.
const SUMMARIES: [&str; 3] = [
    "This session is being continued from a previous conversation",
    "Another language model started to solve this problem",
    "The earlier part of this conversation was summarised",
];

/// What was said from the last summary on: the wishes before it were dealt with.
fn since_summary(said: &str) -> &str {
    let at_line = |at: &usize| *at == 0 || said.as_bytes().get(at - 1) == Some(&b'\n');
    let last = |opening| said.rmatch_indices(opening).map(|(at, _)| at).find(at_line);
    let from = SUMMARIES.into_iter().filter_map(last).max();
    from.and_then(|from| said.get(from..)).unwrap_or(said)
}

/// Text that a client adds on its own: one element of markup from end to end, or a note to a result.
fn is_machine_text(text: &str) -> bool {
    let is_note = text.starts_with("[document: ") && text.ends_with(']');
    if is_note || text == "Tool loaded." || text.starts_with("Image from tool result ") {
        return true;
    }
    let Some(rest) = text.strip_prefix('<') else {
        return false;
    };
    let name: String = rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || "_- ".contains(*c))
        .collect();
    let name = name.split(' ').next().unwrap_or_default();
    !name.is_empty() && text.ends_with(&format!("</{name}>"))
}

/// Elements that clients put around what they add to a person's words.
const ADDED: [&str; 4] = [
    "system-reminder",
    "environment_context",
    "user_instructions",
    "INSTRUCTIONS",
];

/// The text without such elements, and without the heading that stands before one of them.
fn without_additions(text: &str) -> String {
    let mut text = text.to_owned();
    for name in ADDED {
        text = without_element(&text, name);
    }
    let own: Vec<&str> = text.lines().filter(|line| !line.starts_with("# AGENTS.md")).collect();
    own.join("\n").trim().to_owned()
}

fn without_element(text: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once(&open) {
        kept.push_str(before);
        rest = inside.split_once(&close).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept
}

/// A prompt that its client wrapped in quotation marks, as command lines do.
fn unquoted(text: &str) -> String {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inside) if !inside.replace("\\\"", "").contains('"') => inside.replace("\\\"", "\""),
        _ => text.to_owned(),
    }
}

/// The text without `[[sim:…]]`.
pub fn without_markers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[[sim:") {
        kept.push_str(before);
        rest = after.split_once("]]").map_or("", |(_, rest)| rest);
    }
    kept.push_str(rest);
    kept.trim().to_owned()
}
