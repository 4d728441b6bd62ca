//! Receiving a file: whether it may be added, whether there is room for it, and how it gets its name.

use super::{
    Refused, Visitor, Who, blocking, count,
    ledger::Promise,
    object::{Kind, Object},
    or_not_found,
    upload::{self, Received},
};
use crate::{
    db::{error::DbError, store as rows},
    events::Topic,
};
use bytes::Bytes;
use futures_util::Stream;
use std::{io, path::PathBuf};

/// Locks that the host of a repository may have at once. restic takes one an operation, and what a
/// killed one leaves behind goes away with `unlock`.
const MOST_LOCKS: usize = 64;
/// Keys that may come before there is a configuration: one from each attempt to initialise.
const MOST_FIRST_KEYS: usize = 4;
/// Files that may be on their way into a repository at once. A restic sends five.
const MOST_UPLOADS: usize = 128;
/// What hosts leave free on the disk, at most: whatever else lies there, this manager's database
/// maybe, must be able to go on.
const FREE_FOR_OTHERS: u64 = 1024 * 1024 * 1024;
/// The same on a small disk, as a part of it.
const FREE_PART: u64 = 20;
/// What the admin leaves free: less, since a prune of a full disk has to write before it can delete, and
/// more than the intake leaves.
const FREE_AFTER_PRUNE: u64 = 128 * 1024 * 1024;
/// The same on a small disk, as a part of it.
const FREE_PART_AFTER_PRUNE: u64 = 30;
/// Room that an upload holds before it has filled it: who announces much and sends nothing keeps nobody
/// else out.
const STEP: u64 = 4 * 1024 * 1024;

