//! Named sets of exclude patterns. A plan keeps their names, and each host gets the patterns of its own
//! system, so what a set means can be mended here for all plans at once.
//!
//! Nothing is in a set that somebody would want back: only what its programs make again, or what its
//! name says outright.

use protocol::HostOs;

/// A named set.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name in plans; never renamed.
    pub name: &'static str,
    /// What people read.
    pub title: &'static str,
    /// What to know before it is chosen.
    pub help: &'static str,
    /// The patterns for every system.
    pub everywhere: &'static [&'static str],
    /// Further ones for Linux.
    pub linux: &'static [&'static str],
    /// Further ones for macOS.
    pub darwin: &'static [&'static str],
    /// Further ones for Windows.
    pub windows: &'static [&'static str],
}

impl Preset {
    /// The patterns for a host of this system.
    pub fn patterns(&self, os: HostOs) -> impl Iterator<Item = &'static str> {
        let own = match os {
            HostOs::Linux => self.linux,
            HostOs::Darwin => self.darwin,
            HostOs::Windows => self.windows,
            HostOs::Unknown => &[],
        };
        self.everywhere.iter().chain(own).copied()
    }
}

/// The set of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}

/// All sets, in the order in which people see them.
pub const ALL: &[Preset] = &[
    Preset {
        name: "caches",
        title: "Caches and temporary files",
        help: "What programs and systems make again by themselves, and memory that lies on disk.",
        everywhere: &[],
        // Not all of /var/cache: some of what lies there is made only once.
        linux: &[
            "/tmp/*",
            "/var/tmp/*",
            "/var/cache/apt/archives/*",
            "/var/cache/dnf/*",
            "/var/cache/yum/*",
            "/var/cache/zypp/*",
            "/var/cache/pacman/pkg/*",
            "/var/cache/man/*",
            "/var/cache/fontconfig/*",
            "/root/.cache/*",
            "/home/*/.cache/*",
            "/home/*/.config/*/Cache/*",
            "/home/*/.config/*/Code Cache/*",
            "/home/*/.config/*/GPUCache/*",
            "/home/*/.var/app/*/cache/*",
            "/home/*/snap/*/*/.cache/*",
            "/swapfile",
            "/swap.img",
        ],
        darwin: &[
            "/private/tmp/*",
            "/private/var/tmp/*",
            "/private/var/folders/*",
            "/private/var/vm/*",
            "/Library/Caches/*",
            "/Users/*/Library/Caches/*",
            "/Users/*/Library/Containers/*/Data/Library/Caches/*",
            "/Users/*/Library/Group Containers/*/Library/Caches/*",
            ".Spotlight-V100",
            ".fseventsd",
        ],
        windows: &[
            r"AppData\Local\Temp\*",
            r"AppData\Local\Microsoft\Windows\INetCache\*",
            r"AppData\Local\Microsoft\Windows\Explorer\thumbcache_*.db",
            r"AppData\Local\Google\Chrome\User Data\*\Cache\*",
            r"AppData\Local\Google\Chrome\User Data\*\Code Cache\*",
            r"AppData\Local\Microsoft\Edge\User Data\*\Cache\*",
            r"AppData\Local\Microsoft\Edge\User Data\*\Code Cache\*",
            r"AppData\Local\Mozilla\Firefox\Profiles\*\cache2\*",
            r"C:\Windows\Temp\*",
            r"C:\Windows\SoftwareDistribution\Download\*",
            r"C:\pagefile.sys",
            r"C:\hiberfil.sys",
            r"C:\swapfile.sys",
        ],
    },
    Preset {
        name: "trash",
        title: "Trash",
        help: "What was deleted and is not gone yet. Without it here it can still be restored.",
        everywhere: &[],
        linux: &["/root/.local/share/Trash/*", "/home/*/.local/share/Trash/*", ".Trash-*"],
        darwin: &["/Users/*/.Trash/*", ".Trashes"],
        windows: &["$RECYCLE.BIN", "$Recycle.Bin"],
    },
    Preset {
        name: "build",
        title: "Developer build folders",
        help: "What package managers fetch again and compilers make again.",
        // Nothing by a name as common as build, dist, target or vendor.
        everywhere: &[
            "node_modules",
            "bower_components",
            "__pycache__",
            ".pytest_cache",
            ".mypy_cache",
            ".ruff_cache",
            ".tox",
            ".venv",
            ".parcel-cache",
            ".svelte-kit",
            ".next/cache",
            ".gradle/caches",
            ".npm/_cacache",
            ".cargo/registry",
            ".cargo/git",
            ".rustup/toolchains",
            "go/pkg/mod",
            "target/debug",
            "target/release",
        ],
        linux: &[],
        darwin: &["/Users/*/Library/Developer/Xcode/DerivedData/*"],
        windows: &[],
    },
    Preset {
        name: "virtual-machines",
        title: "Virtual machine images",
        help: "Disks of virtual machines, those of the Linux subsystem of Windows too. What lies on \
               them is then not backed up from here.",
        everywhere: &["*.vmdk", "*.vdi", "*.vhd", "*.vhdx", "*.qcow2"],
        linux: &["/var/lib/libvirt/images/*"],
        darwin: &["*.pvm", "*.utm", "/Users/*/Library/Containers/com.docker.docker/Data/vms/*"],
        windows: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const SYSTEMS: [HostOs; 4] = [HostOs::Linux, HostOs::Darwin, HostOs::Windows, HostOs::Unknown];

    #[test]
    fn every_set_has_a_name_of_its_own_and_no_pattern_twice() {
        let names: BTreeSet<_> = ALL.iter().map(|preset| preset.name).collect();
        assert_eq!(names.len(), ALL.len());
        for preset in ALL {
            assert_eq!(find(preset.name).map(|it| it.title), Some(preset.title));
            for os in SYSTEMS {
                let patterns: Vec<_> = preset.patterns(os).collect();
                let apart: BTreeSet<_> = patterns.iter().collect();
                assert_eq!(apart.len(), patterns.len(), "{} on {os:?}", preset.name);
            }
        }
        assert!(find("Caches").is_none());
    }

    #[test]
    fn every_set_leaves_something_out_on_every_system_with_an_agent() {
        for preset in ALL {
            for os in [HostOs::Linux, HostOs::Darwin, HostOs::Windows] {
                assert!(preset.patterns(os).next().is_some(), "{} on {os:?}", preset.name);
            }
        }
    }

    #[test]
    fn no_pattern_takes_a_home_a_disk_or_everything() {
        for pattern in ALL.iter().flat_map(|it| SYSTEMS.map(|os| it.patterns(os))).flatten() {
            let parts: Vec<_> = pattern.split(['/', '\\']).filter(|it| !it.is_empty()).collect();
            // What is left when everything that matches anything is taken away.
            let fixed = parts.iter().filter(|part| **part != "*" && **part != "**").count();
            assert!(fixed > 0, "{pattern}");
            assert!(!["home", "Users", "root", "C:"].contains(parts.last().unwrap()), "{pattern}");
            assert!(!pattern.ends_with("/home/*") && !pattern.ends_with("/Users/*"), "{pattern}");
            assert!(!pattern.starts_with('!') && !pattern.contains("**"), "{pattern}");
        }
    }
}
