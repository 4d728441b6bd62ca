-- When plans run, and which slot a run serves.

-- Five-field cron in the time zone of each machine; empty for a plan that runs by hand.
ALTER TABLE plans ADD COLUMN cron TEXT NOT NULL DEFAULT '';
-- NULL for a run that somebody asked for.
ALTER TABLE runs ADD COLUMN slot INTEGER;
