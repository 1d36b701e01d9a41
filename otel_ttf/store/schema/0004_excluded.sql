-- Events that an operator took out of a journey: they stay stored, and move nothing however often they come.
CREATE TABLE excluded (
    event_id BLOB PRIMARY KEY,
    subject  TEXT NOT NULL,
    at       INTEGER NOT NULL,             -- effective time
    since    INTEGER NOT NULL
) WITHOUT ROWID;
