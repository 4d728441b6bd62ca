-- Whether machines are always on, what their agents can do, when plans were made, and what came late.

-- always_on or intermittent; NULL until somebody has said: then a machine with a battery is intermittent.
ALTER TABLE hosts ADD COLUMN mode TEXT;
ALTER TABLE hosts ADD COLUMN has_battery INTEGER NOT NULL DEFAULT 0;
-- How long an intermittent machine may go without a backup that was due.
ALTER TABLE hosts ADD COLUMN stale_after_days INTEGER NOT NULL DEFAULT 14;
-- JSON array of what its agent can do beyond its version; NULL until it has said so.
ALTER TABLE hosts ADD COLUMN capabilities TEXT;

-- No machine has applied a generation before it was made, whatever its clock says.
ALTER TABLE generations ADD COLUMN made_at INTEGER;

-- A time of which a machine told only later, and when: what was missed in it is news from then on.
CREATE TABLE silences (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    from_at INTEGER NOT NULL,
    told_at INTEGER NOT NULL,
    PRIMARY KEY (host_id, told_at)
) STRICT, WITHOUT ROWID;

-- Here, so that whoever moves the mark of what was heard cannot forget it. A connected machine moves it
-- twice a minute; silences are kept for as long as slots are shown, and some days more.
CREATE TRIGGER note_silence AFTER UPDATE OF heard_until ON hosts
WHEN new.heard_until > old.heard_until + 60000
BEGIN
    INSERT OR REPLACE INTO silences (host_id, from_at, told_at)
    VALUES (new.id, old.heard_until, new.heard_until);
    DELETE FROM silences WHERE host_id = new.id AND told_at < new.heard_until - 40 * 86400000;
END;

-- A revoked machine keeps the plans that it had by its tags, and gets no new ones by them.
INSERT OR IGNORE INTO plan_hosts (plan_id, host_id)
SELECT plan_id, host_id FROM plan_assignments
WHERE host_id IN (SELECT id FROM hosts WHERE state = 'revoked');
DELETE FROM host_tags WHERE host_id IN (SELECT id FROM hosts WHERE state = 'revoked');
