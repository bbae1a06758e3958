//! The bearer token that every route but `/v1/health` asks for.

use std::{fmt, hint::black_box, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        StatusCode,
        header::{AUTHORIZATION, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use super::problem::Problem;

/// A secret that a client must show. Never printed, not even by `{:?}`.
#[derive(Clone)]
pub struct Token(Arc<str>);

impl Token {
    /// A token of this text.
    #[must_use]
    pub fn new(text: &str) -> Token {
        Token(text.into())
    }

    /// Whether `given` is the token. Takes as long for a wrong one as for the right one.
    fn admits(&self, given: &[u8]) -> bool {
        let secret = self.0.as_bytes();
        let mut difference = u8::from(secret.len() != given.len());
        for (index, byte) in given.iter().enumerate() {
            let other = secret.get(index).copied().unwrap_or_default();
            difference = black_box(difference | (byte ^ other));
        }
        difference == 0 && !secret.is_empty()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// These routes, for those who show the token.
pub fn guarded(routes: Router, token: Token) -> Router {
    routes.layer(middleware::from_fn_with_state(token, require_token))
}

pub(super) async fn require_token(
    State(token): State<Token>,
    request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(AUTHORIZATION);
    let given = header.and_then(|value| bearer(value.as_bytes()));
    if given.is_some_and(|given| token.admits(given)) {
        return next.run(request).await;
    }
    let problem = Problem::new(
        StatusCode::UNAUTHORIZED,
        "auth.token",
        "the request has no valid bearer token",
    );
    let problem = problem
        .hint("send the header `Authorization: Bearer <token>`; the server prints its token at start, or takes it from MILLSTREAM_TOKEN");
    ([(WWW_AUTHENTICATE, "Bearer")], problem).into_response()
}

/// What follows the scheme, whose case does not matter.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, given) = header.split_at_checked(b"Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| given.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_read_in_any_case() {
        assert_eq!(bearer(b"Bearer secret"), Some(&b"secret"[..]));
        assert_eq!(bearer(b"bearer  secret"), Some(&b"secret"[..]));
        for wrong in ["", "Bearer", "Basic secret", "Bearersecret"] {
            assert_eq!(bearer(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let token = Token::new("secret");
        assert!(token.admits(b"secret"));
        for wrong in ["", "s", "secreT", "secretsecret", "secret\0"] {
            assert!(!token.admits(wrong.as_bytes()), "{wrong}");
        }
        assert!(!Token::new("").admits(b""));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }
}
