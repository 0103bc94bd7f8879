//! What a first look at a source tells of the plan that would be made.

use jiff::Timestamp;
use retrofill_core::connector::{Pulse, Source, SurveyRequest, Target};
use retrofill_core::error::Result;
use retrofill_core::plan::Plan;
use retrofill_core::survey::Sampled;

use crate::job::Job;

impl Job {
    /// The plan that would be made, by a sample of the source: nothing can be run from it. Writes
    /// nothing. None where the source is empty and the spec allows it.
    pub async fn estimate(
        &self,
        source: &dyn Source,
        target: &dyn Target,
        pulse: Pulse,
    ) -> Result<Option<Plan>> {
        let way = SurveyRequest { pulse, sample: true, ..SurveyRequest::default() };
        let drafted = self.draft(source, target, Timestamp::now(), way).await?;
        let Some(mut plan) = drafted else { return Ok(None) };
        let mut survey = plan.survey.as_ref().clone();
        match survey.sampled {
            Some(Sampled { looked_at, bytes }) if looked_at < bytes => {
                plan.notes.push("types are those of the values that were looked at".into());
            }
            Some(_) => {}
            None => {
                let bytes = survey.bytes;
                survey.sampled = Some(Sampled { looked_at: bytes, bytes });
                plan.notes.push("this source tells exactly what it holds, and was asked".into());
            }
        }
        plan.survey = survey.into();
        Ok(Some(plan))
    }
}
