-- What each subject has said last, of two dimensions; see pii/consent.py, Marks. 0: nothing.
CREATE TABLE consent (
    subject TEXT PRIMARY KEY,
    analytics INTEGER NOT NULL,
    sale INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
