//! Two protocols joined: a reader of upstream's, a writer of the client's, the turn's events between them.

use serde_json::Value;

use super::guard::Guard;
use super::turn::{Event, Usage};
use super::{Heard, Reader, Translator, Writer, fold};
use crate::protocol::Dialect;
use crate::protocol::failure::Failure;
use crate::protocol::sse::Frame;

/// A translated stream.
pub struct Bridge<R, W> {
    client: Dialect,
    reader: R,
    writer: W,
    guard: Guard,
    events: Vec<Event>,
    heard: Heard,
}

impl<R: Reader, W: Writer> Bridge<R, W> {
    pub fn new(client: impl Into<Dialect>, reader: R, writer: W) -> Self {
        Self {
            client: client.into(),
            reader,
            writer,
            guard: Guard::default(),
            events: Vec::new(),
            heard: Heard::default(),
        }
    }

    /// Hands the reader's events to the writer, then the reader's own failure, if there was one.
    fn pass(&mut self, read: Result<(), Failure>, out: &mut Vec<Frame>) -> Result<(), Failure> {
        for event in self.events.drain(..) {
            self.guard.check(&event)?;
            if let Event::Usage(usage) = &event {
                Usage::update(&mut self.heard.usage, usage);
            }
            self.writer.feed(event, out)?;
        }
        self.heard.nano_aiu = self.reader.nano_aiu();
        self.heard.kept.extend(self.writer.take_kept());
        read
    }
}

impl<R: Reader, W: Writer> Translator for Bridge<R, W> {
    fn feed(&mut self, frame: Frame, out: &mut Vec<Frame>) -> Result<(), Failure> {
        let read = self.reader.feed(&frame, &mut self.events);
        self.pass(read, out)
    }

    fn end(&mut self, out: &mut Vec<Frame>) -> Result<(), Failure> {
        let read = self.reader.end(&mut self.events);
        self.pass(read, out)?;
        self.writer.end(out);
        Ok(())
    }

    fn whole(&mut self, answer: Value, out: &mut Vec<Frame>) -> Result<(), Failure> {
        let read = self.reader.whole(&answer, &mut self.events);
        self.pass(read, out)?;
        self.writer.end(out);
        Ok(())
    }

    fn answer(&mut self, answer: Value) -> Result<Value, Failure> {
        fold::through(self.client, self, answer)
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<Frame>) {
        self.writer.fail(failure, out);
    }

    fn is_over(&self) -> bool {
        self.writer.is_over()
    }

    fn is_told(&self) -> bool {
        self.reader.is_told()
    }

    fn heard(&self) -> &Heard {
        &self.heard
    }
}
