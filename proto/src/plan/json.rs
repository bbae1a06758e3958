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
        plan.check_version()?;
        Ok(plan)
    }

    /// Whether this build knows the plan's version.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_version(&self) -> Result<(), PlanError> {
        let (found, known) = (self.version, PLAN_VERSION);
        if found > known {
            return Err(PlanError::Version { found, known });
        }
        Ok(())
    }
}
