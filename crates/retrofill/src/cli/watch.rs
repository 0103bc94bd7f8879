//! What the runner tells, as progress and notes.

use std::sync::Arc;

use retrofill_core::connector::Pulse;
use retrofill_core::ledger::State;
use retrofill_core::runner::{Happening, Watch};

use super::output::Output;
use super::progress::{Mode, Progress};

/// Shows a run.
#[derive(Debug)]
pub(super) struct Screen {
    output: Output,
    progress: Arc<Progress>,
}

impl Screen {
    /// In the way the user asked for.
    pub(super) fn new(output: Output) -> Arc<Self> {
        let progress = Arc::new(Progress::new(Mode::pick(&output), 0, 0));
        Arc::new(Screen { output, progress })
    }

    /// Shows how far the survey is.
    pub(super) fn survey(&self) -> Pulse {
        let progress = self.progress.clone();
        Pulse::new(move |done, total| {
            progress.survey(done, total);
            Ok(())
        })
    }

    /// Says what slows the run down.
    fn say(&self, text: &str) {
        self.progress.note(text);
        self.output.note(text);
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        self.progress.finish();
    }
}

impl Watch for Screen {
    fn on(&self, what: &Happening) {
        match what {
            Happening::Began { slices, rows, done } => {
                self.progress.plan(slices + done, *rows, *done);
            }
            Happening::Staging(done, all) => self.progress.stage(*done, *all),
            Happening::Rows(more) => self.progress.rows(*more),
            Happening::Slice(_, state, _) => self.progress.slice_done(*state),
            Happening::Searched(_) => self.progress.slice_done(State::Verified),
            Happening::Unread(fewer) => self.progress.unread(*fewer),
            Happening::Halved(id, why) => self.say(&format!("slice {id} is halved: {why}")),
            Happening::Note(text) => self.say(text),
        }
    }
}
