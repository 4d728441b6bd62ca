//! What the system tells of a process that stands still: what its threads wait for, what it has read and
//! written, and what it has open. Nothing of its memory or its environment, which holds secrets.

#[cfg(target_os = "linux")]
pub(crate) use linux::of;

/// Elsewhere the system tells no such thing cheaply.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of(_pid: u32) -> Vec<String> {
    Vec::new()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::path::{Path, PathBuf};

    /// How many sockets and how many files are told by name.
    const NAMED: usize = 12;

    /// Lines for people, as far as the system gives them.
    pub(crate) fn of(pid: u32) -> Vec<String> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut lines = threads(&process);
        lines.extend(moved(&process));
        let (sockets, files) = open(&process);
        lines.extend(told_sockets(&process, &sockets));
        lines.extend(files.into_iter().take(NAMED).map(|file| format!("Open: {file}")));
        lines
    }

    /// What the threads do and where in the kernel they wait, each kind once.
    fn threads(process: &Path) -> Vec<String> {
        let mut kinds: BTreeMap<(String, String), u32> = BTreeMap::new();
        for thread in fs::read_dir(process.join("task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let state = field(&status, "State:").unwrap_or("unknown").to_owned();
            let waits = fs::read_to_string(thread.path().join("wchan")).unwrap_or_default();
            *kinds.entry((state, waits)).or_default() += 1;
        }
        let line = |((state, waits), count): ((String, String), u32)| {
            let place = if waits.is_empty() || waits == "0" {
                String::new()
            } else {
                format!(" in {waits}")
            };
            format!("Threads: {count} in state {state}{place}")
        };
        kinds.into_iter().map(line).collect()
    }

    fn moved(process: &Path) -> Option<String> {
        let io = fs::read_to_string(process.join("io")).ok()?;
        let (read, written) = (field(&io, "rchar:")?, field(&io, "wchar:")?);
        let (from, to) = (field(&io, "read_bytes:")?, field(&io, "write_bytes:")?);
        Some(format!(
            "Bytes in all: {read} read, {from} of them from disks; {written} written, {to} of them to disks"
        ))
    }

    fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
    }

    /// The numbers of the open sockets, and the other things that have a path.
    fn open(process: &Path) -> (BTreeSet<u64>, BTreeSet<String>) {
        let (mut sockets, mut files) = (BTreeSet::new(), BTreeSet::new());
        for descriptor in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy();
            match target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
                Some(number) => sockets.extend(number.parse::<u64>()),
                None if target.starts_with('/') => {
                    files.insert(target.into_owned());
                }
                None => {}
            }
        }
        (sockets, files)
    }

    fn told_sockets(process: &Path, open: &BTreeSet<u64>) -> Vec<String> {
        let tables = ["net/tcp", "net/tcp6"]
            .map(|name| fs::read_to_string(process.join(name)).unwrap_or_default());
        let lines = tables.iter().flat_map(|table| table.lines().skip(1));
        lines.filter_map(|line| socket(line, open)).take(NAMED).collect()
    }

    /// A line of the kernel's table of connections, if it is of one of these.
    fn socket(line: &str, open: &BTreeSet<u64>) -> Option<String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[_, _, remote, state, queues, _, _, _, _, number, ..] = fields.as_slice() else {
            return None;
        };
        if !open.contains(&number.parse().ok()?) {
            return None;
        }
        let (address, port) = remote.split_once(':')?;
        let (to_send, to_read) = queues.split_once(':')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(format!(
            "Connection to {} port {}, {}: {} bytes to be sent, {} to be read",
            ip(address)?,
            hex(port)?,
            state_name(state),
            hex(to_send)?,
            hex(to_read)?,
        ))
    }

    /// Words of four bytes, each in the order of this machine.
    fn ip(text: &str) -> Option<IpAddr> {
        let mut bytes = Vec::new();
        for at in (0..text.len()).step_by(8) {
            let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
            bytes.extend(word.to_ne_bytes());
        }
        if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
            return Some(Ipv4Addr::from(four).into());
        }
        let sixteen = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?);
        Some(sixteen.to_canonical())
    }

    fn state_name(state: &str) -> &str {
        match state {
            "01" => "established",
            "02" => "dialling",
            "04" | "05" | "0B" => "being closed by this side",
            "06" => "over",
            "08" => "closed by the other side",
            "0A" => "listening",
            other => other,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::net::{TcpListener, TcpStream};

        #[test]
        fn a_process_is_told_with_its_threads_its_bytes_and_its_connections() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a file that is read");
            fs::write(&path, "x").unwrap();
            let _file = fs::File::open(&path).unwrap();

            let lines = of(std::process::id());
            let has = |text: &str| lines.iter().any(|line| line.contains(text));
            assert!(has("in state "), "{lines:?}");
            assert!(has("Bytes in all: "), "{lines:?}");
            let connection =
                format!("Connection to 127.0.0.1 port {port}, established: 0 bytes to be sent");
            assert!(has(&connection), "{lines:?}");
        }

        #[test]
        fn a_process_that_is_gone_tells_nothing() {
            assert!(of(u32::MAX).is_empty());
        }

        #[test]
        fn addresses_are_read_in_both_forms() {
            let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
            assert_eq!(ip(&word([127, 0, 0, 1])), Some(IpAddr::from([127, 0, 0, 1])));
            let six = format!(
                "{}{}{}{}",
                word([0xfd, 0, 0, 0]),
                word([0; 4]),
                word([0; 4]),
                word([0, 0, 0, 1])
            );
            assert_eq!(ip(&six).unwrap().to_string(), "fd00::1");
            assert_eq!(ip("zz"), None);
        }
    }
}
