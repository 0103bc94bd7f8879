//! Counting what `cargo test` reports.

/// Tests by how they ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: u64,
    /// Failed, steps that are no tests included.
    pub failed: u64,
    /// Names of tests that could not run here, with the reason.
    pub skipped: Vec<String>,
    /// Names of the tests and steps that failed.
    pub failures: Vec<String>,
}

impl Tally {
    /// Takes in one line of output.
    pub fn see(&mut self, line: &str) {
        if let Some(rest) = line.trim().strip_prefix("test result: ") {
            self.passed += count(rest, " passed");
            self.failed += count(rest, " failed");
        } else if let Some(at) = line.find("skipped: ") {
            self.skipped.push(line[at + "skipped: ".len()..].trim().into());
        } else if let Some(name) = line.strip_prefix("test ").and_then(|l| l.strip_suffix("FAILED"))
        {
            self.failures.push(name.trim_end_matches([' ', '.']).into());
        }
    }

    /// Takes in a step that is not a test: it counts only where it fails.
    pub fn step(&mut self, name: &str, ended: Result<(), crate::shell::Failure>) {
        if let Err(failure) = ended {
            self.failed += 1;
            self.failures.push(format!("{name}: {failure}"));
            eprintln!("{name} failed: {failure}");
        }
    }

    /// What failed and what was skipped, and the one line that ends every run of the tests.
    pub fn summary(&self) -> String {
        let failed = self.failures.iter().map(|name| format!("failed: {name}"));
        let mut lines: Vec<_> = failed.collect();
        if !self.skipped.is_empty() {
            lines.push(format!("{} could not run here:", self.skipped.len()));
        }
        lines.extend(self.skipped.iter().map(|name| format!("  {name}")));
        lines.push(format!("{} passed, {} failed", self.passed, self.failed));
        lines.join("\n")
    }
}

/// The number before `word`.
fn count(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_summed() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test kill::six ... skipped: kill::six (python)",
            "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out",
            "test result: ok. 30 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            tally.see(line);
        }
        assert_eq!((tally.passed, tally.failed), (42, 1));
        assert_eq!(tally.failures, ["a::c"]);
        assert_eq!(tally.skipped, ["kill::six (python)"]);
        assert!(tally.summary().ends_with("\n42 passed, 1 failed"));
    }

    #[test]
    fn a_step_that_fails_is_a_failure() {
        let mut tally = Tally { passed: 5, ..Tally::default() };
        tally.step("format", Ok(()));
        assert_eq!(tally.summary(), "5 passed, 0 failed");
        tally.step("format", Err(crate::shell::Failure::new("differs")));
        assert_eq!(tally.summary(), "failed: format: differs\n5 passed, 1 failed");
    }
}
