-- What the agent must remember. Times are milliseconds since the Unix epoch.

-- One row: the journal's identity and its two ends, and what is known of the manager.
CREATE TABLE agent_state (
    id             INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    journal_id     TEXT    NOT NULL,
    -- The hash before the oldest record that is still there, and that record's number.
    base_hash      BLOB    NOT NULL,
    first_seq      INTEGER NOT NULL,
    acked_seq      INTEGER NOT NULL,
    incarnation    TEXT,
    highest_epoch  INTEGER NOT NULL DEFAULT 0,
    ticket         TEXT
) STRICT;

-- The journal: a gapless series, each record chained to the one before it by its hash.
CREATE TABLE record (
    seq     INTEGER NOT NULL PRIMARY KEY,
    kind    TEXT    NOT NULL,
    payload TEXT    NOT NULL,
    hash    BLOB    NOT NULL,
    run_id  TEXT,
    at_ms   INTEGER NOT NULL
) STRICT;

-- The numbers of executed commands, for each life of the manager's database: everything up to the
-- watermark, and the struck ones above it.
CREATE TABLE command_series (
    incarnation TEXT    NOT NULL PRIMARY KEY,
    watermark   INTEGER NOT NULL,
    highest     INTEGER NOT NULL
) STRICT;

CREATE TABLE command_struck (
    incarnation TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    PRIMARY KEY (incarnation, number)
) STRICT, WITHOUT ROWID;

-- Every run this agent has heard of: accepted, refused, queued, running, finished.
CREATE TABLE run (
    id             TEXT    NOT NULL PRIMARY KEY,
    state          TEXT    NOT NULL,
    spec           TEXT    NOT NULL,
    incarnation    TEXT,
    number         INTEGER,
    refusal        TEXT,
    repository_id  TEXT,
    created_ms     INTEGER NOT NULL,
    finished_ms    INTEGER,
    log_lines      INTEGER NOT NULL DEFAULT 0,
    had_item_error INTEGER NOT NULL DEFAULT 0,
    -- The restic process of a running run, by its number and its start time, so that what a killed
    -- agent left behind is recognised and nothing else is ever ended.
    pid            INTEGER,
    pid_start      TEXT
) STRICT;

-- The last reading of each repository.
CREATE TABLE repository_view (
    repository_id TEXT    NOT NULL PRIMARY KEY,
    read_ms       INTEGER NOT NULL,
    snapshots     TEXT    NOT NULL,
    stats         TEXT
) STRICT;
