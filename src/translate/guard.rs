//! What no turn may grow beyond, whichever two protocols it joins: a model that runs away is cut off.

use std::collections::HashMap;

use super::turn::{Event, ToolKey};
use crate::protocol::failure::{Failure, Kind};

const MAX_EVENTS: usize = 100_000;
const MAX_CALLS: usize = 128;
/// Bytes of arguments, over all calls.
const MAX_ARGUMENTS: usize = 4 << 20;
/// Line breaks and tabs in a row, inside arguments.
const MAX_WHITESPACE: usize = 20;

/// Counts a turn's events as they pass.
#[derive(Debug, Default)]
pub struct Guard {
    events: usize,
    calls: usize,
    arguments: usize,
    /// How many line breaks and tabs each call's arguments end with.
    whitespace: HashMap<ToolKey, usize>,
}

impl Guard {
    /// Lets an event pass, or ends the turn.
    pub fn check(&mut self, event: &Event) -> Result<(), Failure> {
        self.event()?;
        match event {
            Event::ToolOpen { .. } => self.call(),
            Event::ToolArgs { key, piece } => self.arguments(*key, piece),
            _ => Ok(()),
        }
    }

    /// Another event came.
    pub fn event(&mut self) -> Result<(), Failure> {
        self.events += 1;
        if self.events > MAX_EVENTS {
            return Err(too_much("upstream sent more than 100000 events in one answer"));
        }
        Ok(())
    }

    /// Another call began.
    pub fn call(&mut self) -> Result<(), Failure> {
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return Err(too_much("upstream made more than 128 tool calls in one answer"));
        }
        Ok(())
    }

    /// A call's arguments grew.
    pub fn arguments(&mut self, key: ToolKey, piece: &str) -> Result<(), Failure> {
        self.arguments += piece.len();
        if self.arguments > MAX_ARGUMENTS {
            return Err(too_much(
                "upstream sent more than 4 MiB of tool arguments in one answer",
            ));
        }
        let run = self.whitespace.entry(key).or_default();
        for byte in piece.bytes() {
            match byte {
                b'\r' | b'\n' | b'\t' => *run += 1,
                b' ' => {}
                _ => *run = 0,
            }
            if *run > MAX_WHITESPACE {
                return Err(too_much("upstream produced an unbounded whitespace sequence"));
            }
        }
        Ok(())
    }
}

fn too_much(message: &str) -> Failure {
    Failure::new(Kind::Stream, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(pieces: &[&str]) -> Result<(), Failure> {
        let mut guard = Guard::default();
        pieces.iter().try_for_each(|piece| {
            guard.check(&Event::ToolArgs {
                key: 0,
                piece: (*piece).to_owned(),
            })
        })
    }

    #[test]
    fn k085_whitespace_without_end_is_cut_off() {
        let run = "\n".repeat(30);
        assert_eq!(
            arguments(&["{\"a\":", &run]).unwrap_err().message,
            "upstream produced an unbounded whitespace sequence"
        );
        assert!(arguments(&["\n\t \r".repeat(7).as_str()]).is_err());
        assert!(
            arguments(&["\n\n\n\n\n\n\n\n\n\n", "\n\n\n\n\n\n\n\n\n\n", "x\n", "\n"]).is_ok(),
            "twenty pass, a letter resets"
        );
        assert!(arguments(&[" ".repeat(500).as_str()]).is_ok(), "spaces do not count");
    }

    #[test]
    fn calls_and_their_arguments_are_bounded() {
        let mut guard = Guard::default();
        let open = |key| Event::ToolOpen {
            key,
            id: String::new(),
            name: String::new(),
            kind: crate::translate::turn::ToolKind::Function,
        };
        assert!((0..128).all(|key| guard.check(&open(key)).is_ok()));
        assert!(guard.check(&open(128)).is_err());
        let piece = "x".repeat(3 << 20);
        assert!(arguments(&[&piece]).is_ok() && arguments(&[&piece, &piece]).is_err());
    }
}
