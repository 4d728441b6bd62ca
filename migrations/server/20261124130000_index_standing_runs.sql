-- Each look at the fleet asks for the newest run of each host, kind, plan and repository. This index
-- has all that the question needs, in its order.
CREATE INDEX runs_by_subject
    ON runs (host_id, kind, plan_id, repository_id, created_at DESC, id DESC, status);
