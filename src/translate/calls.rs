//! The tool calls of a chat answer, put together from fragments that come in any order and under any key. Knows how
//! upstreams misnumber, rename and repeat them; not who is told.

use std::borrow::Cow;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Memory;
use super::carrier::Carrier;
use super::chunk::{Fragment, Function, Unknown};
use super::guard::Guard;
use super::ids::Ids;
use super::rules::thoughts::Thought;
use super::rules::tools::fit_id;
use super::turn::{ToolKey, ToolKind};
use crate::protocol::Protocol;
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::json;

/// The calls of one answer, in the order in which they were first heard of.
#[derive(Debug, Default)]
pub struct Calls {
    all: Vec<Call>,
    opened: usize,
    pub guard: Guard,
}

/// One call, as far as it is known.
#[derive(Debug)]
pub struct Call {
    choice: u64,
    index: Option<u64>,
    pub id: String,
    pub name: String,
    pub kind: ToolKind,
    /// All of its arguments, or of its freeform input, so far.
    pub input: String,
    /// Its place in the order of opening, once it is open.
    pub key: Option<ToolKey>,
    /// What upstream wants to see again on this call: see [`Carrier::Call`].
    fields: Map<String, Value>,
}

/// What a fragment changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub key: ToolKey,
    /// The call is told for the first time.
    pub opens: bool,
    /// What its arguments grew by; all that was held back, where it opens.
    pub piece: String,
}

/// Where upstream's own fields stand: on the call itself, or on its function.
const ON_CALL: &str = "extra_content";
const ON_FUNCTION: &str = "thought_signature";

impl Calls {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The call that was opened under this key.
    pub fn get(&self, key: ToolKey) -> Option<&Call> {
        self.all.iter().find(|call| call.key == Some(key))
    }

    /// Calls that are open, in the order of opening.
    pub fn open(&self) -> Vec<&Call> {
        let mut open: Vec<&Call> = self.all.iter().filter(|call| call.key.is_some()).collect();
        open.sort_by_key(|call| call.key);
        open
    }

    /// Takes a fragment. A call opens once both its id and its name are known; until then its arguments wait.
    pub fn take(&mut self, choice: u64, fragment: &Fragment) -> Result<Option<Step>, Failure> {
        let (function, kind) = match (&fragment.function, &fragment.custom) {
            (None, Some(custom)) => (Some(custom), ToolKind::Custom),
            (function, _) => (function.as_ref(), ToolKind::Function),
        };
        let name = function.map(|function| &*function.name).unwrap_or_default();
        let at = match self.find(choice, fragment.index.0, &fragment.id, name) {
            Some(at) => at,
            None => {
                self.guard.call()?;
                self.all.push(Call::new(choice, fragment.index.0, kind));
                self.all.len() - 1
            }
        };
        let Some(call) = self.all.get_mut(at) else {
            return Ok(None);
        };
        if call.id.is_empty() {
            call.id.push_str(&fragment.id);
        }
        if call.name.is_empty() {
            call.name.push_str(name);
        }
        call.learn(fragment, function);
        let piece = function
            .and_then(|function| function.input)
            .map(piece_of)
            .unwrap_or_default();
        let new = !call.repeats(&piece);
        if new {
            self.guard.arguments(at, &piece)?;
            call.input.push_str(&piece);
        }
        Ok(match call.key {
            Some(_) if !new || piece.is_empty() => None,
            Some(key) => Some(Step {
                key,
                opens: false,
                piece: piece.into_owned(),
            }),
            None if call.id.is_empty() || call.name.is_empty() => None,
            None => Some(call.opened(&mut self.opened)),
        })
    }

    /// Takes a piece of a call in the old spelling, when an answer had at most one.
    pub fn take_legacy(&mut self, choice: u64, function: &RawValue) -> Result<Option<Step>, Failure> {
        let fragment = Fragment {
            index: super::chunk::Number(Some(0)),
            function: serde_json::from_str(function.get()).ok(),
            ..Default::default()
        };
        self.take(choice, &fragment)
    }

    /// No more fragments: opens what still waited for an id. `seed` makes the ids differ between answers.
    pub fn settle(&mut self, seed: &str) -> Result<Vec<Step>, Failure> {
        self.all.retain(|call| !call.is_blank());
        let mut steps = Vec::new();
        for call in self.all.iter_mut().filter(|call| call.key.is_none()) {
            if call.name.is_empty() {
                return Err(Failure::new(Kind::Stream, "upstream sent a tool call without a name"));
            }
            if call.id.is_empty() {
                let seed = format!("{seed} {} {} {}", self.opened, call.name, call.input);
                call.id = Ids::new(seed, 0).mint_call("call_");
            }
            steps.push(call.opened(&mut self.opened));
        }
        Ok(steps)
    }

    /// Whether every call has all of its arguments.
    pub fn are_complete(&self) -> bool {
        self.all.iter().all(Call::is_complete)
    }

