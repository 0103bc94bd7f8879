//! Flags that several commands have.

use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};

use super::exit::Exit;

/// For schedulers that ask whether there is work.
#[derive(Debug, Clone, Copy, Args)]
pub struct Detailed {
    /// Exit with 10 instead of 0 while work is outstanding.
    #[arg(
        long,
        env = "RETROFILL_DETAILED_EXITCODE",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub detailed_exitcode: bool,
}

impl Detailed {
    pub(super) fn exit(self, outstanding: bool) -> Exit {
        Exit::Done.detailed(self.detailed_exitcode, outstanding)
    }
}

/// For commands that plan where they need to.
#[derive(Debug, Clone, Copy, Args)]
pub struct Replan {
    /// Plan anew where an unfinished plan and its spec or source no longer fit. What is proven and
    /// planned again stays proven.
    #[arg(
        long,
        env = "RETROFILL_REPLAN",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub replan: bool,
}

/// For commands that end with a summary.
#[derive(Debug, Clone, Args)]
pub struct SummaryFile {
    /// Write the JSON summary line to this file too.
    #[arg(
        long = "summary-file",
        value_name = "FILE",
        env = "RETROFILL_SUMMARY_FILE",
        hide_env = true
    )]
    path: Option<PathBuf>,
}

impl SummaryFile {
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}
