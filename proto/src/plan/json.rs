//! The JSON form of a plan: protobuf's standard mapping, so that any language reads it.

use super::{PLAN_VERSION, Plan, PlanError};

impl Plan {
    /// Readable JSON, indented.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan holds only what JSON can say")
    }

    /// Reads a plan from JSON.
    ///
    /// # Errors
    /// When the text is not a plan, or one of a newer version.
    pub fn from_json(text: &str) -> Result<Plan, PlanError> {
        let plan: Plan =
            serde_json::from_str(text).map_err(|error| PlanError::Json(error.to_string()))?;
        if plan.version > PLAN_VERSION {
            return Err(PlanError::Version {
                found: plan.version,
                known: PLAN_VERSION,
            });
        }
        Ok(plan)
    }
}
