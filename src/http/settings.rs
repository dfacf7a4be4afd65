//! What the doors can be told.

use crate::secret::Secret;

#[derive(Clone, Debug)]
pub struct Settings {
    /// The key every request must show, if one is set.
    pub api_key: Option<Secret>,
    /// Bound to loopback: the Host header must then be a loopback name.
    pub loopback: bool,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    /// Counted after decompression.
    pub max_body_bytes: usize,
    /// `GET /token` answers, on loopback.
    pub token_endpoint: bool,
    /// Also models that Copilot's own picker hides.
    pub list_all_models: bool,
    /// `GET /responses` opens a socket.
    pub websocket: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            api_key: None,
            loopback: true,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_body_bytes: 32 << 20,
            token_endpoint: false,
            list_all_models: false,
            websocket: true,
        }
    }
}
