-- What exporters remember. Times are unix nanoseconds.

-- A row stays when its exporter is configured no more: one that comes back goes on from here.
CREATE TABLE cursor (
    consumer TEXT PRIMARY KEY,
    log_id   TEXT NOT NULL,                -- a position of another log means nothing
    position INTEGER NOT NULL,             -- everything up to it was sent, or is set aside below
    records  INTEGER                       -- in all rows up to there, ever, so that a gap's are known; NULL: not known
) STRICT, WITHOUT ROWID;

-- As in store.db, and whose it is. An empty payload: rows that went before they were sent.
CREATE TABLE quarantine (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    log_id   TEXT NOT NULL,
    position INTEGER NOT NULL,
    place    INTEGER NOT NULL,
    signal   TEXT NOT NULL,
    arrival  INTEGER NOT NULL,
    payload  BLOB NOT NULL,
    ids      BLOB NOT NULL,
    error    TEXT NOT NULL,                -- what the destination answered, never its words
    source   TEXT NOT NULL,
    tries    INTEGER NOT NULL,
    since    INTEGER NOT NULL,
    consumer TEXT NOT NULL
) STRICT;
CREATE INDEX quarantine_consumer ON quarantine (consumer);  -- counted often, and the payloads stand before it
-- Ids of letters tell which file they are in.
INSERT INTO sqlite_sequence VALUES ('quarantine', 1000000000);

-- As in store.db: what operators ask.
CREATE TABLE task (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    kind   TEXT NOT NULL,
    what   TEXT NOT NULL,
    asked  INTEGER NOT NULL,
    answer TEXT
) STRICT;
CREATE INDEX task_open ON task (id) WHERE answer IS NULL;