impl Visitor {
    /// Receives a file. Once this returns, it is on the disk for good; before, nothing of it is to be
    /// seen.
    ///
    /// # Errors
    /// Why it was not taken; then nothing of it is there.
    pub async fn put<E>(
        &self,
        object: Object,
        length: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(), Refused> {
        let most = object.max_bytes();
        let length = length.unwrap_or(most);
        if length > most {
            return Err(Refused::TooLarge);
        }
        let writing = self.ledger.write(&object).ok_or(Refused::Exists)?;
        if self.ledger.writing(|_| true) > MOST_UPLOADS {
            return Err(Refused::Busy);
        }
        let target = self.root.join(object.path());
        if tokio::fs::try_exists(&target).await? {
            return Err(Refused::Exists);
        }
        self.may_put(&object).await?;
        let mut reserved = Reserved::make(self, length).await?;
        if let Object::File(Kind::Locks, name) = &object
            && matches!(self.who, Who::Admin(_))
        {
            // Before anybody can see it, so that nobody can remove it.
            self.ledger.admin_locked(name);
            self.place.note_lock(self.repository, name)?;
        }
        let host_write = (self.who == Who::Host
            && matches!(object, Object::File(Kind::Data | Kind::Index, _)))
        .then(|| self.ledger.host_writes());
        let receiving = upload::receive(self.place.incoming(), most, body, &mut reserved);
        let cut = self.cut();
        let received = tokio::select! {
            received = receiving => received,
            () = cut.cancelled() => Err(Refused::Aborted),
        };
        let received = self.or_away(received).await?;
        // From here on it does not matter whether anybody still waits for the answer: the file gets its
        // name and is noted, or neither, and what stands for it in the ledger is there as long.
        let visitor = self.clone();
        let finishing = self.store.0.finishing.spawn(async move {
            let done = visitor.finish(received, object, target).await;
            drop((writing, reserved, host_write));
            done
        });
        finishing.await.map_err(|error| Refused::Io(io::Error::other(error)))?
    }

    async fn finish(
        &self,
        received: Received,
        object: Object,
        target: PathBuf,
    ) -> Result<(), Refused> {
        // Much may have become of the repository while it came.
        self.may_put(&object).await?;
        if self.cut().is_cancelled() {
            return Err(Refused::Aborted);
        }
        let (bytes, named) = (received.bytes, object.clone());
        let named = blocking(move || received.finish(&named, &target)).await;
        self.or_away(named).await?;
        self.ledger.added(bytes);
        self.tell(&object).await
    }

    /// What a host may add depends on what is there and on its way: 25 keys would lock the right
    /// password out (restic tries 20), and locks without end would keep everyone out.
    async fn may_put(&self, object: &Object) -> Result<(), Refused> {
        if matches!(self.who, Who::Admin(_)) {
            return Ok(());
        }
        match object {
            Object::File(Kind::Keys, _) => {
                if tokio::fs::try_exists(self.root.join("config")).await? {
                    return Err(Refused::Forbidden("keys are added by the admin"));
                }
                if self.with_those_on_their_way(Kind::Keys).await? > MOST_FIRST_KEYS {
                    return Err(Refused::Forbidden("there are too many keys"));
                }
            }
            Object::File(Kind::Locks, _) => {
                if self.with_those_on_their_way(Kind::Locks).await? > MOST_LOCKS {
                    return Err(Refused::Forbidden("there are too many locks"));
                }
            }
            Object::Config | Object::File(Kind::Data | Kind::Index | Kind::Snapshots, _) => {}
        }
        Ok(())
    }

    async fn with_those_on_their_way(&self, kind: Kind) -> Result<usize, Refused> {
        let coming = self.ledger.writing(|it| matches!(it, Object::File(its, _) if *its == kind));
        Ok(self.list(kind).await?.len() + coming)
    }

    /// Makes sure that there is room for so many bytes beside all that was promised.
    async fn has_room(&self, more: u64) -> Result<(), Refused> {
        let (folder, is_host) = (self.place.incoming(), self.who == Who::Host);
        let room = blocking(move || {
            let space = fs4::statvfs(&folder).map_err(or_not_found)?;
            let (part, most) = if is_host {
                (FREE_PART, FREE_FOR_OTHERS)
            } else {
                (FREE_PART_AFTER_PRUNE, FREE_AFTER_PRUNE)
            };
            Ok(space.available_space().saturating_sub((space.total_space() / part).min(most)))
        })
        .await;
        let room = self.or_away(room).await?;
        if self.store.0.on_their_way.bytes().saturating_add(more) > room {
            return Err(Refused::Full("the disk of the store is full"));
        }
        if let Some(quota) = self.quota {
            let used = count(&self.ledger, self.root.clone()).await?;
            // What is on its way counts with all that is: a little early is better than late.
            let all = used.saturating_add(self.ledger.on_their_way.bytes()).saturating_add(more);
            if all > quota {
                return Err(Refused::Full("the repository has reached its quota"));
            }
        }
        Ok(())
    }

    /// A snapshot has arrived: by the manager's clock, whatever it says itself.
    async fn tell(&self, object: &Object) -> Result<(), Refused> {
        let Object::File(Kind::Snapshots, name) = object else { return Ok(()) };
        let inner = &self.store.0;
        let mut tx = inner.db.begin().await?;
        let now = inner.clock.now();
        rows::note_arrival(&mut tx, self.repository, name.as_str(), now).await?;
        tx.commit().await.map_err(DbError::from)?;
        inner.events.publish(Topic::Repository(self.repository));
        inner.events.publish(Topic::Store);
        Ok(())
    }
}

/// Room for one upload, on the disk and within the quota: taken in steps, as it comes.
#[derive(Debug)]
pub(super) struct Reserved {
    visitor: Visitor,
    on_disk: Promise,
    in_repository: Promise,
    /// What may come before more has to be taken.
    left: u64,
}

impl Reserved {
    /// Room for the first of so many bytes, if there is room for all of them.
    async fn make(visitor: &Visitor, length: u64) -> Result<Self, Refused> {
        let left = length.min(STEP);
        let reserved = Self {
            on_disk: visitor.store.0.on_their_way.promise(left),
            in_repository: visitor.ledger.on_their_way.promise(left),
            visitor: visitor.clone(),
            left,
        };
        visitor.has_room(length - left).await?;
        Ok(reserved)
    }

    /// So many bytes have come.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(super) async fn take(&mut self, bytes: u64) -> Result<(), Refused> {
        if bytes > self.left {
            let step = STEP.max(bytes);
            self.on_disk.grow(step);
            self.in_repository.grow(step);
            self.left += step;
            self.visitor.has_room(0).await?;
        }
        self.left -= bytes;
        Ok(())
    }
}
