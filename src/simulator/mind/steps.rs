//! Wishes in plain words, and the client's own tool that fulfils each.
//!
//! ```text
//! please run: echo hi               a command
//! please write note.txt: hello      a file with this text
//! please read note.txt              a file's content
//! please patch note.txt: one\ntwo   a new file by a patch; `\n` begins another line
//! please patch note.txt: one => 1   lines of a file in the place of others
//! please search: tallest tower      a search of the web
//! please call get_weather {"city":"Oslo"}     any tool, by name
//! ```
//!
//! Several wishes stand on lines of their own, or follow on one line with `then` (`then run: ls`). Tools are recognised
//! by name and by the names of their arguments, whichever program offers them.

use serde_json::{Map, Value, json};

use super::patches::Change;
use super::{Call, Tool, ToolKind, schema};

/// One wish.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Run(String),
    Write { file: String, text: String },
    Read(String),
    Patch { file: String, change: Change },
    Search(String),
    Call { name: String, input: String },
}

/// The wishes in a prompt, in order.
pub fn read(prompt: &str) -> Vec<Step> {
    prompt.lines().flat_map(line_steps).collect()
}

/// The words that begin a wish, after `please` or `then`.
const VERBS: [&str; 6] = ["run:", "search:", "write ", "read ", "patch ", "call "];

fn line_steps(line: &str) -> Vec<Step> {
    let Some(mut at) = find_verb(line, "please ") else {
        return Vec::new();
    };
    let mut steps = Vec::new();
    loop {
        let rest = line.get(at..).unwrap_or_default();
        let next = find_verb(rest, " then ");
        let end = next.map_or(rest.len(), |next| next.saturating_sub(" then ".len()));
        steps.extend(step(rest.get(..end).unwrap_or_default()));
        match next {
            Some(next) => at += next,
            None => return steps,
        }
    }
}

/// Where a verb stands that follows `word`.
fn find_verb(line: &str, word: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let mut from = 0;
    while let Some(found) = lower.get(from..)?.find(word) {
        let verb = from + found + word.len();
        if VERBS
            .iter()
            .any(|known| lower.get(verb..).is_some_and(|rest| rest.starts_with(known)))
        {
            return Some(verb);
        }
        from = verb;
    }
    None
}

fn step(text: &str) -> Option<Step> {
    let (verb, rest) = text.split_at_checked(text.find([':', ' '])? + 1)?;
    let rest = rest.trim();
    let verb = verb.to_ascii_lowercase();
    let separator = if ["write ", "patch "].contains(&verb.as_str()) {
        ':'
    } else {
        ' '
    };
    let (head, tail) = rest.split_once(separator).unwrap_or((rest, ""));
    let (head, tail) = (head.trim().to_owned(), tail.trim().to_owned());
    if head.is_empty() {
        return None;
    }
    Some(match verb.as_str() {
        "run:" => Step::Run(rest.to_owned()),
        "search:" => Step::Search(rest.to_owned()),
        "patch " => Step::Patch {
            file: head,
            change: Change::read(&tail),
        },
        "write " => Step::Write { file: head, text: tail },
        "read " => Step::Read(head.trim_end_matches(['.', '?', '!']).to_owned()),
        "call " => Step::Call {
            name: head,
            input: tail,
        },
        _ => return None,
    })
}

/// The folder that a client says it works in.
pub fn working_folder(text: &str) -> Option<String> {
    const SIGNS: [(&str, char); 3] = [("<cwd>", '<'), ("orking directory: ", '\n'), ("orking folder: ", '\n')];
    SIGNS.iter().find_map(|&(before, after)| {
        let (_, rest) = text.split_once(before)?;
        let folder = rest.split(after).next()?.trim();
        folder.starts_with('/').then(|| folder.trim_end_matches('/').to_owned())
    })
}

const RUNNERS: [&str; 9] = [
    "exec_command",
    "shell_command",
    "local_shell",
    "shell",
    "bash",
    "run_command",
    "run_terminal_cmd",
    "execute_command",
    "terminal",
];
const WRITERS: [&str; 4] = ["write", "write_file", "create_file", "apply_patch"];
const READERS: [&str; 3] = ["read", "read_file", "view_file"];
const PATCHERS: [&str; 2] = ["apply_patch", "patch"];
const EDITORS: [&str; 3] = ["edit", "edit_file", "str_replace"];
const SEARCHERS: [&str; 2] = ["websearch", "web_search"];

const COMMANDS: [&str; 4] = ["cmd", "command", "commands", "input"];
pub(super) const FILES: [&str; 5] = ["file_path", "filePath", "path", "filename", "file"];
const CONTENTS: [&str; 4] = ["content", "contents", "file_text", "text"];

