-- How large all repositories in the store were together, one row a day: their folders tell only how large
-- they are now.
CREATE TABLE store_sizes (
    day      INTEGER NOT NULL PRIMARY KEY,         -- days since 1970 in UTC
    taken_at INTEGER NOT NULL,                     -- the last time on that day
    bytes    INTEGER NOT NULL
);
