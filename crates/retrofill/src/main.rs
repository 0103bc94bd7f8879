//! The retrofill binary: parses the command line, does the work, ends with its exit code.

use std::process::ExitCode;

use retrofill::cli::{dispatch, parse, start_logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match parse::parse(words.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(parse::refuse(&error, &words)),
    };
    start_logging(&cli.globals);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("the system gives threads and timers");
    ExitCode::from(runtime.block_on(dispatch(cli)).code())
}
