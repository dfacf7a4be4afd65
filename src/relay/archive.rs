//! Responses that outlive their request, where a setting says so: what a request continues or refers to is put into it
//! before its journey, and its answer is kept when it is complete.

use bytes::Bytes;
use serde_json::Value;

use super::{Answer, Call, Earlier, Error, Relay, Stream};
use crate::actors::archive::{Find, Holding, Keep, Kept};
use crate::actors::{Actors, Stopped};
use crate::protocol::failure::{Failure, Kind};
use crate::protocol::responses::Event;
use crate::protocol::sse::Frame;
use crate::protocol::{Protocol, json};
use crate::translate::{Object, conversation};

/// Waits for the response to a request, and has both kept.
pub(super) struct Keeper {
    actors: Actors,
    request: Bytes,
}

/// The most that a request comes to with what it continues: as much as by a socket.
const MOST_BYTES: usize = 32 << 20;

/// What was put into a request.
#[derive(Debug, Default)]
pub(super) struct Filled {
    anything: bool,
    /// The response it continues.
    earlier: Option<Earlier>,
}

impl Relay {
    /// Puts in what a request continues and refers to, and sees whether its answer is to be kept.
    pub(super) async fn recollect(&self, mut call: Call) -> Result<Call, Error> {
        if !self.remembers(call.client.protocol) {
            return Ok(call);
        }
        let bytes = call.text.len();
        let filled = self.fill_in(&mut call.body, bytes).await?;
        if filled.anything {
            call.earlier = filled.earlier.or(call.earlier);
            call.text = json::text(&call.body, bytes).into();
        }
        call.kept = conversation::is_to_be_kept(&call.body);
        Ok(call)
    }

    pub(super) fn remembers(&self, client: Protocol) -> bool {
        self.actors.archive.is_some() && client == Protocol::Responses
    }

    /// Puts in what a request of about so many bytes continues and refers to, as far as it is known. What is not, is
    /// refused where all requests are.
    pub(super) async fn fill_in(&self, body: &mut Object, bytes: usize) -> Result<Filled, Error> {
        let mut filled = Filled::default();
        if let Some(id) = conversation::continues(body).map(str::to_owned)
            && let Some(kept) = self.actors.archived(Find(id.clone())).await?.flatten()
        {
            if bytes + kept.request.len() + kept.response.len() > MOST_BYTES {
                let sentence = format!("the request and what it continues are larger than {MOST_BYTES} bytes");
                return Err(Failure::new(Kind::TooLarge, sentence).into());
            }
            filled.anything = true;
            filled.earlier = Some(Earlier {
                items: conversation::join(body, &read(&kept.request), &read(&kept.response)),
                response: id.into(),
            });
        }
        let references = conversation::references(body);
        if !references.is_empty() {
            let found = self.actors.archived(Holding(references)).await?.unwrap_or_default();
            let responses: Vec<Object> = found.iter().map(|kept| read(&kept.response)).collect();
            conversation::resolve(body, &responses);
            filled.anything |= !responses.is_empty();
        }
        Ok(filled)
    }

    /// A response that was kept: the request it answered, and the response itself.
    pub async fn kept(&self, id: &str) -> Result<Option<(Object, Object)>, Stopped> {
        let found = self.actors.archived(Find(id.to_owned())).await?.flatten();
        Ok(found.map(|kept| (read(&kept.request), read(&kept.response))))
    }

    /// Who keeps the answer, if anybody does.
    pub(super) fn keeper(&self, call: &Call) -> Option<Keeper> {
        call.kept.then(|| Keeper {
            actors: self.actors.clone(),
            request: call.text.clone(),
        })
    }
}

impl Keeper {
    /// Has an answer kept, now or when its stream ends well.
    pub fn watch(self, answer: Answer) -> Answer {
        match answer {
            Answer::Whole { headers, body } => {
                self.keep(body.as_bytes());
                Answer::Whole { headers, body }
            }
            Answer::Stream {
                headers,
                stream: Stream::Flow(flow),
            } => Answer::Stream {
                headers,
                stream: flow.watched_by(self).into(),
            },
            // A Messages client's.
            chain => chain,
        }
    }

    /// Looks for the response's end among frames that go to the client.
    pub fn see(&self, frames: &[Frame]) {
        for frame in frames {
            let name = frame.name.as_deref().unwrap_or_default();
            if matches!(name, b"response.completed" | b"response.incomplete")
                && let Some(event) = Event::read(&frame.data)
                && let Some(response) = event.get("response")
            {
                self.keep(response.get().as_bytes());
            }
        }
    }

    fn keep(&self, response: &[u8]) {
        let read = read(response);
        if let (Some(archive), Some(id)) = (&self.actors.archive, read.get("id").and_then(Value::as_str)) {
            archive.do_send(Keep(Kept {
                id: id.to_owned(),
                items: conversation::item_ids(&read),
                request: self.request.clone(),
                response: Bytes::copy_from_slice(response),
            }));
        }
    }
}

fn read(text: &[u8]) -> Object {
    json::object(text).unwrap_or_default()
}
