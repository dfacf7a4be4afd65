//! What can be wrong with settings, each in one line that names the place, and what to do about it.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read { path: String, source: io::Error },
    #[error("{path} is not valid TOML: {what}")]
    Syntax { path: String, what: String },
    /// `place` is a file's name, with the line where it is known.
    #[error("unknown setting {key} in {place}")]
    Unknown {
        place: String,
        key: String,
        nearest: Option<String>,
    },
    #[error("{key} in {place} must be {expected}, not {found}")]
    Kind {
        place: String,
        key: String,
        expected: String,
        found: String,
    },
    /// The kind is right, the value is not.
    #[error("{key} {why} (from {origin})")]
    Value { key: String, origin: String, why: String },
    #[error("cannot use the key in {path} (server.api_key_file, from {origin}): {why}")]
    KeyFile { path: String, origin: String, why: String },
    #[error("refusing to listen on {host} without a key: everybody who reaches the port would use your subscription")]
    Open { host: String },
    /// The form of the GitHub token alone shows that it is of no use.
    #[error("the GitHub token from {origin} is refused: {why}")]
    Token { origin: String, why: &'static str },
    #[error("no directory for this program's data: no home directory is known")]
    NoHome,
}

impl Error {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest, .. } => nearest.as_ref().map(|nearest| format!("did you mean {nearest}?")),
            Self::Open { .. } => Some(
                "set server.api_key (COPILOT_PROXY_SERVER__API_KEY) or server.api_key_file, \
                 or pass --allow-unauthenticated"
                    .into(),
            ),
            Self::Token { .. } => Some("sign in with `copilot-proxy auth` to get a token that works".into()),
            Self::NoHome => Some("set --data-dir or COPILOT_PROXY_DATA_DIR".into()),
            Self::Syntax { .. } => Some("`copilot-proxy config check FILE` examines a file after each change".into()),
            Self::KeyFile { .. } => Some("put the key alone into the file, on one line".into()),
            Self::Read { .. } | Self::Kind { .. } | Self::Value { .. } => None,
        }
    }
}
