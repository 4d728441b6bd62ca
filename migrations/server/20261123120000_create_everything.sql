-- The manager's database. Ids are UUIDs as text, times are milliseconds since the Unix epoch (UTC),
-- sealed columns are AEAD boxes bound to "table.column.row". No CHECK on lists that will grow.

-- One row: who this manager is.
CREATE TABLE manager (
    id                  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    incarnation         TEXT    NOT NULL,
    epoch               INTEGER NOT NULL,
    root_public_key     BLOB    NOT NULL,          -- raw Ed25519, 32 bytes
    root_key_sealed     BLOB,                      -- PKCS #8; NULL once the recovery kit holds it
    root_cert           BLOB    NOT NULL,          -- DER
    instance_cert       BLOB    NOT NULL,          -- DER
    instance_key_sealed BLOB    NOT NULL,          -- PKCS #8
    admin_password_hash TEXT,                      -- argon2id, headless only
    addresses           TEXT    NOT NULL,          -- JSON array of host:port that agents may dial
    created_at          INTEGER NOT NULL
);

CREATE TABLE hosts (
    id                  TEXT    NOT NULL PRIMARY KEY,
    name                TEXT    NOT NULL,          -- what the admin calls it
    hostname            TEXT    NOT NULL,
    os                  TEXT    NOT NULL,
    arch                TEXT    NOT NULL,
    agent_version       TEXT    NOT NULL,
    restic_version      TEXT    NOT NULL,
    protocol_version    INTEGER NOT NULL,
    time_zone           TEXT,
    boot_time           INTEGER,
    key_fingerprint     BLOB    NOT NULL,          -- SHA-256 of the client key's SPKI
    state               TEXT    NOT NULL,          -- enrolled, revoked, removed
    hold_code           TEXT,                      -- set while the admin must decide
    hold_message        TEXT,
    ticket_hash         BLOB,                      -- SHA-256 of the confirmed ticket
    pending_ticket_hash BLOB,                      -- SHA-256 of the ticket that was handed out last
    seen_incarnation    TEXT,                      -- what the agent has seen of this manager, kept while
    seen_command        INTEGER,                   -- the hold is manager_behind: adopting takes it over
    seen_generation     INTEGER,
    seen_ticket_hash    BLOB,
    enrolled_at         INTEGER NOT NULL,
    last_seen_at        INTEGER,
    next_command        INTEGER NOT NULL DEFAULT 1,
    generation          INTEGER NOT NULL DEFAULT 0, -- of the desired state
    desired_digest      TEXT,
    acked_generation    INTEGER NOT NULL DEFAULT 0,
    acked_digest        TEXT,
    acked_at            INTEGER,
    revision            INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX hosts_by_key ON hosts (key_fingerprint);

CREATE TABLE enrolments (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,                  -- the name that the host will get
    token_hash  BLOB    NOT NULL,                  -- SHA-256 of the one-time token
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    used_at     INTEGER,
    host_id     TEXT    REFERENCES hosts (id),
    withdrawn_at INTEGER,
    plan_id     TEXT    REFERENCES plans (id)      -- assigned to the host when it arrives
);
CREATE UNIQUE INDEX enrolments_by_token ON enrolments (token_hash);

CREATE TABLE repositories (
    id                TEXT    NOT NULL PRIMARY KEY,
    name              TEXT    NOT NULL,
    url               TEXT    NOT NULL,
    username          TEXT,
    password_sealed   BLOB    NOT NULL,
    credential_sealed BLOB,
    ca_pem            TEXT,
    append_only       INTEGER NOT NULL DEFAULT 0,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,            -- stands in the desired state's digest in place of the secrets
    initialised_at    INTEGER,
    revision          INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX repositories_by_name ON repositories (name);

CREATE TABLE plans (
    id            TEXT    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL,
    repository_id TEXT    NOT NULL REFERENCES repositories (id),
    paths         TEXT    NOT NULL,                -- JSON array
    excludes      TEXT    NOT NULL,                -- JSON array
    tags          TEXT    NOT NULL,                -- JSON array
    retention     TEXT,                            -- JSON object, NULL keeps everything
    enabled       INTEGER NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    revision      INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX plans_by_name ON plans (name);

CREATE TABLE plan_hosts (
    plan_id TEXT NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    PRIMARY KEY (plan_id, host_id)
) WITHOUT ROWID;
CREATE INDEX plan_hosts_by_host ON plan_hosts (host_id);

CREATE TABLE runs (
    id                  TEXT    NOT NULL PRIMARY KEY,
    host_id             TEXT    NOT NULL REFERENCES hosts (id),
    plan_id             TEXT,
    repository_id       TEXT,
    kind                TEXT    NOT NULL,
    spec                TEXT    NOT NULL,          -- JSON of protocol::RunSpec
    status              TEXT    NOT NULL,          -- protocol::JobStatus
    dispatch            TEXT    NOT NULL,          -- waiting, sent, accepted, going, agent (not ours to send)
    command_incarnation TEXT,
    command_n           INTEGER,
    requested_by        TEXT    NOT NULL,          -- principal, or "agent"
    created_at          INTEGER NOT NULL,
    expires_at          INTEGER,
    started_at          INTEGER,
    finished_at         INTEGER,
    cancel_requested_at INTEGER,
    exit_code           INTEGER,
    error               TEXT,
    code                TEXT,
    guidance            TEXT,
    snapshot_id         TEXT,
    stats               TEXT,                      -- JSON, restic's summary
    unreadable          TEXT,                      -- JSON array of protocol::UnreadableFile
    unreadable_count    INTEGER NOT NULL DEFAULT 0,
    log_lines           INTEGER,                   -- as the agent counted them
    restore             TEXT,                      -- JSON of protocol::RestoreReport
    revision            INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_time ON runs (created_at, id);
CREATE INDEX runs_by_host ON runs (host_id, created_at);
CREATE INDEX runs_open ON runs (host_id, status) WHERE finished_at IS NULL;
CREATE UNIQUE INDEX runs_by_command ON runs (host_id, command_incarnation, command_n)
    WHERE command_n IS NOT NULL;

CREATE TABLE log_lines (
    run_id TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq    INTEGER NOT NULL,
    ts     INTEGER NOT NULL,
    stream TEXT    NOT NULL,
    text   TEXT    NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

-- How far the manager has each journal of each host.
CREATE TABLE journals (
    host_id    TEXT    NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    journal_id TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    hash       BLOB    NOT NULL,
    opened_at  INTEGER NOT NULL,
    is_current INTEGER NOT NULL,                   -- exactly one per host
    renew      TEXT,                               -- why the agent must start a new journal, if it must
    PRIMARY KEY (host_id, journal_id)
) WITHOUT ROWID;

-- The hashes of the newest records, so that a repeated record with another content is noticed.
CREATE TABLE journal_marks (
    host_id    TEXT    NOT NULL,
    journal_id TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    hash       BLOB    NOT NULL,
    PRIMARY KEY (host_id, journal_id, seq),
    FOREIGN KEY (host_id, journal_id) REFERENCES journals (host_id, journal_id) ON DELETE CASCADE
) WITHOUT ROWID;

-- What a person must know or decide. The unique index is the de-duplication.
CREATE TABLE notices (
    id          TEXT    NOT NULL PRIMARY KEY,
    host_id     TEXT    REFERENCES hosts (id) ON DELETE CASCADE,
    code        TEXT    NOT NULL,
    subject     TEXT    NOT NULL DEFAULT '',       -- tells two notices of one code apart
    message     TEXT    NOT NULL,
    guidance    TEXT,
    opened_at   INTEGER NOT NULL,
    last_at     INTEGER NOT NULL,
    times       INTEGER NOT NULL DEFAULT 1,
    resolved_at INTEGER
);
CREATE UNIQUE INDEX notices_open ON notices (coalesce(host_id, ''), code, subject)
    WHERE resolved_at IS NULL;

CREATE TABLE snapshots (
    repository_id TEXT    NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    id            TEXT    NOT NULL,
    time          INTEGER NOT NULL,
    hostname      TEXT    NOT NULL,
    paths         TEXT    NOT NULL,                -- JSON array
    tags          TEXT    NOT NULL,                -- JSON array
    size_bytes    INTEGER,
    file_count    INTEGER,
    added_bytes   INTEGER,
    PRIMARY KEY (repository_id, id)
) WITHOUT ROWID;
CREATE INDEX snapshots_by_time ON snapshots (repository_id, time);

-- What the last reading of a repository said. The repository is the truth; this says when it was read.
CREATE TABLE repository_facts (
    repository_id     TEXT    NOT NULL PRIMARY KEY REFERENCES repositories (id) ON DELETE CASCADE,
    snapshots_digest  TEXT,
    snapshots_read_at INTEGER,
    snapshots_host_id TEXT,                        -- by whose clock
    size_bytes        INTEGER,
    snapshot_count    INTEGER,
    dedup_ratio       REAL,
    last_check_at     INTEGER,
    last_check_status TEXT,
    lock_state        TEXT,
    locks             TEXT,                        -- JSON array of protocol::LockInfo
    stats_read_at     INTEGER
);

CREATE TABLE sessions (
    token_hash   BLOB    NOT NULL PRIMARY KEY,     -- SHA-256 of the cookie
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE audit (
    id        INTEGER NOT NULL PRIMARY KEY,
    at        INTEGER NOT NULL,
    principal TEXT    NOT NULL,
    action    TEXT    NOT NULL,                    -- such as host.revoke
    subject   TEXT    NOT NULL,                    -- such as host:<id>
    detail    TEXT    NOT NULL DEFAULT ''
);
