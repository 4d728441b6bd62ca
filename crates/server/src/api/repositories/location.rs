//! Which locations are taken for a repository: those that restic's crate takes, refused here already
//! with what to do instead.

use protocol::{Code, Problem};
use restic::{LocationError, check_location};

const FORMS: &str = "Use rest:https://host:port/path/, sftp:user@host:/path, rclone:remote:path \
                     or an absolute path on the machine.";

/// What restic takes with credentials of their own kind. An agent gives restic none of these, so no
/// machine could reach its repository.
const KEYED: &[&str] = &["s3", "azure", "gs", "b2", "swift"];

/// Checks a location.
///
/// # Errors
/// Why it is not taken.
pub fn check(url: &str) -> Result<(), Problem> {
    if let Some(scheme) = KEYED.iter().find(|scheme| is_of(url, scheme)) {
        let message = format!("Credentials for {scheme}: locations cannot be given yet.");
        return Err(Problem::new(Code::RepositoryUrlInvalid, message)
            .guidance(
                "Set the storage up as a remote of rclone on the machine, and use \
                 rclone:remote:path.",
            )
            .field("url"));
    }
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
    is_of(url, "rest")
}

fn is_of(url: &str, scheme: &str) -> bool {
    url.split_once(':').is_some_and(|(before, _)| before == scheme)
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
        let problem = check("rest:https://user:hunter2@host/").unwrap_err();
        assert!(problem.guidance.as_deref().unwrap().contains("their own fields"));
        assert!(!format!("{problem:?}").contains("hunter2"));
    }

    #[test]
    fn storage_whose_credentials_cannot_be_given_is_refused_with_what_to_use_instead() {
        for url in [
            "s3:https://minio.example:9000/bucket",
            "s3:https://key:hunter2@host/bucket",
            "azure:container:/path",
            "gs:bucket:/path",
            "b2:bucket:path",
            "swift:container:/path",
        ] {
            let problem = check(url).unwrap_err();
            assert_eq!(problem.code, Code::RepositoryUrlInvalid, "{url}");
            assert_eq!(problem.field.as_deref(), Some("url"), "{url}");
            assert!(problem.message.contains("cannot be given yet"), "{}", problem.message);
            assert!(problem.guidance.as_deref().unwrap().contains("rclone:remote:path"));
            assert!(!format!("{problem:?}").contains("hunter2"), "{url}");
        }
        for url in ["/s3:bucket", "rclone:s3:bucket", "sftp:s3:/srv", r"b:\s3"] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }
}