    /// The call a fragment belongs to; `None` for a new one.
    fn find(&self, choice: u64, index: Option<u64>, id: &str, name: &str) -> Option<usize> {
        let last = |fits: &dyn Fn(&Call) -> bool| self.all.iter().rposition(|call| call.choice == choice && fits(call));
        let Some(index) = index else {
            return match id {
                "" => last(&|_| true).or_else(|| self.all.len().checked_sub(1)),
                _ => last(&|call| call.id == id),
            };
        };
        let at = last(&|call| call.index == Some(index))?;
        let call = self.all.get(at)?;
        // Some backends give every call the same index; another id, or without ids another name, tells them apart.
        let other_id = !id.is_empty() && !call.id.is_empty() && call.id != id;
        let other_name = id.is_empty() && !name.is_empty() && !call.name.is_empty() && call.name != name;
        match other_id {
            true => last(&|call| call.id == id),
            false => Some(at).filter(|_| !other_name),
        }
    }
}

impl Call {
    fn new(choice: u64, index: Option<u64>, kind: ToolKind) -> Self {
        Self {
            choice,
            index,
            id: String::new(),
            name: String::new(),
            kind,
            input: String::new(),
            key: None,
            fields: Map::new(),
        }
    }

    /// Whether nothing is missing: freeform input ends where it ends, arguments are JSON, or none at all.
    pub fn is_complete(&self) -> bool {
        self.kind == ToolKind::Custom
            || self.input.trim_ascii().is_empty()
            || serde_json::from_str::<serde::de::IgnoredAny>(&self.input).is_ok()
    }

    /// Some upstreams announce a call and never come to it.
    fn is_blank(&self) -> bool {
        self.id.is_empty() && self.name.is_empty() && self.input.is_empty()
    }

    /// What upstream wants to see again on this call, if anything.
    pub fn carrier(&self, model: &str) -> Option<Carrier> {
        (!self.fields.is_empty()).then(|| Carrier::Call {
            model: model.to_owned(),
            id: self.id.clone(),
            fields: self.fields.clone(),
        })
    }

    fn opened(&mut self, opened: &mut usize) -> Step {
        let key = *opened;
        *opened += 1;
        self.key = Some(key);
        Step {
            key,
            opens: true,
            piece: self.input.clone(),
        }
    }

