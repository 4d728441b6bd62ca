-- How the backups of a plan run, what its named sets leave out, and which machines have it by a tag.

-- JSON of protocol::PlanOptions.
ALTER TABLE plans ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
-- JSON array of names; their patterns are the manager's.
ALTER TABLE plans ADD COLUMN presets TEXT NOT NULL DEFAULT '[]';

-- Tags of hosts, in lower case.
CREATE TABLE host_tags (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    tag     TEXT NOT NULL,
    PRIMARY KEY (host_id, tag)
) WITHOUT ROWID;
CREATE INDEX host_tags_by_tag ON host_tags (tag);

-- A plan is also for every host that has one of these tags.
CREATE TABLE plan_host_tags (
    plan_id TEXT NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    tag     TEXT NOT NULL,
    PRIMARY KEY (plan_id, tag)
) WITHOUT ROWID;
CREATE INDEX plan_host_tags_by_tag ON plan_host_tags (tag);

-- Which host has which plan, one by one or by a tag; each pair once. Not a UNION: what is asked of one host
-- or plan would be picked from all pairs only after they were sorted.
CREATE VIEW plan_assignments AS
    SELECT plan_hosts.plan_id, plan_hosts.host_id FROM plan_hosts
    UNION ALL
    SELECT plan_host_tags.plan_id, host_tags.host_id
    FROM plan_host_tags
    JOIN host_tags ON host_tags.tag = plan_host_tags.tag
    WHERE NOT EXISTS (
        SELECT 1 FROM plan_hosts
        WHERE plan_hosts.plan_id = plan_host_tags.plan_id AND plan_hosts.host_id = host_tags.host_id
    ) AND NOT EXISTS (
        SELECT 1 FROM host_tags AS lesser
        JOIN plan_host_tags AS same ON same.tag = lesser.tag AND same.plan_id = plan_host_tags.plan_id
        WHERE lesser.host_id = host_tags.host_id AND lesser.tag < host_tags.tag
    );

-- Which plan of which host writes into which repository.
DROP VIEW plan_targets;
CREATE VIEW plan_targets AS
    SELECT plan_assignments.plan_id, plan_assignments.host_id,
           coalesce(plans.repository_id, own.id) AS repository_id
    FROM plan_assignments
    JOIN plans ON plans.id = plan_assignments.plan_id
    LEFT JOIN repositories AS own ON own.store_host_id = plan_assignments.host_id;
