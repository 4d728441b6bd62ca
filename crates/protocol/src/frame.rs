//! The envelope of every frame, and the limits that both sides hold.

use crate::journal::ChainHash;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error;

/// The largest frame that either side sends or accepts, in bytes. Reports that would be larger are
/// paged.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// The longest log line that travels, in bytes of UTF-8; [`cut_text`] shortens what is longer.
pub const MAX_LOG_LINE_BYTES: usize = 8 * 1024;

/// Shortens a text to at most `limit` bytes on a character boundary and says so: the mark tells how
/// many bytes are gone. Limits under 64 bytes are no use to a reader and are taken as 64.
#[must_use]
pub fn cut_text(text: &str, limit: usize) -> String {
    const ROOM_FOR_MARK: usize = 40;
    let limit = limit.max(64);
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit - ROOM_FOR_MARK);
    format!("{} […{} bytes cut]", &text[..end], text.len() - end)
}

/// One frame: a JSON object in one WebSocket text message.
///
/// The payload stays as the sender wrote it, byte for byte, because the journal's hashes are over
/// those bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frame {
    /// What the payload is, such as `job.started`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The sender's own mark for this frame, for logs only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The record's number in the agent's journal; only durable frames have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Everything of the journal up to and including this number is safe with the manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack: Option<u64>,
    /// The journal's hash after this record; only durable frames have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<ChainHash>,
    /// The content, by `kind`. Absent reads as an empty object.
    #[serde(default = "empty_object")]
    pub payload: Box<RawValue>,
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The frame is larger than [`MAX_FRAME_BYTES`].
    #[error("the frame has {0} bytes, more than the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// The text is no envelope.
    #[error("the frame is no valid envelope")]
    Envelope(#[source] serde_json::Error),
    /// The payload does not fit its type.
    #[error("the payload of `{kind}` is not valid")]
    Payload {
        /// The frame's type.
        kind: String,
        /// What is wrong with the payload.
        #[source]
        source: serde_json::Error,
    },
}

impl Frame {
    /// A frame that is not durable.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn new(kind: &str, payload: &impl Serialize) -> Result<Self, FrameError> {
        let payload = serde_json::value::to_raw_value(payload)
            .map_err(|source| FrameError::Payload { kind: kind.to_owned(), source })?;
        Ok(Self {
            kind: kind.to_owned(),
            id: String::new(),
            seq: None,
            ack: None,
            hash: None,
            payload,
        })
    }

    /// Reads a frame from the text of one WebSocket message.
    ///
    /// # Errors
    /// When it is too large or no envelope. The payload is not looked at yet.
    pub fn decode(text: &str) -> Result<Self, FrameError> {
        if text.len() > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge(text.len()));
        }
        serde_json::from_str(text).map_err(FrameError::Envelope)
    }

    /// Writes the frame as the text of one WebSocket message.
    ///
    /// # Errors
    /// When it is larger than the limit.
    pub fn encode(&self) -> Result<String, FrameError> {
        let text = serde_json::to_string(self).map_err(FrameError::Envelope)?;
        if text.len() > MAX_FRAME_BYTES {
            return Err(FrameError::TooLarge(text.len()));
        }
        Ok(text)
    }

    /// Reads the payload as `T`.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_str(self.payload.get())
            .map_err(|source| FrameError::Payload { kind: self.kind.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_keeps_its_limit_and_says_what_is_gone() {
        let text = "ä".repeat(100_000);
        let cut = cut_text(&text, MAX_LOG_LINE_BYTES);
        assert!(cut.len() <= MAX_LOG_LINE_BYTES);
        assert!(cut.ends_with("bytes cut]"), "{}", &cut[cut.len() - 40..]);
        assert_eq!(cut_text("short", MAX_LOG_LINE_BYTES), "short");
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_on_both_ways() {
        let text = format!(r#"{{"type":"x","payload":"{}"}}"#, "a".repeat(MAX_FRAME_BYTES));
        assert!(matches!(Frame::decode(&text), Err(FrameError::TooLarge(_))));
        let frame = Frame::new("x", &"a".repeat(MAX_FRAME_BYTES)).unwrap();
        assert!(matches!(frame.encode(), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn json_nested_without_end_is_an_error_and_not_a_crash() {
        let nested = format!("{}1{}", "[".repeat(400_000), "]".repeat(400_000));
        let frame = Frame::decode(&format!(r#"{{"type":"x","payload":{nested}}}"#)).unwrap();
        assert!(frame.payload::<serde_json::Value>().is_err());
        assert!(Frame::decode(&nested).is_err());
    }
}
