-- Ways by which agents tell people that a plan failed or is overdue, and what they told.

CREATE TABLE alarm_channels (
    id           TEXT    NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL,
    kind         TEXT    NOT NULL,          -- webhook, ntfy, ping, smtp
    place        TEXT    NOT NULL,          -- where it leads, without what is secret, for people
    url_sealed   BLOB,                      -- NULL for smtp
    token_sealed BLOB,                      -- a token, or the password of a mail server
    mail         TEXT,                      -- JSON; NULL for all but smtp
    all_hosts    INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,          -- stands in the desired state's digest in place of the secrets
    revision     INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX alarm_channels_by_name ON alarm_channels (name);

-- The machines of a channel that is not for all, one by one and by tag.
CREATE TABLE alarm_channel_hosts (
    channel_id TEXT NOT NULL REFERENCES alarm_channels (id) ON DELETE CASCADE,
    host_id    TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    PRIMARY KEY (channel_id, host_id)
) WITHOUT ROWID;
CREATE INDEX alarm_channel_hosts_by_host ON alarm_channel_hosts (host_id);

CREATE TABLE alarm_channel_tags (
    channel_id TEXT NOT NULL REFERENCES alarm_channels (id) ON DELETE CASCADE,
    tag        TEXT NOT NULL,
    PRIMARY KEY (channel_id, tag)
) WITHOUT ROWID;
CREATE INDEX alarm_channel_tags_by_tag ON alarm_channel_tags (tag);

-- Which channel is for which host; a pair may come more than once.
CREATE VIEW alarm_channel_assignments AS
    SELECT alarm_channels.id AS channel_id, hosts.id AS host_id
    FROM alarm_channels JOIN hosts ON alarm_channels.all_hosts = 1 AND hosts.state = 'enrolled'
    UNION ALL
    SELECT alarm_channel_hosts.channel_id, alarm_channel_hosts.host_id
    FROM alarm_channel_hosts
    JOIN alarm_channels ON alarm_channels.id = alarm_channel_hosts.channel_id
    WHERE alarm_channels.all_hosts = 0
    UNION ALL
    SELECT alarm_channel_tags.channel_id, host_tags.host_id
    FROM alarm_channel_tags
    JOIN host_tags ON host_tags.tag = alarm_channel_tags.tag
    JOIN alarm_channels ON alarm_channels.id = alarm_channel_tags.channel_id
    WHERE alarm_channels.all_hosts = 0;

CREATE TABLE alarms (
    id            TEXT    NOT NULL PRIMARY KEY,
    host_id       TEXT    NOT NULL REFERENCES hosts (id),
    plan_id       TEXT    NOT NULL,         -- may be gone
    repository_id TEXT,
    run_id        TEXT,
    state         TEXT    NOT NULL,         -- protocol::AlarmState
    was           TEXT    NOT NULL,
    at            INTEGER NOT NULL,         -- by the agent's clock
    last_good     INTEGER,
    code          TEXT
);
CREATE INDEX alarms_by_host ON alarms (host_id, at);
CREATE INDEX alarms_by_time ON alarms (at);

CREATE TABLE alarm_deliveries (
    alarm_id     TEXT    NOT NULL REFERENCES alarms (id) ON DELETE CASCADE,
    channel_id   TEXT    NOT NULL,          -- may be gone
    channel_name TEXT    NOT NULL,          -- as it was called
    result       TEXT,                      -- protocol::DeliveryResult; NULL while the agent tries
    at           INTEGER,
    attempts     INTEGER NOT NULL DEFAULT 0,
    code         TEXT,
    message      TEXT,
    guidance     TEXT,
    PRIMARY KEY (alarm_id, channel_id)
) WITHOUT ROWID;
