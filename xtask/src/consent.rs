//! Whether something may be installed on this machine.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use crate::shell::Done;

/// Whether something may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// `--yes` or CI=true: without asking.
    Given,
    /// Print the commands and ask.
    Ask,
}

impl Consent {
    /// By `--yes` among the arguments or CI=true.
    pub fn from(args: &[String]) -> Self {
        let ci = std::env::var("CI").is_ok_and(|v| v == "true");
        if ci || args.iter().any(|a| a == "--yes") { Consent::Given } else { Consent::Ask }
    }

    /// Whether these commands may run. Where it was not said beforehand they are printed under
    /// `why`, and whoever sits at the terminal is asked; without a terminal the answer is no.
    pub fn to(self, why: &str, commands: &[String]) -> Done<bool> {
        if self == Consent::Given {
            return Ok(true);
        }
        println!("{why} To install them:");
        for command in commands {
            println!("  {command}");
        }
        if !io::stdin().is_terminal() {
            println!("Not installed; `--yes` installs them without asking.");
            return Ok(false);
        }
        print!("Do it now? [y/N] ");
        io::stdout().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_consent() {
        assert_eq!(Consent::from(&["--yes".to_owned()]), Consent::Given);
        assert!(Consent::Given.to("", &[]).unwrap());
    }
}
