-- One row holds the hashes of all records of a journal that one transaction took in: that of record `seq`,
-- then those of the records after it, 16 bytes each.
ALTER TABLE journal_marks RENAME COLUMN hash TO hashes;
