//! restic's output, one line at a time.
//!
//! A line is a JSON message or plain text; even with `--json` both kinds mix on both streams. What
//! is not known is kept as it came: a new release may add messages and fields at any time, and
//! that must never fail a backup.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::event::{ItemError, Progress, Step};
use crate::lines;

/// One line of output.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message {
    /// How far a backup or restore is.
    Status(Status),
    /// The figures at the end, with the fields of the command that wrote them.
    Summary(Value),
    /// A file that failed, a finding of a check, or a notice.
    Error(ErrorMessage),
    /// The last word of a command that failed (since 0.18).
    ExitError(ExitError),
    /// A new repository.
    Initialized(Initialized),
    /// A snapshot, as the first line of a listing.
    Snapshot(Box<Snapshot>),
    /// A file or folder in a listing.
    Node(Box<Node>),
    /// JSON of a type, or with fields, that this crate does not know.
    Unknown {
        /// Its `message_type` or `struct_type`, if it has one.
        kind: Option<String>,
        /// All of it.
        raw: Value,
    },
    /// Anything else.
    Text(String),
}

/// Reads one line, without its end. `None` for a blank one. Never fails: what cannot be read is
/// [`Message::Text`] or [`Message::Unknown`].
pub fn parse_line(line: &[u8]) -> Option<Message> {
    let text = lines::clean(line);
    if text.is_empty() {
        return None;
    }
    if !text.starts_with(['{', '[']) {
        return Some(Message::Text(text));
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(value) => Some(Message::from_json(value)),
        Err(_) => Some(Message::Text(text)),
    }
}

impl Message {
    fn from_json(value: Value) -> Self {
        let kind = ["message_type", "struct_type"]
            .iter()
            .find_map(|key| value.get(key)?.as_str())
            .map(str::to_owned);
        let known = match kind.as_deref() {
            // 0.14 also calls its end-of-scan notice a status.
            Some("status") if value.get("action").is_none() => decode(&value, Self::Status),
            Some("summary") => Some(Self::Summary(value.clone())),
            Some("error") => Some(Self::Error(ErrorMessage::from_json(&value))),
            Some("exit_error") => decode(&value, Self::ExitError),
            Some("initialized") => decode(&value, Self::Initialized),
            Some("snapshot") => decode(&value, |snapshot| Self::Snapshot(Box::new(snapshot))),
            Some("node") => decode(&value, |node| Self::Node(Box::new(node))),
            _ => None,
        };
        known.unwrap_or(Self::Unknown { kind, raw: value })
    }
}

fn decode<T: for<'de> Deserialize<'de>>(
    value: &Value,
    wrap: impl FnOnce(T) -> Message,
) -> Option<Message> {
    T::deserialize(value).ok().map(wrap)
}

/// How far a backup or restore is. restic leaves out what is zero.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// 0.0 to 1.0.
    pub percent_done: f64,
    /// Seconds left, by restic's estimate; backup only.
    pub seconds_remaining: u64,
    /// Files in all, as far as counted.
    pub total_files: u64,
    /// Files done; backup only.
    pub files_done: u64,
    /// Bytes in all, as far as counted.
    pub total_bytes: u64,
    /// Bytes done; backup only.
    pub bytes_done: u64,
    /// Errors so far; backup only.
    pub error_count: u64,
    /// Files being read; backup only.
    pub current_files: Option<Vec<String>>,
    /// Files and folders restored.
    pub files_restored: u64,
    /// Files that were in place already; restore only.
    pub files_skipped: u64,
    /// Bytes restored.
    pub bytes_restored: u64,
    /// Bytes that were in place already; restore only.
    pub bytes_skipped: u64,
}

/// A message of type `error`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorMessage {
    /// The cause; empty where an old release lost it.
    pub message: String,
    /// What restic was doing: `scan`, `archival`, `restore`; empty for a finding of a check.
    pub during: String,
    /// The path it is about, if it is about one.
    pub item: Option<String>,
}

impl ErrorMessage {
    fn from_json(value: &Value) -> Self {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let error = value.get("error");
        let message = text(error.and_then(|error| error.get("message")))
            .or_else(|| text(value.get("message")))
            .or_else(|| text(error))
            .or_else(|| error.and_then(system_error))
            .unwrap_or_default();
        Self {
            message: message.trim().to_owned(),
            during: text(value.get("during")).unwrap_or_default(),
            item: text(value.get("item")).filter(|item| !item.is_empty()),
        }
    }

