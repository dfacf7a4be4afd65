//! The doors: actix-web lives here. No upstream, no translation.

mod settings;

pub use settings::Settings;
