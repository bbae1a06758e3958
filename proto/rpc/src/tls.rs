//! Whether and how tiers prove to each other who they are.

use std::{fmt, sync::Arc, time::Duration};

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::Network;

/// How a process talks to other tiers.
#[derive(Clone, Debug, Default)]
pub enum Tls {
    /// In plain text: on loopback only.
    #[default]
    None,
    /// Both sides show a certificate that the CA signed.
    Mutual(Mutual),
    /// In plain text, over a network that is none of this machine's.
    Simulated(Arc<dyn Network>),
}

/// Certificates, as PEM text.
#[derive(Clone)]
pub struct Mutual {
    /// The authority that signed every tier's certificate.
    pub ca: String,
    /// This process's certificate, with the chain up to the CA if there is one.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// Name that the servers' certificates carry, where it is not the host of their address:
    /// pods whose addresses come and go share one.
    pub server_name: Option<String>,
}

impl fmt::Debug for Mutual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Mutual")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

impl Mutual {
    pub(crate) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity())
            .client_ca_root(Certificate::from_pem(&self.ca))
    }

    pub(crate) fn client(&self, handshake_timeout: Duration) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .identity(self.identity())
            .ca_certificate(Certificate::from_pem(&self.ca))
            .timeout(handshake_timeout);
        match &self.server_name {
            Some(name) => config.domain_name(name),
            None => config,
        }
    }

    fn identity(&self) -> Identity {
        Identity::from_pem(&self.certificate, &self.key)
    }
}
