//! What queries bind to.

use super::bind;
use crate::logical::dump;

#[test]
fn scratch() {}

#[allow(dead_code)]
fn shown(sql: &str) -> String {
    match bind(sql) {
        Ok(plan) => dump(&plan),
        Err(error) => format!("error: {error}"),
    }
}
