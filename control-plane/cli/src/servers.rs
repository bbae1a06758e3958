//! Which servers there are: any node of a cluster answers, so the next one is asked when one cannot
//! be reached.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::bail;
use clap::Args;

const DEFAULT_URL: &str = "http://127.0.0.1:7878";

/// Which server, and how to get in.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Where the server is, http or https. Of a cluster, any of its control-plane nodes: the next
    /// one is asked when one cannot be reached.
    #[arg(
        long,
        env = "MILLSTREAM_URL",
        value_name = "URL[,URL...]",
        value_delimiter = ',',
        default_value = DEFAULT_URL,
        global = true
    )]
    url: Vec<String>,
    /// The token that it printed at start.
    #[arg(
        long,
        env = "MILLSTREAM_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        global = true
    )]
    pub(crate) token: Option<String>,
    /// PEM file of the authority that signed the certificates of https servers. Without it, those
    /// that this system trusts.
    #[arg(long, env = "MILLSTREAM_CA", value_name = "FILE", global = true)]
    ca: Option<PathBuf>,
}

impl ServerArgs {
    pub(crate) fn servers(&self) -> anyhow::Result<Servers> {
        let urls = self.url.iter().map(|url| url.trim());
        let urls = urls.filter(|url| !url.is_empty()).map(checked_url);
        let mut urls = urls.collect::<anyhow::Result<Vec<String>>>()?;
        // Set to nothing is as good as not set.
        if urls.is_empty() {
            urls.push(DEFAULT_URL.to_owned());
        }
        Ok(Servers {
            urls,
            preferred: AtomicUsize::new(0),
        })
    }

    pub(crate) fn ca(&self) -> Option<&PathBuf> {
        self.ca.as_ref().filter(|path| !path.as_os_str().is_empty())
    }
}

fn checked_url(url: &str) -> anyhow::Result<String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(parts) => parts,
        None => bail!("the server's URL is `{url}`, without a scheme: write http://{url}"),
    };
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        bail!("the server's URL is `{url}`: `{scheme}` is not supported, http and https are");
    }
    Ok(format!("{scheme}://{}", rest.trim_end_matches('/')))
}

/// The servers of a command.
#[derive(Debug)]
pub(crate) struct Servers {
    urls: Vec<String>,
    /// The one that answered last.
    preferred: AtomicUsize,
}

impl Servers {
    /// All of them, with their numbers: the one that answered last comes first.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = (usize, &str)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let all = self.urls.iter().map(String::as_str).enumerate();
        all.clone().skip(first).chain(all.take(first))
    }

    /// This one has answered.
    pub(crate) fn prefer(&self, server: usize) {
        self.preferred.store(server, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_need_a_scheme() {
        let check = |url: &str, expected: &str| {
            let checked = checked_url(url).unwrap_or_else(|error| error.to_string());
            assert_eq!(checked, expected);
        };
        check("http://localhost:1/", "http://localhost:1");
        check("HTTPS://localhost:1", "https://localhost:1");
        check(
            "localhost:1",
            "the server's URL is `localhost:1`, without a scheme: write http://localhost:1",
        );
        check(
            "ftp://localhost:1",
            "the server's URL is `ftp://localhost:1`: `ftp` is not supported, http and https are",
        );
    }

    #[test]
    fn the_one_that_answered_last_is_asked_first() {
        let args = |urls: &[&str]| ServerArgs {
            url: urls.iter().map(|url| (*url).to_owned()).collect(),
            token: None,
            ca: None,
        };
        let servers = args(&["http://a", " http://b/", "", "http://c"]);
        let servers = servers.servers().expect("they are URLs");
        let turn = |servers: &Servers| -> Vec<String> {
            servers.in_turn().map(|(_, url)| url.to_owned()).collect()
        };
        assert_eq!(turn(&servers), ["http://a", "http://b", "http://c"]);
        servers.prefer(1);
        assert_eq!(turn(&servers), ["http://b", "http://c", "http://a"]);
        let nothing = args(&[""]).servers().expect("it is as good as unset");
        assert_eq!(turn(&nothing), [DEFAULT_URL]);
    }
}
