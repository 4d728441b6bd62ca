//! A store for a made fleet: a repository of each machine and of one that has left, how large they were
//! on each of the last days, a limit that is nearly reached, and something to bring back.
//!
//! Its files are as large as they say, and hold nothing: the file system keeps no room for them.

use super::{dice::Dice, millis, open};
use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use protocol::{HostArch, HostId, HostOs, PROTOCOL_VERSION, RepositoryId};
use server::{
    db::{
        Tx,
        hosts::{self, HostState, NewHost},
        repositories::{self, Repository, credential_place, password_place},
        store::{self as rows, StoredSize},
    },
    store::{
        object::{Kind, Name, Object},
        own::SCHEME,
        place::{Place, create_dir},
        trash,
    },
    vault::Vault,
};
use std::{fs::File, path::Path};

/// So many days the store is there already.
const DAYS: i64 = 120;
const GB: u64 = 1_000_000_000;
/// What the machines have, in turn; with what they may have.
const SHARES: &[(u64, Option<u64>)] =
    &[(61_300_000_000, Some(100 * GB)), (14_200_000_000, None), (18_100_000_000, Some(19 * GB))];
/// What the machine that left has.
const LEFT_BYTES: u64 = 3_400_000_000;

/// Makes a store in this folder for the fleet in the data folder of a manager that does not run.
///
/// # Errors
/// When there is no fleet, or the folder cannot be used.
pub async fn fill_store(data_dir: &Path, folder: &Path, now: Timestamp, seed: u64) -> Result<()> {
    let (db, vault) = open(data_dir).await?;
    let mut dice = Dice::new(seed ^ 0x5709);
    let marker = RepositoryId::new(millis(now), &dice.ten()).as_uuid();
    let place = Place::make(folder, marker).context("failed to make the store")?;
    let fleet = hosts::list(db.read()).await?;
    let mut tx = db.begin().await?;
    rows::set_place(&mut tx, marker, &folder.display().to_string(), now).await?;
    let mut all = LEFT_BYTES;
    for (host, (bytes, quota)) in fleet.iter().zip(SHARES.iter().cycle()) {
        let id = repository(&mut tx, &vault, host.id, &host.name, now, &mut dice).await?;
        rows::set_quota(&mut tx, id, *quota).await?;
        arrivals(&mut tx, id, now, 0, &mut dice).await?;
        write(&place, id, Kind::Data, *bytes, &mut dice)?;
        if all == LEFT_BYTES {
            delete(&place, id, now - SignedDuration::from_hours(20), &mut dice)?;
        }
        all += bytes;
    }
    let gone = left(&mut tx, now, &mut dice).await?;
    let id = repository(&mut tx, &vault, gone, "old-desktop", now, &mut dice).await?;
    arrivals(&mut tx, id, now, 40, &mut dice).await?;
    write(&place, id, Kind::Data, LEFT_BYTES, &mut dice)?;
    hosts::set_state(&mut tx, gone, HostState::Removed).await?;
    sizes(&mut tx, all, now, &mut dice).await?;
    tx.commit().await?;
    db.close().await;
    Ok(())
}

async fn repository(
    tx: &mut Tx,
    vault: &Vault,
    host: HostId,
    name: &str,
    now: Timestamp,
    dice: &mut Dice,
) -> Result<RepositoryId> {
    let at = now - SignedDuration::from_hours(24 * DAYS);
    let id = RepositoryId::new(millis(at), &dice.ten());
    let repository = Repository {
        id,
        name: format!("{name} on this computer"),
        url: format!("{SCHEME}{id}"),
        username: Some(id.to_string()),
        password_sealed: vault.seal(&password_place(id), dice.hex_id().as_bytes())?,
        credential_sealed: Some(vault.seal(&credential_place(id), dice.hex_id().as_bytes())?),
        ca_pem: None,
        append_only: true,
        store_host_id: Some(host),
        created_at: at,
        updated_at: at,
        initialised_at: Some(at),
        revision: 0,
    };
    repositories::insert(tx, &repository).await?;
    rows::set_access(tx, id, &[0; 32]).await?;
    Ok(id)
}

/// A machine that is about to leave.
async fn left(tx: &mut Tx, now: Timestamp, dice: &mut Dice) -> Result<HostId> {
    let enrolled_at = now - SignedDuration::from_hours(24 * DAYS);
    let id = HostId::new(millis(enrolled_at), &dice.ten());
    let mut key_fingerprint = [0; 32];
    key_fingerprint[..10].copy_from_slice(&dice.ten());
    let new = NewHost {
        id,
        name: "old-desktop",
        hostname: "old-desktop",
        os: HostOs::Linux,
        arch: HostArch::Amd64,
        agent_version: "0.1.0",
        protocol_version: PROTOCOL_VERSION,
        key_fingerprint,
        enrolled_at,
    };
    hosts::insert(tx, &new).await?;
    Ok(id)
}

/// A snapshot a day, the newest so many days ago.
async fn arrivals(
    tx: &mut Tx,
    id: RepositoryId,
    now: Timestamp,
    newest: i64,
    dice: &mut Dice,
) -> Result<()> {
    for day in newest..newest + 30 {
        let at = now - SignedDuration::from_hours(24 * day + 9);
        rows::note_arrival(tx, id, &dice.hex_id(), at).await?;
    }
    Ok(())
}

/// How large it was on each day, up to what it is now.
async fn sizes(tx: &mut Tx, now_bytes: u64, now: Timestamp, dice: &mut Dice) -> Result<()> {
    let share = now_bytes / 100;
    let mut bytes = share * 58;
    let step = (now_bytes - bytes) / u64::try_from(DAYS)?;
    for day in (0..=DAYS).rev() {
        let taken_at = now - SignedDuration::from_hours(24 * day);
        rows::note_size(tx, StoredSize { taken_at, bytes: bytes.min(now_bytes) }).await?;
        bytes += step / 2 + dice.below(step);
    }
    Ok(())
}

/// A file of so many bytes.
fn write(
    place: &Place,
    id: RepositoryId,
    kind: Kind,
    bytes: u64,
    dice: &mut Dice,
) -> Result<Object> {
    let name = Name::parse(&dice.hex_id()).context("a name of a file")?;
    let object = Object::File(kind, name);
    let path = place.repository(id).join(object.path());
    create_dir(path.parent().context("a file in a folder")?)?;
    File::create(path)?.set_len(bytes)?;
    Ok(object)
}

/// Something that was deleted at that time.
fn delete(place: &Place, id: RepositoryId, at: Timestamp, dice: &mut Dice) -> Result<()> {
    let bin = trash::folder(place, id, at);
    for (kind, bytes) in
        [(Kind::Data, 2_100_000_000), (Kind::Snapshots, 400), (Kind::Snapshots, 400)]
    {
        let object = write(place, id, kind, bytes, dice)?;
        trash::throw(&place.repository(id), &object, &bin)?;
    }
    Ok(())
}
