//! The retrofill binary: parses the command line, does the work, ends with its exit code.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use retrofill::cli::{dispatch, parse, start_logging};
use retrofill::signals::survive_file_limits;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds after which unused memory goes back to the system. With the allocator's second,
/// a busy load holds two or three times what it uses, the more the longer it runs; with a tenth of
/// this, a tenth of its time goes into getting back what it gave away.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "100");

/// Starts this program again, as the same process, with the allocator's setting: it is read from
/// the environment before `main`.
fn settle_allocator() {
    let (name, delay) = PURGE_DELAY;
    if std::env::var_os(name).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut again = Command::new(program);
    if let Some(first) = arguments.next() {
        again.arg0(first);
    }
    // Returns only where it fails; then the load merely takes more memory.
    let _ = again.args(arguments).env(name, delay).exec();
}

fn main() -> ExitCode {
    settle_allocator();
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
    ExitCode::from(
        runtime
            .block_on(async {
                survive_file_limits();
                dispatch(cli).await
            })
            .code(),
    )
}
