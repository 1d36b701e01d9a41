-- The store as it began. Times are unix nanoseconds, days count from 1970-01-01 in the journey's time zone.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Fingerprints of every key that ever wrote here: a start without the newest would split every subject in two.
CREATE TABLE key_seen (
    purpose     TEXT NOT NULL,             -- event, subject
    fingerprint TEXT NOT NULL,
    first_seen  INTEGER NOT NULL,
    PRIMARY KEY (purpose, fingerprint)
) WITHOUT ROWID;

CREATE TABLE cursor (
    consumer TEXT PRIMARY KEY,
    log_id   TEXT NOT NULL,                -- a position of another log means nothing
    position INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE definition (
    id             INTEGER PRIMARY KEY,
    journey        TEXT NOT NULL,
    version        TEXT NOT NULL,
    canonical      TEXT NOT NULL,          -- JSON, journey.definition.canonical
    derived        TEXT NOT NULL,          -- settings the rollup was counted with
    first_started  INTEGER NOT NULL,
    complete_since INTEGER,
    current        INTEGER NOT NULL,       -- 1: the version that is being followed
    epoch          INTEGER NOT NULL,       -- grows when other versions are to be joined in again
    recounting     INTEGER,                -- last journey row counted anew; NULL: all are
    carrying       INTEGER,                -- last row of other versions joined in; NULL: all are
    UNIQUE (journey, version)
);

CREATE TABLE journey (
    id           INTEGER PRIMARY KEY,
    definition   INTEGER NOT NULL,
    subject_hash INTEGER NOT NULL,         -- 60 bits of the token; the token itself is compared too
    subject      TEXT NOT NULL,
    key          TEXT NOT NULL,            -- key parts beyond the subject, JSON; '' for none
    reached      BLOB NOT NULL,            -- a big-endian int64 per milestone, 2^63-1 for none
    segments     TEXT NOT NULL,            -- JSON: name -> [time, value] first touched
    told         INTEGER NOT NULL,         -- which transitions were written, journey.transitions
    recorded     INTEGER,                  -- when the start was recorded
    weight       REAL NOT NULL,            -- always 1: what a journey stands for follows from `recorded`, journey/sampling.py
    epoch        INTEGER NOT NULL,
    -- derived from the above and the settings
    state        INTEGER NOT NULL,         -- 0 not started, 1 in progress, 2 completed, 3 expired
    started      INTEGER,
    waiting      INTEGER,                  -- index of the milestone waited for
    opened       INTEGER,                  -- since when
    touched      INTEGER,                  -- when something was last reached
    due          INTEGER,                  -- when to look again for overdue, expired, or to forget the row
    day          INTEGER,                  -- where it stands in the rollup
    combo        INTEGER
);
CREATE INDEX journey_subject ON journey (subject_hash, definition);
CREATE INDEX journey_waiting ON journey (definition, waiting, opened) WHERE state = 1;
CREATE INDEX journey_touched ON journey (definition, touched) WHERE state > 0;
CREATE INDEX journey_due ON journey (definition, due) WHERE due IS NOT NULL;

-- The two logs' second one. `position` has no gaps: a consumer's cursor.
CREATE TABLE transition (
    position     INTEGER PRIMARY KEY,
    id           BLOB NOT NULL,            -- 16 bytes, journey.transitions.transition_digest
    journey      TEXT NOT NULL,
    version      TEXT NOT NULL,
    key          TEXT NOT NULL,
    subject      TEXT NOT NULL,
    kind         TEXT NOT NULL,
    milestone    TEXT,
    level        TEXT,
    at           INTEGER NOT NULL,
    recorded     INTEGER NOT NULL,
    segments     TEXT NOT NULL,
    backfilled   INTEGER NOT NULL,
    after_expiry INTEGER NOT NULL,
    old          INTEGER,
    new          INTEGER,
    closed       TEXT NOT NULL,            -- JSON: [[stage, nanoseconds]]
    changed      TEXT NOT NULL             -- JSON: [[stage or total, old, new]]
);

CREATE TABLE combo (
    id         INTEGER PRIMARY KEY,
    definition INTEGER NOT NULL,
    segments   TEXT NOT NULL,              -- JSON: name -> value or null, limits applied
    UNIQUE (definition, segments)
);

CREATE TABLE rollup (
    definition INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    combo      INTEGER NOT NULL,
    cells      BLOB NOT NULL,              -- journey.rollup.pack
    PRIMARY KEY (definition, day, combo)
) WITHOUT ROWID;

-- Values of segments in the order in which they first came: labels and figures keep the first ones.
CREATE TABLE label (
    journey TEXT NOT NULL,
    segment TEXT NOT NULL,
    value   TEXT NOT NULL,
    place   INTEGER NOT NULL,
    PRIMARY KEY (journey, segment, value)
) WITHOUT ROWID;

-- They only grow. `writer` keeps instances apart, so that replicas sum.
CREATE TABLE counter (
    writer TEXT NOT NULL,
    metric TEXT NOT NULL,
    labels TEXT NOT NULL,                  -- JSON
    value  INTEGER NOT NULL,
    PRIMARY KEY (writer, metric, labels)
) WITHOUT ROWID;

CREATE TABLE histogram (
    writer TEXT NOT NULL,
    metric TEXT NOT NULL,
    labels TEXT NOT NULL,
    counts TEXT NOT NULL,                  -- JSON: per bucket, not cumulative
    total  INTEGER NOT NULL,               -- nanoseconds, or millionths of a point
    PRIMARY KEY (writer, metric, labels)
) WITHOUT ROWID;

CREATE TABLE event (
    id           INTEGER PRIMARY KEY,
    event_id     BLOB,                     -- journeys.md, Event id; NULL for plain lines
    subject_hash INTEGER,
    subject      TEXT,
    kind         TEXT NOT NULL,            -- log, span, span_event, line
    name         TEXT NOT NULL,
    span_kind    TEXT NOT NULL,
    status       TEXT NOT NULL,
    at           INTEGER NOT NULL,
    arrival      INTEGER NOT NULL,
    flags        INTEGER NOT NULL,
    attributes   BLOB NOT NULL,            -- OTLP KeyValueList, masked
    resource     INTEGER NOT NULL
);
CREATE UNIQUE INDEX event_event_id ON event (event_id) WHERE event_id IS NOT NULL;
CREATE INDEX event_line ON event (at) WHERE event_id IS NULL;
CREATE INDEX event_subject ON event (subject_hash) WHERE subject_hash IS NOT NULL;

CREATE TABLE resource (
    id       INTEGER PRIMARY KEY,
    digest   BLOB NOT NULL UNIQUE,
    bytes    BLOB NOT NULL,                -- OTLP Resource, masked
    used_day INTEGER NOT NULL              -- last day of arrival on which an event came with it
);

CREATE TABLE seen (
    kind      TEXT NOT NULL,               -- event, span
    name      TEXT NOT NULL,
    count     INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    matched   TEXT NOT NULL,               -- JSON: ["journey.milestone"]
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
