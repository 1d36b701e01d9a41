-- A subject (its token) that has, or had, a data key. Rows stay: a destroyed key is never made anew.
CREATE TABLE subject (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,   -- unix nanoseconds
    master INTEGER,             -- master.id that wraps the data key; NULL: destroyed, or there never was one
    generation INTEGER NOT NULL,
    sealed_id BLOB,             -- the raw user id under the subject's own data key
    destroyed_at INTEGER,       -- unix nanoseconds
    destroyed INTEGER           -- 1, 2, ... in the order of destruction
);
CREATE UNIQUE INDEX subject_destroyed ON subject (destroyed) WHERE destroyed IS NOT NULL;

-- Wrapped data keys, in slots of fixed sizes and of nothing else: a new one, or zeros, go to the very bytes where
-- the old one was, and no copy is left behind elsewhere in a page.
CREATE TABLE data_key (
    id INTEGER PRIMARY KEY,     -- subject.id
    slot BLOB NOT NULL          -- length (2 bytes, big-endian), wrapped key, zeros
);

CREATE TABLE master (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- Goes up when a rotation of the master key begins; data keys of an earlier one are still to be wrapped anew.
CREATE TABLE generation (
    number INTEGER NOT NULL
);
INSERT INTO generation VALUES (1);
