-- CRC-32 over the row (sqlite_file.checksum): SQLite does not see a byte that changed. NULL: from before.
ALTER TABLE entry ADD COLUMN crc INTEGER;

-- Positions that could not be read out of a damaged log, or that the tracker never saw.
CREATE TABLE lost (
    first   INTEGER NOT NULL,
    why     TEXT NOT NULL,               -- damaged: this log was; missed: gone before a restored store could read it
    last    INTEGER,                     -- NULL: not known how many
    records INTEGER,                     -- NULL: not known
    found   INTEGER NOT NULL,            -- unix nanoseconds
    PRIMARY KEY (first, why)
) STRICT, WITHOUT ROWID;
