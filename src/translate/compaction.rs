//! A history made short: what Codex asks for, and how it is served.
