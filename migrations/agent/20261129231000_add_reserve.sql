-- Room in this file for outcomes, which is taken when the disk is full.
CREATE TABLE reserve (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    room BLOB    NOT NULL
) STRICT;
