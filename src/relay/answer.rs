//! The answer, handed to the door: a stream under way, a stream gathered into a whole, or a refusal in the words this
//! client acts on.

use super::attempt::now_unix;
use super::journal::Journal;
use super::opening::{Content, Opened};
use super::searching::Chain;
use super::stream::{Flow, Piece};
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
        stream: Stream,
    },
}

/// An answer on its way, piece by piece.
pub enum Stream {
    /// One exchange with upstream.
    Flow(Box<Flow>),
    /// Several, between which another model searches.
    Chain(Box<Chain>),
}

impl Stream {
    /// The next piece, or `None` after the last.
    pub async fn next(&mut self) -> Option<Piece> {
        match self {
            Self::Flow(flow) => flow.next().await,
            Self::Chain(chain) => chain.next().await,
        }
    }
}

impl From<Flow> for Stream {
    fn from(flow: Flow) -> Self {
        Self::Flow(Box::new(flow))
    }
}

impl Relay {
    /// Hands over what has been opened; gathers a stream whose client wants one whole answer.
    pub(super) async fn deliver(&self, asked: &Asked, opened: Opened, mut journal: Journal) -> Result<Answer, Error> {
        let Opened {
            headers,
            content,
            searching,
        } = opened;
        if let Some(searching) = searching {
            let chain = Box::new(self.chain(*searching, content, journal));
            if asked.stream {
                let stream = Stream::Chain(chain);
                return Ok(Answer::Stream { headers, stream });
            }
            return match chain.gather(self.settings.max_answer_bytes).await {
                Ok(body) => Ok(Answer::Whole {
                    headers,
                    body: body.to_string(),
                }),
                Err(failure) => Err(Error::told(failure, headers)),
            };
        }
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
                stream: flow.kept_in(journal).into(),
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
                stream: flow.into(),
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
