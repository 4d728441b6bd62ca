//! Where a manager can be dialled.

/// The most addresses that a manager has.
pub const MAX_ADDRESSES: usize = 20;

/// Whether it is `host:port`, with a name or address that needs no quoting anywhere: it becomes part
/// of shell lines and stands on terminals.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_v6 = v6.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = !host.is_empty()
        && host.len() <= 253
        && !host.starts_with(['-', '.'])
        && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    (is_v6 || is_name) && is_port
}

#[cfg(test)]
mod tests {
    use super::is_address;

    #[test]
    fn only_host_and_port_are_an_address() {
        for good in ["box:9781", "192.0.2.7:1", "[::1]:9781", "a-b.example.org:65535"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "box",
            "box:0",
            "box:65536",
            ":1",
            "-x:1",
            "a b:1",
            "$(x):1",
            "[x]:1",
            "a'b:1",
            "box:+1",
            "box\u{1b}[2J:1",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