    fn learn(&mut self, fragment: &Fragment, function: Option<&Function>) {
        let on_function = function.map(|function| function.rest.as_slice()).unwrap_or_default();
        let wanted = |rest: &[Unknown], name: &str| {
            let (_, raw) = rest.iter().find(|(key, _)| **key == *name)?;
            serde_json::from_str(raw.get())
                .ok()
                .filter(|value: &Value| !value.is_null())
        };
        for (rest, name) in [(fragment.rest.as_slice(), ON_CALL), (on_function, ON_FUNCTION)] {
            if let Some(value) = wanted(rest, name) {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }

    /// Whether a piece only says again what is already complete: some senders repeat the whole at the end.
    fn repeats(&self, piece: &str) -> bool {
        !piece.is_empty() && self.input == piece && json::is_object(piece)
    }
}

/// Puts back on a call of a chat history what its model wants to see there again: as the history carries it, or as it
/// was kept. `id` is the call's as the client wrote it.
pub fn restore(call: &mut Map<String, Value>, id: &str, carried: &[Thought], memory: &Memory, model: &Model) {
    let kept = memory.kept.get(id).filter(|kept| kept.model == model.id);
    let kept = kept.map(|kept| kept.carriers.as_slice()).unwrap_or_default();
    let kept = kept.iter().filter_map(|text| Carrier::decode(text));
    for carrier in carried.iter().map(|thought| thought.state.clone()).chain(kept) {
        match &carrier {
            Carrier::Call { id: own, fields, .. } if carrier.fits(model) && is_same(own, id) => put_back(call, fields),
            _ => {}
        }
    }
}

/// Whether a client's id is the one upstream gave; Messages clients get some ids in another form.
fn is_same(upstream: &str, client: &str) -> bool {
    upstream == client || fit_id(Protocol::Messages, upstream) == client
}

fn put_back(call: &mut Map<String, Value>, fields: &Map<String, Value>) {
    if let Some(extra) = fields.get(ON_CALL) {
        call.entry(ON_CALL).or_insert_with(|| extra.clone());
    }
    if let Some(signature) = fields.get(ON_FUNCTION)
        && let Some(Value::Object(function)) = call.get_mut("function")
    {
        function.entry(ON_FUNCTION).or_insert_with(|| signature.clone());
    }
}

/// Arguments as text: a string's own text, the JSON of anything else.
fn piece_of(raw: &RawValue) -> Cow<'_, str> {
    match raw.get().as_bytes().first() {
        Some(b'"') => super::chunk::text(raw),
        _ => Cow::Borrowed(raw.get()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::translate::Kept;
    use crate::translate::rules::model;

    /// Takes fragments in order and tells what came out, one line a step.
    fn told(fragments: &[&str]) -> Vec<String> {
        let mut calls = Calls::default();
        let mut steps = Vec::new();
        for text in fragments {
            let fragment = serde_json::from_str(text).unwrap();
            steps.extend(calls.take(0, &fragment).unwrap());
        }
        steps.extend(calls.settle("x").unwrap());
        let tell = |step: &Step| {
            let call = calls.get(step.key).unwrap();
            let id = if call.id.len() > 20 { "?" } else { &call.id };
            match step.opens {
                true => format!("{} opens {id} {}: {}", step.key, call.name, step.piece),
                false => format!("{}: {}", step.key, step.piece),
            }
        };
        steps.iter().map(tell).collect()
    }

    #[test]
    fn k065_a_call_waits_for_its_id_and_its_name() {
        assert_eq!(
            told(&[
                r#"{"index":0,"function":{"arguments":"{\"a\""}}"#,
                r#"{"index":0,"function":{"name":"f"}}"#,
                r#"{"index":0,"id":"c1","function":{"arguments":":1"}}"#,
                r#"{"index":0,"function":{"arguments":"}"}}"#,
            ]),
            ["0 opens c1 f: {\"a\":1", "0: }"]
        );
    }

    #[test]
    fn k069_arguments_said_twice_count_once() {
        let whole = r#"{"index":0,"id":"c","function":{"name":"f","arguments":"{\"a\":1}"}}"#;
        assert_eq!(told(&[whole, whole]), ["0 opens c f: {\"a\":1}"]);
        let object = r#"{"index":0,"id":"c","function":{"name":"f","arguments":{"a":1}}}"#;
        assert_eq!(told(&[object, object]), ["0 opens c f: {\"a\":1}"]);
    }

    #[test]
    fn k070_an_index_used_again_is_another_call() {
        assert_eq!(
            told(&[
                r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#,
                r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\":"}}"#,
                r#"{"index":0,"function":{"arguments":"2}"}}"#,
            ]),
            ["0 opens a f: {}", "1 opens b f: {\"x\":", "1: 2}"]
        );
    }

    #[test]
    fn without_an_index_the_id_or_the_last_call_counts() {
        assert_eq!(
            told(&[
                r#"{"id":"a","function":{"name":"f","arguments":"1"}}"#,
                r#"{"id":"b","function":{"name":"g","arguments":"2"}}"#,
                r#"{"function":{"arguments":"3"}}"#,
                r#"{"id":"a","function":{"arguments":"4"}}"#,
            ]),
            ["0 opens a f: 1", "1 opens b g: 2", "1: 3", "0: 4"]
        );
    }

    #[test]
    fn an_id_that_never_comes_is_made_up_at_the_end_and_a_name_is_not() {
        assert_eq!(
            told(&[r#"{"index":0,"function":{"name":"f","arguments":null}}"#]),
            ["0 opens ? f: "]
        );
        let mut calls = Calls::default();
        calls
            .take(0, &serde_json::from_str(r#"{"index":0,"id":"a"}"#).unwrap())
            .unwrap();
        assert!(calls.settle("").is_err());
        assert!(told(&[r#"{"index":0,"function":{"arguments":""}}"#]).is_empty());
    }

    #[test]
    fn what_upstream_wants_to_see_again_is_kept_and_put_back() {
        let mut calls = Calls::default();
        let fragment =
            r#"{"index":0,"id":"a","extra_content":{"g":1},"function":{"name":"f","thought_signature":"s"}}"#;
        calls.take(0, &serde_json::from_str(fragment).unwrap()).unwrap();
        let model = model(json!({"id": "gemini-3", "vendor": "Google"}));
        let carried = [Thought {
            text: String::new(),
            state: calls.get(0).unwrap().carrier("gemini-3").unwrap(),
        }];
        let restored = |id: &str, carried: &[Thought], memory: &Memory| {
            let mut call = serde_json::from_str(r#"{"id":"a","function":{"name":"f"}}"#).unwrap();
            restore(&mut call, id, carried, memory, &model);
            serde_json::to_string(&call).unwrap()
        };
        let whole = r#"{"id":"a","function":{"name":"f","thought_signature":"s"},"extra_content":{"g":1}}"#;
        let bare = r#"{"id":"a","function":{"name":"f"}}"#;
        assert_eq!(restored("a", &carried, &Memory::default()), whole);
        assert_eq!(restored("b", &carried, &Memory::default()), bare);
        let kept = Kept {
            model: "gemini-3".into(),
            text: String::new(),
            carriers: carried.iter().map(|thought| thought.state.encode()).collect(),
        };
        let memory = Memory {
            kept: [("a".to_owned(), kept.clone()), ("b".to_owned(), kept)].into(),
            ..Memory::default()
        };
        assert_eq!(
            (restored("a", &[], &memory), restored("b", &[], &memory)),
            (whole.into(), bare.into())
        );
    }
}
