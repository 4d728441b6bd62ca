-- How a machine stands hangs on its newest failed backups too, also where newer ones wait or were cancelled. They
-- are few among the runs.
CREATE INDEX runs_that_failed ON runs (host_id, plan_id, repository_id, created_at)
    WHERE kind = 'backup' AND status IN ('failed', 'interrupted', 'lost', 'unknown');
