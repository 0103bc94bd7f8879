//! The retrofill binary: parses the command line, does the work, ends with its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use retrofill::cli::{Cli, dispatch, start_logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(&cli.globals);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system gives threads and timers");
    ExitCode::from(runtime.block_on(dispatch(cli)).code())
}
