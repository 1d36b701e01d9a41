-- The event log as it began.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- AUTOINCREMENT: positions go on after truncation to empty; else cursors would skip new rows.
CREATE TABLE entry (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    arrival  INTEGER NOT NULL,             -- unix nanoseconds
    signal   TEXT NOT NULL,
    size     INTEGER NOT NULL,             -- bytes of the payload before compression
    packed   INTEGER NOT NULL,             -- 1: zstd
    records  INTEGER NOT NULL,
    through  INTEGER NOT NULL,             -- records of this and all earlier rows ever
    ids      BLOB NOT NULL,                -- event ids: place (4 bytes) and id (16 bytes) each
    payload  BLOB NOT NULL
);

-- What each consumer has durably dealt with, as it last said.
CREATE TABLE consumer (
    name     TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    required INTEGER NOT NULL
) WITHOUT ROWID;

-- Rows that went before a consumer had read them.
CREATE TABLE gap (
    consumer TEXT NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    records  INTEGER NOT NULL,
    at       INTEGER NOT NULL
);
