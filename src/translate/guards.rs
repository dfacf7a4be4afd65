//! What one answer may grow to before it is no answer any more. Knows no protocol.
//!
//! Models sometimes fall into writing line breaks for ever inside a call's arguments; nothing else would stop them.

use crate::protocol::failure::{Failure, Kind};

/// Tool calls in one turn.
const MAX_CALLS: usize = 128;
/// Bytes of arguments in one turn, all calls together.
const MAX_ARGUMENTS: usize = 4 << 20;
/// Upstream events in one turn.
const MAX_EVENTS: usize = 100_000;
/// Line breaks and tabs in a row, inside one call's arguments. Spaces neither count nor end the row.
const MAX_BLANKS: u32 = 20;

/// Counts what one turn has brought so far.
#[derive(Debug, Default)]
pub struct Guard {
    events: usize,
    calls: usize,
    arguments: usize,
}

/// The row of line breaks and tabs that one call's arguments end with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blanks(u32);

impl Guard {
    /// Another event came from upstream.
    pub fn event(&mut self) -> Result<(), Failure> {
        grow(&mut self.events, 1, MAX_EVENTS, "events")
    }

    /// Another call was opened.
    pub fn call(&mut self) -> Result<(), Failure> {
        grow(&mut self.calls, 1, MAX_CALLS, "tool calls")
    }

    /// Another piece of one call's arguments, or of its freeform input, arrived.
    pub fn arguments(&mut self, blanks: &mut Blanks, piece: &str) -> Result<(), Failure> {
        grow(
            &mut self.arguments,
            piece.len(),
            MAX_ARGUMENTS,
            "bytes of tool arguments",
        )?;
        blanks.see(piece)
    }
}

impl Blanks {
    fn see(&mut self, piece: &str) -> Result<(), Failure> {
        for byte in piece.bytes() {
            match byte {
                b'\r' | b'\n' | b'\t' => self.0 += 1,
                b' ' => {}
                _ => self.0 = 0,
            }
            if self.0 > MAX_BLANKS {
                return Err(Failure::new(
                    Kind::Stream,
                    "upstream produced an unbounded whitespace sequence",
                ));
            }
        }
        Ok(())
    }
}

fn grow(count: &mut usize, by: usize, limit: usize, what: &str) -> Result<(), Failure> {
    *count = count.saturating_add(by);
    if *count > limit {
        return Err(Failure::new(
            Kind::Stream,
            format!("upstream sent more than {limit} {what} in one answer"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k085_line_breaks_without_end_are_refused() {
        let (mut guard, mut blanks) = (Guard::default(), Blanks::default());
        guard.arguments(&mut blanks, "{\"a\":1,\n\t\r").unwrap();
        guard.arguments(&mut blanks, &" \n".repeat(17)).unwrap();
        assert!(guard.arguments(&mut blanks, "\n").is_err());
    }

    #[test]
    fn spaces_and_a_word_between_are_fine() {
        let (mut guard, mut blanks) = (Guard::default(), Blanks::default());
        guard.arguments(&mut blanks, &" ".repeat(1000)).unwrap();
        for _ in 0..10 {
            guard.arguments(&mut blanks, &"\n".repeat(20)).unwrap();
            guard.arguments(&mut blanks, "x").unwrap();
        }
    }

    #[test]
    fn a_turn_has_limits() {
        let mut guard = Guard::default();
        assert!((0..MAX_CALLS).all(|_| guard.call().is_ok()));
        assert!(guard.call().is_err());
        let mut blanks = Blanks::default();
        let megabyte = "x".repeat(1 << 20);
        assert!((0..4).all(|_| guard.arguments(&mut blanks, &megabyte).is_ok()));
        assert!(guard.arguments(&mut blanks, "x").is_err());
    }
}
