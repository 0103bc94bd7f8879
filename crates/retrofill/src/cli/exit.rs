//! Exit codes: classes that a policy can act on.

use retrofill_core::error::Kind;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: all selected slices are verified. Conflicts alone do not change it.
    Done,
    /// 1: some slices failed after all tries, or stale ones remain. A rerun may help.
    Failed,
    /// 2: bad usage, spec or rights. Never try again unchanged.
    Config,
    /// 3: what was read back is not what was written. A person must look.
    Mismatched,
    /// 4: stopped on purpose. A rerun continues.
    Stopped,
    /// 5: another runner holds the plan, or plan and spec no longer fit.
    Held,
    /// 6: more rejects than the cap allows.
    Rejects,
    /// 10: work is outstanding; only with `--detailed-exitcode`.
    Outstanding,
    /// 99: there was nothing to do; only with `--skip-if-done`.
    Skipped,
    /// 130: ended by an interrupt, after the slice in hand was finished or rolled back.
    Interrupted,
    /// 143: the same by a request to terminate.
    Terminated,
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Config => 2,
            Exit::Mismatched => 3,
            Exit::Stopped => 4,
            Exit::Held => 5,
            Exit::Rejects => 6,
            Exit::Outstanding => 10,
            Exit::Skipped => 99,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }

    /// The class of an error that ended the whole command.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Config | Kind::Bug => Exit::Config,
            Kind::Unavailable | Kind::Overloaded | Kind::Refused | Kind::Stale => Exit::Failed,
            Kind::Mismatch => Exit::Mismatched,
            Kind::Fenced => Exit::Held,
            Kind::Stopped => Exit::Stopped,
        }
    }

    /// Signals stand above all, then 5 > 2 > 3 > 6 > 1 > 4 > 0; 10 and 99 only ever take the
    /// place of 0.
    fn rank(self) -> u8 {
        match self {
            Exit::Interrupted | Exit::Terminated => 8,
            Exit::Held => 7,
            Exit::Config => 6,
            Exit::Mismatched => 5,
            Exit::Rejects => 4,
            Exit::Failed => 3,
            Exit::Stopped => 2,
            Exit::Outstanding | Exit::Skipped => 1,
            Exit::Done => 0,
        }
    }

    /// The one of two that is reported when both hold.
    pub fn and(self, other: Exit) -> Exit {
        if other.rank() > self.rank() { other } else { self }
    }

    /// With `--detailed-exitcode`: 10 instead of 0 while work is outstanding.
    pub fn detailed(self, asked: bool, outstanding: bool) -> Exit {
        match self {
            Exit::Done if asked && outstanding => Exit::Outstanding,
            exit => exit,
        }
    }

    /// With `--skip-if-done`: 99 instead of 0 where nothing was to do.
    pub fn skipped(self, asked: bool, nothing_to_do: bool) -> Exit {
        match self {
            Exit::Done if asked && nothing_to_do => Exit::Skipped,
            exit => exit,
        }
    }
}

/// What holds at the end of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each with its own code")]
pub struct Facts {
    /// SIGINT was received.
    pub interrupted: bool,
    /// SIGTERM was received.
    pub terminated: bool,
    /// Another runner holds the plan, or plan and spec no longer fit.
    pub held: bool,
    /// Usage, spec or rights are wrong.
    pub config: bool,
    /// A selected slice is mismatched.
    pub mismatched: bool,
    /// There are more rejects in the plan than the cap allows.
    pub rejects: bool,
    /// A selected slice is failed, stale or unknown.
    pub failed: bool,
    /// Stopped on purpose, with selected slices left.
    pub stopped: bool,
}

/// The exit code for all that holds.
pub fn decide(facts: Facts) -> Exit {
    let list = [
        (facts.interrupted, Exit::Interrupted),
        (facts.terminated, Exit::Terminated),
        (facts.held, Exit::Held),
        (facts.config, Exit::Config),
        (facts.mismatched, Exit::Mismatched),
        (facts.rejects, Exit::Rejects),
        (facts.failed, Exit::Failed),
        (facts.stopped, Exit::Stopped),
    ];
    list.iter().filter(|(holds, _)| *holds).fold(Exit::Done, |exit, (_, next)| exit.and(*next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(bits: u8) -> Facts {
        let bit = |n: u8| bits & (1 << n) != 0;
        Facts {
            interrupted: bit(7),
            terminated: false,
            held: bit(6),
            config: bit(5),
            mismatched: bit(4),
            rejects: bit(3),
            failed: bit(2),
            stopped: bit(1),
        }
    }

    #[test]
    fn the_highest_class_wins_in_every_combination() {
        // By rank, from the highest: the same order as the bits above.
        let codes = [130, 5, 2, 3, 6, 1, 4];
        for bits in 0..=u8::MAX {
            let highest = (1..8).rev().find(|n| bits & (1 << n) != 0);
            let expected = highest.map_or(0, |n| codes[7 - n]);
            assert_eq!(decide(facts(bits)).code(), expected, "{bits:08b}");
        }
        let terminated = Facts { terminated: true, held: true, ..Facts::default() };
        assert_eq!(decide(terminated).code(), 143);
    }

    #[test]
    fn ten_and_ninety_nine_only_replace_success() {
        assert_eq!(Exit::Done.detailed(true, true).code(), 10);
        assert_eq!(Exit::Done.detailed(true, false).code(), 0);
        assert_eq!(Exit::Done.detailed(false, true).code(), 0);
        assert_eq!(Exit::Rejects.detailed(true, true).code(), 6);
        assert_eq!(Exit::Done.skipped(true, true).code(), 99);
        assert_eq!(Exit::Done.skipped(false, true).code(), 0);
        assert_eq!(Exit::Mismatched.skipped(true, true).code(), 3);
    }

    #[test]
    fn errors_have_their_class() {
        assert_eq!(Exit::of(Kind::Fenced).code(), 5);
        assert_eq!(Exit::of(Kind::Config).code(), 2);
        assert_eq!(Exit::of(Kind::Mismatch).code(), 3);
        assert_eq!(Exit::of(Kind::Unavailable).code(), 1);
        assert_eq!(Exit::of(Kind::Stopped).code(), 4);
    }
}
