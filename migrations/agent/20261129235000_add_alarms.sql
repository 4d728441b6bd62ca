-- Alarms that need no manager. Times are milliseconds since the Unix epoch.

-- How each plan stands: good, failed, overdue. Up to covered_ms no slot is missing.
CREATE TABLE plan_alarm (
    plan_id      TEXT    NOT NULL PRIMARY KEY,
    state        TEXT    NOT NULL,
    changed_ms   INTEGER NOT NULL,
    covered_ms   INTEGER NOT NULL,
    last_good_ms INTEGER
) STRICT;

-- The messages that are on their way. One whose last attempt has no end is not sent again.
CREATE TABLE alarm_delivery (
    alarm_id   TEXT    NOT NULL,
    channel_id TEXT    NOT NULL,
    plan_id    TEXT    NOT NULL,
    is_news    INTEGER NOT NULL,
    message    TEXT    NOT NULL,
    attempts   INTEGER NOT NULL,
    is_going   INTEGER NOT NULL,
    PRIMARY KEY (alarm_id, channel_id)
) STRICT, WITHOUT ROWID;