    /// The failed file or folder, if this is about one.
    pub fn to_item_error(&self) -> Option<ItemError> {
        Some(ItemError {
            path: self.item.clone()?,
            message: if self.message.is_empty() {
                format!("failed during {}, restic gave no cause", self.during)
            } else {
                self.message.clone()
            },
            during: self.during.clone(),
        })
    }
}

/// Releases before 0.17.1 print the error of the operating system as Go sees it:
/// `{"Op":"open","Path":"/x","Err":13}`.
fn system_error(error: &Value) -> Option<String> {
    let operation = error.get("Op")?.as_str()?;
    let path = error.get("Path").and_then(Value::as_str).unwrap_or_default();
    let number = i32::try_from(error.get("Err")?.as_i64()?).ok()?;
    let cause = std::io::Error::from_raw_os_error(number);
    Some(format!("{operation} {path}: {cause}"))
}

/// A message of type `exit_error`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ExitError {
    /// The exit code that follows.
    #[serde(default)]
    pub code: i32,
    /// Why. It may have several lines.
    #[serde(default)]
    pub message: String,
}

/// A message of type `initialized`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Initialized {
    /// The id of the repository, 64 hex digits.
    pub id: String,
    /// Where it is.
    #[serde(default)]
    pub repository: String,
}

/// A snapshot as restic describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// 64 hex digits. Empty inside the reasons of a forget of old releases.
    #[serde(default)]
    pub id: String,
    /// When the backup began, by the clock of the machine that made it.
    pub time: jiff::Timestamp,
    /// What was backed up.
    #[serde(default, deserialize_with = "null_is_default")]
    pub paths: Vec<String>,
    /// The host it is filed under.
    #[serde(default)]
    pub hostname: String,
    /// The user that made it.
    #[serde(default)]
    pub username: String,
    /// Its tags.
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
    /// The root tree, 64 hex digits.
    #[serde(default)]
    pub tree: String,
    /// The snapshot that it was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The id it had before tags or content were changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// Its figures; only in snapshots that were written by 0.17 or newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SnapshotSummary>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The figures inside a [`Snapshot`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotSummary {
    /// Files in the snapshot.
    pub total_files_processed: u64,
    /// Their size in bytes.
    pub total_bytes_processed: u64,
    /// Bytes that this snapshot added to the repository, before compression.
    pub data_added: u64,
    /// Every other field.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A file, folder, link or device in a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name. Bytes that are not UTF-8 come as U+FFFD: such a file cannot be asked for by name.
    pub name: String,
    /// `file`, `dir`, `symlink`, `dev`, `chardev`, `fifo`, `socket`, `irregular`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its path inside the snapshot, from the root.
    pub path: String,
    /// Bytes; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Mode bits in Go's own order: only the lowest nine mean what they mean elsewhere.
    #[serde(default)]
    pub mode: u32,
    /// The mode as `ls -l` shows it.
    #[serde(default)]
    pub permissions: String,
    /// The owner.
    #[serde(default)]
    pub uid: u32,
    /// The group.
    #[serde(default)]
    pub gid: u32,
    /// When its content changed. Absent if the date is beyond what can be told.
    #[serde(default, deserialize_with = "unreadable_is_none")]
    pub mtime: Option<jiff::Timestamp>,
    /// Every other field.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Node {
    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.kind == "dir"
    }
}

/// Reads a progress line of the commands that print text: `[0:02] 46.81%  22 / 47 packs`.
pub fn parse_text_progress(line: &str) -> Option<Progress> {
    let (clock, rest) = line.strip_prefix('[')?.split_once(']')?;
    if !clock.chars().all(|c| c.is_ascii_digit() || c == ':') {
        return None;
    }
    let (percent, rest) = rest.trim_start().split_once('%')?;
    let percent: f64 = percent.trim().parse().ok()?;
    let (done, rest) = rest.trim_start().split_once(" / ")?;
    let (total, unit) = rest.split_once(' ')?;
    Some(Progress {
        percent_done: (percent / 100.0).clamp(0.0, 1.0),
        step: Some(Step {
            done: done.trim().parse().ok()?,
            total: total.parse().ok()?,
            unit: unit.trim().to_owned(),
        }),
        ..Progress::default()
    })
}

pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A file may carry any date; one that no calendar holds must not lose the file.
fn unreadable_is_none<'de, D>(deserializer: D) -> Result<Option<jiff::Timestamp>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let value = Value::deserialize(deserializer)?;
    Ok(value.as_str().and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ErrorMessage, Message, parse_line, parse_text_progress};

    fn parse(line: &str) -> Message {
        parse_line(line.as_bytes()).unwrap()
    }

    #[test]
    fn unknown_messages_and_fields_are_kept() {
        let line = r#"{"message_type":"weather","sky":"blue"}"#;
        assert_eq!(
            parse(line),
            Message::Unknown {
                kind: Some("weather".to_owned()),
                raw: json!({"message_type":"weather","sky":"blue"}),
            }
        );
        let Message::Snapshot(snapshot) =
            parse(r#"{"struct_type":"snapshot","time":"2026-11-23T12:00:00Z","mood":"good"}"#)
        else {
            panic!("not a snapshot");
        };
        assert_eq!(snapshot.extra["mood"], "good");
    }

    #[test]
    fn a_known_type_with_unreadable_fields_is_kept_raw() {
        let message = parse(r#"{"message_type":"status","percent_done":"much"}"#);
        assert!(matches!(message, Message::Unknown { kind: Some(kind), .. } if kind == "status"));
    }

    #[test]
    fn what_looks_like_json_but_is_not_is_text() {
        assert_eq!(parse("[0:00] 1%"), Message::Text("[0:00] 1%".to_owned()));
        assert_eq!(parse("{broken"), Message::Text("{broken".to_owned()));
        assert_eq!(parse_line(b" \r"), None);
    }

    #[test]
    fn the_end_of_scan_notice_of_old_releases_is_no_status() {
        let message = parse(r#"{"message_type":"status","action":"scan_finished","item":""}"#);
        assert!(matches!(message, Message::Unknown { .. }));
    }

    #[test]
    fn an_error_is_read_in_all_four_shapes() {
        let error = |line: &str| {
            let Message::Error(error) = parse(line) else {
                panic!("not an error: {line}");
            };
            error
        };
        assert_eq!(
            error(
                r#"{"message_type":"error","error":{"message":"no"},"during":"scan","item":"/a"}"#
            ),
            ErrorMessage {
                message: "no".to_owned(),
                during: "scan".to_owned(),
                item: Some("/a".to_owned()),
            }
        );
        assert_eq!(
            error(r#"{"message_type":"error","message":"pack missing\n"}"#).message,
            "pack missing"
        );
        let lost = error(r#"{"message_type":"error","error":{},"during":"archival","item":"/a"}"#);
        assert_eq!(
            lost.to_item_error().unwrap().message,
            "failed during archival, restic gave no cause"
        );
        let errno = error(
            r#"{"message_type":"error","error":{"Op":"open","Path":"/a","Err":13},"during":"archival","item":"/a"}"#,
        );
        assert!(errno.message.starts_with("open /a: "), "{}", errno.message);
    }

    #[test]
    fn null_lists_are_empty_lists() {
        let Message::Snapshot(snapshot) = parse(
            r#"{"struct_type":"snapshot","time":"2026-11-23T12:00:00.5+01:00","tags":null,"paths":null}"#,
        ) else {
            panic!("not a snapshot");
        };
        assert!(snapshot.tags.is_empty() && snapshot.paths.is_empty());
    }

    #[test]
    fn a_node_with_a_date_beyond_the_calendar_is_still_a_node() {
        let Message::Node(node) = parse(
            r#"{"struct_type":"node","name":"a","type":"file","path":"/a","mtime":"99999-01-01T00:00:00Z"}"#,
        ) else {
            panic!("not a node");
        };
        assert_eq!(node.mtime, None);
    }

    #[test]
    fn text_progress_is_read() {
        let progress = parse_text_progress("[1:00:02] 46.81%  22 / 47 packs processed").unwrap();
        assert_eq!(progress.percent_done, 0.4681);
        let step = progress.step.unwrap();
        assert_eq!((step.done, step.total), (22, 47));
        assert_eq!(step.unit, "packs processed");
        assert_eq!(parse_text_progress("[note] 5% 1 / 2 x"), None);
        assert_eq!(parse_text_progress("loading indexes..."), None);
    }
}
