//! URL_ENCODE, URL_DECODE (of form data) and PARSE_URL.

use std::fmt::Write as _;

use proto::plan::ScalarFunction;

use super::{
    Kernel, Signature,
    kernel::{strings, unary_text},
};
use crate::expr::ExprError;

/// Makes the kernel of a URL function.
pub(super) fn build(signature: &Signature<'_>) -> Result<Kernel, ExprError> {
    use ScalarFunction as F;
    Ok(match (signature.function, signature.args.len()) {
        (F::UrlEncode, 1) => Box::new(|args| unary_text(args, encode)),
        (F::UrlDecode, 1) => Box::new(|args| {
            let texts = args.strings(0);
            strings(
                args.rows,
                args.nulls().as_ref(),
                texts.capacity(),
                |row, out| match decode(texts.at(row)) {
                    Some(text) => {
                        let _ = out.write_str(&text);
                        Ok(true)
                    }
                    None => Ok(false),
                },
            )
        }),
        (F::ParseUrl, 2 | 3) => Box::new(|args| {
            let (urls, names) = (args.strings(0), args.strings(1));
            let keys = (args.len() > 2).then(|| args.strings(2));
            strings(
                args.rows,
                args.nulls().as_ref(),
                urls.capacity() / 2,
                |row, out| {
                    let key = keys.map(|keys| keys.at(row));
                    match part(urls.at(row), names.at(row), key) {
                        Some(text) => {
                            let _ = out.write_str(text);
                            Ok(true)
                        }
                        None => Ok(false),
                    }
                },
            )
        }),
        _ => return Err(signature.unsupported()),
    })
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte) => {
                out.push(char::from(byte));
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A part of a URL by its name in PARSE_URL.
fn part<'a>(url: &'a str, name: &str, key: Option<&str>) -> Option<&'a str> {
    let (protocol, rest) = url.split_once(':')?;
    let known = ["http", "https", "ftp", "file", "jar"];
    if !known
        .iter()
        .any(|known| protocol.eq_ignore_ascii_case(known))
    {
        return None;
    }
    let (rest, reference) = match rest.split_once('#') {
        Some((rest, reference)) => (rest, Some(reference)),
        None => (rest, None),
    };
    let (authority, file) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (&rest[..end], &rest[end..])
        }
        None => ("", rest),
    };
    let (path, query) = match file.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (file, None),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    match (name, key) {
        ("QUERY", Some(key)) => query?
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value),
        (_, Some(_)) => None,
        ("HOST", None) => Some(match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => host,
        }),
        ("PATH", None) => Some(path),
        ("QUERY", None) => query,
        ("REF", None) => reference,
        ("PROTOCOL", None) => Some(protocol),
        ("FILE", None) => Some(file),
        ("AUTHORITY", None) => Some(authority),
        ("USERINFO", None) => user,
        _ => None,
    }
}
