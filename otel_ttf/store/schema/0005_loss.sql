-- What was lost of this store, and somebody has accepted: whoever comes later is to see it. See store/losses.py.
CREATE TABLE loss (
    id    INTEGER PRIMARY KEY,
    found INTEGER NOT NULL,
    why   TEXT NOT NULL,                   -- salvaged, begun_anew
    what  TEXT NOT NULL                    -- JSON
);
