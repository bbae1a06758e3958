//! A certificate authority for tiers on loopback.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rpc::{Mutual, Tls};

/// Both sides of mTLS: a certificate for 127.0.0.1 by an authority of its own.
pub(super) fn mutual_tls() -> Tls {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    Tls::Mutual(Mutual {
        ca,
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        server_name: None,
    })
}
