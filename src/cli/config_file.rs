//! `config check`, `config default`: files of settings, before they are used.

use std::process::ExitCode;

use super::args::ConfigCommand;
use super::{Outcome, print, tell};
use crate::config;

pub fn run(command: &ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check { file } => {
            if let Some(note) = config::check(file)? {
                tell(&format!("note: {note}"));
            }
            print(&format!("{}: ok\n", file.display()))?;
            Ok(ExitCode::SUCCESS)
        }
        ConfigCommand::Default => print(config::REFERENCE),
    }
}
