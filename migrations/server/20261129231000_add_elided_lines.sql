-- Where lines of a log were left out on the machine, one row stands for them: `seq` is the number of the first
-- of them, and this is that of the last.
ALTER TABLE log_lines ADD COLUMN last_seq INTEGER;
