//! Limits of planning: constants, not options.

/// Tables and SELECTs of a query, those of its views and WITH queries counted at each use.
pub(crate) const QUERY_PARTS_MAX: usize = 1000;

/// Characters of a line of SQL that are shown with an error.
pub(crate) const ERROR_LINE_CHARS: usize = 100;
