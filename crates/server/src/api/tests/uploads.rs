//! Uploads into the store that do not go as restic's do.

use super::Fleet;
use crate::{
    db::{
        repositories::{self, credential_place},
        store as rows,
    },
    store::{
        Refused, Visitor,
        object::{Kind, Name, Object},
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use protocol::{RepositoryId, Secret};
use ring::digest::{SHA256, digest};
use serde_json::json;
use std::{convert::Infallible, time::Duration};
use tokio::task::JoinSet;

type Piece = Result<Bytes, Infallible>;

const MIB: u64 = 1024 * 1024;

/// A fleet with a store, and the repositories of two hosts in it.
async fn stored() -> (Fleet, [RepositoryId; 2]) {
    let fleet = Fleet::new().await;
    let folder = fleet.dir.path().join("store");
    fleet.put("/api/store", json!({ "folder": folder })).await.ok(200);
    let hosts = [fleet.host("atlas").await, fleet.host("boreas").await];
    let form = json!({ "name": "all", "paths": ["/etc"], "host_ids": hosts });
    fleet.post("/api/plans", form).await.ok(201);
    let store = fleet.get("/api/store").await.ok(200);
    let id =
        |n: usize| store["repositories"][n]["repository_id"].as_str().unwrap().parse().unwrap();
    (fleet, [id(0), id(1)])
}

/// The host of a repository.
async fn host(fleet: &Fleet, id: RepositoryId) -> Visitor {
    let stored = repositories::find(fleet.manager.db().read(), id).await.unwrap().unwrap();
    let sealed = stored.credential_sealed.unwrap();
    let credential: Secret<String> =
        fleet.manager.vault().unseal_text(&credential_place(id), &sealed).unwrap();
    let visitor = fleet.manager.store().let_in(id, &credential, false).await.unwrap().unwrap();
    visitor.create().await.unwrap();
    visitor
}

fn object(kind: Kind, content: &[u8]) -> Object {
    let hash = data_encoding::HEXLOWER.encode(digest(&SHA256, content).as_ref());
    Object::File(kind, Name::parse(&hash).unwrap())
}

fn whole(content: &[u8]) -> impl Stream<Item = Piece> + Unpin + use<> {
    stream::iter([Ok(Bytes::copy_from_slice(content))])
}

/// One byte, and nothing after it.
fn begun() -> impl Stream<Item = Piece> + Unpin {
    stream::iter([Ok(Bytes::from_static(b"x"))]).chain(stream::pending())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_waits_for_is_there_and_noted_or_is_not_there() {
    let (fleet, [id, _]) = stored().await;
    let visitor = host(&fleet, id).await;
    for n in 0..60_u32 {
        let content = n.to_le_bytes().repeat(10_000);
        let object = object(Kind::Snapshots, &content);
        let (told, ended) = tokio::sync::oneshot::channel();
        let end = stream::once(async move {
            let _ = told.send(());
            Ok(Bytes::new())
        });
        let body = Box::pin(whole(&content).chain(end));
        let sender = visitor.clone();
        let mut sending = JoinSet::new();
        sending.spawn(async move { sender.put(object, None, body).await });
        // All has come; the sender hangs up now or a little later.
        ended.await.unwrap();
        for _ in 0..n * 3 {
            tokio::task::yield_now().await;
        }
        sending.shutdown().await;
    }
    let is_settled = async || {
        let there = visitor.list(Kind::Snapshots).await.unwrap();
        let noted = rows::arrivals(fleet.manager.db().read(), id).await.unwrap();
        there.len() == noted.len() && there.iter().all(|entry| noted.contains_key(&entry.name))
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        while !is_settled().await {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a snapshot is there whose arrival nobody noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_announces_much_and_sends_little_keeps_nobody_else_out() {
    let (fleet, [id, other]) = stored().await;
    let path = format!("/api/store/repositories/{other}");
    fleet.put(&path, json!({ "quota_bytes": 64 * MIB })).await.ok(200);
    let (thief, honest) = (host(&fleet, id).await, host(&fleet, other).await);
    let mut slow = JoinSet::new();
    for n in 0..100_u32 {
        let (thief, object) = (thief.clone(), object(Kind::Data, &n.to_le_bytes()));
        slow.spawn(async move { thief.put(object, Some(512 * MIB), begun()).await });
    }
    let content = vec![7; 1_000_000];
    let pack = object(Kind::Data, &content);
    honest.put(pack, Some(1_000_000), whole(&content)).await.unwrap();
    assert!(slow.try_join_next().is_none(), "what was begun goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_are_on_their_way_count() {
    let (fleet, [id, _]) = stored().await;
    let visitor = host(&fleet, id).await;
    let mut slow = JoinSet::new();
    for n in 0..65_u32 {
        let (visitor, object) = (visitor.clone(), object(Kind::Locks, &n.to_le_bytes()));
        slow.spawn(async move { visitor.put(object, Some(100), begun()).await });
    }
    let refused = slow.join_next().await.unwrap().unwrap();
    assert!(matches!(refused, Err(Refused::Forbidden(_))), "{refused:?}");
}
