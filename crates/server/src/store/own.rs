//! Each host's own repository in the store: made with the first plan that goes there.

use crate::{
    auth::token,
    db::{
        Tx, hosts,
        repositories::{self, Repository, credential_place, password_place},
        store as rows,
    },
    desired::DesiredError,
    manager::Manager,
};
use protocol::{HostId, RepositoryId, Secret};

/// How a location in the store begins; the repository's id follows. An agent makes it into the address
/// of its pass-through.
pub const SCHEME: &str = "store:";

/// Random bytes of a password, as long as those that the app mints for a rest-server.
const SECRET_BYTES: usize = 24;

/// Gives every host that a plan sends into the store a repository there, unless it has one. To be
/// called in the transaction that changes plans or who has them.
///
/// # Errors
/// When the database fails, or a secret cannot be made or sealed.
pub async fn provide(manager: &Manager, tx: &mut Tx) -> Result<(), DesiredError> {
    for host in rows::hosts_without_repository(&mut **tx).await? {
        make(manager, tx, host).await?;
    }
    Ok(())
}

async fn make(manager: &Manager, tx: &mut Tx, host: HostId) -> Result<(), DesiredError> {
    let (id, now) = (manager.new_id::<RepositoryId>(), manager.now());
    let (password, credential) = (secret(manager)?, secret(manager)?);
    let seal = |place: &str, secret: &Secret<String>| {
        manager.vault().seal(place, secret.expose_secret().as_bytes())
    };
    let repository = Repository {
        id,
        name: name(tx, host).await?,
        url: format!("{SCHEME}{id}"),
        // One user to a repository, so its name says which.
        username: Some(id.to_string()),
        password_sealed: seal(&password_place(id), &password)?,
        credential_sealed: Some(seal(&credential_place(id), &credential)?),
        ca_pem: Some(manager.identity().root_cert_pem()),
        append_only: true,
        store_host_id: Some(host),
        created_at: now,
        updated_at: now,
        initialised_at: None,
        revision: 0,
    };
    repositories::insert(tx, &repository).await?;
    rows::set_access(tx, id, &token::hash(credential.expose_secret())).await?;
    Ok(())
}

fn secret(manager: &Manager) -> Result<Secret<String>, DesiredError> {
    let random = Secret::new(manager.random_bytes::<SECRET_BYTES>()?.to_vec());
    Ok(Secret::new(data_encoding::BASE64URL_NOPAD.encode(random.expose_secret())))
}

/// The host's name, and a number where a repository has that name already.
async fn name(tx: &mut Tx, host: HostId) -> Result<String, DesiredError> {
    let host = hosts::find(&mut **tx, host).await?.map(|host| host.name).unwrap_or_default();
    let base = format!("{host} on this computer");
    let mut name = base.clone();
    let mut n = 1_u32;
    while repositories::find_by_name(&mut **tx, &name).await?.is_some() {
        n += 1;
        name = format!("{base} {n}");
    }
    Ok(name)
}
