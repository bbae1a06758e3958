//! Routes, limits, and the description of both.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri},
    middleware,
    routing::get,
};
use utoipa::openapi::{
    InfoBuilder, OpenApi, OpenApiBuilder,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Token, require_token},
    figures, jobs,
    problem::Problem,
    results, statements, tables,
};
use crate::{Statements, caps::REQUEST_BYTES_MAX};

/// The whole API.
pub fn router(statements: Arc<Statements>, token: Token) -> Router {
    let (routes, description) = described_routes().split_for_parts();
    let description = Arc::new(description);
    let openapi = get(move || async move { Json(description.as_ref().clone()) });
    routes
        .route("/v1/openapi.json", openapi)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(middleware::from_fn_with_state(token, require_token))
        .with_state(statements)
        // Added after the layer above: asks for no token.
        .route("/v1/health", get(|| async { "ok\n" }))
}

/// The description of the API.
#[must_use]
pub fn openapi() -> OpenApi {
    described_routes().into_openapi()
}

fn described_routes() -> OpenApiRouter<Arc<Statements>> {
    let info = InfoBuilder::new()
        .title("Millstream")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Streaming SQL: statements, jobs and their results."))
        .build();
    let mut description = OpenApiBuilder::new()
        .info(info)
        .security(Some([SecurityRequirement::new("token", [""; 0])]))
        .build();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    description
        .components
        .get_or_insert_default()
        .add_security_scheme("token", scheme);
    OpenApiRouter::with_openapi(description)
        .routes(routes!(statements::execute))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::cancel))
        .routes(routes!(jobs::plan))
        .routes(routes!(figures::metrics))
        .routes(routes!(figures::checkpoints))
        .routes(routes!(figures::exceptions))
        .routes(routes!(figures::dead_letters))
        .routes(routes!(results::read))
        .routes(routes!(tables::list))
}

async fn not_found(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, "route.unknown", detail)
        .hint("GET /v1/openapi.json describes what there is")
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} cannot be asked with {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "route.method", detail)
        .hint("GET /v1/openapi.json describes what can be asked")
}
