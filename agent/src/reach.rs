//! Whether anything answers where a repository lies. restic itself tries for a quarter of an hour and then
//! fails, so a run that nobody waits for is not begun before.

use crate::pass_through::{DIAL_TIMEOUT, SCHEME};
use tokio::{net::TcpStream, time::timeout};

/// Whether the repository of this location can be asked now. `manager` is where the manager may be, for a
/// repository in its store. Where only restic can tell, it is asked.
pub async fn answers(location: &str, manager: &[String]) -> bool {
    if restic::is_absolute_path(location) {
        // A disk that is not there; whatever else is wrong, restic has words for it.
        return tokio::fs::try_exists(location).await.unwrap_or(true);
    }
    if location.starts_with(SCHEME) {
        for address in manager {
            if is_open(address).await {
                return true;
            }
        }
        return false;
    }
    match server(location) {
        Some(address) => is_open(&address).await,
        None => true,
    }
}

async fn is_open(address: &str) -> bool {
    matches!(timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Host and port of a rest-server.
fn server(location: &str) -> Option<String> {
    let (scheme, rest) = location.strip_prefix("rest:")?.split_once("://")?;
    let host = rest.split('/').next()?;
    let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
    if after_address.contains(':') {
        return Some(host.to_owned());
    }
    Some(format!("{host}:{}", if scheme == "http" { 80 } else { 443 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_rest_server_is_where_its_location_says() {
        for (location, address) in [
            ("rest:https://nas:8000/x/", Some("nas:8000")),
            ("rest:http://nas/x", Some("nas:80")),
            ("rest:https://nas.example.org", Some("nas.example.org:443")),
            ("rest:https://[fd00::1]/x", Some("[fd00::1]:443")),
            ("rest:https://[fd00::1]:8000/x", Some("[fd00::1]:8000")),
            ("sftp:user@nas:/x", None),
            ("rclone:remote:x", None),
        ] {
            assert_eq!(server(location).as_deref(), address, "{location}");
        }
    }

    #[tokio::test]
    async fn what_is_away_does_not_answer_and_what_only_restic_can_tell_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap().to_string();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let manager = [closed.to_string(), open.clone()];
        assert!(answers(&format!("rest:http://{open}/x"), &[]).await);
        assert!(!answers(&format!("rest:http://{closed}/x"), &[]).await);
        assert!(answers("store:x", &manager).await);
        assert!(!answers("store:x", &manager[..1]).await);
        assert!(answers("rclone:remote:x", &[]).await);
        let folder = tempfile::tempdir().unwrap();
        assert!(answers(&folder.path().display().to_string(), &[]).await);
        assert!(!answers(&folder.path().join("disk").display().to_string(), &[]).await);
    }
}
