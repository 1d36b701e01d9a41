-- Journeys that are computed anew from stored events: their rows stand beside those that answer, under an id of their
-- own, until they take over. See tracker/rebuild.py.
CREATE TABLE rebuild (
    definition INTEGER PRIMARY KEY,        -- that answers; in phase dropping the same as `beside`
    beside     INTEGER NOT NULL UNIQUE,    -- the other rows' id: those to come, later those that were
    phase      TEXT NOT NULL,              -- walking, telling, dropping
    place      INTEGER NOT NULL,           -- how far it has come: a subject_hash, or the id of a row
    since      INTEGER NOT NULL
);
