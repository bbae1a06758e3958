//! The certificate that clients of the REST API are shown.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::Args;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The certificate that clients of the REST API are shown.
#[derive(Args, Clone, Debug, Default)]
pub struct RestTlsArgs {
    /// PEM file of the certificate that clients of the REST API are shown, followed by those
    /// between it and its authority. Clients then say https.
    #[arg(long, env = "MILLSTREAM_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, env = "MILLSTREAM_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

impl RestTlsArgs {
    /// Reads the files; `None`: there are none to read.
    ///
    /// # Errors
    /// When they are not what they should be.
    pub fn load(&self) -> anyhow::Result<Option<RestTls>> {
        // Set to nothing is as good as not set.
        let given = |path: &Option<PathBuf>| {
            let path = path.clone();
            path.filter(|path| !path.as_os_str().is_empty())
        };
        match (given(&self.tls_cert), given(&self.tls_key)) {
            (Some(certificate), Some(key)) => RestTls::load(&certificate, &key).map(Some),
            (None, None) => Ok(None),
            (Some(_), None) => bail!("--tls-cert needs --tls-key: the certificate's private key"),
            (None, Some(_)) => bail!("--tls-key needs --tls-cert: the key's certificate"),
        }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct RestTls(pub(super) Arc<ServerConfig>);

impl RestTls {
    /// Of two PEM files.
    ///
    /// # Errors
    /// When they are not what they should be.
    pub fn load(certificate: &Path, key: &Path) -> anyhow::Result<RestTls> {
        let read = |path: &Path| {
            fs::read(path).with_context(|| format!("failed to read {}", path.display()))
        };
        let chain =
            CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>();
        let chain = chain.unwrap_or_default();
        if chain.is_empty() {
            bail!(
                "{} is not a PEM file of certificates",
                certificate.display()
            );
        }
        let Ok(secret) = PrivateKeyDer::from_pem_slice(&read(key)?) else {
            bail!(
                "{} is not a PEM file of a private key without a password",
                key.display()
            );
        };
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("failed to prepare TLS")?
            .with_no_client_auth()
            .with_single_cert(chain, secret);
        let mut config = config.with_context(|| {
            format!(
                "failed to use the certificate in {} with the key in {}",
                certificate.display(),
                key.display()
            )
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(RestTls(Arc::new(config)))
    }
}
