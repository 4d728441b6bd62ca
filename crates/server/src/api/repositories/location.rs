//! Which locations are taken for a repository: those that restic's crate takes, refused here already
//! with what to do instead.

use protocol::{Code, Problem};
use restic::{LocationError, check_location};

const FORMS: &str = "Use rest:https://host:port/path/, an absolute path, sftp:user@host:/path, \
                     s3:https://host/bucket, azure:container:/path, gs:bucket:/path, \
                     b2:bucket:path, swift:container:/path or rclone:remote:path.";

/// Checks a location.
///
/// # Errors
/// Why it is not taken.
pub fn check(url: &str) -> Result<(), Problem> {
    check_location(url).map_err(|error| {
        let (message, guidance) = match error {
            LocationError::Form(why) => (sentence(why), FORMS),
            LocationError::Credentials => (
                "The location contains a user or password.".to_owned(),
                "Put user and password into their own fields: locations reach logs and errors.",
            ),
        };
        Problem::new(Code::RepositoryUrlInvalid, message).guidance(guidance).field("url")
    })
}

fn sentence(words: &str) -> String {
    let mut rest = words.chars();
    let first = rest.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(rest).chain(['.']).collect()
}

/// Whether it is a location of a rest-server, the only kind with a user and password of its own.
#[must_use]
pub fn is_rest(url: &str) -> bool {
    url.starts_with("rest:")
}

/// Whether two locations are one place for every machine. A path, or a remote of rclone's own
/// configuration, is another place on each machine, so those are never the same.
#[must_use]
pub fn is_same(one: &str, other: &str) -> bool {
    let place = |url: &str| url.trim_end_matches('/').to_owned();
    let is_of_each_machine = restic::is_absolute_path(one) || one.starts_with("rclone:");
    !is_of_each_machine && place(one) == place(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_with_and_without_slashes_at_its_end() {
        let url = "rest:https://nas:8000/web-1";
        for same in [url, "rest:https://nas:8000/web-1/", "rest:https://nas:8000/web-1//"] {
            assert!(is_same(url, same) && is_same(same, url), "{same}");
        }
        for other in ["rest:https://nas:8000/web-10", "rest:https://nas:8000/", "/srv/web-1"] {
            assert!(!is_same(url, other) && !is_same(other, url), "{other}");
        }
        for of_each_machine in ["/srv/x", r"D:\x", "rclone:drive:x"] {
            assert!(!is_same(of_each_machine, of_each_machine), "{of_each_machine}");
        }
    }

    #[test]
    fn what_could_do_more_than_name_a_place_is_refused_with_the_forms_that_are_taken() {
        assert_eq!(check("rest:https://backup.example:8000/web-1/"), Ok(()));
        for url in ["", "--password-command=x", "rclone::sftp,ssh=x:x", "sftp:-oProxyCommand=x:/y"]
        {
            let problem = check(url).unwrap_err();
            assert_eq!(problem.code, Code::RepositoryUrlInvalid, "{url:?}");
            assert!(problem.message.ends_with('.'), "{}", problem.message);
            assert!(problem.guidance.as_deref().unwrap().contains("sftp:user@host:/path"));
        }
    }

    #[test]
    fn a_password_in_the_location_is_refused_with_what_to_do_and_not_repeated() {
        for url in ["rest:https://user:hunter2@host/", "s3:https://key:hunter2@host/bucket"] {
            let problem = check(url).unwrap_err();
            assert!(problem.guidance.as_deref().unwrap().contains("their own fields"), "{url}");
            assert!(!format!("{problem:?}").contains("hunter2"), "{url}");
        }
    }
}
