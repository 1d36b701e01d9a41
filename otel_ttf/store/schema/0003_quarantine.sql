-- Records that tracker or store could not take, alone, while others were taken.
CREATE TABLE quarantine (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    log_id   TEXT NOT NULL,
    position INTEGER NOT NULL,             -- of the row in that log
    place    INTEGER NOT NULL,             -- of the record in the row
    signal   TEXT NOT NULL,
    arrival  INTEGER NOT NULL,
    payload  BLOB NOT NULL,                -- OTLP request with this record alone, masked
    ids      BLOB NOT NULL,                -- its event ids, otlp.events.pack_ids
    error    TEXT NOT NULL,                -- class of the last error, never its message
    source   TEXT NOT NULL,                -- where in our code
    tries    INTEGER NOT NULL,             -- times that it was put back and failed again
    since    INTEGER NOT NULL
);

-- What operators ask of the tracker, which alone writes journeys; see store/tasks.py.
CREATE TABLE task (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    kind   TEXT NOT NULL,
    what   TEXT NOT NULL,                  -- JSON
    asked  INTEGER NOT NULL,
    answer TEXT                            -- JSON; NULL: to be done
);
CREATE INDEX task_open ON task (id) WHERE answer IS NULL;
