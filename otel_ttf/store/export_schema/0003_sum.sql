-- CRC-32 of the other columns: a bit that is changed in a position would have records skipped, or sent again. NULL: from
-- before there was one.
ALTER TABLE cursor ADD COLUMN sum INTEGER;
