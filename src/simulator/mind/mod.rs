//! What the stand-in model decides to say. Knows a conversation and the tools on offer; no protocol and no clock.
//!
//! It answers the last thing a person said. A documented wish ([`steps`]) becomes a call of one of the client's own
//! tools; once the result is there, it goes on to the next wish or reports. All else is answered by quoting it.

mod hearing;
pub mod schema;
pub mod steps;

use serde_json::{Value, json};

use super::playback::words;
use hearing::{human_text, without_markers};

/// What was said, as any protocol can tell it.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// The model's name, for greetings.
    pub model: String,
    pub system: String,
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    /// The model may search the web by itself.
    pub searches: bool,
    pub choice: Choice,
    /// The answer must be JSON; with a schema, of this shape.
    pub json: Option<Value>,
    /// The request turns reasoning on.
    pub thinks: bool,
    /// The family says a word before it calls a tool.
    pub announces: bool,
    pub max_output: Option<u64>,
    pub stop: Vec<String>,
}

/// One contribution to the conversation. What the model itself said does not matter here.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Texts of a person, each block its own; machine text among them is not yet removed.
    Human(Vec<String>),
    /// What a tool answered.
    Result(String),
}

/// A tool on offer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tool {
    pub name: String,
    /// Where it lives, for tools offered inside a namespace.
    pub namespace: Option<String>,
    pub kind: ToolKind,
    /// The schema of its arguments; null for tools that take none.
    pub schema: Value,
}

/// How a tool is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolKind {
    #[default]
    Function,
    /// Takes free text.
    Custom,
    LocalShell,
    Shell,
    ApplyPatch,
}

/// Whether a tool must be called.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Choice {
    #[default]
    Auto,
    None,
    Required,
    Named(String),
}

/// A call the model makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub tool: String,
    pub namespace: Option<String>,
    pub kind: ToolKind,
    pub input: Value,
}

impl Call {
    /// The input as it is streamed: JSON, or the text itself where it is free text or breaks off.
    pub fn input_text(&self) -> String {
        match &self.input {
            Value::String(text) => text.clone(),
            input => input.to_string(),
        }
    }
}

/// How an answer ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Stop,
    StopSequence(String),
    Calls,
    Length,
    Refusal,
    Filter,
}

/// What the model says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub reasoning: Option<String>,
    /// What was searched for in the web, before the text.
    pub search: Option<String>,
    /// The text, in the pieces it is streamed in.
    pub text: Vec<String>,
    pub calls: Vec<Call>,
    pub ending: Ending,
}

impl Answer {
    pub fn whole_text(&self) -> String {
        self.text.concat()
    }

    /// Tokens of the answer without its reasoning, estimated.
    pub fn tokens(&self) -> u64 {
        let text: usize = self.text.iter().map(String::len).sum();
        let calls: usize = self
            .calls
            .iter()
            .map(|call| call.tool.len() + call.input_text().len() + 8)
            .sum();
        tokens(text + calls)
    }

    pub fn reasoning_tokens(&self) -> u64 {
        self.reasoning.as_deref().map_or(0, |text| tokens(text.len()))
    }
}

/// Tokens of so many bytes: four to the token.
pub fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

/// Wishes of whoever tests: what the answer should be like, whatever was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub refusal: bool,
    pub filter: bool,
    /// Stop in the middle, as if the limit were reached.
    pub length: bool,
    /// All wished calls at once, and at least two.
    pub parallel: bool,
    /// So many pieces of text instead of an answer.
    pub long: Option<usize>,
}

/// The most pieces of a long answer.
const MOST_CHUNKS: usize = 1_000_000;

/// The longest result that is repeated in an answer.
const REPORTED: usize = 2000;

impl Conversation {
    /// What the person last said, machine text and fault markers removed.
    pub fn prompt(&self) -> String {
        without_markers(&self.last_human().1)
    }

