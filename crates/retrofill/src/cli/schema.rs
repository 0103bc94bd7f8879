//! `retrofill schema`: the JSON Schema of the spec.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args};
use retrofill_core::error::Error;

use super::exit::Exit;
use super::output::Failure;
use super::{Context, reference};
use crate::config;

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// Write to this file instead of stdout.
    #[arg(short, long, value_name = "FILE", env = "RETROFILL_OUT", hide_env = true)]
    pub out: Option<PathBuf>,
    /// Print it as a page of Markdown that people read.
    #[arg(
        long,
        env = "RETROFILL_MARKDOWN",
        hide_env = true,
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub markdown: bool,
}

/// Prints or writes the schema.
pub fn execute(ctx: &Context, args: &SchemaArgs) -> Result<Exit, Failure> {
    let mut schema = config::schema();
    if args.markdown {
        schema = reference::spec(&schema);
    }
    match &args.out {
        None => ctx.output.result(&schema),
        Some(path) => std::fs::write(path, schema)
            .map_err(|e| Error::config(format!("cannot write `{}`", path.display())).because(e))?,
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Output;

    #[test]
    fn the_file_holds_the_schema() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Context { output: Output::default(), state_dir: None };
        let path = dir.path().join("s.json");
        let args = SchemaArgs { out: Some(path.clone()), markdown: false };
        assert_eq!(execute(&ctx, &args).unwrap(), Exit::Done);
        assert_eq!(std::fs::read_to_string(path).unwrap(), config::schema());
        let nowhere = SchemaArgs { out: Some(dir.path().join("no/s.json")), markdown: true };
        assert_eq!(execute(&ctx, &nowhere).unwrap_err().exit(), Exit::Config);
    }
}
