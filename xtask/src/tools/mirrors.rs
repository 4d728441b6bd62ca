//! Where a Debian package may be fetched from.
//!
//! The archive drops a version some time after a newer one came. Debian's archive of everything
//! keeps it, slowly; a mirror that this machine is set up with may be the only one it can reach.

use std::fs;
use std::path::PathBuf;

/// Addresses to try in turn, for a path in Debian's archive such as `pool/main/r/restic/….deb`.
pub(super) fn addresses(path: &str, sha1: &str) -> Vec<String> {
    let mut bases = vec!["http://deb.debian.org/debian".to_owned()];
    bases.extend(configured());
    let mut addresses: Vec<String> = bases.iter().map(|base| format!("{base}/{path}")).collect();
    addresses.push(format!("https://snapshot.debian.org/file/{sha1}"));
    addresses.dedup();
    addresses
}

/// The mirrors of Debian's archive that this machine's package manager uses.
fn configured() -> Vec<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
    files.extend(folder.flatten().map(|entry| entry.path()));
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    let mut bases: Vec<String> = texts.flat_map(|text| bases_in(&text)).collect();
    bases.sort();
    bases.dedup();
    bases
}

/// Finds the archive's addresses in either form of apt's sources.
fn bases_in(sources: &str) -> Vec<String> {
    sources
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"))
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .map(|word| word.trim_end_matches('/').to_owned())
        .filter(|base| base.ends_with("/debian"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{addresses, bases_in};

    #[test]
    fn both_forms_of_sources_are_understood() {
        let sources = "# deb http://old.example/debian trixie main\n\
            deb [signed-by=/k.gpg] http://mirror.example/debian/ trixie main\n\
            URIs: https://two.example/debian http://two.example/debian-security\n\
            deb https://packages.example/apt stable main\n";
        let bases = bases_in(sources);
        assert_eq!(bases, ["http://mirror.example/debian", "https://two.example/debian"]);
    }

    #[test]
    fn the_archive_of_old_packages_comes_last() {
        let addresses = addresses("pool/main/r/restic/restic_1_amd64.deb", "00ff");
        let last = addresses.last().map(String::as_str);
        assert_eq!(last, Some("https://snapshot.debian.org/file/00ff"));
    }
}
