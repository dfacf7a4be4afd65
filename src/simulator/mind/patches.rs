//! Changes to files, in the forms that clients have for them: a patch, an edit, a whole file. Knows no wishes.

use serde_json::{Value, json};

use super::steps::{absolute, called, function, property};
use super::{Call, Tool, ToolKind};

/// What is to become of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is new, with this text.
    Add(String),
    /// These lines of it give way to others.
    Replace { old: String, new: String },
}

impl Change {
    /// Reads `text`, or `old => new`; `\n` in either begins another line.
    pub fn read(text: &str) -> Self {
        let lines = |text: &str| text.trim().replace("\\n", "\n");
        match text.split_once(" => ") {
            Some((old, new)) => Self::Replace {
                old: lines(old),
                new: lines(new),
            },
            None => Self::Add(lines(text)),
        }
    }

    /// The change in the form that Codex's `apply_patch` takes.
    pub fn patch(&self, file: &str) -> String {
        let (head, gap) = match self {
            Self::Add(_) => ("Add", ""),
            Self::Replace { .. } => ("Update", "@@\n"),
        };
        format!(
            "*** Begin Patch\n*** {head} File: {file}\n{gap}{}*** End Patch\n",
            self.lines()
        )
    }

    /// The lines of the change, each with its sign.
    fn lines(&self) -> String {
        let signed =
            |sign: char, text: &str| -> String { text.split('\n').map(|line| format!("{sign}{line}\n")).collect() };
        match self {
            Self::Add(text) => signed('+', text),
            Self::Replace { old, new } => signed('-', old) + &signed('+', new),
        }
    }

    /// The change as OpenAI's own patch tool takes it.
    fn operation(&self, file: &str) -> Value {
        let (kind, gap) = match self {
            Self::Add(_) => ("create_file", ""),
            Self::Replace { .. } => ("update_file", "@@\n"),
        };
        json!({"diff": format!("{gap}{}", self.lines()), "path": file, "type": kind})
    }

    /// A call of a tool that takes patches.
    pub fn by_patch(&self, tool: &Tool, file: &str) -> Option<Call> {
        match tool.kind {
            ToolKind::Custom => Some(called(tool, Value::String(self.patch(file)))),
            ToolKind::ApplyPatch => Some(called(tool, self.operation(file))),
            ToolKind::Function if tool.schema["properties"]["operation"].is_object() => {
                Some(function(tool, &[("operation", self.operation(file))]))
            }
            ToolKind::Function => {
                let name = property(tool, &["patchText", "patch", "input"])?;
                Some(function(tool, &[(name, json!(self.patch(file)))]))
            }
            ToolKind::LocalShell | ToolKind::Shell => None,
        }
    }

    /// A call of a tool that puts one text in the place of another.
    pub fn by_edit(&self, tool: &Tool, file: &str, folder: Option<&str>) -> Option<Call> {
        let Self::Replace { old, new } = self else { return None };
        let path = property(tool, &super::steps::FILES)?;
        let before = property(tool, &["old_string", "oldString", "old_str"])?;
        let after = property(tool, &["new_string", "newString", "new_str"])?;
        let given = [
            (path, absolute(path, file, folder)),
            (before, json!(old)),
            (after, json!(new)),
        ];
        Some(function(tool, &given))
    }
}
