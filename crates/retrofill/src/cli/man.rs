//! `retrofill man`: the manual, one page per command.

use std::path::{Path, PathBuf};

use clap::builder::FalseyValueParser;
use clap::{ArgAction, Args, Command, CommandFactory as _};
use retrofill_core::error::Error;

use super::exit::Exit;
use super::output::{Failure, Format};
use super::{Cli, Context, reference};

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Write a page for each command into this directory; without it, the first page alone is
    /// printed.
    #[arg(short, long, value_name = "DIR", env = "RETROFILL_OUT", hide_env = true)]
    pub out: Option<PathBuf>,
    /// Print all commands as one page of Markdown instead.
    #[arg(
        long,
        env = "RETROFILL_MARKDOWN",
        hide_env = true,
        conflicts_with = "out",
        value_parser = FalseyValueParser::new(),
        action = ArgAction::SetTrue
    )]
    pub markdown: bool,
}

/// Prints the first page, or writes all.
pub fn execute(ctx: &Context, args: &ManArgs) -> Result<Exit, Failure> {
    if args.markdown {
        ctx.output.result(&reference::commands());
        return Ok(Exit::Done);
    }
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.out else {
        ctx.output.result(&String::from_utf8_lossy(&page("retrofill", &command)?));
        return Ok(Exit::Done);
    };
    let failed =
        |path: &Path, e| Error::config(format!("cannot write `{}`", path.display())).because(e);
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    let mut names = Vec::new();
    for (name, text) in pages("retrofill", &command)? {
        let path = dir.join(&name);
        std::fs::write(&path, text).map_err(|e| failed(&path, e))?;
        names.push(name);
    }
    match ctx.output.format {
        Format::Text => ctx.output.result(&format!("{} pages in {}", names.len(), dir.display())),
        Format::Json => ctx.output.json(&serde_json::json!({ "v": 1, "dir": dir, "pages": names })),
    }
    Ok(Exit::Done)
}

/// The page of a command and those of all below it, with their file names.
fn pages(name: &str, command: &Command) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut all = vec![(format!("{name}.1"), page(name, command)?)];
    for sub in command.get_subcommands() {
        all.extend(pages(&format!("{name}-{}", sub.get_name()), sub)?);
    }
    Ok(all)
}

fn page(name: &str, command: &Command) -> Result<Vec<u8>, Error> {
    // A page is named by its whole path, and calls its command by the words that are typed.
    let command = command.clone().display_name(name.to_owned());
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .title(name)
        .render(&mut page)
        .map_err(|e| Error::bug(format!("the page of `{name}` cannot be made")).because(e))?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Output;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Context { output: Output { quiet: true, ..Output::default() }, state_dir: None };
        let out = dir.path().join("man/man1");
        assert_eq!(
            execute(&ctx, &ManArgs { out: Some(out.clone()), markdown: false }).unwrap(),
            Exit::Done
        );
        let page = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        assert!(page("retrofill.1").contains("retrofill\\-run(1)"));
        assert!(page("retrofill-run.1").contains("retrofill run"));
        assert!(page("retrofill-rejects-replay.1").contains("retrofill rejects replay"));
        let commands = Cli::command().get_subcommands().count();
        assert!(std::fs::read_dir(&out).unwrap().count() > commands);
    }
}
