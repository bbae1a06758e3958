//! Why a server gave no answer, for people, and whether another one may be asked instead.

use std::io;

use rustls::CertificateError;
use ureq::{Error, Timeout};

/// Whether the request certainly was not sent, so that another server may be asked.
pub(crate) fn is_unsent(error: &Error) -> bool {
    match error {
        Error::HostNotFound
        | Error::ConnectionFailed
        | Error::Tls(_)
        | Error::Rustls(_)
        | Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        Error::Io(error) => {
            let refused = matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            );
            refused
                || is_lookup(error)
                || matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
        }
        _ => false,
    }
}

/// What is wrong and what to do.
pub(crate) fn why(url: &str, error: &Error) -> String {
    let is_tls = url.starts_with("https://");
    let (_, place) = url.split_once("://").unwrap_or_default();
    match error {
        Error::Rustls(error) => tls_text(place, error),
        Error::Io(error) => match tls_error(error) {
            Some(error) => tls_text(place, error),
            None if is_lookup(error) => "there is no such host".to_owned(),
            None => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "connection refused; is the server running?".to_owned()
                }
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset if !is_tls => {
                    not_plain(place)
                }
                _ => error.to_string(),
            },
        },
        // What came is no HTTP.
        Error::Protocol(_) if !is_tls => not_plain(place),
        Error::HostNotFound => "there is no such host".to_owned(),
        Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
            "it does not answer; is the server running, and no firewall before it?".to_owned()
        }
        other => other.to_string(),
    }
}

fn not_plain(place: &str) -> String {
    format!("it does not answer in plain HTTP; if it has a certificate, write https://{place}")
}

/// The standard library says by its text only that a name was not found.
fn is_lookup(error: &io::Error) -> bool {
    error.to_string().contains("failed to lookup address")
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn tls_text(place: &str, error: &rustls::Error) -> String {
    use rustls::Error::{InvalidCertificate, InvalidMessage};
    let certificate = match error {
        InvalidMessage(_) => {
            return format!(
                "it does not speak TLS; if it has no certificate, write http://{place}"
            );
        }
        InvalidCertificate(certificate) => certificate,
        other => return other.to_string(),
    };
    match certificate {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not signed by an authority that is trusted here; give the authority's certificate with --ca or MILLSTREAM_CA".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its certificate is for another name than that in `{place}`: {certificate}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority; the server needs one of its own, which is not allowed to sign others (CA:FALSE)".to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::ToSocketAddrs as _;

    use rustls::{Error as TlsError, InvalidMessage};

    use super::*;

    #[test]
    fn failures_say_what_to_do() {
        let io = |kind| Error::Io(io::Error::from(kind));
        let tls = |error: TlsError| Error::Io(io::Error::new(io::ErrorKind::InvalidData, error));
        let check = |url: &str, error: Error, unsent: bool, expected: &str| {
            let text = why(url, &error);
            assert!(text.contains(expected), "{text}");
            assert_eq!(is_unsent(&error), unsent, "{error}");
        };
        let (http, https) = ("http://a:1", "https://a:1");
        check(
            http,
            io(io::ErrorKind::ConnectionRefused),
            true,
            "is the server running?",
        );
        check(
            http,
            io(io::ErrorKind::ConnectionReset),
            false,
            "write https://a:1",
        );
        check(
            https,
            io(io::ErrorKind::ConnectionReset),
            false,
            "connection reset",
        );
        check(http, Error::HostNotFound, true, "there is no such host");
        let lookup = ("nosuch.invalid", 1)
            .to_socket_addrs()
            .expect_err("there is none");
        check(http, Error::Io(lookup), true, "there is no such host");
        check(
            http,
            Error::Timeout(Timeout::Connect),
            true,
            "it does not answer",
        );
        let message = TlsError::InvalidMessage(InvalidMessage::InvalidContentType);
        check(https, tls(message), false, "write http://a:1");
        let unknown = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        check(https, tls(unknown), true, "--ca");
        let expired = TlsError::InvalidCertificate(CertificateError::Expired);
        check(https, Error::Rustls(expired), true, "expired");
        let name = TlsError::InvalidCertificate(CertificateError::NotValidForName);
        check(https, tls(name), true, "another name than that in `a:1`");
    }
}
