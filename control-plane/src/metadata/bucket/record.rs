//! What is in an object: a line about the next line, and JSON. Damage is noticed.

use coordinator::meta::{Command, MetaState};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of entries and snapshots.
const FORMAT: u32 = 1;

/// Tells a process from every other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct WriterId(pub(super) u64);

/// An entry of the log.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(super) struct Entry {
    /// Who wrote it.
    pub(super) writer: WriterId,
    /// The name for people of a process that begins here; `None`: it is no mark.
    pub(super) begins: Option<String>,
    pub(super) commands: Vec<Command>,
}

/// The state after an entry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// The entry.
    pub(super) index: u64,
    /// Up to here nothing but marks is left of the log.
    pub(super) trimmed: u64,
    pub(super) state: MetaState,
}

/// Why an object could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Unreadable {
    Damaged(String),
    Newer(u32),
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    bytes: usize,
    crc32: u32,
}

/// What is read of any format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// An entry as bytes, of commands that are JSON already.
pub(super) fn write_entry(writer: WriterId, begins: Option<&str>, commands: &[String]) -> Vec<u8> {
    let begins = serde_json::to_string(&begins).expect("text is JSON");
    let commands = commands.join(",");
    wrap(&format!(
        r#"{{"writer":{},"begins":{begins},"commands":[{commands}]}}"#,
        writer.0
    ))
}

/// A command as JSON.
pub(super) fn write_command(command: &Command) -> String {
    serde_json::to_string(command).expect("a command is plain data")
}

/// A snapshot as bytes.
pub(super) fn write_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    wrap(&serde_json::to_string(snapshot).expect("the state is plain data"))
}

/// Reads an entry or a snapshot.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let damaged = |why: String| Unreadable::Damaged(why);
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| damaged("it has no first line".to_owned()))?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let json = |error: serde_json::Error| damaged(error.to_string());
    let Format { format } = serde_json::from_slice(head).map_err(json)?;
    if format != FORMAT {
        return Err(Unreadable::Newer(format));
    }
    let head: Head = serde_json::from_slice(head).map_err(json)?;
    if head.bytes != body.len() {
        let why = format!("it has {} bytes instead of {}", body.len(), head.bytes);
        return Err(damaged(why));
    }
    if head.crc32 != crc32fast::hash(body) {
        return Err(damaged("its checksum is wrong".to_owned()));
    }
    serde_json::from_slice(body).map_err(json)
}

fn wrap(body: &str) -> Vec<u8> {
    let body = format!("{body}\n");
    let head = Head {
        format: FORMAT,
        bytes: body.len(),
        crc32: crc32fast::hash(body.as_bytes()),
    };
    let head = serde_json::to_string(&head).expect("a head is plain data");
    format!("{head}\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use coordinator::meta::Change;
    use proto::types::JobId;

    use super::*;

    fn entry() -> Vec<u8> {
        let command = Command {
            request: u64::MAX,
            change: Change::Cancel { job: JobId(7) },
        };
        write_entry(WriterId(9), Some("host \"a\""), &[write_command(&command)])
    }

    #[test]
    fn layout_of_entries_is_fixed() {
        assert_eq!(
            String::from_utf8(entry()).expect("text"),
            concat!(
                r#"{"format":1,"bytes":111,"crc32":177897236}"#,
                "\n",
                r#"{"writer":9,"begins":"host \"a\"","commands":["#,
                r#"{"request":18446744073709551615,"change":{"cancel":{"job":7}}}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn any_cut_and_any_changed_byte_is_noticed() {
        let whole = entry();
        let read = |bytes: &[u8]| read::<Entry>(bytes);
        let written = read(&whole).expect("whole");
        assert_eq!(written.writer, WriterId(9));
        assert_eq!(written.begins.as_deref(), Some("host \"a\""));
        assert_eq!(written.commands.len(), 1);
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let body = whole.iter().position(|byte| *byte == b'\n').expect("two");
        for at in body + 1..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_newer_format_is_called_so() {
        let newer = b"{\"format\":2,\"compressed\":true}\nxyz";
        assert_eq!(read::<Entry>(newer), Err(Unreadable::Newer(2)));
    }
}
