-- Since when the machine is awake, and what a plan waits for. Times are milliseconds since the Unix epoch.

-- The interval in which the agent runs on a machine that is awake, with the end that is certain; and the time
-- zone that the journal tells of.
ALTER TABLE agent_state ADD COLUMN awake_since_ms INTEGER;
ALTER TABLE agent_state ADD COLUMN awake_until_ms INTEGER;
ALTER TABLE agent_state ADD COLUMN told_zone TEXT;

-- Why what is due does not begin, as it was told.
ALTER TABLE plan_mark ADD COLUMN deferred TEXT;

-- The next attempt at the slot that was served last, where that one failed.
ALTER TABLE plan_mark ADD COLUMN retry_slot_ms INTEGER;
ALTER TABLE plan_mark ADD COLUMN retry_attempt INTEGER;
ALTER TABLE plan_mark ADD COLUMN retry_ms INTEGER;

-- Which attempt at its slot a run is.
ALTER TABLE run ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
