//! Serving the REST API: where it may listen, with which certificate, and how it ends.

mod listener;
mod tls;
mod token;

pub use listener::RestListener;
pub(crate) use listener::listen_address;
pub use tls::{RestTls, RestTlsArgs};
pub(crate) use token::{given_secret, given_token, random_token};
