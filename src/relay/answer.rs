//! The answer, handed to the door: a stream under way, a stream gathered into a whole, or a refusal in the words this
//! client acts on.

use super::attempt::now_unix;
use super::journal::Journal;
use super::opening::{Content, Opened};
use super::stream::Flow;
use super::{Asked, Client, Error, OverflowAsStream, Relay};
use crate::protocol::Protocol;
use crate::protocol::failure::Kind;
use crate::translate::ids::Ids;
use crate::translate::to_responses::failed_stream;
use crate::translate::{Reply, upstream_failure};

/// What goes back to the client. `headers` are those of upstream that may pass, and ours.
pub enum Answer {
    Whole {
        headers: Vec<(String, String)>,
        body: String,
    },
    Stream {
        headers: Vec<(String, String)>,
        flow: Box<Flow>,
    },
}

impl Relay {
    /// Hands over what has been opened; gathers a stream whose client wants one whole answer.
    pub(super) async fn deliver(&self, asked: &Asked, opened: Opened, mut journal: Journal) -> Result<Answer, Error> {
        let Opened { headers, content } = opened;
        match content {
            Content::Whole { body, heard } => {
                journal.ended(&heard);
                Ok(Answer::Whole {
                    headers,
                    body: body.to_string(),
                })
            }
            Content::Stream(flow) if asked.stream => Ok(Answer::Stream {
                headers,
                flow: Box::new(flow.kept_in(journal)),
            }),
            Content::Stream(flow) => match flow.gather(asked.client.dialect, self.settings.max_answer_bytes).await {
                Ok((body, heard)) => {
                    journal.ended(&heard);
                    Ok(Answer::Whole {
                        headers,
                        body: body.to_string(),
                    })
                }
                Err(failure) => self.refuse(asked, Error::told(failure, headers), journal),
            },
        }
    }

    /// The refusal as this client understands it. Codex looks for a full context inside a stream, so there it is told.
    pub(super) fn refuse(&self, asked: &Asked, refused: Error, mut journal: Journal) -> Result<Answer, Error> {
        let Error { failure, headers } = refused;
        let failure = upstream_failure::for_client(*failure, asked.client.dialect);
        journal.failed(&failure);
        if failure.kind == Kind::ContextOverflow && asked.stream && self.tells_overflow_in_stream(&asked.client) {
            let ids = Ids::new(asked.client.request_id.clone(), now_unix());
            let reply = Reply {
                model: asked.model.clone(),
                ..Reply::default()
            };
            let frames = failed_stream(reply, ids, &failure);
            let flow = Flow::told(frames, self.closing.clone()).kept_in(journal);
            return Ok(Answer::Stream {
                headers,
                flow: Box::new(flow),
            });
        }
        Err(Error::told(failure, headers))
    }

    fn tells_overflow_in_stream(&self, client: &Client) -> bool {
        let is_codex = |name: &str| name.to_ascii_lowercase().starts_with("codex");
        client.protocol == Protocol::Responses
            && match self.settings.overflow_as_stream {
                OverflowAsStream::Always => true,
                OverflowAsStream::Never => false,
                OverflowAsStream::Auto => is_codex(&client.agent) || client.originator.as_deref().is_some_and(is_codex),
            }
    }
}
