-- Folders of snapshots as an agent listed them. They never change; they go with their repository, and
-- the least used make room when there are many.
CREATE TABLE folders (
    repository_id TEXT    NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    snapshot_id   TEXT    NOT NULL,
    path          TEXT    NOT NULL,
    entries       TEXT    NOT NULL,                -- JSON array of protocol::TreeEntry
    read_at       INTEGER NOT NULL,
    used_at       INTEGER NOT NULL,
    PRIMARY KEY (repository_id, snapshot_id, path)
) WITHOUT ROWID;
CREATE INDEX folders_by_use ON folders (used_at);
