//! What names, texts and confirmations must be like.

use super::error::{ApiError, ApiResult};
use protocol::{Code, Problem};
use std::collections::BTreeSet;

const MAX_NAME: usize = 100;
const MAX_TAGS: usize = 50;
const MAX_TAG: usize = 40;

/// A name that a person gives: not empty, not endless, and it looks like what it is.
///
/// # Errors
/// When it is none.
pub fn name(field: &str, text: &str) -> ApiResult<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ApiError::invalid(field, "A name is needed."));
    }
    if text.chars().count() > MAX_NAME {
        return Err(ApiError::invalid(field, "The name is longer than 100 characters."));
    }
    plain(field, text)?;
    Ok(text.to_owned())
}

/// Tags of hosts: words in small letters, each once and in order.
///
/// # Errors
/// When one is none.
pub fn host_tags(field: &str, tags: &[String]) -> ApiResult<Vec<String>> {
    if tags.len() > MAX_TAGS {
        return Err(ApiError::invalid(field, "There are more than 50 tags."));
    }
    let read: BTreeSet<_> = tags.iter().map(|tag| tag.trim().to_lowercase()).collect();
    for tag in &read {
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
        if tag.is_empty() || tag.chars().count() > MAX_TAG || !tag.chars().all(fits) {
            return Err(ApiError::invalid(
                field,
                "A tag has 1 to 40 letters, digits, dots, dashes and underscores, and no blanks.",
            ));
        }
    }
    Ok(read.into_iter().collect())
}

/// Text without control characters, and without those that turn the direction of writing.
///
/// # Errors
/// When it has some.
pub fn plain(field: &str, text: &str) -> ApiResult<()> {
    if text.chars().any(|c| c.is_control() || turns_direction(c)) {
        return Err(ApiError::invalid(
            field,
            "Line breaks and other invisible control characters are not allowed here.",
        ));
    }
    Ok(())
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether the typed name confirms the act.
///
/// # Errors
/// When it does not.
pub fn confirmed(typed: Option<&str>, name: &str) -> ApiResult<()> {
    if typed == Some(name) {
        return Ok(());
    }
    let message = match typed {
        Some(_) => "The typed name does not match; nothing was changed.",
        None => "This needs to be confirmed; nothing was changed.",
    };
    Err(Problem::new(Code::NotConfirmed, message)
        .guidance(format!("Type the name exactly as it is: {name}"))
        .field("confirm")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_plain() {
        assert_eq!(name("name", "  web 1 ").unwrap(), "web 1");
        for bad in ["", "   ", "a\nb", "a\u{202e}b", &"x".repeat(101)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tags_are_small_words_each_once() {
        let list = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
        let read = host_tags("tags", &list(&["Web", " büro ", "web", "a.b_c-1"])).unwrap();
        assert_eq!(read, ["a.b_c-1", "büro", "web"]);
        for bad in ["", " ", "a b", "a,b", "a\u{202e}b", "plan:x", &"x".repeat(41)] {
            assert!(host_tags("tags", &list(&[bad])).is_err(), "{bad:?}");
        }
        assert!(host_tags("tags", &vec!["x".to_owned(); 51]).is_err());
    }

    #[test]
    fn only_the_exact_name_confirms() {
        assert!(confirmed(Some("web-1"), "web-1").is_ok());
        for typed in [None, Some(""), Some("web-2"), Some("WEB-1"), Some(" web-1")] {
            assert!(confirmed(typed, "web-1").is_err(), "{typed:?}");
        }
    }
}
