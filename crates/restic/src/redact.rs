//! Takes secrets out of text before it leaves the crate.
//!
//! restic masks credentials in most of its messages but not in all: a URL that it cannot parse is
//! printed whole. So every piece of free text passes a [`Redactor`]. Names of files and snapshots
//! are data, not free text, and stay as they are: a masked path could not be restored.

use std::sync::LazyLock;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use regex_lite::Regex;

use crate::secret::Secret;

const MASK: &str = "***";

/// What may stay unescaped in the user part of a URL; everything else is percent-encoded.
const USERINFO: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Knows the secrets of one repository in every spelling in which restic may print them.
#[derive(Clone)]
pub struct Redactor {
    literals: Vec<Secret>,
}

impl Redactor {
    /// A redactor for these secrets: as they are, percent-encoded, and escaped as in JSON.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut literals: Vec<String> = secrets
            .into_iter()
            .flat_map(|secret| spellings(secret.expose()))
            .filter(|literal| !literal.is_empty())
            .collect();
        // The longest first, so that no secret is cut in two by another that it contains.
        literals.sort_by_key(|literal| std::cmp::Reverse(literal.len()));
        literals.dedup();
        Self { literals: literals.into_iter().map(Secret::from).collect() }
    }

    /// The text with every secret, and the user part of every URL, replaced by `***`.
    pub fn redact(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for literal in &self.literals {
            if clean.contains(literal.expose()) {
                clean = clean.replace(literal.expose(), MASK);
            }
        }
        mask_user_parts(&clean)
    }

    /// Redacts every string inside a JSON value, keys excepted.
    pub fn redact_json(&self, value: &mut serde_json::Value) {
        match value {
            serde_json::Value::String(text) => *text = self.redact(text),
            serde_json::Value::Array(items) => items.iter_mut().for_each(|v| self.redact_json(v)),
            serde_json::Value::Object(map) => map.values_mut().for_each(|v| self.redact_json(v)),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {
            }
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} spellings)", self.literals.len())
    }
}

fn spellings(secret: &str) -> Vec<String> {
    let percent = utf8_percent_encode(secret, USERINFO).to_string();
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_matches('"').to_owned();
    // Go, unlike most, writes these three as numbers.
    let go_json = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    vec![secret.to_owned(), percent.to_lowercase(), percent, json, go_json]
}

/// `//user:password@host` becomes `//***@host`, whatever stands before the slashes: a mistyped
/// URL may come out as `//:***@http//user:password@host`.
fn mask_user_parts(text: &str) -> String {
    static USER_PART: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"//[^/@\s"]*@"#).ok());
    match USER_PART.as_ref() {
        Some(pattern) => pattern.replace_all(text, "//***@").into_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::Redactor;
    use crate::secret::Secret;

    fn redactor(secret: &str) -> Redactor {
        Redactor::new([&Secret::new(secret)])
    }

    #[test]
    fn a_secret_is_masked_in_every_spelling() {
        let secret = "pa\"ss<w&rd>/%#";
        let redactor = redactor(secret);
        for leaked in [
            format!("raw {secret} end"),
            "url pa%22ss%3Cw%26rd%3E%2F%25%23 end".to_owned(),
            "lower pa%22ss%3cw%26rd%3e%2f%25%23 end".to_owned(),
            r#"json pa\"ss<w&rd>/%# end"#.to_owned(),
            r#"go pa\"ss\u003cw\u0026rd\u003e/%# end"#.to_owned(),
        ] {
            let clean = redactor.redact(&leaked);
            assert!(clean.contains("*** end"), "{clean}");
        }
    }

    #[test]
    fn the_user_part_of_a_url_is_masked_without_knowing_it() {
        assert_eq!(
            redactor("x1").redact("parse \"http://web9:fake%zzURLpw@127.0.0.1:8000/web9/\""),
            "parse \"http://***@127.0.0.1:8000/web9/\""
        );
        assert_eq!(
            redactor("x1").redact("Head \"//:***@http//web9:fakeURLpw@127.0.0.1/web9\""),
            "Head \"//***@http//***@127.0.0.1/web9\""
        );
    }

    #[test]
    fn a_secret_that_contains_another_goes_as_a_whole() {
        let both = Redactor::new([&Secret::new("abc"), &Secret::new("abcdef")]);
        assert_eq!(both.redact("abcdef abc"), "*** ***");
    }

    #[test]
    fn an_empty_secret_masks_nothing() {
        assert_eq!(redactor("").redact("text"), "text");
    }
}
