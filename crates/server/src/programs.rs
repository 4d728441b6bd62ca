//! The programs that this manager hands out to machines: agents, and the restic that they run.
//!
//! ```text
//! <folder>/<system>-<processor>/restic-manager-agent        linux-amd64, linux-arm64, windows-amd64, …
//!                              /restic
//! ```

use crate::files::installed;
use protocol::{HostArch, HostOs};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The agent.
    Agent,
    /// restic.
    Restic,
}

impl Program {
    fn file(self, os: HostOs) -> String {
        let name = match self {
            Self::Agent => "restic-manager-agent",
            Self::Restic => "restic",
        };
        let ending = if os == HostOs::Windows { ".exe" } else { "" };
        format!("{name}{ending}")
    }
}

/// Where the programs lie, if this manager has any.
#[derive(Clone, Debug, Default)]
pub struct Programs(Option<Arc<PathBuf>>);

impl Programs {
    /// Those in this folder.
    ///
    /// # Errors
    /// When it is no folder.
    pub fn in_folder(folder: &Path) -> io::Result<Self> {
        if !folder.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(Self(Some(Arc::new(folder.to_owned()))))
    }

    /// Those that an installation puts beside the program's folder, if it does.
    #[must_use]
    pub fn installed() -> Self {
        installed("agents").and_then(|folder| Self::in_folder(&folder).ok()).unwrap_or_default()
    }

    /// Whether there is an agent for any kind of machine.
    #[must_use]
    pub fn has_agents(&self) -> bool {
        let kinds = [HostOs::Linux, HostOs::Windows, HostOs::Darwin].into_iter();
        kinds
            .flat_map(|os| [(os, HostArch::Amd64), (os, HostArch::Arm64)])
            .any(|(os, arch)| self.find(Program::Agent, os, arch).is_some())
    }

    /// The file of a program for this kind of machine.
    #[must_use]
    pub fn find(&self, program: Program, os: HostOs, arch: HostArch) -> Option<PathBuf> {
        if os == HostOs::Unknown || arch == HostArch::Unknown {
            return None;
        }
        let folder = self.0.as_ref()?.join(format!("{}-{}", os.as_str(), arch.as_str()));
        let file = folder.join(program.file(os));
        file.is_file().then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_the_kind_of_machine() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs::in_folder(folder.path()).unwrap();
        assert!(!programs.has_agents());
        let windows = folder.path().join("windows-amd64");
        std::fs::create_dir(&windows).unwrap();
        std::fs::write(windows.join("restic-manager-agent.exe"), "MZ").unwrap();
        assert!(programs.has_agents());
        let found = programs.find(Program::Agent, HostOs::Windows, HostArch::Amd64).unwrap();
        assert!(found.starts_with(&windows));
        for (os, arch) in [
            (HostOs::Windows, HostArch::Arm64),
            (HostOs::Linux, HostArch::Amd64),
            (HostOs::Unknown, HostArch::Unknown),
        ] {
            assert_eq!(programs.find(Program::Agent, os, arch), None);
        }
        assert!(Programs::in_folder(&folder.path().join("none")).is_err());
        assert!(!Programs::default().has_agents());
    }
}
