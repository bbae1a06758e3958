//! What all operations of the description have in common: problems, and how they look.

use utoipa::openapi::{
    Content, OpenApi, Ref, RefOr, ResponseBuilder,
    path::{Operation, PathItem},
};

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Statuses that do not depend on the operation.
const COMMON: &[(&str, &str)] = &[
    ("401", "The token is missing or wrong"),
    ("405", "The path cannot be asked with this method"),
    ("503", "The server is shutting down"),
];

/// Adds the problems that any operation may answer with. Every status from 400 is a problem.
pub(super) fn describe_problems(description: &mut OpenApi) {
    for item in description.paths.paths.values_mut() {
        for operation in operations(item) {
            let open = operation.security.is_some();
            for (status, text) in COMMON {
                if open && *status != "405" {
                    continue;
                }
                let response = ResponseBuilder::new().description(*text).build();
                let responses = &mut operation.responses.responses;
                responses
                    .entry((*status).to_owned())
                    .or_insert(RefOr::T(response));
            }
            set_content(operation);
        }
    }
}

fn set_content(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else {
            continue;
        };
        if status.starts_with(['4', '5']) {
            let problem = Content::new(Some(Ref::from_schema_name("Problem")));
            response.content.clear();
            response
                .content
                .insert(PROBLEM_JSON.to_owned(), RefOr::T(problem));
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}
