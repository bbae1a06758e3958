//! A plan inside something that is serialized, for `#[serde(with = "…")]`.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::Plan;

/// Writes the plan's standard form.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(plan: &Arc<Plan>, serializer: S) -> Result<S::Ok, S::Error> {
    plan.as_ref().serialize(serializer)
}

/// Reads a plan of a version that this build knows.
///
/// # Errors
/// When it is not one.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Plan>, D::Error> {
    let plan = Plan::deserialize(deserializer)?;
    plan.check_version().map_err(D::Error::custom)?;
    Ok(Arc::new(plan))
}
