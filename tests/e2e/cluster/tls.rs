//! Tiers that prove to each other who they are.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tests::Member;

use super::{load::Load, start_over};

/// What a process that nobody takes says.
const NOT_TAKEN: &str = "no leader of the control plane takes this process";

/// Makes an authority and a certificate that it signed; the variables that name their files.
pub(super) fn certificates(folder: &Path, names: Vec<String>) -> Vec<(String, String)> {
    fs::create_dir_all(folder).expect("a folder");
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, key).expect("signed");
    // Processes are called by their addresses.
    let own = CertificateParams::new(names).expect("addresses");
    let key = KeyPair::generate().expect("a key");
    let own = own.signed_by(&key, &authority).expect("signed");
    let files = [
        ("MILLSTREAM_CLUSTER_CA", "ca.pem", authority.pem()),
        ("MILLSTREAM_CLUSTER_CERT", "cert.pem", own.pem()),
        ("MILLSTREAM_CLUSTER_KEY", "key.pem", key.serialize_pem()),
    ];
    let variable = |(name, file, text): (&str, &str, String)| {
        let path = folder.join(file);
        fs::write(&path, text).expect("written");
        (name.to_owned(), path.display().to_string())
    };
    files.map(variable).to_vec()
}

#[test]
fn tiers_talk_over_mutual_tls_and_to_nobody_without_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = || vec!["127.0.0.1".to_owned()];
    let cluster = start_over(None, certificates(&folder.path().join("own"), here()));
    let load = Load::start(&cluster, 4, 2);
    let plain = cluster.start_stranger("plain", Vec::new());
    let foreign = cluster.start_stranger(
        "foreign",
        certificates(&folder.path().join("foreign"), here()),
    );
    for stranger in [&plain, &foreign] {
        let refused = |stranger: &Member| stranger.log().contains(NOT_TAKEN);
        cluster.wait("a stranger is not taken", || refused(stranger));
    }
    load.finish(&cluster);
    let workers = cluster.worker_tasks().expect("a leader");
    assert_eq!(workers.len(), cluster.workers.len(), "{workers:?}");
}
