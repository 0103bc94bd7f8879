//! Work of a source before its first slice is read.

use std::fmt::Debug;
use std::sync::Arc;

use crate::columns::Columns;
use crate::error::Result;
use crate::interval::Interval;
use crate::survey::Survey;

/// What a source is to make readable slice by slice.
#[derive(Debug, Clone)]
pub struct StageRequest {
    /// What the plan knows of the source.
    pub survey: Arc<Survey>,
    /// The columns, in this order and of these types.
    pub columns: Arc<Columns>,
    /// All slices of the plan.
    pub slices: Vec<Interval>,
    /// Told now and then how far the work is.
    pub pulse: Pulse,
}

impl StageRequest {
    /// Tells nobody how far it is.
    pub fn new(survey: Arc<Survey>, columns: Arc<Columns>, slices: Vec<Interval>) -> Self {
        StageRequest { survey, columns, slices, pulse: Pulse::default() }
    }
}

/// Called with work done and work in all, in a measure of the caller's own. The work ends by the
/// error that it gives: nobody waits for it any more.
#[derive(Clone)]
pub struct Pulse(Arc<dyn Fn(u64, u64) -> Result<()> + Send + Sync>);

impl Pulse {
    /// Calls this.
    pub fn new(tell: impl Fn(u64, u64) -> Result<()> + Send + Sync + 'static) -> Self {
        Pulse(Arc::new(tell))
    }

    /// So much of all is done; an error where no more is wanted.
    pub fn beat(&self, done: u64, all: u64) -> Result<()> {
        (self.0)(done, all)
    }
}

/// Tells nobody and never ends.
impl Default for Pulse {
    fn default() -> Self {
        Pulse::new(|_, _| Ok(()))
    }
}

impl Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pulse")
    }
}
