//! One exchange with Copilot: a credential, the call, one fresh try after a refused credential. Knows nothing of what
//! the body says.

use serde_json::Value;

use super::error::{of_upstream, passed_on};
use super::{Error, Relay};
use crate::actors::token::{Credential, GetCredential, Invalidate};
use crate::protocol::failure::{Failure, Kind};
use crate::translate::upstream_failure;
use crate::upstream::copilot::{Access, Call};
use crate::upstream::{self, Answer};

/// The longest error body that is read, and for how long.
const MAX_ERROR: usize = 64 << 10;
const ERROR_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

impl Relay {
    /// Sends a call with the seat's credential. Any answer but a success is an error here, read once into a failure.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, Error> {
        let credential = self.credential().await?;
        let refused = match self.attempt(&credential, call).await {
            Err(Refused { error, credential_refused: Some(why) }) => {
                let invalidate = Invalidate { generation: credential.generation, why };
                self.actors.ask(&self.actors.token, invalidate).await?;
                log::info!("credential refused, asked for a fresh one: {}", error.failure.message);
                error
            }
            Err(Refused { error, .. }) => return Err(error),
            Ok(answer) => return Ok(answer),
        };
        let fresh = self.credential().await.unwrap_or_else(|_| credential.clone());
        if fresh.generation == credential.generation {
            return Err(refused);
        }
        self.attempt(&fresh, call).await.map_err(|refused| refused.error)
    }

    async fn credential(&self) -> Result<std::sync::Arc<Credential>, Error> {
        self.actors.ask(&self.actors.token, GetCredential).await?.map_err(|error| {
            let kind = if error.is_permanent() { Kind::UpstreamAuth } else { Kind::Unavailable };
            Failure::new(kind, error.to_string()).into()
        })
    }

    async fn attempt(&self, credential: &Credential, call: &Call) -> Result<Answer, Refused> {
        let access = Access { token: credential.token.clone(), base_url: credential.base_url.clone() };
        let answer = self.copilot.send(&access, call).await.map_err(|error| Refused {
            error: of_upstream(&error).into(),
            credential_refused: None,
        })?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(read_refusal(answer).await)
    }
}
