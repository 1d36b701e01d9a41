-- The event log as it began. STRICT: what is written is what is read.

CREATE TABLE log (
    id      TEXT NOT NULL,               -- random: tells whether a cursor belongs to this log
    records INTEGER NOT NULL,            -- of all rows that are gone: the sums go on when no row is left
    stored  INTEGER NOT NULL,            -- bytes of all rows that are gone
    probed  INTEGER NOT NULL             -- written to find out whether writing works again
) STRICT;

INSERT INTO log VALUES (lower(hex(randomblob(16))), 0, 0, 0);

-- AUTOINCREMENT: positions go on after truncation to empty; else cursors would skip new rows.
-- The payload stands last, so that the columns before it are read without it.
CREATE TABLE entry (
    position       INTEGER PRIMARY KEY AUTOINCREMENT,
    arrival        INTEGER NOT NULL,     -- unix nanoseconds
    signal         TEXT NOT NULL,
    bytes          INTEGER NOT NULL,     -- of the payload, unpacked
    records        INTEGER NOT NULL,
    records_before INTEGER NOT NULL,     -- in all rows before this one, ever: lag without a scan
    stored_before  INTEGER NOT NULL,     -- bytes of all rows before this one, ever
    packed         INTEGER NOT NULL,     -- 0: as it is, 1: zstd
    ids            BLOB NOT NULL,        -- event ids: place (4 bytes) and id (16 bytes), one after the other
    payload        BLOB NOT NULL
) STRICT;

-- Who reads, and what they have durably dealt with. A consumer that has not come back yet keeps its rows.
CREATE TABLE consumer (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    required INTEGER NOT NULL,
    on_lag   TEXT NOT NULL               -- drop, block
) STRICT, WITHOUT ROWID;

-- Rows that went before a consumer had dealt with them.
CREATE TABLE gap (
    consumer TEXT NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    records  INTEGER NOT NULL,
    PRIMARY KEY (consumer, first)
) STRICT, WITHOUT ROWID;