    /// The last words of a person, markers still in them, and how many tools have answered since.
    pub fn last_human(&self) -> (usize, String) {
        let mut results = 0;
        for turn in self.turns.iter().rev() {
            match turn {
                Turn::Result(_) => results += 1,
                Turn::Human(texts) => {
                    let text = human_text(texts);
                    if !text.is_empty() {
                        return (results, text);
                    }
                }
            }
        }
        (results, String::new())
    }

    /// Results of the calls made since the person last spoke.
    fn results(&self, count: usize) -> Vec<&str> {
        let mut results: Vec<&str> = self
            .turns
            .iter()
            .rev()
            .filter_map(|turn| match turn {
                Turn::Result(text) => Some(text.as_str()),
                Turn::Human(_) => None,
            })
            .take(count)
            .collect();
        results.reverse();
        results
    }

    /// Everything said so far that may name the folder the client works in.
    fn surroundings(&self) -> impl Iterator<Item = &str> {
        let human = self.turns.iter().flat_map(|turn| match turn {
            Turn::Human(texts) => texts.as_slice(),
            Turn::Result(_) => &[],
        });
        std::iter::once(self.system.as_str()).chain(human.map(String::as_str))
    }

    /// The model's answer.
    pub fn answer(&self, wishes: Wishes) -> Answer {
        let mut answer = Answer {
            reasoning: self.thinks.then(|| self.reasoning()),
            search: None,
            text: Vec::new(),
            calls: self.calls(wishes),
            ending: Ending::Calls,
        };
        if wishes.refusal || wishes.filter {
            answer.reasoning = None;
            answer.calls.clear();
            answer.ending = if wishes.refusal {
                Ending::Refusal
            } else {
                Ending::Filter
            };
            return answer;
        }
        match answer.calls.first() {
            Some(call) if self.announces && self.choice == Choice::Auto => {
                answer.text = words(&format!("I will use {}.", call.tool));
            }
            Some(_) => {}
            None => {
                answer.search = self.search();
                answer.text = self.text(wishes);
                answer.ending = Ending::Stop;
            }
        }
        if wishes.length {
            cut_in_the_middle(&mut answer);
        }
        if wishes.long.is_none() {
            self.keep_stops(&mut answer);
            self.keep_limit(&mut answer);
        }
        answer
    }

    /// What a person wants searched for, in their own words or in Claude Code's.
    fn search(&self) -> Option<String> {
        const WISHES: [&str; 2] = ["web search for the query:", "search the web for"];
        let prompt = self.prompt();
        let wished = WISHES.iter().find_map(|words| Some(prompt.split_once(words)?.1));
        let query = wished.filter(|_| self.searches && self.choice != Choice::None)?.trim();
        query.lines().next().map(str::to_owned)
    }

    fn reasoning(&self) -> String {
        format!("The user wants me to deal with: {}", shortened(&self.prompt(), 200))
    }

    /// The calls to make now; none if the answer is words.
    fn calls(&self, wishes: Wishes) -> Vec<Call> {
        if self.tools.is_empty() || self.choice == Choice::None {
            return Vec::new();
        }
        let (done, _) = self.last_human();
        let is_first = done == 0;
        let steps = steps::read(&self.prompt());
        let folder = self.surroundings().find_map(steps::working_folder);
        let mut calls: Vec<Call> = steps
            .iter()
            .skip(done)
            .filter_map(|step| steps::call(step, &self.tools, folder.as_deref()))
            .collect();
        if let Choice::Named(name) = &self.choice {
            calls.retain(|call| call.tool == *name);
        }
        if wishes.parallel && is_first {
            if let [only] = calls.as_slice() {
                calls.push(only.clone());
            }
        } else {
            calls.truncate(1);
        }
        if calls.is_empty() && is_first {
            calls.extend(self.forced_call());
        }
        calls
    }

