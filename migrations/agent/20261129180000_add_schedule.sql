-- The agent's own schedule. Times are milliseconds since the Unix epoch.

-- Where each plan stands that runs by the clock: the newest slot that needs no run any more, and the times
-- under which that was noted.
CREATE TABLE plan_mark (
    plan_id   TEXT    NOT NULL PRIMARY KEY,
    cron      TEXT    NOT NULL,
    served_ms INTEGER NOT NULL
) STRICT;

-- The slot that a run of the schedule serves.
ALTER TABLE run ADD COLUMN slot_ms INTEGER;