/// The call that fulfils a wish, if a tool on offer can.
pub fn call(step: &Step, tools: &[Tool], folder: Option<&str>) -> Option<Call> {
    match step {
        Step::Run(command) => run(tools, command),
        Step::Write { file, text } => {
            let written = pick(tools, &WRITERS).and_then(|tool| write(tool, file, text, folder));
            written.or_else(|| run(tools, &format!("printf '%s\\n' {} > {}", quoted(text), quoted(file))))
        }
        Step::Read(file) => {
            let read = pick(tools, &READERS).and_then(|tool| {
                let path = property(tool, &FILES)?;
                Some(function(tool, &[(path, absolute(path, file, folder))]))
            });
            read.or_else(|| run(tools, &format!("cat {}", quoted(file))))
        }
        Step::Patch { file, change } => patch(tools, file, change, folder),
        Step::Search(query) => {
            let tool = pick(tools, &SEARCHERS)?;
            Some(function(tool, &[(property(tool, &["query"])?, json!(query))]))
        }
        Step::Call { name, input } => {
            let tool = tools
                .iter()
                .find(|tool| tool.name == *name)
                .or_else(|| pick(tools, &[name.as_str()]))?;
            let input = match tool.kind {
                ToolKind::Custom => Value::String(input.clone()),
                _ => serde_json::from_str(input).unwrap_or_else(|_| schema::fit(&tool.schema, input)),
            };
            Some(called(tool, input))
        }
    }
}

/// The first tool with one of these names, in the order of the names; a namespace before it does not matter.
fn pick<'a>(tools: &'a [Tool], names: &[&str]) -> Option<&'a Tool> {
    let bare = |tool: &Tool| tool.name.rsplit("__").next().unwrap_or_default().to_ascii_lowercase();
    names
        .iter()
        .find_map(|name| tools.iter().find(|tool| bare(tool) == name.to_ascii_lowercase()))
}

fn run(tools: &[Tool], command: &str) -> Option<Call> {
    let named = pick(tools, &RUNNERS);
    let tool = named.or_else(|| tools.iter().find(|tool| property(tool, &["command", "cmd"]).is_some()))?;
    Some(match tool.kind {
        ToolKind::LocalShell => called(tool, json!({"command": ["bash", "-lc", command]})),
        ToolKind::Shell => called(tool, json!({"commands": [command]})),
        ToolKind::Custom => called(tool, Value::String(command.to_owned())),
        ToolKind::ApplyPatch => return None,
        ToolKind::Function => {
            let name = property(tool, &COMMANDS)?;
            let value = match (name, tool.schema["properties"][name]["type"].as_str()) {
                ("commands", _) => json!([command]),
                (_, Some("array")) => json!(["bash", "-lc", command]),
                _ => json!(command),
            };
            let described = property(tool, &["description"]);
            let described = described.map(|name| (name, json!(format!("Runs {command}"))));
            let given: Vec<_> = [(name, value)].into_iter().chain(described).collect();
            function(tool, &given)
        }
    })
}

fn write(tool: &Tool, file: &str, text: &str, folder: Option<&str>) -> Option<Call> {
    match (property(tool, &FILES), property(tool, &CONTENTS)) {
        (Some(path), Some(content)) if tool.kind == ToolKind::Function => Some(function(
            tool,
            &[(path, absolute(path, file, folder)), (content, json!(text))],
        )),
        _ => Change::Add(text.to_owned()).by_patch(tool, file),
    }
}

/// By a tool for patches, else by one for edits or whole files, else by the program of that name.
fn patch(tools: &[Tool], file: &str, change: &Change, folder: Option<&str>) -> Option<Call> {
    let by_patch = pick(tools, &PATCHERS).and_then(|tool| change.by_patch(tool, file));
    let by_file = || match change {
        Change::Add(text) => pick(tools, &WRITERS).and_then(|tool| write(tool, file, text, folder)),
        Change::Replace { .. } => pick(tools, &EDITORS).and_then(|tool| change.by_edit(tool, file, folder)),
    };
    let by_program = || run(tools, &format!("apply_patch <<'EOF'\n{}EOF", change.patch(file)));
    by_patch.or_else(by_file).or_else(by_program)
}

/// The first of these names that the tool has an argument of.
pub(super) fn property<'a>(tool: &Tool, names: &[&'a str]) -> Option<&'a str> {
    let properties = tool.schema["properties"].as_object()?;
    names.iter().find(|name| properties.contains_key(**name)).copied()
}

/// A call with these arguments, and with something fitting for what else is required.
pub(super) fn function(tool: &Tool, given: &[(&str, Value)]) -> Call {
    let mut input = Map::new();
    for (name, value) in given {
        input.insert((*name).to_owned(), value.clone());
    }
    for name in tool.schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !input.contains_key(name) {
            let wanted = &tool.schema["properties"][name];
            input.insert(name.to_owned(), schema::fit(wanted, "as asked"));
        }
    }
    called(tool, Value::Object(input))
}

pub(super) fn called(tool: &Tool, input: Value) -> Call {
    Call {
        tool: tool.name.clone(),
        namespace: tool.namespace.clone(),
        kind: tool.kind,
        input,
    }
}

/// Tools that say `file_path` want whole paths.
pub(super) fn absolute(property: &str, file: &str, folder: Option<&str>) -> Value {
    match folder {
        Some(folder) if property.to_ascii_lowercase().starts_with("file") && !file.starts_with('/') => {
            json!(format!("{folder}/{file}"))
        }
        _ => json!(file),
    }
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