    /// The call that the request insists on, with arguments that fit.
    fn forced_call(&self) -> Option<Call> {
        let tool = match &self.choice {
            Choice::Named(name) => self.tools.iter().find(|tool| tool.name == *name)?,
            Choice::Required => self.tools.first()?,
            Choice::Auto | Choice::None => return None,
        };
        let prompt = self.prompt();
        Some(Call {
            tool: tool.name.clone(),
            namespace: tool.namespace.clone(),
            kind: tool.kind,
            input: match tool.kind {
                ToolKind::Custom => Value::String(prompt),
                ToolKind::Function => schema::fit(&tool.schema, &prompt),
                ToolKind::LocalShell => json!({"command": ["true"]}),
                ToolKind::Shell => json!({"commands": ["true"]}),
                ToolKind::ApplyPatch => json!({"diff": "+\n", "path": "empty.txt", "type": "create_file"}),
            },
        })
    }

    fn text(&self, wishes: Wishes) -> Vec<String> {
        if let Some(chunks) = wishes.long {
            return (0..chunks.min(MOST_CHUNKS)).map(|at| format!("word{at} ")).collect();
        }
        let prompt = self.prompt();
        let (done, _) = self.last_human();
        let text = if let Some(schema) = &self.json {
            schema::fit(schema, &title(&prompt)).to_string()
        } else if done > 0 {
            let results: Vec<&str> = self
                .results(done)
                .into_iter()
                .map(|result| shortened(result.trim(), REPORTED))
                .collect();
            format!("The tool answered: {}", results.join("\n"))
        } else if prompt.is_empty() {
            format!("Hello, this is a simulated {}.", self.model)
        } else if asks_for_title(&self.system) {
            title(&prompt)
        } else {
            format!("You said: {prompt}")
        };
        words(&text)
    }

    /// Cuts the answer at the first stop sequence in it.
    fn keep_stops(&self, answer: &mut Answer) {
        let text = answer.whole_text();
        let stops = self.stop.iter().filter(|stop| !stop.is_empty());
        let found = stops.filter_map(|stop| Some((text.find(stop.as_str())?, stop))).min();
        if let Some((at, stop)) = found {
            answer.text = words(shortened(&text, at));
            answer.calls.clear();
            answer.ending = Ending::StopSequence(stop.clone());
        }
    }

    /// Cuts the answer where the limit of tokens is.
    fn keep_limit(&self, answer: &mut Answer) {
        let total = answer.tokens() + answer.reasoning_tokens();
        let Some(most) = self.max_output.filter(|most| total > *most) else {
            return;
        };
        let mut room = usize::try_from(most).unwrap_or(usize::MAX).saturating_mul(4);
        if let Some(reasoning) = &mut answer.reasoning {
            *reasoning = shortened(reasoning, room / 2).to_owned();
            room -= reasoning.len();
        }
        let text = answer.whole_text();
        if room < text.len() {
            answer.text = words(shortened(&text, room));
            answer.calls.clear();
        }
        cut_last_call(answer);
        answer.ending = Ending::Length;
    }
}

/// Half of what would have been said: the last call, or else the text, breaks off.
fn cut_in_the_middle(answer: &mut Answer) {
    if answer.calls.is_empty() {
        answer.text.truncate(answer.text.len().div_ceil(2));
    } else {
        cut_last_call(answer);
    }
    answer.ending = Ending::Length;
}

/// Breaks the last call's input off in the middle.
fn cut_last_call(answer: &mut Answer) {
    if let Some(call) = answer.calls.last_mut() {
        let input = call.input_text();
        call.input = Value::String(shortened(&input, input.len() / 2).to_owned());
    }
}

/// Whether the system prompt wants a title for a conversation.
fn asks_for_title(system: &str) -> bool {
    let system = system.to_ascii_lowercase();
    system.contains("title generator") || system.contains("generate a title") || system.contains("thread title")
}

/// A few words that name the prompt.
fn title(prompt: &str) -> String {
    let line = prompt
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("Untitled");
    let words: Vec<&str> = line.split_whitespace().take(7).collect();
    shortened(&words.join(" "), 60).to_owned()
}

/// At most so many bytes of the text, whole characters only.
fn shortened(text: &str, limit: usize) -> &str {
    let limit = limit.min(text.len());
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
