//! How a process is reached by other tiers, and reaches them, as arguments.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;
use rpc::{Mutual, Tls};
use tokio::net::TcpListener;

use crate::serve::listen_address;

/// How a process is reached by other tiers, and reaches them.
#[derive(Args, Clone, Debug)]
pub(crate) struct TierArgs {
    /// Name of the cluster: the same for all its processes.
    #[arg(
        long,
        env = "MILLSTREAM_CLUSTER",
        value_name = "NAME",
        default_value = "millstream"
    )]
    pub(super) cluster: String,
    /// PEM file of the authority that signed the certificates of all processes of the cluster. With
    /// it tiers prove to each other who they are; without it they talk on this machine only.
    #[arg(long, env = "MILLSTREAM_CLUSTER_CA", value_name = "FILE")]
    cluster_ca: Option<PathBuf>,
    /// PEM file of this process's certificate among tiers.
    #[arg(long, env = "MILLSTREAM_CLUSTER_CERT", value_name = "FILE")]
    cluster_cert: Option<PathBuf>,
    /// PEM file of that certificate's private key.
    #[arg(long, env = "MILLSTREAM_CLUSTER_KEY", value_name = "FILE")]
    cluster_key: Option<PathBuf>,
    /// Name that the certificates of all processes carry, where it is not the host of their
    /// addresses.
    #[arg(long, env = "MILLSTREAM_CLUSTER_SERVER_NAME", value_name = "NAME")]
    cluster_server_name: Option<String>,
}

impl TierArgs {
    /// Reads the certificates, if there are any.
    ///
    /// # Errors
    /// When one of the files is missing.
    pub(super) fn tls(&self) -> anyhow::Result<Tls> {
        // Set to nothing is as good as not set.
        let given = |path: &Option<PathBuf>| {
            let path = path.clone();
            path.filter(|path| !path.as_os_str().is_empty())
        };
        let (ca, certificate, key) = (
            given(&self.cluster_ca),
            given(&self.cluster_cert),
            given(&self.cluster_key),
        );
        match (ca, certificate, key) {
            (Some(ca), Some(certificate), Some(key)) => Ok(Tls::Mutual(Mutual {
                ca: read(&ca)?,
                certificate: read(&certificate)?,
                key: read(&key)?,
                server_name: self
                    .cluster_server_name
                    .clone()
                    .filter(|name| !name.is_empty()),
            })),
            (None, None, None) => Ok(Tls::None),
            _ => {
                bail!("--cluster-ca, --cluster-cert and --cluster-key go together: give all three")
            }
        }
    }

    /// The same for a process that this one starts.
    pub(super) fn arguments(&self) -> Vec<String> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("--cluster", Some(self.cluster.clone())),
            ("--cluster-ca", path(&self.cluster_ca)),
            ("--cluster-cert", path(&self.cluster_cert)),
            ("--cluster-key", path(&self.cluster_key)),
            ("--cluster-server-name", self.cluster_server_name.clone()),
        ];
        let given = given.into_iter().filter_map(|(name, value)| {
            let value = value.filter(|value| !value.is_empty())?;
            Some([name.to_owned(), value])
        });
        given.flatten().collect()
    }

    /// Listens for other tiers.
    ///
    /// # Errors
    /// When the address cannot be listened on, or must not be without certificates.
    pub(super) async fn listen(&self, address: SocketAddr) -> anyhow::Result<TcpListener> {
        if !address.ip().is_loopback() && matches!(self.tls()?, Tls::None) {
            bail!(
                "refusing to listen on {address} in plain text: give --cluster-ca, --cluster-cert and \
                 --cluster-key, or listen on 127.0.0.1"
            );
        }
        let listener = TcpListener::bind(address).await;
        listener.with_context(|| format!("failed to listen on {address} for other tiers"))
    }
}

/// Where a process listens for other tiers, and what they call it.
#[derive(Args, Clone, Debug)]
pub(crate) struct ListenArgs {
    /// Address to listen on for other tiers; without certificates a loopback address. Port 0: any
    /// free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", value_parser = listen_address)]
    listen: SocketAddr,
    /// What other tiers call this process, where it is not the address that it listens on.
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    advertise: Option<String>,
}

impl ListenArgs {
    /// Listens; the listener, and what others call it.
    ///
    /// # Errors
    /// When the address cannot be listened on, or is none that others could use.
    pub(super) async fn bind(&self, tier: &TierArgs) -> anyhow::Result<(TcpListener, String)> {
        let listener = tier.listen(self.listen).await?;
        let bound = listener.local_addr().context("failed to listen")?;
        let advertised = match &self.advertise {
            Some(advertised) => advertised.clone(),
            None if bound.ip().is_unspecified() => bail!(
                "{} is every address of this machine: say with --advertise which one others are to use",
                self.listen
            ),
            None => bound.to_string(),
        };
        Ok((listener, advertised))
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

/// A host and a port; whether there is such a host is found out when it is asked.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let valid = |character: char| !character.is_whitespace() && !"/,=@".contains(character);
        !host.is_empty() && host.chars().all(valid) && port.parse::<u16>().is_ok()
    });
    match valid {
        true => Ok(text.to_owned()),
        false => Err("expected a host and a port such as 10.0.0.1:7001".to_owned()),
    }
}

/// The nodes of the control plane, as processes of other tiers are told them.
#[derive(Args, Clone, Debug)]
pub(crate) struct ControlPlaneAddresses {
    /// Nodes of the control plane, separated by commas; at least one, and better all.
    #[arg(
        long = "control-plane",
        env = "MILLSTREAM_CONTROL_PLANE",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required = true,
        value_parser = host_and_port
    )]
    pub(super) nodes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_started_is_of_the_same_cluster() {
        let tier = TierArgs {
            cluster: "blue".to_owned(),
            cluster_ca: Some("ca.pem".into()),
            cluster_cert: Some("".into()),
            cluster_key: None,
            cluster_server_name: Some("tier".to_owned()),
        };
        assert_eq!(
            tier.arguments().join(" "),
            "--cluster blue --cluster-ca ca.pem --cluster-server-name tier"
        );
    }

    #[test]
    fn addresses_are_hosts_with_ports() {
        for good in [
            "a:1",
            "10.0.0.1:7001",
            "[::1]:80",
            "control-plane-0.svc:65535",
        ] {
            assert_eq!(host_and_port(good), Ok(good.to_owned()));
        }
        for bad in [
            "",
            ":1",
            "a",
            "a:",
            "a:x",
            "a:65536",
            "http://a:1",
            "a b:1",
            "1=a:1",
        ] {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
