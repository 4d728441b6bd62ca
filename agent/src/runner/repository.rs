//! A repository of the desired state as restic's crate takes it.

use crate::paths::{StateDir, create_private_dir, replace_file};
use protocol::{Code, Problem, RepositoryConfig};
use restic::Repository;
use std::{fs, io};

/// Prepares what restic needs to open the repository: its folders, and the certificate of its
/// server's authority as a file.
///
/// # Errors
/// When the state folder cannot be written.
pub fn prepare(config: &RepositoryConfig, state: &StateDir) -> Result<Repository, Problem> {
    write(config, state).map_err(|error| {
        Problem::new(
            Code::Internal,
            format!(
                "The agent's state folder {} cannot be written: {error}.",
                state.path().display()
            ),
        )
        .guidance("Check its disk and its rights.")
    })
}

fn write(config: &RepositoryConfig, state: &StateDir) -> io::Result<Repository> {
    create_private_dir(&state.cache())?;
    create_private_dir(&state.temporary())?;
    let mut repository =
        Repository::new(config.url.clone(), config.password.expose_secret().clone(), state.cache());
    repository.temp_dir = Some(state.temporary());
    repository.rest_username = config.username.clone();
    repository.rest_password =
        config.credential.as_ref().map(|secret| secret.expose_secret().clone().into());
    if let Some(pem) = &config.ca_pem {
        create_private_dir(&state.authorities())?;
        let path = state.authorities().join(format!("{}.pem", config.id));
        if fs::read_to_string(&path).ok().as_deref() != Some(pem) {
            replace_file(&path, pem.as_bytes())?;
        }
        repository.ca_file = Some(path);
    }
    Ok(repository)
}
