//! Text that came from an endpoint, made safe to show: whoever names a file on a machine of the
//! fleet must not be able to paint over the admin's screen or turn a line around.

use protocol::cut_text;
use std::borrow::Cow;

/// The longest error or guidance that is stored, in bytes.
const MAX_SENTENCE_BYTES: usize = 4 * 1024;
/// The longest label.
const MAX_LABEL: usize = 63;
/// The longest name that is stored, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Removes control characters, ANSI escape sequences and the characters that change the direction
/// of what follows. Tabs and line ends become spaces.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    // Nearly all text is plain.
    if text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return text.into();
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\u{1b}' => skip_escape(&mut rest),
            // The 8-bit form of the same introducer.
            '\u{9b}' => skip_parameters(&mut rest),
            '\t' | '\n' => kept.push(' '),
            _ if next.is_control() || is_direction(next) => {}
            _ => kept.push(next),
        }
    }
    kept.into()
}

/// A cleaned line of a log.
#[must_use]
pub fn log_line(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    let cleaned = clean(&text);
    if matches!(cleaned, Cow::Borrowed(_)) && text.len() <= protocol::MAX_LOG_LINE_BYTES {
        return text;
    }
    cut_text(&cleaned, protocol::MAX_LOG_LINE_BYTES)
}

/// A cleaned error, guidance or other sentence.
#[must_use]
pub fn sentence(text: &str) -> String {
    cut_text(&clean(text), MAX_SENTENCE_BYTES)
}

/// A cleaned name, such as a host name or a version.
#[must_use]
pub fn name(text: &str) -> String {
    cut_text(&clean(text), MAX_NAME_BYTES)
}

/// A name of a machine that nobody knows yet, which is shown beside a code: lower-case letters, digits
/// and `-._`, and a dash for anything else. Codes have capitals, so it cannot look like one.
#[must_use]
pub fn label(text: &str) -> String {
    let plain = |c: char| match c {
        'a'..='z' | '0'..='9' | '-' | '.' | '_' => c,
        _ => '-',
    };
    let text = clean(text);
    let text = if text.trim().is_empty() { "unnamed" } else { text.trim() };
    text.chars().take(MAX_LABEL).map(|c| plain(c.to_ascii_lowercase())).collect()
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_escape(rest: &mut Chars<'_>) {
    match rest.next() {
        Some('[') => skip_parameters(rest),
        // Operating system command and its relatives: up to the bell or the string terminator.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(next) = rest.next() {
                if next == '\u{7}' || next == '\u{9c}' {
                    return;
                }
                if next == '\u{1b}' {
                    rest.next();
                    return;
                }
            }
        }
        // Character set choices have one more character.
        Some('(' | ')' | '*' | '+' | '#' | '%') => {
            rest.next();
        }
        Some(_) | None => {}
    }
}

fn skip_parameters(rest: &mut Chars<'_>) {
    while let Some(&next) = rest.peek() {
        if !matches!(next, ' '..='~') {
            return;
        }
        rest.next();
        if matches!(next, '@'..='~') {
            return;
        }
    }
}

/// Direction marks, embeddings, overrides and isolates, and the separators that break lines.
fn is_direction(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escape_sequences_and_direction_changes_go_and_the_words_stay() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m \u{9b}2Jend"), "red end");
        assert_eq!(clean("\u{1b}]0;title\u{7}name"), "name");
        assert_eq!(clean("\u{1b}]8;;http://x\u{1b}\\link"), "link");
        assert_eq!(clean("invoice\u{202e}fdp.exe"), "invoicefdp.exe");
        assert_eq!(clean("a\tb\nc\rd\0e"), "a b cde");
        assert_eq!(clean("Grüße, 世界 🎉"), "Grüße, 世界 🎉");
        assert_eq!(clean("\u{1b}"), "");
    }

    #[test]
    fn a_label_cannot_look_like_a_code_or_a_sentence() {
        assert_eq!(label(" Web-1.example.org\n"), "web-1.example.org");
        assert_eq!(label("\u{202e} "), "unnamed");
        assert_eq!(label("ABCD-EFGH"), "abcd-efgh");
        assert_eq!(label("web-1 asks to join — code ABCD"), "web-1-asks-to-join---code-abcd");
        assert_eq!(label("\u{1d00}\u{202e}B"), "-b");
        assert_eq!(label(&"x".repeat(1_000)).len(), MAX_LABEL);
    }

    proptest! {
        #[test]
        fn what_is_left_is_harmless_and_cleaning_twice_changes_nothing(text in any::<String>()) {
            let once = log_line(text.clone());
            prop_assert!(!once.chars().any(|c| c.is_control() || is_direction(c)));
            prop_assert_eq!(clean(&once), once.clone());
            prop_assert!(once.len() <= protocol::MAX_LOG_LINE_BYTES);
        }
    }
}
