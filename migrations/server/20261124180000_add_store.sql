-- The built-in store: where it lies, which repositories are in it, and when their snapshots arrived.

-- One row once the admin has chosen a folder.
CREATE TABLE store (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    marker     TEXT    NOT NULL,                   -- UUID, also in the folder: so another disk is noticed
    folder     TEXT    NOT NULL,
    changed_at INTEGER NOT NULL
);

-- Set for a repository in the store: whose it is. Its `url` is then `store:<id>`.
ALTER TABLE repositories ADD COLUMN store_host_id TEXT REFERENCES hosts (id);
-- SHA-256 of the password with which the host's restic comes; it has enough randomness for a plain hash.
ALTER TABLE repositories ADD COLUMN store_access_hash BLOB;
-- Bytes that the host may fill; NULL for no limit.
ALTER TABLE repositories ADD COLUMN store_quota INTEGER;
CREATE UNIQUE INDEX repositories_by_store_host ON repositories (store_host_id)
    WHERE store_host_id IS NOT NULL;

-- When the store received a snapshot, by the manager's own clock: what a snapshot says of its time is
-- its host's claim.
CREATE TABLE store_arrivals (
    repository_id TEXT    NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    snapshot_id   TEXT    NOT NULL,
    arrived_at    INTEGER NOT NULL,
    PRIMARY KEY (repository_id, snapshot_id)
) WITHOUT ROWID;

-- NULL now means the store, where each host has a repository of its own. A column cannot lose its
-- NOT NULL in place, and dropping the table would take the assignments along.
ALTER TABLE plans ADD COLUMN into_repository_id TEXT REFERENCES repositories (id);
UPDATE plans SET into_repository_id = repository_id;
ALTER TABLE plans DROP COLUMN repository_id;
ALTER TABLE plans RENAME COLUMN into_repository_id TO repository_id;

-- Which plan of which host writes into which repository.
CREATE VIEW plan_targets AS
    SELECT plan_hosts.plan_id, plan_hosts.host_id,
           coalesce(plans.repository_id, own.id) AS repository_id
    FROM plan_hosts
    JOIN plans ON plans.id = plan_hosts.plan_id
    LEFT JOIN repositories AS own ON own.store_host_id = plan_hosts.host_id;
