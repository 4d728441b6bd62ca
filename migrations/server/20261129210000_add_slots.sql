-- What slots are computed from: which times each plan had on each machine and when, when the machine was
-- awake, and what stood in the way.

-- The times of the plans in each generation of a machine's desired state that it has not passed yet: a JSON
-- object of plan id and cron.
CREATE TABLE generations (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    times TEXT NOT NULL CHECK (json_valid(times)),
    PRIMARY KEY (host_id, n)
) STRICT, WITHOUT ROWID;

-- The times that a plan had on a machine, from when it applied them until it applied others.
CREATE TABLE plan_versions (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    -- No reference: what a plan was to do outlives it.
    plan_id TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    until_at INTEGER,
    cron TEXT NOT NULL,
    time_zone TEXT NOT NULL,
    PRIMARY KEY (host_id, plan_id, from_at)
) STRICT, WITHOUT ROWID;

-- When a machine was awake, as its agent told.
CREATE TABLE awake (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    from_at INTEGER NOT NULL,
    until_at INTEGER NOT NULL,
    PRIMARY KEY (host_id, from_at)
) STRICT, WITHOUT ROWID;

-- A plan was due and did not begin, from then on until its next run.
CREATE TABLE deferrals (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    plan_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    code TEXT NOT NULL,
    PRIMARY KEY (host_id, plan_id, at)
) STRICT, WITHOUT ROWID;

-- Since when the agent that is connected, or was last, is awake; and up to when the machine has told all.
ALTER TABLE hosts ADD COLUMN awake_since INTEGER;
ALTER TABLE hosts ADD COLUMN heard_until INTEGER;

CREATE INDEX runs_by_slot ON runs (host_id, slot) WHERE slot IS NOT NULL;

-- When the manager learnt how a run ended, where an agent told it: what is new since the admin last looked, and when that was.
ALTER TABLE runs ADD COLUMN told_at INTEGER;
CREATE INDEX runs_by_told ON runs (coalesce(told_at, finished_at));
ALTER TABLE manager ADD COLUMN looked_at INTEGER;
