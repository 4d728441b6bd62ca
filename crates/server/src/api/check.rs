//! What names, texts and confirmations must be like.

use super::error::{ApiError, ApiResult};
use protocol::{Code, Problem};

const MAX_NAME: usize = 100;

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
    fn only_the_exact_name_confirms() {
        assert!(confirmed(Some("web-1"), "web-1").is_ok());
        for typed in [None, Some(""), Some("web-2"), Some("WEB-1"), Some(" web-1")] {
            assert!(confirmed(typed, "web-1").is_err(), "{typed:?}");
        }
    }
}
