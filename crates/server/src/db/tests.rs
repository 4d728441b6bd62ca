//! Migrations on a database that is in use.

use super::{Db, MIGRATIONS, error::DbError, hosts, plans, repositories, runs, snapshots};
use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use std::{collections::BTreeMap, path::Path};

const POPULATED: &str = include_str!("tests/populated.sql");

/// A database of the first so many migrations, filled after the first of them.
async fn database_of(path: &Path, migrations: usize) -> SqlitePool {
    let options =
        SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    let some = |n| Migrator::with_migrations(MIGRATIONS.iter().take(n).cloned().collect());
    some(1).run(&pool).await.unwrap();
    sqlx::raw_sql(POPULATED).execute(&pool).await.unwrap();
    some(migrations).run(&pool).await.unwrap();
    pool
}

/// How many rows each table has.
async fn counts(pool: &SqlitePool) -> BTreeMap<String, i64> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\' \
         AND name NOT LIKE 'sqlite%'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    let mut counts = BTreeMap::new();
    for table in tables {
        let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        counts.insert(table, sqlx::query_scalar(query).fetch_one(pool).await.unwrap());
    }
    counts
}

#[tokio::test]
async fn every_earlier_database_keeps_its_rows_and_their_children() {
    let all = MIGRATIONS.iter().count();
    for earlier in 1..all {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.db");
        let old = database_of(&path, earlier).await;
        let before = counts(&old).await;
        if earlier == 1 {
            let empty: Vec<&String> =
                before.iter().filter(|(_, rows)| **rows == 0).map(|(name, _)| name).collect();
            assert!(empty.is_empty(), "nothing is in {empty:?}: such a test proves little");
        }
        let version: i64 = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
            .fetch_one(&old)
            .await
            .unwrap();
        old.close().await;

        let db = Db::open(&path).await.unwrap();
        let after = counts(db.read()).await;
        for (table, rows) in &before {
            assert_eq!(after.get(table), Some(rows), "{table}, from {earlier} migrations");
        }
        let broken: Vec<(String,)> =
            sqlx::query_as("SELECT \"table\" FROM pragma_foreign_key_check")
                .fetch_all(db.read())
                .await
                .unwrap();
        assert!(broken.is_empty(), "{broken:?}");
        assert_rows_read(&db).await;
        db.close().await;

        let copy = dir.path().join(format!("server.db.before-{version}"));
        let options = SqliteConnectOptions::new().filename(&copy);
        let copy = SqlitePoolOptions::new().connect_with(options).await.unwrap();
        assert_eq!(counts(&copy).await, before, "what was put aside is what was there");
    }
}

/// What the first version wrote is what this version reads.
async fn assert_rows_read(db: &Db) {
    assert_eq!(hosts::list(db.read()).await.unwrap().len(), 2);
    assert_eq!(plans::assignments(db.read()).await.unwrap().len(), 2);
    assert_eq!(runs::open(db.read()).await.unwrap().len(), 1);
    assert_eq!(runs::standing(db.read(), None).await.unwrap().len(), 2);
    let repository = repositories::list(db.read()).await.unwrap().remove(0).id;
    assert_eq!(snapshots::list(db.read(), repository, 0, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.db");
    let pool = database_of(&path, MIGRATIONS.iter().count()).await;
    sqlx::query("UPDATE _sqlx_migrations SET version = 99990101000000 WHERE version = (SELECT max(version) FROM _sqlx_migrations)")
        .execute(&pool)
        .await
        .unwrap();
    let before = counts(&pool).await;
    let refused = Db::open(&path).await.unwrap_err();
    assert!(matches!(refused, DbError::TooNew { present: 99_990_101_000_000, .. }), "{refused}");
    assert!(refused.to_string().contains("server.db"), "{refused}");
    assert_eq!(counts(&pool).await, before);
}
