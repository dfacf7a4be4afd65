//! The commands: one file each. Knows argv, the terminal and exit codes; no protocol details.
//!
//! stdout carries what was asked for, stderr everything else: questions, log, errors. Colour is never the meaning.

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::config::{self, DataDir, Environment, Flag, Loaded, Merged, Sources};
use crate::server::Signals;
use crate::store::Vault;
use crate::telemetry;

pub mod args;
mod auth;
mod banner;
mod check_usage;
mod claude_code;
mod clipboard;
mod config_file;
mod debug;
mod error;
mod health;
mod quota;
mod shell;
mod sign_in;
mod simulator;
mod start;
mod terminal;

use args::{Arguments, Command, Place};
use error::Error;

/// What a command came to: an exit code, or an error to show.
type Outcome = Result<ExitCode, Error>;

/// The exit code of whoever was stopped by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(arguments.command, Environment::of_process()) {
        Ok(code) => code,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = write!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, environment: Environment) -> Outcome {
    match command {
        Command::Start(start) => start::run(&start, environment),
        Command::CheckUsage(check) => check_usage::run(&check, environment),
        Command::Simulator(simulator) => simulator::run(&simulator, environment),
        Command::Health(health) => health::run(&health, environment),
        Command::Auth(auth) => auth::run(&auth, environment),
        Command::Debug(debug) => debug::run(&debug, environment),
        Command::Config(config) => config_file::run(&config.command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "copilot-proxy", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    }
}

/// What every command knows of its surroundings.
struct Surroundings {
    environment: Environment,
    data_dir: DataDir,
    sources: Sources,
}

impl Surroundings {
    fn new(place: &Place, flags: Vec<Flag>, environment: Environment) -> Result<Self, Error> {
        let data_dir = DataDir::choose(place.data_dir.clone(), &environment)?;
        let sources = Sources {
            file: place.config.clone(),
            data_dir: data_dir.path.clone(),
            environment: environment.clone(),
            flags,
        };
        Ok(Self {
            environment,
            data_dir,
            sources,
        })
    }

    fn vault(&self) -> Vault {
        Vault::new(&self.data_dir.path)
    }

    /// The validated settings of a proxy that is about to listen; starts the log by them.
    fn load(&self) -> Result<Loaded, Error> {
        self.started_by(config::load(&self.sources)?)
    }

    /// The validated settings, for a command that opens no door.
    fn load_without_listening(&self) -> Result<Loaded, Error> {
        self.started_by(config::load_without_listening(&self.sources)?)
    }

    /// Starts the log, and warns of what looks like a mistake.
    fn started_by(&self, loaded: Loaded) -> Result<Loaded, Error> {
        telemetry::start(loaded.settings.log, self.environment.get("RUST_LOG"));
        for warning in &loaded.warnings {
            log::warn!("{warning}");
        }
        Ok(loaded)
    }

    /// The settings as they are, also where they would not do.
    fn merge(&self) -> Result<Merged, Error> {
        Ok(config::merge(&self.sources)?)
    }
}

/// Runs a command that waits for the network.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    actix_web::rt::System::new().block_on(work)
}

/// Listens to signals from now on.
fn listen() -> Result<Signals, Error> {
    Signals::listen().map_err(|error| Error::new("cannot listen to signals").because(&error))
}

/// Writes to stdout. Whoever reads may stop reading: that is no error.
fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new("cannot write to stdout").because(&error))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Tells a person something, on stderr.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
