//! Argv in, exit code out. Nothing of servers.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A request is some hundred small allocations, and a long one a JSON tree of many thousand.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    copilot_proxy::cli::main()
}
