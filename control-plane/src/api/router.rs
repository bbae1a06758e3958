//! Routes, limits, and the description of both.

use axum::{
    Json, Router,
    extract::DefaultBodyLimit,
    http::{Method, StatusCode, Uri},
    middleware,
};
use utoipa::openapi::{
    InfoBuilder, License, OpenApi, OpenApiBuilder, Server,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    auth::{Token, require_token},
    autoscaler,
    backend::Backend,
    cluster,
    describe::describe_problems,
    figures, files, jobs, lives, operator_state, operators, parallelism,
    problem::Problem,
    results, savepoints, state_nodes, statements, tables,
    trace::trace_request,
    transfers, upgrades, workers,
};
use crate::caps::REQUEST_BYTES_MAX;

/// The whole API.
pub fn router(backend: Backend, token: Token) -> Router {
    let (guarded, _) = guarded_routes().split_for_parts();
    // Asks for no token.
    let (open, _) = open_routes().split_for_parts();
    guarded
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(middleware::from_fn_with_state(token, require_token))
        .layer(middleware::from_fn(trace_request))
        .merge(open.method_not_allowed_fallback(wrong_method))
        .with_state(backend)
}

/// The routes that ask for no token.
pub(crate) fn open_router() -> Router {
    let (open, _) = OpenApiRouter::<()>::new()
        .routes(routes!(health))
        .split_for_parts();
    open.method_not_allowed_fallback(wrong_method)
}

/// The description of the API.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut description = guarded_routes().into_openapi();
    description.merge(open_routes().into_openapi());
    describe_problems(&mut description);
    description
}

fn guarded_routes() -> OpenApiRouter<Backend> {
    let info = InfoBuilder::new()
        .title("Millstream")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Streaming SQL: statements, jobs and their results, and the processes that run them.",
        ))
        .license(Some(License::new("Apache-2.0")))
        .build();
    let mut description = OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
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
        .routes(routes!(jobs::get, jobs::delete, parallelism::change))
        .routes(routes!(jobs::cancel))
        .routes(routes!(lives::stop))
        .routes(routes!(lives::resume))
        .routes(routes!(lives::fork))
        .routes(routes!(upgrades::begin, upgrades::get))
        .routes(routes!(savepoints::list, savepoints::create))
        .routes(routes!(savepoints::get, savepoints::delete))
        .routes(routes!(transfers::export))
        .routes(routes!(transfers::import))
        .routes(routes!(transfers::list))
        .routes(routes!(transfers::get))
        .routes(routes!(transfers::cancel))
        .routes(routes!(jobs::plan))
        .routes(routes!(autoscaler::get))
        .routes(routes!(operators::list))
        .routes(routes!(operator_state::rows))
        .routes(routes!(operator_state::size))
        .routes(routes!(figures::metrics))
        .routes(routes!(figures::checkpoints))
        .routes(routes!(figures::exceptions))
        .routes(routes!(figures::dead_letters))
        .routes(routes!(results::read))
        .routes(routes!(tables::list))
        .routes(routes!(workers::list))
        .routes(routes!(workers::get))
        .routes(routes!(state_nodes::list))
        .routes(routes!(files::list))
        .routes(routes!(cluster::get))
        .routes(routes!(cluster::add))
        .routes(routes!(cluster::remove))
        .routes(routes!(description_of_all))
}

fn open_routes() -> OpenApiRouter<Backend> {
    OpenApiRouter::new().routes(routes!(health))
}

/// Get this description
#[utoipa::path(
    get,
    path = "/v1/openapi.json",
    operation_id = "getDescription",
    tag = "server",
    responses((status = 200, description = "OpenAPI", body = Object)),
)]
async fn description_of_all() -> Json<OpenApi> {
    Json(openapi())
}

/// Ask whether the server is there
#[utoipa::path(
    get,
    path = "/v1/health",
    operation_id = "getHealth",
    tag = "server",
    security(()),
    responses((status = 200, description = "It is", body = String, content_type = "text/plain")),
)]
async fn health() -> &'static str {
    "ok\n"
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
