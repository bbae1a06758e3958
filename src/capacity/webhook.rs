//! A URL that is told how many workers are wanted.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use control_plane::capacity::CapacityProvider;
use coordinator::capacity::Want;
use futures::{FutureExt as _, future::BoxFuture};
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE, redirect::Policy};
use serde_json::json;
use tokio::time::sleep;

use crate::process::draw_seed;

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Requests before it is told that it does not work.
const ATTEMPTS: u32 = 3;

/// Pause before the second request, doubled for each further one, and varied by half of it.
const PAUSE: Duration = Duration::from_millis(500);

/// Posts to a URL. Neither the URL, which may hold a secret, nor the token is ever shown.
pub(super) struct WebhookProvider {
    client: Client,
    url: Url,
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// Why a request brought nothing.
enum Failed {
    /// Another one may fare better.
    Again(String),
    /// It would not.
    Never(String),
}

impl WebhookProvider {
    /// # Errors
    /// When the URL is none, or nothing can be sent at all.
    pub(super) fn new(
        url: &str,
        token: Option<String>,
        token_file: Option<PathBuf>,
    ) -> anyhow::Result<WebhookProvider> {
        let url: Url = url.parse().context("--capacity-webhook is no URL")?;
        if !matches!(url.scheme(), "http" | "https") {
            bail!("--capacity-webhook must begin with http:// or https://");
        }
        // Whoever installed one before has installed the same.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .timeout(DEADLINE)
            // A token is for whom it was given.
            .redirect(Policy::none())
            .build()
            .map_err(|error| error.without_url())
            .context("failed to make ready for --capacity-webhook")?;
        Ok(WebhookProvider {
            client,
            url,
            token,
            token_file,
        })
    }

    fn token(&self) -> Result<Option<String>, Failed> {
        let Some(file) = &self.token_file else {
            return Ok(self.token.clone());
        };
        match fs::read_to_string(file) {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            Err(error) => {
                let file = file.display();
                Err(Failed::Again(format!(
                    "failed to read the token in {file}: {error}"
                )))
            }
        }
    }

    async fn post(&self, want: &Want) -> Result<(), Failed> {
        let body = json!({ "wanted": want.workers, "reason": want.reason });
        let request = self.client.post(self.url.clone());
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = match self.token()? {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.body(body.to_string()).send().await;
        let status = match response {
            Ok(response) => response.status(),
            Err(error) => {
                let error = anyhow::Error::from(error.without_url());
                return Err(Failed::Again(format!(
                    "the webhook cannot be reached: {error:#}"
                )));
            }
        };
        let text = format!("the webhook answers {status}");
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Err(Failed::Again(text)),
            status if status.is_server_error() => Err(Failed::Again(text)),
            _ => Err(Failed::Never(text)),
        }
    }

    async fn tell(&self, want: Want) -> Result<(), String> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.post(&want).await {
                Ok(()) => return Ok(()),
                Err(Failed::Again(_)) if attempt < ATTEMPTS => {}
                Err(Failed::Again(why) | Failed::Never(why)) => return Err(why),
            }
            sleep(pause.mul_f64(jitter())).await;
            pause *= 2;
        }
        Ok(())
    }
}

/// Many control planes must not ask at once.
fn jitter() -> f64 {
    0.5 + (draw_seed() % 1000) as f64 / 1000.0
}

impl CapacityProvider for WebhookProvider {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn want(&self, want: Want) -> BoxFuture<'_, Result<(), String>> {
        self.tell(want).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use axum::{Router, http::HeaderMap, routing::post};

    use super::*;

    type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

    /// A server that answers with these statuses, the last one from then on; and what it saw.
    async fn server(statuses: &'static [u16]) -> (String, Seen) {
        let seen = Seen::default();
        let note = Arc::clone(&seen);
        let answer = move |headers: HeaderMap, body: String| async move {
            let token = headers.get("authorization");
            let token = token.map(|token| token.to_str().expect("text").to_owned());
            let mut seen = note.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((body, token));
            let status = statuses.get(seen.len() - 1).or(statuses.last());
            StatusCode::from_u16(*status.expect("a status")).expect("a status")
        };
        let app = Router::new().route("/scale", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        (format!("http://{address}/scale?key=secret"), seen)
    }

    async fn tell(url: &str, token: Option<&str>) -> Result<(), String> {
        let provider = WebhookProvider::new(url, token.map(str::to_owned), None).expect("good");
        let want = Want {
            workers: 3,
            reason: "jobs grow".to_owned(),
        };
        provider.want(want).await
    }

    fn seen(seen: &Seen) -> Vec<(String, Option<String>)> {
        seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[tokio::test]
    async fn the_number_is_posted_with_the_token() {
        let (url, posts) = server(&[204]).await;
        assert_eq!(tell(&url, Some("the-token")).await, Ok(()));
        assert_eq!(tell(&url, None).await, Ok(()));
        let body = r#"{"wanted":3,"reason":"jobs grow"}"#;
        let bearer = Some("Bearer the-token".to_owned());
        assert_eq!(
            seen(&posts),
            [(body.to_owned(), bearer), (body.to_owned(), None)]
        );
    }

    #[tokio::test]
    async fn it_is_tried_again_where_that_may_help_and_not_for_ever() {
        let (url, posts) = server(&[503, 429, 200]).await;
        assert_eq!(tell(&url, None).await, Ok(()));
        assert_eq!(seen(&posts).len(), 3);
        let (url, posts) = server(&[500]).await;
        let error = tell(&url, None).await.expect_err("it fails");
        assert_eq!(error, "the webhook answers 500 Internal Server Error");
        assert_eq!(seen(&posts).len(), 3);
        let (url, posts) = server(&[403]).await;
        let error = tell(&url, None).await.expect_err("it fails");
        assert_eq!(error, "the webhook answers 403 Forbidden");
        assert_eq!(seen(&posts).len(), 1);
    }

    #[tokio::test]
    async fn nothing_secret_is_told() {
        // Nobody listens there.
        let error = tell("http://127.0.0.1:1/scale?key=secret", Some("the-token")).await;
        let error = error.expect_err("it fails");
        assert!(
            error.starts_with("the webhook cannot be reached"),
            "{error}"
        );
        assert!(
            !error.contains("secret") && !error.contains("the-token"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_file_with_the_token_is_read_anew() {
        let (url, posts) = server(&[200]).await;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let provider = WebhookProvider::new(&url, None, Some(file.clone())).expect("good");
        for token in ["first", "second"] {
            fs::write(&file, format!("{token}\n")).expect("a file");
            let want = Want {
                workers: 1,
                reason: String::new(),
            };
            assert_eq!(provider.want(want).await, Ok(()));
        }
        let tokens: Vec<Option<String>> =
            seen(&posts).into_iter().map(|(_, token)| token).collect();
        assert_eq!(
            tokens,
            ["Bearer first", "Bearer second"].map(|token| Some(token.to_owned()))
        );
    }
}
