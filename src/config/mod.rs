//! Layers of settings into [`Settings`], and where each value came from. Knows every floor's own settings; not who uses
//! them, and never the process's environment: that comes as an argument.
//!
//! ```text
//! config/default.toml (compiled in) < a file < environment < flags  →  Origins  →  Settings
//! ```
//!
//! `default.toml` is also the list of what exists: a key that is not in it is unknown, and the kind of a default is the
//! kind its setting takes.

use std::path::{Path, PathBuf};

mod environment;
mod error;
mod layers;
mod paths;
mod reference;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;

pub use environment::Environment;
pub use error::Error;
pub use layers::{Entry, Flag, Key, Origin, Origins};
pub use paths::{DataDir, seed_token_file};
pub use reference::{Reference, TEXT as REFERENCE};
pub use settings::{GivenToken, Models, Server, Settings};

/// What the layers above the defaults are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file given by `--config`, which must exist.
    pub file: Option<PathBuf>,
    /// Where `config.toml` is read from if it is there and no other file was given.
    pub data_dir: PathBuf,
    pub environment: Environment,
    pub flags: Vec<Flag>,
}

/// All there is to know about the settings in force.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub origins: Origins,
    /// The file that was read, if there is one.
    pub file: Option<PathBuf>,
    /// What looks like a mistake and stops nothing.
    pub warnings: Vec<String>,
}

/// Reads every layer and resolves them into validated settings, for whoever is going to listen by them.
pub fn load(sources: &Sources) -> Result<Loaded, Error> {
    let loaded = load_without_listening(sources)?;
    resolve::refuse_strangers(&loaded.origins, &loaded.settings)?;
    Ok(loaded)
}

/// The same for commands that open no door, and so need no key for it.
pub fn load_without_listening(sources: &Sources) -> Result<Loaded, Error> {
    let Merged {
        origins,
        file,
        warnings,
    } = merge(sources)?;
    let settings = resolve::settings(&origins, &sources.environment)?;
    Ok(Loaded {
        settings,
        origins,
        file,
        warnings,
    })
}

/// The layers put together, not yet judged.
pub struct Merged {
    pub origins: Origins,
    pub file: Option<PathBuf>,
    pub warnings: Vec<String>,
}

/// Reads every layer without asking whether the values make sense together.
pub fn merge(sources: &Sources) -> Result<Merged, Error> {
    let reference = Reference::read()?;
    let mut origins = Origins::defaults(&reference);
    let file = match &sources.file {
        Some(given) => Some(given.clone()),
        None => Some(sources.data_dir.join("config.toml")).filter(|usual| usual.exists()),
    };
    if let Some(path) = &file {
        origins.lay(layers::file(path, &read(path)?, &reference)?);
    }
    origins.lay(layers::usual_token(&sources.environment));
    let (entries, warnings) = layers::environment(&sources.environment, &reference)?;
    origins.lay(entries);
    origins.lay(layers::flags(&sources.flags));
    Ok(Merged {
        origins,
        file,
        warnings,
    })
}

/// Examines one file on its own, as if nothing but the defaults stood beside it. Comes back with what the file leaves to
/// the other layers.
pub fn check(path: &Path) -> Result<Option<String>, Error> {
    let reference = Reference::read()?;
    let mut origins = Origins::defaults(&reference);
    origins.lay(layers::file(path, &read(path)?, &reference)?);
    let settings = resolve::settings(&origins, &Environment::default())?;
    // A key does not belong into a file that may be shared: it may come from elsewhere.
    Ok(resolve::refuse_strangers(&origins, &settings)
        .err()
        .map(|open| format!("without a key from elsewhere, `start` will say: {open}")))
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.display().to_string(),
        source,
    })
}
