//! Whose certificates are accepted.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use rustls::{RootCertStore, crypto::ring};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Accepts what the authority in this file signed; without one, what the system trusts.
pub(crate) fn tls_config(ca: Option<&Path>) -> anyhow::Result<TlsConfig> {
    let roots = match ca {
        Some(path) => RootCerts::new_with_certs(&authorities(path)?),
        None => RootCerts::PlatformVerifier,
    };
    let provider = Arc::new(ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(roots)
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

fn authorities(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let pem = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let malformed = || format!("{} is not a PEM file of certificates", path.display());
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.with_context(malformed)? {
            // Whoever connects leaves out what cannot be used, without a word.
            let der = certificate.der().to_vec().into();
            RootCertStore::empty().add(der).with_context(malformed)?;
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        bail!("{}", malformed());
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let error = tls_config(Some(Path::new("/nowhere/ca.pem"))).expect_err("there is none");
        assert_eq!(error.to_string(), "failed to read /nowhere/ca.pem");
        let file = std::env::temp_dir().join(format!("ca-{}.pem", std::process::id()));
        let wrong = [
            "text",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\n",
        ];
        for text in wrong {
            fs::write(&file, text).expect("written");
            let error = tls_config(Some(&file)).expect_err("it is none");
            let expected = format!("{} is not a PEM file of certificates", file.display());
            assert_eq!(error.to_string(), expected, "{text}");
        }
        fs::remove_file(&file).expect("removed");
    }
}
