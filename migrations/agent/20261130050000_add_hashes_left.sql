-- The journal's hashes after records that had to make room before the manager acknowledged them: by these a
-- manager that stands in their midst is compared.
CREATE TABLE hash_left (
    seq  INTEGER NOT NULL PRIMARY KEY,
    hash BLOB    NOT NULL
) STRICT;
