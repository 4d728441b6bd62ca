//! Cuts a stream of bytes into lines of bounded length.
//!
//! restic's lines can be very long (a path per line, or a whole document), and a broken or hostile
//! stream may have no line end at all, so the length that is kept has a cap and the rest of the
//! line is dropped with a mark that can be seen.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;

/// What stands at the end of a line whose rest was dropped.
pub const CUT_MARK: &str = " …[cut]";

/// Collects bytes and hands out whole lines.
#[derive(Debug)]
pub struct LineSplitter {
    cap: usize,
    line: Vec<u8>,
    is_cut: bool,
}

impl LineSplitter {
    /// A splitter that keeps at most `cap` bytes of each line.
    pub fn new(cap: usize) -> Self {
        Self { cap, line: Vec::new(), is_cut: false }
    }

    /// Takes the next bytes and calls `on_line` for each line that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut on_line: impl FnMut(Vec<u8>)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.keep(line);
            on_line(self.take());
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.keep(bytes);
    }

    /// The last line, if the stream ended without a line end.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.line.is_empty()).then(|| self.take())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.cap.saturating_sub(self.line.len());
        match bytes.get(..room) {
            Some(fitting) if bytes.len() > room => {
                self.line.extend_from_slice(fitting);
                self.is_cut = true;
            }
            _ => self.line.extend_from_slice(bytes),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_cut) {
            line.extend_from_slice(CUT_MARK.as_bytes());
        }
        line
    }
}

/// The line as text, without carriage returns, terminal control sequences and outer blanks.
///
/// restic writes some of its notices for a terminal even when there is none.
pub fn clean(line: &[u8]) -> String {
    static CONTROL: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new("\u{1b}\\[[0-?]*[ -/]*[@-~]").ok());
    let text = String::from_utf8_lossy(line);
    let text = match CONTROL.as_ref() {
        Some(pattern) if text.contains('\u{1b}') => {
            Cow::Owned(pattern.replace_all(&text, "").into_owned())
        }
        _ => text,
    };
    text.replace('\r', "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{CUT_MARK, LineSplitter, clean};

    fn split(cap: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::new(cap);
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |line| lines.push(line));
        }
        lines.extend(splitter.finish());
        lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn lines_are_whole_however_the_bytes_arrive() {
        assert_eq!(split(100, &[b"o", b"ne\ntw", b"o\n\nthr", b"ee"]), ["one", "two", "", "three"]);
    }

    #[test]
    fn a_line_over_the_cap_is_cut_visibly_and_the_next_one_is_whole() {
        assert_eq!(
            split(4, &[b"123", b"456789", b"0\nnext\n"]),
            [format!("1234{CUT_MARK}"), "next".to_owned()]
        );
        assert_eq!(split(4, &[b"1234\n"]), ["1234"]);
    }

    #[test]
    fn terminal_control_is_taken_off() {
        assert_eq!(
            clean(b"\x1b[2Ksignal interrupt received, cleaning up\r"),
            "signal interrupt received, cleaning up"
        );
        assert_eq!(
            clean(b"\rsignal interrupt received, cleaning up "),
            "signal interrupt received, cleaning up"
        );
    }
}
