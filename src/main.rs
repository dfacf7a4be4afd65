//! Argv in, exit code out. Nothing of servers.

use std::process::ExitCode;

fn main() -> ExitCode {
    copilot_proxy::cli::main()
}
