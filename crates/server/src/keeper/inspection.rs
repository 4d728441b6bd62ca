//! Looks for what restic would stumble over, before restic does: it reads all indexes, locks and
//! snapshots before anything else, and ends at the first of which it can make nothing.

use crate::store::{
    Refused, Visitor,
    object::{Kind, Name, Object},
};
use restic::{CancelToken, MasterKey, Sealed, Unreadable};
use std::{io, sync::Arc};
use tokio::task::spawn_blocking;

/// A file that no restic wrote, or that was changed since.
pub(super) struct Alien {
    /// Which one.
    pub(super) object: Object,
    /// Why restic can make nothing of it.
    pub(super) why: Unreadable,
}

/// Opens all files of these kinds with the key of the repository, and says which ones restic could make
/// nothing of. Ends early when it is cancelled.
pub(super) async fn inspect(
    visitor: &Visitor,
    key: MasterKey,
    kinds: &[Sealed],
    cancel: &CancelToken,
) -> Result<Vec<Alien>, Refused> {
    let key = Arc::new(key);
    let mut aliens = Vec::new();
    for &sealed in kinds {
        let kind = kind_of(sealed);
        for entry in visitor.list(kind).await? {
            if cancel.is_cancelled() {
                return Ok(aliens);
            }
            let Some(name) = Name::parse(&entry.name) else { continue };
            let object = Object::File(kind, name);
            let file = match visitor.open(&object).await {
                Ok(file) => file,
                // A lock that was taken back meanwhile.
                Err(Refused::NotFound) => continue,
                Err(error) => return Err(error),
            };
            let key = Arc::clone(&key);
            let examine = move || Ok::<_, io::Error>(key.examine(sealed, file.whole()?).err());
            if let Some(why) = spawn_blocking(examine).await.map_err(io::Error::other)?? {
                aliens.push(Alien { object, why });
            }
        }
    }
    Ok(aliens)
}

fn kind_of(sealed: Sealed) -> Kind {
    match sealed {
        Sealed::Index => Kind::Index,
        Sealed::Lock => Kind::Locks,
        Sealed::Snapshot => Kind::Snapshots,
    }
}
