//! The beginning of an answer: waits for its first sign and tells a stream from a whole. What fails here has reached no
//! client yet, so it can be mended, or be a plain HTTP error.

use bytes::Bytes;
use serde_json::Value;

use super::error::{of_upstream, passed_on};
use super::searching::Searching;
use super::stream::Flow;
use super::{Error, Relay};
use crate::protocol::catalog::Model;
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::json;
use crate::translate::{Heard, Translator};
use crate::upstream;

/// An answer whose first sign has come and was no failure.
pub(super) struct Opened {
    /// Those of upstream's headers that may pass, and ours.
    pub headers: Vec<(String, String)>,
    pub content: Content,
    /// The model may want to search before it goes on.
    pub searching: Option<Box<Searching>>,
}

pub(super) enum Content {
    Whole { body: Value, heard: Heard },
    Stream(Box<Flow>),
}

impl Opened {
    /// Names the model that answers.
    pub fn by(mut self, model: &Model) -> Self {
        self.headers.push(("x-copilot-model".into(), model.id.clone()));
        self
    }
}

impl Relay {
    /// Takes upstream's success as the client wants it. A whole answer to a client that wants a stream is replayed.
    pub(super) async fn opened(
        &self,
        answer: upstream::Answer,
        translator: Box<dyn Translator>,
        wants_stream: bool,
    ) -> Result<Opened, Error> {
        let headers = passed_on(&answer.headers);
        let opened = if is_event_stream(&answer) {
            let mut flow = Flow::new(answer.body, translator, self.settings.heartbeat, self.closing.clone());
            flow.begin().await.map(|()| Content::Stream(Box::new(flow)))
        } else {
            let status = answer.status;
            match answer.whole(self.settings.max_answer_bytes).await {
                Ok(body) => self.whole(status, &body, translator, wants_stream),
                Err(error) => Err(of_upstream(&error)),
            }
        };
        match opened {
            Ok(content) => Ok(Opened {
                headers,
                content,
                searching: None,
            }),
            Err(failure) => Err(Error::told(failure, headers)),
        }
    }

    fn whole(
        &self,
        status: u16,
        body: &Bytes,
        mut translator: Box<dyn Translator>,
        wants_stream: bool,
    ) -> Result<Content, Failure> {
        let garbage = || {
            let sentence = format!("upstream answered {status} with something that is no answer");
            Failure::new(Kind::UpstreamGarbage, sentence)
        };
        let whole = json::object(body).map_err(|_| garbage())?.into();
        if wants_stream {
            let mut frames = Vec::new();
            translator.whole(whole, &mut frames)?;
            let flow = Flow::replayed(frames, translator, self.closing.clone());
            return Ok(Content::Stream(Box::new(flow)));
        }
        let body = translator.answer(whole)?;
        let heard = translator.heard().clone();
        Ok(Content::Whole { body, heard })
    }
}

fn is_event_stream(answer: &upstream::Answer) -> bool {
    let kind = answer.header("content-type").unwrap_or_default().trim_start();
    kind.get(..17)
        .is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream"))
}
