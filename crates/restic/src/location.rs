//! Which locations are taken for a repository.
//!
//! restic takes many forms, and some of them can do more than name a place: an rclone remote may be
//! written out with a command in it, and a host that begins with a dash is an option of ssh
//! (`sftp:-oProxyCommand=…` runs a program). So whoever may name a repository could run programs.
//! Only forms that name a place are taken, and none that carries a password; every call of restic
//! asks, whoever has asked before.

use thiserror::Error;

/// Why a location is not taken. Says nothing of the location itself, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LocationError {
    /// It is no place, or more than a place.
    #[error("{0}")]
    Form(&'static str),
    /// It carries a user or password.
    #[error("the location of the repository contains a password")]
    Credentials,
}

use LocationError::{Credentials, Form};

/// Checks a location.
///
/// # Errors
/// Why it is not taken.
pub fn check_location(location: &str) -> Result<(), LocationError> {
    if location.trim().is_empty() {
        return Err(Form("the repository has no location"));
    }
    if location.chars().count() > 2000 {
        return Err(Form("the location of the repository is longer than 2000 characters"));
    }
    let is_odd = |c: char| c.is_control() || c.is_whitespace() && c != ' ';
    if location.chars().any(is_odd) || location.trim() != location {
        return Err(Form("the location of the repository contains control characters"));
    }
    if is_absolute_path(location) {
        return Ok(());
    }
    let (scheme, rest) = location.split_once(':').unwrap_or((location, ""));
    match scheme {
        "rest" => check_http(rest),
        "s3" => check_s3(rest),
        "sftp" => check_sftp(rest),
        "azure" | "gs" | "b2" | "swift" => check_bucket(rest),
        "rclone" => check_rclone(rest),
        "http" | "https" => Err(Form("the location of a rest-server begins with rest:")),
        _ => Err(Form("locations of this form are not taken")),
    }
}

/// An absolute path of Unix, of a Windows drive, or of a Windows share.
pub fn is_absolute_path(text: &str) -> bool {
    let drive = match text.as_bytes() {
        [letter, b':', b'\\' | b'/', ..] => letter.is_ascii_alphabetic(),
        _ => false,
    };
    text.starts_with('/') || drive || (text.starts_with(r"\\") && text.len() > 2)
}

fn check_http(rest: &str) -> Result<(), LocationError> {
    let Some(after) = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")) else {
        return Err(Form("the location of a rest-server continues with https:// or http://"));
    };
    // A stray @ may be a password that contains a slash, so it is refused anywhere.
    if after.contains('@') {
        return Err(Credentials);
    }
    let host = after.split('/').next().unwrap_or_default();
    if !is_host(host) || after.contains(['?', '#', ' ', '\\']) {
        return Err(Form("the host or path of the location is not valid"));
    }
    Ok(())
}

fn check_s3(rest: &str) -> Result<(), LocationError> {
    if rest.contains('@') {
        return Err(Credentials);
    }
    let bare = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://"));
    let (host, bucket) = bare.unwrap_or(rest).split_once('/').unwrap_or((rest, ""));
    if !is_host(host) || bucket.is_empty() || rest.contains(['?', '#', ' ', '\\']) {
        return Err(Form("an s3 location needs a host and a bucket"));
    }
    Ok(())
}

/// restic runs `ssh host -l user -s sftp`, with nothing that would end the options of ssh.
fn check_sftp(rest: &str) -> Result<(), LocationError> {
    let (place, path) = match rest.strip_prefix("//") {
        Some(place) => place.split_once('/').unwrap_or((place, "")),
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let (user, host) = match place.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, place),
    };
    if user.is_some_and(|user| user.contains(':')) || path.contains('@') {
        return Err(Credentials);
    }
    let user_is_name = user.is_none_or(|user| !user.is_empty() && is_word(user));
    if !is_host(host) || !user_is_name || path.is_empty() {
        return Err(Form("an sftp location needs a host and a path"));
    }
    Ok(())
}

fn check_bucket(rest: &str) -> Result<(), LocationError> {
    if rest.contains('@') {
        return Err(Credentials);
    }
    if is_word(rest.split(':').next().unwrap_or_default()) {
        Ok(())
    } else {
        Err(Form("the location needs a bucket or container"))
    }
}

/// A remote must be the name of one in rclone's own configuration on the machine. A remote that is
/// written out (`:sftp,ssh=…:`) can run programs, and so can options behind a name.
fn check_rclone(rest: &str) -> Result<(), LocationError> {
    match rest.split_once(':') {
        Some((remote, _)) if is_word(remote) => Ok(()),
        _ => Err(Form("an rclone location names a remote of the machine's own configuration")),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A host name or address, with or without a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("none"))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_v6 = text.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_ok();
    (is_v6 || is_word(host)) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::{LocationError, check_location};

    #[test]
    fn places_are_taken() {
        for location in [
            "rest:https://backup.example:8000/web-1/",
            "rest:http://[::1]:8000/",
            "rest:http://[::1]/",
            "rest:https://192.0.2.7/x",
            "/srv/restic",
            "/srv/backups of ours@home",
            r"D:\backup",
            r"\\nas\backup\web",
            "sftp:backup@nas:/srv/restic",
            "sftp://backup@nas:2222//srv/restic",
            "sftp:nas:restic",
            "s3:s3.amazonaws.com/bucket/x",
            "s3:https://minio.example:9000/bucket",
            "azure:container:/",
            "gs:bucket:/x",
            "b2:bucket:x/y",
            "swift:container:/x",
            "rclone:offsite:restic/web-1",
        ] {
            assert_eq!(check_location(location), Ok(()), "{location}");
        }
    }

    #[test]
    fn whatever_could_do_more_than_name_a_place_is_refused() {
        for location in [
            "",
            "relative/path",
            "-o",
            "--password-command=x",
            "https://backup.example/",
            "rest:ftp://x/",
            "rest:https://",
            "rest:https://host:99999/",
            "rest:https://[::1]x/",
            "rest:https://a b/",
            "file:///x",
            "local:/srv/restic",
            "rclone::sftp,ssh=touch:x",
            "rclone:remote,option=x:path",
            "rclone:-x:path",
            "rclone:remote",
            "sftp:-oProxyCommand=x:/y",
            "sftp:-oProxyCommand=touch${IFS}/x:/y",
            "sftp://-oProxyCommand=x/y",
            "sftp:u@-oProxyCommand=x:/y",
            "sftp:a@b@-oProxyCommand=x:/y",
            "sftp:-l@host:/y",
            "sftp:host",
            "s3:host",
            "b2:",
            "/srv/\nrestic",
            "/srv/\0restic",
            " /srv/restic",
            "/srv/restic\u{7f}",
        ] {
            let checked = check_location(location);
            assert!(matches!(checked, Err(LocationError::Form(_))), "{location:?}: {checked:?}");
        }
    }

    #[test]
    fn a_password_in_the_location_is_refused() {
        for location in [
            "rest:https://user:hunter2@host/",
            "rest:https://user@host/",
            "rest:https://user:hun/ter2@host/",
            "sftp://user:hunter2@host//x",
            "s3:https://key:hunter2@host/bucket",
        ] {
            assert_eq!(check_location(location), Err(LocationError::Credentials), "{location}");
        }
    }
}
